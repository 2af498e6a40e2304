//! A consistent copy while writers run: a snapshot is read, whatever is written meanwhile.

use maplsm::{Db, Durability, Result, WriteBatch};

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("live"))?;
    for i in 0..1_000u32 {
        db.write_with(WriteBatch::new().insert(i.to_be_bytes(), "first"), Durability::Buffered)?;
    }
    let snapshot = db.snapshot();

    let writer = db.clone();
    let thread = std::thread::spawn(move || -> Result<()> {
        for i in 0..1_000u32 {
            writer.write_with(WriteBatch::new().insert(i.to_be_bytes(), "second"), Durability::Buffered)?;
        }
        writer.flush()
    });

    let copy = Db::open(dir.path().join("copy"))?;
    let mut batch = WriteBatch::new();
    for entry in &snapshot {
        let entry = entry?;
        batch.insert(entry.key(), entry.value());
    }
    copy.write(&batch)?;
    thread.join().expect("the writer does not panic")?;

    let old = copy.iter().filter(|entry| entry.as_ref().is_ok_and(|entry| entry.value() == b"first")).count();
    println!("the copy has {old} entries, all as they were when the snapshot was taken");
    println!("the live store has sequence {}, the snapshot {}", db.stats().last_sequence, snapshot.sequence());
    copy.close()?;
    db.close()
}
