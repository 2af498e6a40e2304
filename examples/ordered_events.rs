//! Integers as keys keep their order when they are big-endian; a cursor scans them without counting references.

use maplsm::{Db, Durability, Result, WriteBatch};

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("events"))?;
    let mut batch = WriteBatch::new();
    for second in 0..10_000u64 {
        batch.insert(second.to_be_bytes(), format!("event at {second}"));
        if batch.len() == 1000 {
            db.write_with(&batch, Durability::Buffered)?;
            batch.clear();
        }
    }
    db.sync()?;

    let mut cursor = db.cursor();
    let mut bytes = 0;
    let mut more = cursor.seek(5_000u64.to_be_bytes())?;
    while more && cursor.key() < 6_000u64.to_be_bytes().as_slice() {
        bytes += cursor.value().len();
        more = cursor.next()?;
    }
    println!("the events of 1,000 seconds take {bytes} bytes");

    if let Some(last) = db.iter().next_back() {
        println!("the last one is the {}", last?.value().escape_ascii());
    }
    db.close()
}
