//! Backups of a store that is in use, each of which shares with the one before what has not changed, and a restore.

use maplsm::{Db, Result};

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [live, backups, restored] = ["live", "backups", "restored"].map(|name| dir.path().join(name));
    let db = Db::open(live)?;
    db.ingest((0..10_000u32).map(|number| (number.to_be_bytes(), "first")))?;
    let first = db.backup(&backups)?;

    db.insert(7u32.to_be_bytes(), "second")?;
    let second = db.backup(&backups)?;
    assert!(first.shared_bytes == 0 && second.shared_bytes >= first.copied_bytes, "the tables are the same");
    assert!(second.copied_bytes < first.copied_bytes);
    println!("the second backup copies {} bytes and shares {}", second.copied_bytes, second.shared_bytes);

    // Somebody makes a mistake, and the newest backup does not have it.
    db.remove_range(0u32.to_be_bytes()..)?;
    assert!(db.is_empty()?);
    db.close()?;
    maplsm::restore(&backups, &restored)?; // verifies every file
    let db = Db::open(restored)?;
    assert_eq!(db.iter().count(), 10_000);
    assert_eq!(db.get(7u32.to_be_bytes())?.as_deref(), Some(&b"second"[..]));
    db.close()?;

    // Only the newest is kept.
    maplsm::prune_backups(&backups, 1)?;
    let left = maplsm::backups(&backups)?;
    assert_eq!(left.iter().map(|backup| backup.number).collect::<Vec<_>>(), [second.backup.number]);
    Ok(())
}
