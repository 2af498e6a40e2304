//! Compressed tables: everything reads back, on whichever level and however often the codec changes; damage is told.

use std::path::Path;

use maplsm::{
    Compression, Damage, Db, Durability, Error, ErrorKind, FileSystem, IoMode, KeyspaceOptions, Options, PointIndex,
    SimFs, inspect,
};

use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, contents, names, sim_options};

/// What this build has.
pub(super) const CODECS: &[Compression] = &[
    #[cfg(feature = "lz4")]
    Compression::Lz4,
    #[cfg(feature = "zstd")]
    Compression::Zstd(3),
    #[cfg(feature = "zstd")]
    Compression::Zstd(-5),
];

fn key(i: u32) -> Vec<u8> {
    format!("key{i:06}").into_bytes()
}

/// Half of it shrinks, half does not; some are large, some empty.
fn value(i: u32, round: u32) -> Vec<u8> {
    let length = match i % 40 {
        7 => 0,
        13 => 9_000,
        _ => 100,
    };
    let mut state = u64::from(i) << 32 | u64::from(round);
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap()
    });
    noise.take(length / 2).chain(std::iter::repeat(b'x')).take(length).collect()
}

fn write(db: &Db, keys: impl Iterator<Item = u32>, round: u32) {
    for i in keys {
        db.insert(key(i), value(i, round)).unwrap();
    }
}

fn options(fs: &SimFs, compression: Compression) -> Options {
    let mut options = sim_options(fs);
    options.durability(Durability::Buffered).memtable_bytes(64 << 10).table_bytes(64 << 10).level_bytes_base(128 << 10);
    options.compression(compression).block_bytes(4 << 10).large_value_bytes(None);
    options
}

fn check(db: &Db, keys: u32, round: impl Fn(u32) -> u32) {
    for i in 0..keys {
        assert_eq!(db.get(key(i)).unwrap().as_deref(), Some(&value(i, round(i))[..]), "key {i}");
    }
    assert!(db.get(b"key").unwrap().is_none() && db.get(b"key000001x").unwrap().is_none());
    let forward = contents(db);
    assert_eq!(forward.len(), keys as usize);
    assert!(forward.iter().zip(0..).all(|((k, v), i)| *k == key(i) && *v == value(i, round(i))));
    let mut cursor = db.cursor();
    let mut more = cursor.seek_last().unwrap();
    for i in (0..keys).rev() {
        assert!(more && cursor.key() == key(i) && cursor.value() == value(i, round(i)), "key {i} backwards");
        more = cursor.prev().unwrap();
    }
    assert!(!more);
    let report = db.verify();
    assert!(report.is_ok(), "{:?}", report.problems);
}

fn table_bytes(db: &Db) -> u64 {
    db.stats().levels.iter().map(|level| level.bytes).sum()
}

#[test]
fn compressed_tables_read_back_and_are_smaller() {
    const KEYS: u32 = 3000;
    let sizes = |compression| {
        let fs = SimFs::new();
        let mut sizes = Vec::new();
        for (point_index, from) in [(PointIndex::Hash, 1), (PointIndex::Bloom { error_rate: 0.01 }, 0)] {
            let mut options = options(&fs, compression);
            options.point_index(point_index).compressed_from_level(from);
            let db = options.open(DIR).unwrap();
            write(&db, 0..KEYS, 1);
            let snapshot = db.snapshot();
            write(&db, (0..KEYS).step_by(3), 2);
            db.maintain().unwrap();
            check(&db, KEYS, |i| if i % 3 == 0 { 2 } else { 1 });
            assert_eq!(snapshot.get(key(3)).unwrap().as_deref(), Some(&value(3, 1)[..]));
            assert_eq!(&*snapshot.get_ref(key(3)).unwrap().unwrap(), &value(3, 1)[..]);
            drop(snapshot);
            let kept = db.get(key(1)).unwrap().unwrap();
            db.compact().unwrap();
            check(&db, KEYS, |i| if i % 3 == 0 { 2 } else { 1 });
            assert_eq!(&*kept, &value(1, 1)[..]);
            sizes.push(table_bytes(&db));
            db.close().unwrap();
        }
        sizes
    };
    let plain = sizes(Compression::None);
    for codec in CODECS {
        let packed = sizes(*codec);
        assert!(packed.iter().zip(&plain).all(|(packed, plain)| *packed * 10 < *plain * 7), "{packed:?} of {plain:?}");
    }
}

#[test]
fn the_codec_may_change_and_compaction_brings_tables_up_to_date() {
    const KEYS: u32 = 1500;
    let fs = SimFs::new();
    let mut last = 0;
    for (round, compression) in [Compression::None].iter().chain(CODECS).chain(&[Compression::None]).enumerate() {
        let round = u32::try_from(round).unwrap();
        let db = options(&fs, *compression).open(DIR).unwrap();
        if round > 0 {
            check(&db, KEYS, |_| round - 1);
            db.compact().unwrap();
            check(&db, KEYS, |_| round - 1);
            if *compression == Compression::None {
                assert!(round == 1 || table_bytes(&db) > last * 4 / 3, "tables are plain again");
            }
        }
        write(&db, 0..KEYS, round);
        db.compact().unwrap();
        last = table_bytes(&db);
        check(&db, KEYS, |_| round);
        db.close().unwrap();
    }
}

#[test]
fn a_keyspace_keeps_its_compression_and_level_0_stays_plain() {
    for codec in CODECS {
        let fs = SimFs::new();
        let db = options(&fs, Compression::None).open(DIR).unwrap();
        let packed = KeyspaceOptions::new().compression(*codec).block_bytes(8 << 10).clone();
        let packed = db.create_keyspace("packed", &packed).unwrap();
        let early = KeyspaceOptions::new().compression(*codec).compressed_from_level(0).clone();
        let early = db.create_keyspace("early", &early).unwrap();
        for i in 0..500 {
            for keyspace in [&packed, &early] {
                keyspace.insert(key(i), value(i, 1)).unwrap();
            }
        }
        db.flush().unwrap();
        let bytes_of = |db: &Db, name: &str| db.stats().keyspaces.iter().find(|k| k.name == name).unwrap().bytes;
        assert!(bytes_of(&db, "early") * 10 < bytes_of(&db, "packed") * 7, "level 0 is plain for one of them");
        drop((packed, early));
        db.close().unwrap();

        let db = options(&fs, Compression::None).open(DIR).unwrap();
        let packed = db.keyspace("packed").unwrap();
        packed.compact().unwrap();
        assert!(bytes_of(&db, "packed") < bytes_of(&db, "early") * 11 / 10);
        let stats = db.stats();
        assert!(stats.keyspaces.iter().all(|k| (k.compression == *codec) == (k.name != "default")));
        assert!((0..500).all(|i| packed.get(key(i)).unwrap().as_deref() == Some(&value(i, 1)[..])));
        db.close().unwrap();
    }
}

#[test]
fn the_cache_is_bounded_used_by_reads_and_left_alone_by_compaction() {
    for codec in CODECS {
        let fs = SimFs::new();
        let db = options(&fs, *codec).cache_bytes(100 << 10).open(DIR).unwrap();
        write(&db, 0..3000, 1);
        db.compact().unwrap();
        let stats = db.stats();
        assert_eq!((stats.cache_bytes, stats.cache_hits, stats.cache_misses), (0, 0, 0));
        for _ in 0..2 {
            (0..20).for_each(|i| assert!(db.get(key(i * 100)).unwrap().is_some()));
        }
        let warm = db.stats();
        assert!(warm.cache_hits >= 20 && warm.cache_misses >= 15, "{} {}", warm.cache_hits, warm.cache_misses);
        assert_eq!(contents(&db).len(), 3000);
        assert!(db.verify().is_ok());
        assert!((1..=100 << 10).contains(&db.stats().cache_bytes));
        db.close().unwrap();
    }
}

#[test]
fn options_that_make_no_sense_or_need_another_build_are_refused() {
    let refused = |change: fn(&mut Options) -> &mut Options| {
        let fs = SimFs::new();
        match change(&mut sim_options(&fs)).open(DIR) {
            Err(Error::InvalidOptions { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|o| o.compression(Compression::Zstd(23))), "compression");
    assert_eq!(refused(|o| o.compression(Compression::Zstd(-8))), "compression");
    assert_eq!(refused(|o| o.block_bytes(5000)), "block_bytes");
    assert_eq!(refused(|o| o.block_bytes(2048)), "block_bytes");
    assert_eq!(refused(|o| o.block_bytes(2 << 20)), "block_bytes");
    assert_eq!(refused(|o| o.compressed_from_level(7)), "compressed_from_level");
    assert_eq!(refused(|o| o.cache_bytes(1 << 41)), "cache_bytes");
    if cfg!(not(feature = "lz4")) {
        assert_eq!(refused(|o| o.compression(Compression::Lz4)), "compression");
    }
    if cfg!(not(feature = "zstd")) {
        assert_eq!(refused(|o| o.compression(Compression::Zstd(3))), "compression");
    }
}

/// A table whose checksums all match and whose blocks lie about themselves.
#[test]
fn lying_blocks_are_damage_and_bombs_do_not_go_off() {
    for codec in CODECS {
        let fs = SimFs::new();
        let db = options(&fs, *codec).open(DIR).unwrap();
        write(&db, 0..300, 1);
        db.compact().unwrap();
        db.close().unwrap();
        let table_path = Path::new(DIR).join(&names(&fs, ".sst")[0]);
        let manifest_path = Path::new(DIR).join(names(&fs, ".manifest").last().unwrap());
        let number: u64 = table_path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let table = fs.read(&table_path).unwrap();
        let at =
            |offset: usize| usize::try_from(u64::from_le_bytes(table[offset..offset + 8].try_into().unwrap())).unwrap();
        let section = at(table.len() - 128 + 40);
        // Behind the entries and the range tombstones.
        let records = at(section + 24) + at(section + 64);
        // The unpacked length of the first block, in units, and the stored one, in bytes.
        let (raw, stored) = (records + 4, records + 8);
        let lies: [(usize, u64, usize); 9] = [
            (raw, 0, 4),
            (raw, 1, 4),
            (raw, 511, 4),
            (raw, 513, 4),
            (raw, u64::from(u32::MAX), 4),
            (stored, 0, 8),
            (stored, 1, 8),
            (stored, 4096, 8),
            (stored, u64::MAX, 8),
        ];
        for (offset, lie, width) in lies {
            let copy = fs.kill();
            let mut bad = table.clone();
            bad[offset..offset + width].copy_from_slice(&lie.to_le_bytes()[..width]);
            reseal(Kind::Table, &mut bad);
            let mut manifest = copy.read(&manifest_path).unwrap();
            adopt(&mut manifest, number, &bad);
            reseal(Kind::Manifest, &mut manifest);
            copy.write(&table_path, &bad);
            copy.write(&manifest_path, &manifest);
            let db = options(&copy, *codec).open(DIR).unwrap();
            let error = db.get(key(0)).expect_err("the block is damaged");
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(!db.verify().is_ok());
            let what = error.corruption().unwrap().what;
            let expected = [Damage::BadBlock, Damage::BadField, Damage::OutOfBounds, Damage::OutOfOrder];
            assert!(expected.contains(&what), "{what:?}");
        }
    }
}

/// Without mappings, the same files give the same answers, and every read verifies what it reads.
#[test]
fn tables_are_read_piece_by_piece_and_verified_each_time() {
    for compression in [Compression::None].iter().chain(CODECS) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("db");
        let mut options = options(&SimFs::new(), *compression);
        options.file_system(FileSystem::disk()).io_mode(IoMode::Read).cache_bytes(200 << 10);
        let db = options.open(&path).unwrap();
        write(&db, 0..2000, 1);
        let kept = db.get(key(7)).unwrap();
        db.compact().unwrap();
        check(&db, 2000, |_| 1);
        let stats = db.stats();
        assert!(stats.cache_hits > 0 && (1..=200 << 10).contains(&stats.cache_bytes));
        db.close().unwrap();
        assert_eq!(kept.as_deref(), Some(&value(7, 1)[..]));

        let mapped = options.io_mode(IoMode::Map).open(&path).unwrap();
        check(&mapped, 2000, |_| 1);
        mapped.close().unwrap();

        let db = options.io_mode(IoMode::Read).cache_bytes(0).open(&path).unwrap();
        assert!(db.get(key(0)).unwrap().is_some());
        let table = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        let table = table.filter(|path| path.extension().is_some_and(|e| e == "sst")).min().unwrap();
        let mut bytes = std::fs::read(&table).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&table, &bytes).unwrap();
        assert!(db.get(key(0)).unwrap_err().is_corruption(), "{compression:?}: what was read before is verified again");
        assert!(db.iter().next().unwrap().is_err() && !db.verify().is_ok());
        bytes[100] ^= 1;
        std::fs::write(&table, &bytes).unwrap();
        assert!(db.get(key(0)).unwrap().is_some() && db.verify().is_ok());
        db.close().unwrap();
    }
}

/// A dump names codec and blocks of a section, and shows each block in front of the entries in it.
#[test]
fn dumps_show_blocks_and_what_is_in_them() {
    for codec in CODECS {
        let fs = SimFs::new();
        let db = options(&fs, *codec).table_bytes(1 << 20).open(DIR).unwrap();
        write(&db, 0..300, 1);
        db.compact().unwrap();
        db.close().unwrap();
        let name = &names(&fs, ".sst")[0];
        let (mut blocks, mut entries, mut sections) = (Vec::new(), Vec::new(), Vec::new());
        let mut sink = |item: inspect::Item<'_>| {
            let number = |name: &str| {
                item.fields.iter().find_map(|(field, value)| match value {
                    inspect::Value::Number(number) if *field == name => Some(*number),
                    _ => None,
                })
            };
            match item.kind {
                "section" => sections.push((number("blocks").unwrap(), number("block_bytes").unwrap())),
                "block" => blocks.push((item.offset, number("raw_bytes").unwrap())),
                "entry" => entries.push((item.offset, number("offset_in_block").unwrap())),
                _ => {}
            }
            Ok(())
        };
        inspect::bytes(Path::new(name), &fs.read(&Path::new(DIR).join(name)).unwrap(), &mut sink).unwrap();
        assert_eq!(sections, [(blocks.len() as u64, 4096)]);
        assert_eq!(entries.len(), 300);
        assert!(entries.iter().all(|(offset, at)| blocks.iter().any(|(start, raw)| start == offset && at < raw)));
        assert!(blocks.iter().all(|(start, _)| entries.contains(&(*start, 0)) && start % 16 == 0));
    }
}

/// An interval of the index spans 24 blocks here, so each step back from its front comes through all others, and has to
/// tell the version that it has left from the one that it finds.
#[test]
fn versions_in_many_blocks_are_walked_both_ways() {
    const KEYS: u32 = 7;
    const ROUNDS: u32 = 12;
    // What they begin with is longer than what a merge compares as a number.
    let key = |i: u32| format!("{i:070}").into_bytes();
    let value = |i: u32, round: u32| value(13, i * 100 + round)[..3000].to_vec();
    // Without the mapping, plain tables are read in pieces as well.
    for codec in [Compression::None].iter().chain(CODECS) {
        let fs = SimFs::new();
        for io_mode in [IoMode::Map, IoMode::Read] {
            let mut options = options(&fs, *codec);
            let db = options
                .compressed_from_level(0)
                .index_interval(2)
                .table_bytes(4 << 20)
                .io_mode(io_mode)
                .open(DIR)
                .unwrap();
            let snapshots: Vec<_> = (0..ROUNDS)
                .map(|round| {
                    (0..KEYS).for_each(|i| db.insert(key(i), value(i, round)).unwrap());
                    db.snapshot()
                })
                .collect();
            db.compact().unwrap();
            for (snapshot, round) in snapshots.iter().zip(0..) {
                let mut cursor = snapshot.cursor();
                let mut more = cursor.seek_last().unwrap();
                for i in (0..KEYS).rev() {
                    assert!(more && cursor.key() == key(i) && cursor.value() == value(i, round), "key {i}, {round}");
                    let kept = cursor.entry().unwrap();
                    more = cursor.prev().unwrap();
                    assert_eq!((kept.key(), kept.value()), (&key(i)[..], &value(i, round)[..]));
                }
                assert!(!more);
                let forward: Vec<_> = snapshot.iter().map(|entry| entry.unwrap()).collect();
                assert!(forward.iter().zip(0..).all(|(entry, i)| entry.value() == value(i, round)), "{round}");
                assert_eq!(forward.len(), KEYS as usize);
            }
            drop(snapshots);
            db.close().unwrap();
        }
    }
}
