//! Values are read in place: a value is viewed as a structure, or as a list of numbers, where it stands in the mapped file.

use maplsm::zerocopy::little_endian::U32;
use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use maplsm::{Db, KeyspaceOptions, Result};

/// A record whose fields have no alignment, so that it can be viewed wherever its bytes stand.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[zerocopy(crate = "maplsm::zerocopy")]
#[repr(C)]
struct Point {
    x: U32,
    y: U32,
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("db"))?;
    db.insert("corner", Point { x: U32::new(640), y: U32::new(480) }.as_bytes())?;

    // What needs an alignment, like the machine's own numbers, goes into a keyspace that has one.
    let vectors = db.create_keyspace("vectors", KeyspaceOptions::new().value_alignment(16))?;
    vectors.insert("diagonal", [0.6f32, 0.8].as_bytes())?;
    vectors.insert("left", [-1.0f32, 0.0].as_bytes())?;
    db.flush()?;

    let snapshot = db.snapshot();
    if let Some(value) = snapshot.get_ref("corner")? {
        let point: &Point = value.get_as()?;
        println!("the corner is at {}, {}", point.x, point.y);
    }
    for entry in &vectors {
        let entry = entry?;
        let vector: &[f32] = entry.value_as_slice()?;
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        println!("{} is {length} long", entry.key().escape_ascii());
    }

    let value = db.get("corner")?.expect("inserted above");
    drop(snapshot);
    db.close()?;
    println!("a value outlives the store: {:?}", value.get_as::<Point>()?);
    let refused = value.get_as::<[u8; 3]>().expect_err("it has 8 bytes");
    println!("{refused}");
    Ok(())
}
