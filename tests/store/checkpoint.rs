//! Checkpoints, and copies that were made without them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use maplsm::{Db, Durability, Error, ErrorKind, Fault, IoMode, Options, SimFs, WriteBatch};

use crate::support::model::{Map, read_all};
use crate::support::{DIR, contents, image, sim_options};

const COPY: &str = "/copy";

fn small(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.table_bytes(4 << 10).memtable_bytes(4 << 10).level_bytes_base(8 << 10).level_multiplier(2).l0_tables(2);
    options
}

/// A store with tables on several levels, a table that was loaded, keyspaces, and something in its log.
fn fill(db: &Db) {
    for round in 0..6u8 {
        for key in 0..60u8 {
            db.insert([key, 1], vec![round; 100]).unwrap();
        }
        db.maintain().unwrap();
    }
    db.ingest((100..130u8).map(|key| ([key], "loaded"))).unwrap();
    let (kept, dropped) = (db.keyspace("kept").unwrap(), db.keyspace("dropped").unwrap());
    db.write(WriteBatch::new().insert_into(&kept, "a", "1").insert_into(&dropped, "b", "2")).unwrap();
    db.flush().unwrap();
    db.drop_keyspace("dropped").unwrap();
    db.remove_range([3u8]..[5]).unwrap();
    db.remove([7, 1]).unwrap();
    db.write(WriteBatch::new().insert([105u8], "over").insert_into(&kept, "c", "3")).unwrap();
}

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let fs = SimFs::new();
    let db = small(&fs).open(DIR).unwrap();
    fill(&db);
    let (state, kept) = (contents(&db), read_all(db.keyspace("kept").unwrap().iter()).unwrap());
    let before = image(&fs);
    db.checkpoint(COPY).unwrap();
    assert_eq!(image(&fs), before, "nothing of the store changes");
    assert!(fs.files(Path::new(COPY)).iter().all(|(name, _)| !name.ends_with("wal")));

    // The store goes on; files under the copy are its own.
    db.remove_range::<&str>(..).unwrap();
    db.compact().unwrap();
    db.insert("other", "x").unwrap();
    let copy = small(&fs).open(COPY).unwrap();
    assert!(copy.recovery_report().clean);
    assert_eq!(copy.recovery_report().segments, 0);
    let check = |copy: &Db| {
        assert_eq!(contents(copy), state);
        assert_eq!(read_all(copy.keyspace("kept").unwrap().iter()).unwrap(), kept);
        assert_eq!(copy.keyspaces(), ["kept"]);
        assert!(copy.verify().is_ok(), "{:?}", copy.verify().problems);
    };
    check(&copy);
    // And the other way round.
    copy.compact().unwrap();
    check(&copy);
    copy.insert("mine", "y").unwrap();
    assert_eq!(contents(&db).len(), 1);
    copy.checkpoint("/copy of the copy").unwrap();
    copy.close().unwrap();
    db.close().unwrap();
    let db = small(&fs).open(DIR).unwrap();
    assert_eq!(contents(&db).len(), 1);
    assert!(db.verify().is_ok());
    assert_eq!(small(&fs).open("/copy of the copy").unwrap().get("mine").unwrap().as_deref(), Some(&b"y"[..]));

    // No log or manifest of one is taken for that of the other.
    let manifest = |dir: &str| {
        let files = fs.files(Path::new(dir)).into_iter().map(|(name, _)| name);
        files.filter(|name| name.ends_with("manifest")).max().unwrap()
    };
    let (theirs, ours) = (Path::new(COPY).join(manifest(COPY)), Path::new(DIR).join(manifest(DIR)));
    db.close().unwrap();
    fs.write(&ours, &fs.read(&theirs).unwrap());
    assert!(small(&fs).open(DIR).unwrap_err().is_corruption());
}

#[test]
fn a_checkpoint_of_anything_opens() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.checkpoint("/empty").unwrap();
    let empty = sim_options(&fs).open("/empty").unwrap();
    assert_eq!(empty.iter().count(), 0);
    empty.insert("key", "value").unwrap();

    // The log has entries of a dropped keyspace only.
    db.keyspace("gone").unwrap().insert("a", "1").unwrap();
    db.drop_keyspace("gone").unwrap();
    db.checkpoint("/dropped").unwrap();
    assert_eq!(sim_options(&fs).open("/dropped").unwrap().iter().count(), 0);

    // A store that is open to be read, after a crash.
    db.write_with(WriteBatch::new().insert("key", "value"), Durability::Sync).unwrap();
    let killed = fs.kill();
    let reader = sim_options(&killed).read_only(true).open(DIR).unwrap();
    let before = image(&killed);
    reader.checkpoint(COPY).unwrap();
    assert_eq!(image(&killed), before);
    assert_eq!(contents(&sim_options(&killed).open(COPY).unwrap()), contents(&reader));

    db.close().unwrap();
    assert!(matches!(db.checkpoint("/closed"), Err(Error::Closed)));
    assert!(sim_options(&fs).create_if_missing(false).open("/closed").is_err());
}

#[test]
fn what_is_there_is_left_alone() {
    let fs = SimFs::new();
    let db = small(&fs).open(DIR).unwrap();
    fill(&db);
    fs.write(Path::new("/taken/file"), b"x");
    fs.write(Path::new("/a file"), b"x");
    for taken in ["/taken", "/a file", DIR] {
        let error = db.checkpoint(taken).unwrap_err();
        assert!(matches!(&error, Error::Io(e) if e.source.kind() == io::ErrorKind::AlreadyExists), "{error}");
    }
    assert_eq!(fs.read(Path::new("/taken/file")).as_deref(), Some(&b"x"[..]));
    assert!(db.verify().is_ok());
}

#[test]
fn a_copy_without_all_tables_is_not_made() {
    let fs = SimFs::new();
    let db = small(&fs).open(DIR).unwrap();
    fill(&db);
    db.flush().unwrap();
    let table = Path::new(DIR).join(&crate::support::names(&fs, ".sst")[0]);
    fs.remove(&table);
    let error = db.checkpoint(COPY).unwrap_err();
    let corruption = error.corruption().unwrap();
    assert_eq!((&corruption.path, corruption.what), (&table, maplsm::Damage::Missing));
    assert!(fs.files(Path::new(COPY)).is_empty());
    assert!(matches!(small(&fs).create_if_missing(false).open(COPY), Err(Error::NotFound(_))));
}

#[test]
fn an_error_leaves_no_directory_and_a_crash_no_half_database() {
    let before = SimFs::new();
    let db = small(&before).open(DIR).unwrap();
    fill(&db);
    let state = contents(&db);
    db.close().unwrap();
    for fault in ["error", "halt"] {
        for after in 1.. {
            let fs = before.kill();
            let db = small(&fs).open(DIR).unwrap();
            fs.inject(match fault {
                "error" => Fault::Error { after, kind: io::ErrorKind::StorageFull },
                _ => Fault::Halt { after },
            });
            let outcome = db.checkpoint(COPY);
            let disk = fs.kill();
            if fault == "error" {
                assert_eq!(small(&disk).create_if_missing(false).open(COPY).is_ok(), outcome.is_ok(), "at {after}");
                assert!(outcome.is_ok() || fs.files(Path::new(COPY)).is_empty(), "at {after}");
                assert_eq!(contents(&db), state);
                db.insert("more", "x").unwrap();
            }
            for seed in 0..4 {
                match small(&fs.power_cut(seed)).create_if_missing(false).open(COPY) {
                    Ok(copy) => assert_eq!(contents(&copy), state, "{fault} at {after}"),
                    Err(e) => {
                        let without_current = e.corruption().is_some_and(|c| c.path.ends_with("CURRENT"));
                        let none = e.kind() == ErrorKind::NotFound || without_current;
                        assert!(outcome.is_err() && none, "{fault} at {after}: {e}");
                    }
                }
            }
            if outcome.is_ok() {
                break;
            }
        }
    }
}

/// One writer counts: after `n` commits, the state follows from `n`.
fn count(db: &Db, n: u32) {
    let mut batch = WriteBatch::new();
    counting(&mut batch, n);
    db.write_with(&batch, Durability::Buffered).unwrap();
}

fn counting(batch: &mut WriteBatch, n: u32) {
    batch.insert("count", n.to_be_bytes()).insert((n % 200).to_be_bytes(), n.to_be_bytes());
    if n.is_multiple_of(7) {
        batch.remove((n * 31 % 200).to_be_bytes());
    }
}

fn counted(upto: u32) -> Map {
    let mut map = BTreeMap::new();
    for n in 1..=upto {
        map.insert(b"count".to_vec(), n.to_be_bytes().to_vec());
        map.insert((n % 200).to_be_bytes().to_vec(), n.to_be_bytes().to_vec());
        if n.is_multiple_of(7) {
            map.remove((n * 31 % 200).to_be_bytes().as_slice());
        }
    }
    map
}

#[track_caller]
fn is_a_count(found: &Map) -> u32 {
    let upto = found.get(&b"count"[..]).map_or(0, |n| u32::from_be_bytes(n.as_slice().try_into().unwrap()));
    assert!(*found == counted(upto), "no state after {upto} commits");
    upto
}

#[test]
fn checkpoints_beside_a_writer_are_moments_of_its_history() {
    for io_mode in [IoMode::Map, IoMode::Read] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new();
        options.memtable_bytes(32 << 10).table_bytes(16 << 10).level_bytes_base(64 << 10).l0_tables(2).io_mode(io_mode);
        let db = options.open(dir.path().join("db")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    count(&db, n);
                }
            });
            let mut last = 0;
            for round in 0..12 {
                let path = dir.path().join(format!("copy {round}"));
                let at_least = db.get("count").unwrap().map_or(0, |n| u32::from_be_bytes((*n).try_into().unwrap()));
                db.checkpoint(&path).unwrap();
                let copy = options.open(&path).unwrap();
                assert!(copy.verify().is_ok(), "{:?}", copy.verify().problems);
                let upto = is_a_count(&contents(&copy));
                assert!(upto >= at_least && upto >= last);
                last = upto;
                count(&copy, upto + 1);
                copy.compact().unwrap();
                assert_eq!(is_a_count(&contents(&copy)), upto + 1);
                copy.close().unwrap();
                std::fs::remove_dir_all(&path).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        is_a_count(&contents(&db));
        assert!(db.verify().is_ok());
        db.close().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn tables_are_linked_and_the_directory_is_private() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().open(dir.path().join("db")).unwrap();
    db.insert("key", "value").unwrap();
    db.flush().unwrap();
    let copy = dir.path().join("made").join("copy");
    db.checkpoint(&copy).unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
    let mut linked = 0;
    for entry in std::fs::read_dir(&copy).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let name = entry.file_name().into_string().unwrap();
        linked += u32::from(metadata.nlink() == 2 && (name.ends_with("sst") || name.ends_with("idx")));
    }
    assert_eq!(linked, 2);
    db.close().unwrap();
}

/// Numbers that look random.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What happened to a keyspace beside, and after how many commits: it got a value in the same batch, or was dropped.
type Side = Vec<(u32, bool)>;

/// The value that it may have after `upto` commits: a drop right behind the last one may have been seen or not.
fn is_a_side(side: &Side, upto: u32, found: Option<u32>) -> bool {
    let state = |drops_to: u32| {
        let mut events = side.iter().filter(|(n, set)| if *set { *n <= upto } else { *n <= drops_to });
        events.next_back().and_then(|(n, set)| set.then_some(*n))
    };
    found == state(upto) || found == state(upto.saturating_sub(1))
}

/// What goes on while somebody copies files.
fn go_on(db: &Db, n: &mut u32, side: &mut Side, chance: &mut Chance) {
    match chance.below(14) {
        12 => {
            *n += 1;
            let keyspace = db.keyspace("side").unwrap();
            let mut batch = WriteBatch::new();
            counting(&mut batch, *n);
            db.write(batch.insert_into(&keyspace, "at", n.to_be_bytes())).unwrap();
            side.push((*n, true));
        }
        13 if db.keyspaces() == ["side"] => {
            db.drop_keyspace("side").unwrap();
            side.push((*n, false));
        }
        0 => db.flush().unwrap(),
        1 => db.maintain().unwrap(),
        2 => db.compact().unwrap(),
        3 => db.sync().unwrap(),
        4 => {
            *n += 1;
            if n.is_multiple_of(7) {
                // A load cannot remove.
                count(db, *n);
            } else {
                let count = n.to_be_bytes();
                db.ingest([(&(*n % 200).to_be_bytes()[..], count), (b"count", count)]).unwrap();
            }
        }
        _ => {
            for _ in 0..=chance.below(12) {
                *n += 1;
                count(db, *n);
            }
        }
    }
}

/// `cp -r` of a live directory: every file as it was at some moment, or its two halves at two moments. The copy opens as a
/// moment of the history, or is refused.
#[test]
fn a_copy_of_a_live_directory_is_a_moment_of_its_history_or_refused() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..400u64 {
        let mut chance = Chance(seed * 77 + 5);
        let fs = SimFs::with_seed(seed);
        let db = small(&fs).open(DIR).unwrap();
        let (mut n, mut side) = (0, Side::new());
        for _ in 0..chance.below(40) {
            go_on(&db, &mut n, &mut side, &mut chance);
        }
        let mut names: Vec<String> = fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name).collect();
        match seed % 5 {
            0 => {}
            1 => names.reverse(),
            2 => names.sort_by_key(|name| name == "CURRENT" || name.ends_with("manifest")),
            3 => names.sort_by_key(|name| !(name == "CURRENT" || name.ends_with("manifest"))),
            _ => {
                for at in (1..names.len()).rev() {
                    names.swap(at, chance.below(at + 1));
                }
            }
        }
        let target = SimFs::new();
        // A second pass, as somebody makes who has seen files appear.
        for pass in 0..=seed % 2 {
            if pass == 1 {
                let there = fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name);
                names = there.filter(|name| target.read(&Path::new(DIR).join(name)).is_none()).collect();
            }
            for name in &names {
                let path = Path::new(DIR).join(name);
                let Some(mut bytes) = fs.read(&path) else { continue };
                if chance.below(3) == 0 {
                    bytes.truncate(bytes.len() / 2);
                    go_on(&db, &mut n, &mut side, &mut chance);
                    let later = fs.read(&path).unwrap_or_default();
                    bytes.extend_from_slice(later.get(bytes.len()..).unwrap_or_default());
                }
                target.write(&path, &bytes);
                for _ in 0..chance.below(3) {
                    go_on(&db, &mut n, &mut side, &mut chance);
                }
            }
        }
        let copy = small(&target).create_if_missing(false).open(DIR);
        let look = |copy: Db| {
            let beside = if copy.keyspaces().is_empty() { None } else { copy.keyspace("side")?.get("at")? };
            Ok((read_all(copy.iter())?, beside.map(|n| u32::from_be_bytes((*n).try_into().unwrap())), copy.verify()))
        };
        match copy.and_then(look) {
            Ok((found, beside, report)) => {
                let upto = found.get(&b"count"[..]).map_or(0, |n| u32::from_be_bytes(n.as_slice().try_into().unwrap()));
                assert!(upto <= n && found == counted(upto), "seed {seed}: no state after {upto} commits");
                assert!(is_a_side(&side, upto, beside), "seed {seed}: after {upto} commits {beside:?} of {side:?}");
                assert!(report.is_ok(), "seed {seed}: {:?}", report.problems);
                opened += 1;
            }
            Err(e) => {
                assert!([ErrorKind::Corruption, ErrorKind::NotFound].contains(&e.kind()), "seed {seed}: {e}");
                refused += 1;
            }
        }
    }
    assert!(opened > 50 && refused > 20, "{opened} opened, {refused} refused");
}

/// Whoever fetches what is listed, and nothing else, has the database; what two checkpoints share need not be fetched twice.
#[test]
fn the_listed_files_are_the_checkpoint() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.table_bytes(16 << 10).large_value_bytes(Some(4000));
    let db = options.open(DIR).unwrap();
    for number in 0..500u32 {
        db.insert(number.to_be_bytes(), vec![7; if number % 50 == 0 { 5000 } else { 100 }]).unwrap();
    }
    db.compact().unwrap();
    db.checkpoint("/first").unwrap();
    db.insert("later", "value").unwrap();
    db.checkpoint("/second").unwrap();
    let [first, second] = ["/first", "/second"].map(|path| sim_options(&fs).read_checkpoint(path).unwrap());
    let shared = |file: &&maplsm::CheckpointFile| file.id.is_some() && first.files().contains(file);
    let missing: Vec<_> = second.files().iter().filter(|file| !shared(file)).collect();
    assert!(
        missing.len() == 3 && second.files().len() == 5,
        "not a table of what was in the log, the manifest, and `CURRENT`: {missing:?} of {second:?}"
    );

    drop(sim_options(&fs).open("/fetched").unwrap());
    for (name, _) in fs.files(Path::new("/fetched")) {
        fs.remove(&Path::new("/fetched").join(name));
    }
    fs.write(Path::new("/fetched/LOCK"), b"");
    for file in second.files() {
        let from = if shared(&file) { "/first" } else { "/second" };
        let bytes = fs.read(&Path::new(from).join(&file.name)).unwrap();
        assert_eq!(bytes.len() as u64, file.bytes);
        fs.write(&Path::new("/fetched").join(&file.name), &bytes);
    }
    let fetched = sim_options(&fs).open("/fetched").unwrap();
    assert!(fetched.verify().is_ok() && contents(&fetched) == contents(&db));

    assert!(matches!(sim_options(&fs).read_checkpoint(DIR), Err(Error::Locked(_))));
    db.close().unwrap();
    assert!(matches!(sim_options(&fs).read_checkpoint(DIR), Err(Error::InvalidCheckpoint { .. })));
    assert!(matches!(sim_options(&fs).read_checkpoint("/nowhere"), Err(Error::NotFound(_))));
    let table = Path::new("/second").join(&second.files()[0].name);
    fs.write(&table, b"short");
    assert!(sim_options(&fs).read_checkpoint("/second").unwrap_err().is_corruption());
}
