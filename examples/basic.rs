//! Open, write, read, scan, close.

use maplsm::{Db, Result};

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("cities"))?;
    for (city, population) in [("berlin", 3_900_000u32), ("hamburg", 1_900_000), ("munich", 1_500_000)] {
        db.insert(city, population.to_le_bytes())?;
    }
    db.remove("hamburg")?;

    if let Some(value) = db.get("berlin")? {
        let population = value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        println!("berlin has {population} people");
    }
    for entry in db.prefix("m") {
        let entry = entry?;
        println!("{} is stored in {} bytes", entry.key().escape_ascii(), entry.value().len());
    }
    db.close()
}
