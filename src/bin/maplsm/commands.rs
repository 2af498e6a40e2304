//! The one-shot commands.

use std::io::{self, BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;

use maplsm::{Checkpoint, Db, Keyspace};

use crate::args::{Command, RangeArgs, ScanArgs, Target, Typed};
use crate::escape::Escaped;
use crate::failure::{Failure, Status, say};
use crate::span::Span;
use crate::stats::Size;
use crate::tsv::{self, Form};
use crate::{dump, export, import, ingest, open, repair, stats};

pub(crate) fn run(target: &Target, command: Command) -> Result<Status, Failure> {
    match command {
        Command::Get { key } => get(target, &key),
        Command::Set { key: Typed(key), value: Typed(value) } => {
            let db = open::to_write(target)?;
            open::keyspace(&db, target)?.insert(key, value)?;
            close(&db)
        }
        Command::Del { key: Typed(key) } => {
            let db = open::to_change(target)?;
            existing(&db, target)?.remove(key)?;
            close(&db)
        }
        Command::Scan(args) => scan(target, args),
        Command::Count(range) => count(target, range),
        Command::Stats { json } => print_stats(target, json),
        Command::Flush => {
            let db = open::to_change(target)?;
            db.flush()?;
            close(&db)
        }
        Command::Compact => {
            let db = open::to_change(target)?;
            existing(&db, target)?.compact()?;
            close(&db)
        }
        Command::Import(args) => {
            let db = open::to_write(target)?;
            import::run(&db, &open::keyspace(&db, target)?, &args)?;
            close(&db)
        }
        Command::Ingest(args) => {
            let db = open::to_write(target)?;
            ingest::run(&open::keyspace(&db, target)?, target, &args)?;
            close(&db)
        }
        Command::Export(args) => export::run(&existing(&open::to_read(target)?, target)?, args),
        Command::Checkpoint { dir, list: true } => {
            let mut out = BufWriter::new(io::stdout().lock());
            for file in Checkpoint::read(dir)?.files() {
                let id = file.id.map_or("-".to_owned(), |id| format!("{:032x}", u128::from_be_bytes(id)));
                let checksum = file.checksum.map_or("-".to_owned(), |checksum| format!("{checksum:08x}"));
                writeln!(out, "{}\t{}\t{id}\t{checksum}", file.name, file.bytes)?;
            }
            out.flush()?;
            Ok(Status::Success)
        }
        Command::Checkpoint { dir, list: false } => {
            open::to_read(target)?.checkpoint(dir)?;
            Ok(Status::Success)
        }
        Command::Backup { dir, keep } => backup(target, &dir, keep),
        Command::Backups { dir } => {
            let mut out = BufWriter::new(io::stdout().lock());
            for backup in maplsm::backups(dir)? {
                writeln!(out, "{}\t{}", backup.number, backup.path.display())?;
            }
            out.flush()?;
            Ok(Status::Success)
        }
        Command::Restore { from, to } => {
            maplsm::restore(from, to)?;
            Ok(Status::Success)
        }
        Command::Digest(range) => digest(target, range),
        Command::Dump(args) => dump::run(&args),
        Command::Verify { deep: false } => verify(target),
        Command::Verify { deep: true } => repair::examine(&target.db),
        Command::Repair { dir } => repair::run(dir.as_ref().unwrap_or(&target.db)),
    }
}

fn existing(db: &Db, target: &Target) -> Result<Keyspace, Failure> {
    Ok(open::existing_keyspace(db, target.keyspace.as_deref())?)
}

fn close(db: &Db) -> Result<Status, Failure> {
    db.close()?;
    Ok(Status::Success)
}

fn get(target: &Target, Typed(key): &Typed) -> Result<Status, Failure> {
    let Some(value) = existing(&open::to_read(target)?, target)?.get(key)? else {
        say(format_args!("(nil)"));
        return Ok(Status::Failed);
    };
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{}", Escaped(&value))?;
    out.flush()?;
    Ok(Status::Success)
}

fn scan(target: &Target, args: ScanArgs) -> Result<Status, Failure> {
    let keyspace = existing(&open::to_read(target)?, target)?;
    let entries = Span::from(args.range).iter(&keyspace);
    let entries: Box<dyn Iterator<Item = _>> = if args.reverse { Box::new(entries.rev()) } else { Box::new(entries) };
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for entry in entries.take(limit) {
        let entry = entry?;
        if args.keys_only {
            writeln!(out, "{}", Escaped(entry.key()))?;
        } else {
            tsv::write(&mut out, entry.key(), entry.value(), Form::Escaped)?;
        }
    }
    out.flush()?;
    Ok(Status::Success)
}

fn count(target: &Target, range: RangeArgs) -> Result<Status, Failure> {
    let keyspace = existing(&open::to_read(target)?, target)?;
    let mut entries = 0_u64;
    for entry in Span::from(range).iter(&keyspace) {
        entry?;
        entries += 1;
    }
    writeln!(io::stdout(), "{entries}")?;
    Ok(Status::Success)
}

fn digest(target: &Target, range: RangeArgs) -> Result<Status, Failure> {
    let keyspace = existing(&open::to_read(target)?, target)?;
    writeln!(io::stdout(), "{}", keyspace.snapshot().digest_range(Span::from(range).bounds())?)?;
    Ok(Status::Success)
}

fn backup(target: &Target, dir: &Path, keep: Option<NonZeroUsize>) -> Result<Status, Failure> {
    let report = open::to_read(target)?.backup(dir)?;
    let (copied, shared) = (Size(report.copied_bytes), Size(report.shared_bytes));
    writeln!(io::stdout(), "{}: {copied} copied, {shared} shared with the one before", report.backup.path.display())?;
    if let Some(keep) = keep {
        maplsm::prune_backups(dir, keep.get())?;
    }
    Ok(Status::Success)
}

fn print_stats(target: &Target, json: bool) -> Result<Status, Failure> {
    let stats = open::to_read(target)?.stats();
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        writeln!(out, "{}", stats::to_json(&stats))?;
    } else {
        stats::row(&mut out, "directory", target.db.display())?;
        stats::write_text(&mut out, &stats)?;
    }
    out.flush()?;
    Ok(Status::Success)
}

fn verify(target: &Target) -> Result<Status, Failure> {
    let report = open::to_read(target)?.verify();
    let mut status = Status::Success;
    for problem in report.problems {
        let problem = Failure::from(problem);
        status = status.max(problem.status());
        say(format_args!("error: {problem}"));
    }
    let verdict = match status {
        Status::Success => "ok",
        Status::Failed => "not verified",
        Status::Damaged => "damaged",
    };
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(
        out,
        "{verdict}: {} tables, {} value files, {} entries, {}",
        report.tables,
        report.value_files,
        report.entries,
        Size(report.bytes)
    )?;
    for path in &report.leftovers {
        writeln!(out, "left over, removed by the next write: {}", path.display())?;
    }
    for path in &report.kept {
        writeln!(out, "kept by a repair, no part of the database: {}", path.display())?;
    }
    if report.foreign > 0 {
        writeln!(out, "files that are none of the database's: {}", report.foreign)?;
    }
    out.flush()?;
    Ok(status)
}
