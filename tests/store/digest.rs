//! Digests: equal for the same content, and only then.

use maplsm::{Compression, Digest, IoMode, KeyspaceOptions, SimFs, WriteBatch};

use crate::support::model::Map;
use crate::support::sim_options;

fn entries() -> Map {
    (0..2000u32)
        .map(|number| (number.to_be_bytes().to_vec(), vec![number.to_be_bytes()[3]; number as usize % 300]))
        .collect()
}

/// The same entries on the way to them that the number stands for.
fn replica(way: u32) -> Digest {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.table_bytes(16 << 10);
    match way {
        1 => _ = options.compression(Compression::None).io_mode(IoMode::Read),
        2 => _ = options.large_value_bytes(Some(200)),
        3 => _ = options.memtable_entries(Some(100)).point_index(maplsm::PointIndex::Bloom { error_rate: 0.01 }),
        _ => {}
    }
    let db = options.open("/db").unwrap();
    let keyspace = match way {
        4 => db.create_keyspace("aligned", KeyspaceOptions::new().value_alignment(8)).unwrap(),
        _ => db.keyspace("plain").unwrap(),
    };
    let entries = entries();
    if way == 0 {
        keyspace.ingest(&entries).unwrap();
    } else {
        // Backwards, over older values, and with much that is removed again.
        for key in entries.keys().rev() {
            keyspace.insert(key, "older").unwrap();
            keyspace.insert([key, &b"more"[..]].concat(), "removed").unwrap();
        }
        db.flush().unwrap();
        for (key, value) in &entries {
            let more = [key, &b"more"[..]].concat();
            db.write(WriteBatch::new().remove_from(&keyspace, more).insert_into(&keyspace, key, value)).unwrap();
        }
    }
    match way % 3 {
        0 => db.flush().unwrap(),
        1 => keyspace.compact().unwrap(),
        _ => {}
    }
    keyspace.snapshot().digest().unwrap()
}

#[test]
fn replicas_with_the_same_entries_agree() {
    let first = replica(0);
    assert_eq!(first.entries(), 2000);
    for way in 1..6 {
        assert_eq!(replica(way), first, "way {way}");
    }
}

#[test]
fn every_difference_shows_and_parts_add_up() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open("/db").unwrap();
    for (key, value) in entries() {
        db.insert(key, value).unwrap();
    }
    let before = db.snapshot();
    let whole = before.digest().unwrap();
    let cuts: Vec<[u8; 4]> = [0u32, 1, 700, 701, 1999, 5000].map(u32::to_be_bytes).to_vec();
    let parts = cuts.windows(2).map(|cut| before.digest_range(cut[0]..cut[1]).unwrap());
    assert_eq!(parts.sum::<Digest>(), whole);
    let key = 700u32.to_be_bytes();
    let value = db.get(key).unwrap().unwrap().to_vec();
    let mut other = value.clone();
    other[17] ^= 1;
    for changed in [Some(&other[..]), Some(&value[1..]), None] {
        match changed {
            Some(value) => db.insert(key, value).unwrap(),
            None => db.remove(key).unwrap(),
        }
        assert_ne!(db.snapshot().digest().unwrap(), whole);
        assert_eq!(before.digest().unwrap(), whole, "a snapshot is as it was");
    }
    db.insert(key, &value).unwrap();
    assert_eq!(db.snapshot().digest().unwrap(), whole);
    assert_eq!(db.snapshot().digest_range::<&str>(..).unwrap().to_bytes(), whole.to_bytes());
    assert!(format!("{whole}").ends_with("of 2000 entries"));
    // Where one entry ends and the next begins counts.
    let keyspaces = ["ab", "ba"].map(|name| db.keyspace(name).unwrap());
    db.write(WriteBatch::new().insert_into(&keyspaces[0], "a", "bc").insert_into(&keyspaces[1], "ab", "c")).unwrap();
    let digests = keyspaces.map(|keyspace| keyspace.snapshot().digest().unwrap());
    assert_ne!(digests[0], digests[1]);
    assert_eq!(db.keyspace("empty").unwrap().snapshot().digest().unwrap(), Digest::default());
}
