//! A million bytes of measurements, loaded at once as sorted tables, and read in place as structures.

use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use maplsm::{Db, KeyspaceOptions, Result, key};

/// A measurement, in the numbers of the machine: values are aligned for it.
#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "maplsm::zerocopy")]
#[repr(C)]
struct Measurement {
    celsius: f64,
    pascal: f64,
    flags: u64,
}

const STATIONS: u32 = 20;
const HOURS: u64 = 2000;

fn measured(station: u32, hour: u64) -> Measurement {
    let day = f64::from(u32::try_from(hour % 24).unwrap_or(0));
    Measurement { celsius: f64::from(station) + day / 2.0, pascal: 101_325.0 - day, flags: hour % 2 }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("db"))?;
    let measurements = db.create_keyspace("measurements", KeyspaceOptions::new().value_alignment(8))?;

    // Keys come in order: by station, and then by hour. Nothing of the load is there before all of it is durable.
    let hours = (0..STATIONS).flat_map(|station| (0..HOURS).map(move |hour| (station, hour)));
    let loaded = measurements.ingest(hours.map(|(station, hour)| {
        let bytes: [u8; size_of::<Measurement>()] = maplsm::zerocopy::transmute!(measured(station, hour));
        (key::encode(&(station, hour)), bytes)
    }))?;
    println!("{loaded:?}");

    // One, where it stands in the mapped file.
    let value = measurements.get(key::encode(&(7u32, 1234u64)))?.expect("it is loaded");
    assert_eq!(value.get_as::<Measurement>()?, &measured(7, 1234));

    // A week of one station, without a copy.
    let (mut count, mut sum) = (0, 0.0);
    for entry in measurements.range(key::range((7u32, 168u64)..(7u32, 336u64))) {
        let entry = entry?;
        let measurement = entry.value_as::<Measurement>()?;
        let (station, hour): (u32, u64) = key::decode(entry.key())?;
        assert_eq!(*measurement, measured(station, hour));
        (count, sum) = (count + 1, sum + measurement.celsius);
    }
    assert_eq!(count, 168);
    println!("station 7 had {:.1} degrees in the second week", sum / f64::from(count));

    // All of one station, and everything.
    assert_eq!(measurements.range(key::prefix(&(19u32,))).count() as u64, HOURS);
    assert_eq!(measurements.iter().count() as u64, u64::from(STATIONS) * HOURS);
    db.close()
}
