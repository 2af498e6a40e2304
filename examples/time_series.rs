//! Measurements by sensor and time, of which those that are too old are removed, one write for each sensor.

use maplsm::{Db, Durability, Options, Result, WriteBatch};

const MINUTE: u64 = 60;
const KEPT: u64 = 60 * MINUTE;

/// Sensors one after another, and of each one its measurements in order of time.
fn key(sensor: u16, at: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&sensor.to_be_bytes());
    key[2..].copy_from_slice(&at.to_be_bytes());
    key
}

/// What one sensor has measured from a moment on, and before another one.
fn measured(db: &Db, sensor: u16, from: u64, to: u64) -> Result<Vec<f64>> {
    let values = db.range(key(sensor, from)..key(sensor, to)).map(|entry| {
        let entry = entry?;
        Ok(f64::from_be_bytes(entry.value().try_into().unwrap_or_default()))
    });
    values.collect()
}

/// Removes what is older than may be kept: a range tombstone for each sensor, whatever there is to be removed.
fn expire(db: &Db, sensors: u16, now: u64) -> Result<()> {
    let mut batch = WriteBatch::new();
    for sensor in 0..sensors {
        batch.remove_range(key(sensor, 0)..key(sensor, now.saturating_sub(KEPT)));
    }
    db.write(&batch)
}

fn main() -> Result<()> {
    const SENSORS: u16 = 10;
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A measurement that a power cut takes away is made again.
    let db = Options::new().durability(Durability::Buffered).open(dir.path().join("series"))?;
    let end = 3 * KEPT;
    for at in (0..end).step_by(60) {
        let mut batch = WriteBatch::new();
        for sensor in 0..SENSORS {
            batch.insert(key(sensor, at), (f64::from(sensor) + 0.5).to_be_bytes());
        }
        db.write(&batch)?; // one moment of all sensors, whole or not at all
    }
    assert_eq!(measured(&db, 3, 0, end)?.len(), 180);

    expire(&db, SENSORS, end)?;
    assert_eq!(measured(&db, 3, 0, end)?.len(), 60);
    assert_eq!(measured(&db, 3, end - 10 * MINUTE, end)?, [3.5; 10]);
    let newest = db.range(key(7, 0)..key(8, 0)).next_back().transpose()?.expect("the sensor has measured");
    assert_eq!(newest.key(), key(7, end - MINUTE));
    // What is hidden is dropped by compactions; this does not wait for them to be due.
    db.compact()?;
    let entries: u64 = db.stats().levels.iter().map(|level| level.entries).sum();
    assert_eq!(entries, 60 * u64::from(SENSORS));
    println!("{entries} measurements are kept");
    db.close()
}
