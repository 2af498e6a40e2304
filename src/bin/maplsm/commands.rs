//! The one-shot commands.

use std::fs;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;

use maplsm::{Checkpoint, Db};

use crate::args::{Command, RangeArgs, SetArgs, Target, Typed};
use crate::failure::{Failure, Status};
use crate::input::Stdin;
use crate::records::Records;
use crate::span::Span;
use crate::stats::Size;
use crate::{
    bench, diff, dump, export, generate, import, ingest, interrupt, keyspaces, open, reading, repair, stats, verify,
};

pub(crate) fn run(mut target: Target, command: Command) -> Result<Status, Failure> {
    if let Some(options) = command.options() {
        target.options = options.clone().or(&target.options);
    }
    let target = &target;
    match command {
        Command::Get(args) => reading::get(target, &args),
        Command::Explain { key: Typed(key), json } => reading::explain(target, &key, json),
        Command::Set(args) => set(target, args),
        Command::Del { key: Typed(key) } => {
            let db = open::to_change(target)?;
            open::existing(&db, target)?.remove(key)?;
            close(&db)
        }
        Command::Scan(args) => reading::scan(target, args, |_| true),
        Command::Find(args) => reading::find(target, args),
        Command::Count(range) => reading::count(target, range),
        Command::Keyspaces { json } => keyspaces::list(target, json),
        Command::Create { name, options } => keyspaces::create(target, &name, &options),
        Command::Drop { name } => keyspaces::drop(target, &name),
        Command::Ls { json } => stats::ls(target, json),
        Command::Stats { json } => stats::print(target, json),
        Command::Flush => {
            let db = open::to_change(target)?;
            interrupt::during(|| db.flush())??;
            close(&db)
        }
        Command::Compact => {
            let db = open::to_change(target)?;
            let keyspace = open::existing(&db, target)?;
            interrupt::during(|| keyspace.compact())??;
            close(&db)
        }
        Command::Import(args) => {
            // First, so that the name of a file that is not there makes no database.
            let mut records = Records::open(&args.file, &args.form)?;
            let db = open::to_write(target)?;
            import::run(&db, &open::keyspace(&db, target)?, &args, &mut records)?;
            close(&db)
        }
        Command::Ingest(args) => {
            let input = ingest::open(&args)?;
            let db = open::to_write(target)?;
            ingest::run(&open::keyspace(&db, target)?, target, &args, input)?;
            close(&db)
        }
        Command::Export(args) => export::run(&open::existing(&open::to_read(target)?, target)?, args),
        Command::Diff { a, b, keys_only } => diff::run(target, [&a, &b], keys_only),
        Command::Checkpoint { dir, list: true } => list_checkpoint(&dir),
        Command::Checkpoint { dir, list: false } => {
            let db = open::to_read(target)?;
            interrupt::making(&dir, || db.checkpoint(&dir))??;
            Ok(Status::Success)
        }
        Command::Backup { dir, keep } => backup(target, &dir, keep),
        Command::Backups { dir } => list_backups(&dir),
        Command::Restore { from, to } => {
            interrupt::making(&to, || maplsm::restore(from, &to))??;
            Ok(Status::Success)
        }
        Command::Digest(range) => digest(target, range),
        Command::Dump(args) => dump::run(&args),
        Command::Verify { deep: false, json } => verify::run(target, json),
        Command::Verify { deep: true, json } => repair::examine(&target.db, json),
        Command::Repair { dir, json } => repair::run(dir.as_ref().unwrap_or(&target.db), json),
        Command::Bench(args) => bench::run(target, &args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { command } => generate::man(command.as_deref()),
    }
}

fn close(db: &Db) -> Result<Status, Failure> {
    db.close()?;
    Ok(Status::Success)
}

fn set(target: &Target, args: SetArgs) -> Result<Status, Failure> {
    let value = match (args.value, args.file) {
        (Some(Typed(value)), _) => value,
        (None, Some(file)) if file == Path::new("-") => {
            let mut value = Vec::new();
            Stdin::new().read_to_end(&mut value).map_err(|error| Failure::file("read", &file, &error))?;
            value
        }
        (None, file) => {
            let file = file.unwrap_or_default();
            fs::read(&file).map_err(|error| Failure::file("read", &file, &error))?
        }
    };
    let db = open::to_write(target)?;
    open::keyspace(&db, target)?.insert(args.key.0, value)?;
    close(&db)
}

fn digest(target: &Target, range: RangeArgs) -> Result<Status, Failure> {
    let keyspace = open::existing(&open::to_read(target)?, target)?;
    let digest = interrupt::during(|| keyspace.snapshot().digest_range(Span::from(range).bounds()))??;
    writeln!(io::stdout(), "{digest}")?;
    Ok(Status::Success)
}

fn list_checkpoint(dir: &Path) -> Result<Status, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for file in Checkpoint::read(dir)?.files() {
        let id = file.id.map_or("-".to_owned(), |id| format!("{:032x}", u128::from_be_bytes(id)));
        let checksum = file.checksum.map_or("-".to_owned(), |checksum| format!("{checksum:08x}"));
        writeln!(out, "{}\t{}\t{id}\t{checksum}", file.name, file.bytes)?;
    }
    out.flush()?;
    Ok(Status::Success)
}

fn list_backups(dir: &Path) -> Result<Status, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for backup in maplsm::backups(dir)? {
        writeln!(out, "{}\t{}", backup.number, backup.path.display())?;
    }
    out.flush()?;
    Ok(Status::Success)
}

fn backup(target: &Target, dir: &Path, keep: Option<NonZeroUsize>) -> Result<Status, Failure> {
    let db = open::to_read(target)?;
    let report = interrupt::making(dir, || db.backup(dir))??;
    let (copied, shared) = (Size(report.copied_bytes), Size(report.shared_bytes));
    writeln!(io::stdout(), "{}: {copied} copied, {shared} shared with the one before", report.backup.path.display())?;
    if let Some(keep) = keep {
        interrupt::during(|| maplsm::prune_backups(dir, keep.get()))??;
    }
    Ok(Status::Success)
}
