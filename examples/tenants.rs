//! A keyspace for each tenant: data of their own, options of their own, one log and atomic batches for all.

use maplsm::{Db, Error, KeyspaceOptions, PointIndex, Result, WriteBatch};

/// The keyspace of a tenant, made when the tenant comes.
fn name_of(tenant: &str) -> String {
    format!("tenant {tenant}")
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("tenants"))?;
    let small = db.create_keyspace(name_of("small"), &KeyspaceOptions::new())?;
    // One with much data and little memory for its index.
    let mut frugal = KeyspaceOptions::new();
    frugal.point_index(PointIndex::Bloom { error_rate: 0.01 });
    let large = db.create_keyspace(name_of("large"), &frugal)?;

    small.insert("plan", "free")?;
    large.insert("plan", "paid")?;
    assert_eq!(small.get("plan")?.as_deref(), Some(&b"free"[..]));
    // What moves from one tenant to another is with one of them at any moment, and after any crash.
    small.insert("document", "text")?;
    db.write(WriteBatch::new().remove_from(&small, "document").insert_into(&large, "document", "text"))?;

    // What each of them takes.
    db.flush()?;
    for keyspace in db.stats().keyspaces.iter().filter(|keyspace| keyspace.name.starts_with("tenant ")) {
        println!("{}: {} entries, {} bytes", keyspace.name, keyspace.entries, keyspace.bytes);
    }

    // A tenant leaves: all of it goes at once, and handles to it say so.
    db.drop_keyspace(name_of("small"))?;
    assert!(matches!(small.get("plan"), Err(Error::KeyspaceDropped { .. })));
    assert_eq!(db.keyspaces(), ["tenant large"]);
    assert_eq!(large.iter().count(), 2);
    db.close()
}
