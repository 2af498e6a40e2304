//! Values are read in place: a slice of the mapped file can be viewed as a structure, and outlives the store.

use maplsm::{Db, Result};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A record whose fields have no alignment, so that it can be viewed wherever its bytes stand.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Point {
    x: U32,
    y: U32,
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("points"))?;
    db.insert("origin", Point { x: U32::new(0), y: U32::new(0) }.as_bytes())?;
    db.insert("corner", Point { x: U32::new(640), y: U32::new(480) }.as_bytes())?;
    db.flush()?;

    let snapshot = db.snapshot();
    if let Some(bytes) = snapshot.get_ref("corner")?
        && let Ok(point) = Point::ref_from_bytes(&bytes)
    {
        println!("the corner is at {}, {}", point.x, point.y);
    }

    let value = db.get("corner")?;
    drop(snapshot);
    db.close()?;
    println!("a value outlives the store: {value:?}");
    Ok(())
}
