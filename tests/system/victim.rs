//! The program that things happen to.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use maplsm::{Durability, ErrorKind, IoMode, Options, WriteBatch};

/// Its value is the number of the last commit.
pub(super) const LAST: &str = "last";

pub(super) fn key(number: u64) -> String {
    format!("number {number:06}")
}

/// A few hundred bytes, other ones for each number.
pub(super) fn value(number: u64) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap(); 300 + usize::try_from(number % 700).unwrap()]
}

/// So small that a few commits reach every part.
pub(super) fn options(mode: IoMode) -> Options {
    let mut options = Options::new();
    options.memtable_bytes(4 << 10).table_bytes(4 << 10).level_bytes_base(8 << 10).level_multiplier(2).l0_tables(2);
    options.durability(Durability::Sync).background_threads(1).io_mode(mode);
    options
}

/// Carries out its orders: commits numbers in order, each noted once it is acknowledged. An error ends it quietly if it is of
/// a kind that the system is to blame for; a panic is a finding.
#[test]
#[ignore = "a program for the other tests of this module"]
fn victim() {
    let order = |name: &str| std::env::var(name).ok();
    let Some(db) = order("VICTIM_DB") else { return };
    let mode = if order("VICTIM_MODE").as_deref() == Some("read") { IoMode::Read } else { IoMode::Map };
    let number = |name: &str| order(name).unwrap().parse::<u64>().unwrap();
    let (commits, threads) = (number("VICTIM_COMMITS"), number("VICTIM_THREADS"));
    let notes = std::fs::File::options().append(true).create(true).open(order("VICTIM_NOTES").unwrap());
    let Ok(notes) = notes else { return };
    if let Err(error) = work(PathBuf::from(db), mode, commits, threads, &notes) {
        let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Background, ErrorKind::Busy];
        assert!(kinds.contains(&error.kind()), "{error}");
        println!("ended by: {error}");
    }
}

fn work(db: PathBuf, mode: IoMode, commits: u64, threads: u64, notes: &std::fs::File) -> maplsm::Result<()> {
    let db = options(mode).open(db)?;
    let next = Mutex::new(super::last_number(&db) + 1);
    let commit = || -> maplsm::Result<()> {
        loop {
            // The order of the numbers is the order of the commits.
            let mut next = next.lock().unwrap();
            let number = *next;
            if number > commits {
                return Ok(());
            }
            let mut batch = WriteBatch::new();
            batch.insert(key(number), value(number)).insert(LAST, number.to_be_bytes());
            batch.insert(format!("noise {}", number % 5), vec![0; 200]).remove(format!("noise {}", (number + 2) % 5));
            db.write_with(&batch, if threads == 1 { Durability::Sync } else { Durability::Buffered })?;
            *next += 1;
            drop(next);
            if threads > 1 {
                db.sync()?;
            }
            // What cannot be noted counts as not acknowledged.
            let _ = (&*notes).write_all(format!("{number}\n").as_bytes());
            match number {
                5 => db.flush()?,
                9 => db.compact()?,
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let committing: Vec<_> = (0..threads).map(|_| scope.spawn(commit)).collect();
        committing.into_iter().try_for_each(|thread| thread.join().unwrap())
    })?;
    // A number once committed reads back in the same process.
    for number in 1..=commits {
        assert!(db.get(key(number))?.is_some_and(|found| found == value(number)));
    }
    db.close()
}
