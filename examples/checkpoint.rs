//! A consistent copy while writers run: a checkpoint is a database of its own.

use maplsm::{Db, Durability, Result, WriteBatch};

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("live"))?;
    db.ingest((0..1_000u32).map(|i| (i.to_be_bytes(), "first")))?;

    let writer = db.clone();
    let thread = std::thread::spawn(move || -> Result<()> {
        for i in 0..1_000u32 {
            writer.write_with(WriteBatch::new().insert(i.to_be_bytes(), "second"), Durability::Buffered)?;
        }
        writer.flush()
    });
    db.checkpoint(dir.path().join("copy"))?; // on disk when this returns
    thread.join().expect("the writer does not panic")?;

    let copy = Db::open(dir.path().join("copy"))?;
    assert!(copy.verify().is_ok());
    let of = |db: &Db, value: &[u8]| db.iter().filter(|entry| entry.as_ref().is_ok_and(|e| e.value() == value)).count();
    let second = of(&copy, b"second");
    println!("the copy has the first {second} writes of the thread and {} older entries", of(&copy, b"first"));
    println!("the store has all {} of them", of(&db, b"second"));
    copy.close()?;
    db.close()
}
