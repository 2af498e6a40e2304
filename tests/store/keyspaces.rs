//! Keyspaces: apart from each other, together in batches and snapshots, and gone when dropped.

use std::collections::BTreeSet;
use std::path::Path;

use maplsm::inspect::{self, Value};
use maplsm::{
    Damage, Db, Durability, Error, ErrorKind, Fault, Keyspace, KeyspaceOptions, Options, PointIndex, SimFs, WriteBatch,
};

use crate::support::model::{Map, read_all};
use crate::support::{DIR, names, sim_options};

fn open(fs: &SimFs) -> Db {
    sim_options(fs).open(DIR).unwrap()
}

fn all(keyspace: &Keyspace) -> Map {
    read_all(keyspace.iter()).unwrap()
}

fn map<const N: usize>(entries: [(&str, &str); N]) -> Map {
    entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

#[track_caller]
fn is_dropped<T>(result: maplsm::Result<T>) {
    match result {
        Err(e @ Error::KeyspaceDropped { .. }) => assert_eq!(e.kind(), ErrorKind::State),
        Err(e) => panic!("another error: {e}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn keyspaces_are_apart_from_each_other() {
    let fs = SimFs::new();
    let db = open(&fs);
    let (a, b, default) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap(), db.keyspace("default").unwrap());
    for round in 0..3 {
        db.insert("key", format!("default {round}")).unwrap();
        a.insert("key", format!("a {round}")).unwrap();
        b.insert("key", format!("b {round}")).unwrap();
        b.insert(format!("only {round}"), "").unwrap();
        a.remove(format!("only {round}")).unwrap();
        match round {
            0 => db.flush().unwrap(),
            1 => b.compact().unwrap(),
            _ => {}
        }
        for (keyspace, name) in [(&a, "a"), (&b, "b"), (&default, "default")] {
            assert_eq!(keyspace.name(), name);
            assert_eq!(keyspace.get("key").unwrap().unwrap(), format!("{name} {round}").as_bytes());
            assert!(keyspace.contains_key("key").unwrap());
            let mut cursor = keyspace.cursor();
            assert!(cursor.seek("k").unwrap());
            assert_eq!(cursor.value(), format!("{name} {round}").as_bytes());
        }
        assert_eq!((a.iter().count(), db.iter().count()), (1, 1));
        assert_eq!(b.prefix("only").count(), round + 1);
        assert_eq!(b.range("only 1"..).rev().count(), round);
    }
    a.compact_range("a".."z").unwrap();
    default.remove("key").unwrap();
    assert!(!db.contains_key("key").unwrap());
    assert_eq!(all(&a), map([("key", "a 2")]));
    assert!(db.verify().is_ok());
    assert_eq!(b.memtable_keys().unwrap(), Vec::<Vec<u8>>::new());

    let stats = db.stats();
    let shown: Vec<_> = stats.keyspaces.iter().map(|k| (k.name.as_str(), k.memtable_entries, k.entries > 0)).collect();
    assert_eq!(shown, [("default", 1, true), ("a", 0, true), ("b", 0, true)]);
    assert_eq!(stats.keyspaces[2].tables, 2, "compacted, and a section of level 0");
    assert!(stats.keyspaces[2].bytes >= 16 * stats.keyspaces[2].entries);
    db.close().unwrap();
    assert!(matches!(a.get("key"), Err(Error::Closed)));
    assert!(matches!(a.insert("key", ""), Err(Error::Closed)));
    assert!(matches!(db.keyspace("a"), Err(Error::Closed)));
}

#[test]
fn names_are_checked_and_kept() {
    let fs = SimFs::new();
    let db = open(&fs);
    let longest = "x".repeat(255);
    for name in ["a", "../a", "käse / 世界", "Default", " ", &longest] {
        let keyspace = db.create_keyspace(name, &KeyspaceOptions::new()).unwrap();
        keyspace.insert("name", name).unwrap();
        let again = db.create_keyspace(name, &KeyspaceOptions::new());
        assert!(matches!(again, Err(e @ Error::KeyspaceExists { .. }) if e.kind() == ErrorKind::InvalidInput));
    }
    for name in ["", "a\nb", "\0", "\u{7f}", "\u{85}", &"x".repeat(256)] {
        for refused in [
            db.keyspace(name).err(),
            db.create_keyspace(name, &KeyspaceOptions::new()).err(),
            db.drop_keyspace(name).err(),
        ] {
            let refused = refused.unwrap();
            assert!(matches!(refused, Error::InvalidKeyspaceName { .. }), "{refused}");
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            assert!(!refused.to_string().chars().any(char::is_control));
        }
    }
    assert!(matches!(db.create_keyspace("default", &KeyspaceOptions::new()), Err(Error::KeyspaceExists { .. })));
    assert!(matches!(db.drop_keyspace("default"), Err(Error::InvalidKeyspaceName { .. })));
    let absent = db.drop_keyspace("absent");
    assert!(matches!(absent, Err(e @ Error::KeyspaceNotFound { .. }) if e.kind() == ErrorKind::NotFound));

    let expected = [" ", "../a", "Default", "a", "käse / 世界", &longest];
    assert_eq!(db.keyspaces(), expected);
    db.close().unwrap();
    let db = open(&fs);
    assert_eq!(db.keyspaces(), expected);
    for name in expected {
        assert_eq!(db.keyspace(name).unwrap().get("name").unwrap().unwrap(), name.as_bytes());
    }
    assert!(fs.files(Path::new(DIR)).iter().all(|(name, _)| name.is_ascii()));
}

/// Interval and point index of every section in every index file.
fn indexes(fs: &SimFs) -> Vec<(u64, u64, String)> {
    let mut found = Vec::new();
    for name in names(fs, ".idx") {
        let bytes = fs.read(&Path::new(DIR).join(&name)).unwrap();
        inspect::bytes(Path::new(&name), &bytes, &mut |item| {
            if item.kind == "index-section" {
                let field = |name| item.fields.iter().find(|(field, _)| *field == name).unwrap().1;
                let (Value::Number(keyspace), Value::Number(interval)) = (field("keyspace"), field("interval")) else {
                    panic!("{item:?}")
                };
                let Value::Text(point) = field("point_index") else { panic!("{item:?}") };
                found.push((keyspace, interval, point.to_owned()));
            }
            Ok(())
        })
        .unwrap();
    }
    found
}

#[test]
fn options_are_recorded_and_followed() {
    let fs = SimFs::new();
    let db = sim_options(&fs).index_interval(7).open(DIR).unwrap();
    let bloom = PointIndex::Bloom { error_rate: 0.03 };
    db.keyspace("plain").unwrap();
    db.create_keyspace("own", KeyspaceOptions::new().index_interval(3).point_index(bloom)).unwrap();
    for bad in [
        KeyspaceOptions::new().index_interval(0),
        KeyspaceOptions::new().index_interval(257),
        KeyspaceOptions::new().point_index(PointIndex::Bloom { error_rate: f64::NAN }),
    ] {
        assert!(matches!(db.create_keyspace("bad", bad), Err(Error::InvalidOptions { .. })));
    }
    db.close().unwrap();

    // The options of the database change, those of keyspaces do not.
    let other = sim_options(&fs).index_interval(50).point_index(PointIndex::Bloom { error_rate: 0.5 }).clone();
    let db = other.open(DIR).unwrap();
    let stats = db.stats().keyspaces;
    let shown: Vec<_> = stats.iter().map(|k| (k.name.as_str(), k.index_interval, k.point_index)).collect();
    assert_eq!(
        shown,
        [("default", 50, PointIndex::Bloom { error_rate: 0.5 }), ("own", 3, bloom), ("plain", 7, PointIndex::Hash)]
    );
    let (plain, own) = (db.keyspace("plain").unwrap(), db.keyspace("own").unwrap());
    let write = |keys: std::ops::Range<u8>| {
        let mut batch = WriteBatch::new();
        for key in keys {
            batch.insert([key], "v").insert_into(&plain, [key], "v").insert_into(&own, [key], "v");
        }
        db.write(&batch).unwrap();
        db.flush().unwrap();
    };
    // A hash index stands beside groups, which have no interval.
    let expected = [(0, 50, "bloom".to_owned()), (1, 0, "hash".to_owned()), (2, 3, "bloom".to_owned())];
    write(0..100);
    assert_eq!(indexes(&fs), expected);
    write(100..200);
    own.compact().unwrap();
    plain.compact().unwrap();
    db.compact().unwrap();
    db.maintain().unwrap();
    let mut compacted = indexes(&fs);
    compacted.sort();
    assert_eq!(compacted, expected);
    db.close().unwrap();

    // Lost indexes are made again as they were.
    let whole: Vec<_> = names(&fs, ".idx").into_iter().map(|name| Path::new(DIR).join(name)).collect();
    let before: Vec<_> = whole.iter().map(|path| fs.read(path).unwrap()).collect();
    for path in &whole {
        fs.write(path, b"");
    }
    let db = other.open(DIR).unwrap();
    for keyspace in ["default", "own", "plain"] {
        assert_eq!(db.keyspace(keyspace).unwrap().get([150]).unwrap().unwrap(), &b"v"[..]);
    }
    db.maintain().unwrap();
    let after: Vec<_> = whole.iter().map(|path| fs.read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn a_batch_over_keyspaces_is_whole_or_not_at_all() {
    let fs = SimFs::new();
    let db = open(&fs);
    let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
    let mut batch = WriteBatch::new();
    batch.insert("k", "0").insert_into(&a, "k", "1").insert_into(&b, "k", "2").insert_into(&a, "l", "3");
    batch.remove_from(&a, "k").insert("m", "4").insert_into(&b, "k", "5");
    assert_eq!(batch.len(), 7);
    db.write_with(&batch, Durability::Sync).unwrap();
    assert_eq!((all(&a), all(&b)), (map([("l", "3")]), map([("k", "5")])));

    // A torn group loses all of it.
    let mut second = WriteBatch::new();
    second.insert_into(&a, "x", "1").insert_into(&b, "x", "2");
    db.write_with(&second, Durability::Buffered).unwrap();
    let mut lost = 0;
    for seed in 0..40 {
        let db = open(&fs.power_cut(seed));
        let there = ["a", "b"].map(|name| db.keyspace(name).unwrap().contains_key("x").unwrap());
        assert_eq!(there[0], there[1]);
        lost += usize::from(!there[0]);
        assert!(db.keyspace("a").unwrap().contains_key("l").unwrap());
    }
    assert!((1..40).contains(&lost), "{lost}");

    // One handle that is gone, and nothing of the batch is written.
    db.drop_keyspace("b").unwrap();
    batch.insert("never", "");
    is_dropped(db.write(&batch));
    assert!(!db.contains_key("never").unwrap());
    batch.clear();
    db.write(batch.insert("now", "")).unwrap();
}

#[test]
fn handles_of_another_database_are_refused() {
    let (fs, other_fs) = (SimFs::with_seed(1), SimFs::with_seed(2));
    let (db, other) = (open(&fs), open(&other_fs));
    let (own, foreign) = (db.keyspace("k").unwrap(), other.keyspace("k").unwrap());
    let refused = |batch: &WriteBatch| {
        let error = db.write(batch).unwrap_err();
        assert!(matches!(error, Error::ForeignKeyspace { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    };
    refused(WriteBatch::new().insert_into(&foreign, "a", ""));
    refused(WriteBatch::new().insert_into(&own, "a", "").insert_into(&foreign, "b", ""));
    refused(WriteBatch::new().insert_into(&foreign, "a", "").insert_into(&own, "b", ""));
    refused(WriteBatch::new().remove_from(&other.keyspace("default").unwrap(), "a"));
    let snapshot = db.snapshot().keyspace(&foreign);
    assert!(matches!(snapshot.get("a"), Err(Error::ForeignKeyspace { .. })));
    assert!(matches!(snapshot.iter().next(), Some(Err(Error::ForeignKeyspace { .. }))));
    assert_eq!(own.iter().count(), 0);

    db.close().unwrap();
    let again = open(&fs);
    assert!(matches!(again.write(WriteBatch::new().insert_into(&own, "a", "")), Err(Error::ForeignKeyspace { .. })));
}

#[test]
fn a_snapshot_is_one_moment_of_all_keyspaces() {
    let fs = SimFs::new();
    let db = open(&fs);
    let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
    a.insert("k", "1").unwrap();
    b.insert("k", "1").unwrap();
    let of_a = a.snapshot();
    let late = db.keyspace("late").unwrap();
    for keyspace in [&a, &b, &late] {
        keyspace.insert("k", "2").unwrap();
    }
    db.flush().unwrap();
    for keyspace in [&a, &b, &late] {
        keyspace.compact().unwrap();
    }
    let of_b = of_a.keyspace(&b);
    assert_eq!(of_a.get("k").unwrap().unwrap(), &b"1"[..]);
    assert_eq!(of_b.get_ref("k").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(read_all(of_b.iter()).unwrap(), map([("k", "1")]));
    assert_eq!(of_b.sequence(), of_a.sequence());
    assert_eq!(of_a.keyspace(&late).iter().count(), 0);
    assert_eq!(of_a.keyspace(&late).keyspace(&a).get("k").unwrap().unwrap(), &b"1"[..]);
    assert_eq!(db.stats().snapshots, 2);
}

#[test]
fn a_dropped_keyspace_is_gone_and_readers_keep_what_they_have() {
    let fs = SimFs::new();
    let db = open(&fs);
    let gone = db.keyspace("gone").unwrap();
    let fill = |from: u32| {
        let mut batch = WriteBatch::new();
        for key in from..from + 300 {
            batch.insert_into(&gone, key.to_be_bytes(), vec![7; 100]).insert(key.to_be_bytes(), "kept");
        }
        db.write(&batch).unwrap();
    };
    fill(0);
    gone.compact().unwrap(); // a tree
    fill(300);
    db.flush().unwrap(); // a section of level 0
    fill(600); // the memtable
    let files = names(&fs, ".sst").len();
    let snapshot = gone.snapshot();
    let value = gone.get(1u32.to_be_bytes()).unwrap().unwrap();
    let mut iter = gone.iter();
    let mut cursor = gone.cursor();
    assert!(cursor.seek(350u32.to_be_bytes()).unwrap());
    assert!(iter.next().is_some());

    db.drop_keyspace("gone").unwrap();
    assert!(db.keyspaces().is_empty());
    is_dropped(gone.get("k"));
    is_dropped(gone.contains_key("k"));
    is_dropped(gone.insert("k", "v"));
    is_dropped(gone.remove("k"));
    is_dropped(gone.iter().next().unwrap());
    is_dropped(gone.cursor().seek_first());
    is_dropped(gone.compact());
    is_dropped(gone.memtable_keys());
    is_dropped(snapshot.get("k"));
    is_dropped(snapshot.get_ref("k"));
    is_dropped(snapshot.range("a"..).next_back().unwrap());
    is_dropped(db.write(WriteBatch::new().remove_from(&gone, "k")));
    let error = gone.get("k").unwrap_err().to_string();
    assert!(error.contains("`gone`"), "{error}");

    // What was open goes on.
    assert_eq!(names(&fs, ".sst").len(), files, "an iterator walks the tables");
    assert!(db.stats().obsolete_bytes > 0);
    assert_eq!(iter.by_ref().map(Result::unwrap).filter(|entry| entry.value() == [7; 100]).count(), 899);
    assert!(cursor.next().unwrap());
    assert_eq!(cursor.key(), 351u32.to_be_bytes());
    assert_eq!(value, vec![7; 100]);
    drop((iter, cursor, snapshot));
    db.maintain().unwrap();
    assert!(names(&fs, ".sst").len() < files);

    // A new one of the same name begins empty, and nothing comes back in any way.
    let again = db.keyspace("gone").unwrap();
    let check = |again: &Keyspace, db: &Db| {
        assert_eq!(again.iter().count(), 0);
        assert!(again.get(1u32.to_be_bytes()).unwrap().is_none());
        assert_eq!(db.iter().count(), 900);
        assert!(db.verify().is_ok());
    };
    check(&again, &db);
    is_dropped(gone.get("k"));
    db.flush().unwrap();
    check(&again, &db);
    db.compact().unwrap();
    check(&again, &db);
    let stats = db.stats();
    assert_eq!(stats.tables.iter().map(|table| table.entries).sum::<u64>(), 900);
    assert_eq!((stats.keyspaces.len(), stats.keyspaces[1].entries), (2, 0));
    db.close().unwrap();
    let db = open(&fs);
    check(&db.keyspace("gone").unwrap(), &db);
}

#[test]
fn a_segment_of_dropped_keyspaces_alone_makes_no_table() {
    let fs = SimFs::new();
    let db = open(&fs);
    for name in ["a", "b"] {
        db.keyspace(name).unwrap().insert("k", "v").unwrap();
    }
    db.drop_keyspace("a").unwrap();
    db.drop_keyspace("b").unwrap();
    let sequence = db.stats().last_sequence;
    db.flush().unwrap();
    assert_eq!((db.stats().tables.len(), db.stats().log_segments), (0, 0));
    db.close().unwrap();
    assert_eq!(open(&fs).stats().last_sequence, sequence);

    // The same by way of the log.
    let db = open(&fs);
    let keyspace = db.keyspace("a").unwrap();
    db.insert("k", "v").unwrap();
    keyspace.insert("k", "v").unwrap();
    db.drop_keyspace("a").unwrap();
    for (after, complete) in [(fs.kill(), true), (fs.power_cut(3), false)] {
        let db = open(&after);
        assert!(!complete || db.get("k").unwrap().is_some());
        assert_eq!(db.stats().last_sequence, sequence + 3, "what is skipped counts, and the drop");
        assert!(db.keyspaces().is_empty());
        db.flush().unwrap();
        db.insert("next", "").unwrap();
        assert_eq!(db.stats().last_sequence, sequence + 4);
    }
}

#[test]
fn a_drop_makes_durable_what_was_committed_before() {
    let fs = SimFs::new();
    let db = open(&fs);
    let (old, new) = (db.keyspace("old").unwrap(), db.keyspace("new").unwrap());
    old.insert("k", "v").unwrap();
    db.sync().unwrap();
    new.insert("k", "v").unwrap();
    db.drop_keyspace("old").unwrap();
    for seed in 0..20 {
        let db = open(&fs.power_cut(seed));
        assert_eq!(db.keyspaces(), ["new"]);
        assert!(db.keyspace("new").unwrap().contains_key("k").unwrap(), "the copy is there, the original is not");
    }
}

#[test]
fn a_drop_that_fails_leaves_the_keyspace_readable() {
    for after in 1..6 {
        let fs = SimFs::new();
        let db = open(&fs);
        let keyspace = db.keyspace("k").unwrap();
        keyspace.insert("k", "v").unwrap();
        fs.inject(Fault::Error { after, kind: std::io::ErrorKind::Other });
        if let Err(e) = db.drop_keyspace("k") {
            assert_eq!(e.kind(), ErrorKind::Io);
            assert!(keyspace.contains_key("k").unwrap());
            let written = keyspace.insert("l", "").err().map(|e| e.kind());
            assert!(written.is_none_or(|kind| kind == ErrorKind::State));
        }
        drop((keyspace, db));
        let db = open(&fs.kill());
        if !db.keyspaces().is_empty() {
            assert!(db.keyspace("k").unwrap().contains_key("k").unwrap());
        }
    }
}

#[test]
fn a_read_only_open_sees_keyspaces_and_makes_none() {
    let fs = SimFs::new();
    let db = open(&fs);
    db.keyspace("a").unwrap().insert("k", "in a table").unwrap();
    db.flush().unwrap();
    db.keyspace("a").unwrap().insert("l", "in the log").unwrap();
    db.close().unwrap();
    let db = sim_options(&fs).read_only(true).open(DIR).unwrap();
    assert_eq!(db.keyspaces(), ["a"]);
    let a = db.keyspace("a").unwrap();
    assert_eq!(all(&a), map([("k", "in a table"), ("l", "in the log")]));
    assert!(matches!(db.keyspace("b"), Err(Error::KeyspaceNotFound { .. })));
    assert!(matches!(db.create_keyspace("b", &KeyspaceOptions::new()), Err(Error::ReadOnly)));
    assert!(matches!(db.drop_keyspace("a"), Err(Error::ReadOnly)));
    assert!(matches!(a.insert("k", ""), Err(Error::ReadOnly)));
    assert!(matches!(a.compact(), Err(Error::ReadOnly)));
}

/// Creating, writing, dropping and creating again.
fn script(db: &Db) -> maplsm::Result<()> {
    let old = db.keyspace("k")?;
    db.write_with(WriteBatch::new().insert_into(&old, "old", "1").insert("kept", "1"), Durability::Sync)?;
    db.flush()?;
    db.write_with(WriteBatch::new().insert_into(&old, "old", "2").insert("kept", "2"), Durability::Buffered)?;
    db.drop_keyspace("k")?;
    let new = db.keyspace("k")?;
    db.write_with(WriteBatch::new().insert_into(&new, "new", "3").insert("kept", "3"), Durability::Sync)?;
    db.drop_keyspace("k")?;
    db.create_keyspace("k", KeyspaceOptions::new().index_interval(5))?;
    db.write_with(WriteBatch::new().insert("kept", "4"), Durability::Sync)?;
    db.compact()
}

/// The value of `kept`, and the entries of the keyspace, if it is there.
type State = (Option<String>, Option<Map>);

fn state(db: &Db) -> State {
    let kept = db.get("kept").unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap());
    let there = db.keyspaces().contains(&"k".to_owned());
    (kept, there.then(|| all(&db.keyspace("k").unwrap())))
}

/// The states that the script goes through.
fn states() -> Vec<State> {
    let state = |kept: &str, keyspace| (Some(kept.to_owned()), keyspace);
    vec![
        (None, None),
        (None, Some(Map::new())),
        state("1", Some(map([("old", "1")]))),
        state("2", Some(map([("old", "2")]))),
        state("2", None),
        state("2", Some(Map::new())),
        state("3", Some(map([("new", "3")]))),
        state("3", None),
        state("3", Some(Map::new())),
        state("4", Some(Map::new())),
    ]
}

#[test]
fn no_crash_brings_a_dropped_keyspace_back() {
    let states = states();
    let mut seen = BTreeSet::new();
    let mut done = false;
    for stop in 0..1000 {
        if done {
            break;
        }
        let fs = SimFs::new();
        open(&fs).close().unwrap();
        fs.inject(Fault::Halt { after: stop });
        done = sim_options(&fs).open(DIR).and_then(|db| script(&db)).is_ok();
        for seed in 0..8 {
            let after = if seed == 0 { fs.kill() } else { fs.power_cut(seed) };
            let db = open(&after);
            let found = state(&db);
            let at = states.iter().position(|state| *state == found);
            let at = at.unwrap_or_else(|| panic!("stop {stop}, seed {seed}: {found:?}"));
            assert!(!done || at == states.len() - 1);
            seen.insert(at);
            // Whatever has been, a new one is new.
            assert_eq!(db.keyspace("fresh").unwrap().iter().count(), 0);
            assert!(db.verify().is_ok());
            db.flush().unwrap();
            db.close().unwrap();
            let db = open(&after);
            db.drop_keyspace("fresh").unwrap();
            db.compact().unwrap();
            assert!(db.verify().is_ok());
            assert_eq!(state(&db), found, "stop {stop}, seed {seed}");
        }
    }
    assert!(done && seen.len() == states.len(), "{seen:?}");
}

#[test]
fn an_entry_of_a_keyspace_that_never_was_is_damage() {
    let (fs, without) = (SimFs::with_seed(1), SimFs::with_seed(1));
    let write = |fs: &SimFs, create: bool| {
        let db = open(fs);
        if create {
            let keyspace = db.keyspace("k").unwrap();
            keyspace.insert("k", "v").unwrap();
        }
        fs.kill()
    };
    let with = write(&fs, true);
    write(&without, false);
    // A database that never had the keyspace, with the log of the one that had it: same id, same numbers.
    let segment = names(&with, ".wal")[0].clone();
    let bytes = with.read(&Path::new(DIR).join(&segment)).unwrap();
    let without = without.kill();
    without.write(&Path::new(DIR).join(&segment), &bytes);
    let error = sim_options(&without).open(DIR).unwrap_err();
    assert_eq!(error.corruption().map(|c| c.what), Some(Damage::UnknownKeyspace), "{error}");
    assert!(error.to_string().contains(&segment));
}

#[test]
fn a_thousand_keyspaces_share_their_files() {
    let fs = SimFs::new();
    let db = sim_options(&fs).memtable_bytes(1 << 20).open(DIR).unwrap();
    let keyspaces: Vec<Keyspace> = (0..1000).map(|i| db.keyspace(format!("number {i}")).unwrap()).collect();
    for round in 0..2u8 {
        let mut batch = WriteBatch::new();
        for keyspace in &keyspaces {
            batch.insert_into(keyspace, "k", [round]);
        }
        db.write(&batch).unwrap();
        db.flush().unwrap();
    }
    assert!(fs.files(Path::new(DIR)).len() <= 8, "{:?}", fs.files(Path::new(DIR)));
    assert_eq!(db.stats().tables.len(), 2);
    db.close().unwrap();
    let db = open(&fs);
    assert_eq!(db.keyspaces().len(), 1000);
    for keyspace in db.keyspaces() {
        assert_eq!(db.keyspace(keyspace).unwrap().get("k").unwrap().unwrap(), [1]);
    }
    for keyspace in db.keyspaces() {
        db.drop_keyspace(keyspace).unwrap();
    }
    db.maintain().unwrap();
    assert_eq!((db.stats().tables.len(), names(&fs, ".sst").len()), (0, 0));
}

/// Writers and a thread that drops and creates: no commit is lost in a keyspace that is there, none appears in a new one.
#[test]
fn drops_beside_writers_and_background_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.durability(Durability::Buffered).memtable_bytes(64 << 10).table_bytes(16 << 10).level_bytes_base(32 << 10);
    options.l0_tables(1).background_threads(2);
    let db = options.open(dir.path().join("db")).unwrap();
    std::thread::scope(|scope| {
        let writer = |number: u32| {
            let db = db.clone();
            move || {
                for i in 0..6000u32 {
                    let keyspace = db.keyspace(format!("shared {}", i % 3)).unwrap();
                    let key = [number.to_be_bytes(), i.to_be_bytes()].concat();
                    let mut batch = WriteBatch::new();
                    batch.insert_into(&keyspace, &key, vec![0; 60]).insert(&key, vec![1; 60]);
                    match db.write(&batch) {
                        Ok(()) => match keyspace.get(&key) {
                            Ok(found) => assert!(found.is_some(), "a commit is there or its keyspace is dropped"),
                            Err(e) => assert!(matches!(e, Error::KeyspaceDropped { .. }), "{e}"),
                        },
                        Err(e) => assert!(matches!(e, Error::KeyspaceDropped { .. }), "{e}"),
                    }
                }
            }
        };
        let writers = [scope.spawn(writer(1)), scope.spawn(writer(2))];
        let mut drops = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            let name = format!("shared {}", drops % 3);
            match db.drop_keyspace(&name) {
                Ok(()) => drops += 1,
                Err(e) => assert!(matches!(e, Error::KeyspaceNotFound { .. }), "{e}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        assert!(drops > 3);
    });
    db.wait_for_background().unwrap();
    let shared: Vec<Map> = db.keyspaces().iter().map(|name| all(&db.keyspace(name).unwrap())).collect();
    db.compact().unwrap();
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    let own = read_all(db.iter()).unwrap();
    db.close().unwrap();
    let db = options.open(dir.path().join("db")).unwrap();
    assert!(own == read_all(db.iter()).unwrap());
    let again: Vec<Map> = db.keyspaces().iter().map(|name| all(&db.keyspace(name).unwrap())).collect();
    assert!(shared == again);
    assert!(shared.iter().flatten().all(|(key, _)| own.contains_key(key)));
}
