//! Every kind of damage and every error has a way to the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use maplsm::operators::{Counter, Max};
use maplsm::{
    Compression, Db, Durability, Error, Fault, Feature, FilterEntry, KeyspaceOptions, SimFs, Verdict, WriteBatch,
};

use crate::store::golden::unreadable;
use crate::store::layout::with_changed_entry;
use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, load, names, sim_options};

/// The variants of an enum of the room `error`, by name: a new one is asked for as soon as it is written down there.
fn variants(of: &str) -> BTreeSet<String> {
    let source = concat!(include_str!("../../src/error.rs"), include_str!("../../src/error/damage.rs"));
    let (_, rest) = source.split_once(&format!("pub enum {of} {{\n")).expect("the enum is there");
    let (body, _) = rest.split_once("\n}\n").expect("it ends");
    let names =
        body.lines().filter_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase)));
    let names: BTreeSet<String> =
        names.map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()).collect();
    assert!(names.len() > 5, "{of}: {names:?}");
    names
}

/// The variants that came to a caller, by the name of their enum.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, BTreeSet<String>>);

impl Seen {
    fn insert(&mut self, of: &'static str, variant: &impl std::fmt::Debug) {
        self.0.entry(of).or_default().insert(name(variant));
    }

    fn note(&mut self, error: &Error) {
        self.insert("Error", error);
        self.insert("ErrorKind", &error.kind());
        let said = error.to_string();
        assert!(!said.contains(&name(error)), "{said}: that is for programmers");
        match error {
            Error::Corruption(corruption) => {
                assert!(said.contains(&corruption.what.to_string()) && error.is_corruption(), "{said}");
                self.insert("Damage", &corruption.what);
            }
            Error::UnsupportedFormat(unsupported) => {
                assert!(said.contains(&unsupported.what.to_string()) && !error.is_corruption(), "{said}");
                self.insert("Feature", &unsupported.what);
            }
            Error::Poisoned(cause) | Error::Background(cause) => {
                assert!(said.contains(&cause.to_string()) && error.source().is_some(), "{said}");
                assert_eq!(error.corruption(), cause.corruption());
                self.note(cause);
            }
            Error::Io(_) => assert!(error.source().is_some(), "{said}"),
            _ => assert!(error.source().is_none() && !error.is_corruption(), "{said}"),
        }
    }

    /// Demands that every variant has been seen, but those that this build cannot have.
    fn expect_all(&self, of: &str, impossible: &[&str]) {
        let mut missing = variants(of);
        missing.retain(|variant| !self.0.get(of).is_some_and(|seen| seen.contains(variant)));
        assert_eq!(missing.iter().collect::<Vec<_>>(), impossible, "never told: {of}");
    }
}

/// A closed database with everything in it, small enough to change each of its bytes.
fn small(seed: u64) -> SimFs {
    let fs = SimFs::with_seed(seed);
    let db = sim_options(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace("named").unwrap();
    load(&db, (0..30u32).map(|i| (i.to_be_bytes(), [1; 20])), 10);
    db.write(WriteBatch::new().insert_into(&keyspace, "key", "value").remove("gone")).unwrap();
    db.flush().unwrap();
    load(&db, (10..20u32).map(|i| (i.to_be_bytes(), [2; 20])), 3);
    db.remove_range([3u8]..[4u8]).unwrap();
    db.close().unwrap();
    fs
}

/// The same with what stands apart: compressed blocks, if this build has a codec, and large values.
fn packed(seed: u64) -> SimFs {
    let fs = SimFs::with_seed(seed);
    let mut options = sim_options(&fs);
    options.large_value_bytes(Some(64)).block_bytes(4 << 10).compressed_from_level(0);
    if cfg!(feature = "lz4") {
        options.compression(Compression::Lz4);
    } else if cfg!(feature = "zstd") {
        options.compression(Compression::Zstd(1));
    }
    let db = options.open(DIR).unwrap();
    load(&db, (0..30u32).map(|i| (i.to_be_bytes(), vec![7; if i % 10 == 0 { 100 } else { 20 }])), 10);
    db.compact().unwrap();
    db.close().unwrap();
    fs
}

/// Uses a database in every way; answers what is wrong with it.
fn problems(fs: &SimFs) -> Vec<Error> {
    match sim_options(fs).read_only(true).open(DIR) {
        Err(error) => vec![error],
        Ok(db) => {
            let mut problems = db.verify().problems;
            problems.extend(db.iter().filter_map(Result::err));
            problems.extend((0..30u32).filter_map(|i| db.get(i.to_be_bytes()).err()));
            problems
        }
    }
}

/// The name of a variant.
fn name(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Lets the manifests agree with a table or value file.
fn believe(fs: &SimFs, file: &str, bytes: &[u8]) {
    let number = file.split('.').next().unwrap().parse().unwrap();
    for (manifest, _) in fs.files(Path::new(DIR)).iter().filter(|(name, _)| Kind::of(name) == Some(Kind::Manifest)) {
        let manifest = Path::new(DIR).join(manifest);
        let mut record = fs.read(&manifest).unwrap();
        adopt(&mut record, number, bytes);
        reseal(Kind::Manifest, &mut record);
        fs.write(&manifest, &record);
    }
}

/// Damages every file of a database in many ways.
fn damage_all(good: &SimFs, other: &SimFs, seen: &mut Seen) {
    let mut look = |fs: &SimFs| {
        for problem in problems(fs) {
            seen.note(&problem);
        }
    };
    let files = good.files(Path::new(DIR));
    for (file, _) in &files {
        let (Some(kind), path) = (Kind::of(file), Path::new(DIR).join(file)) else { continue };
        let bytes = good.read(&path).unwrap();
        let with = |change: &dyn Fn(&SimFs)| {
            let fs = good.kill();
            change(&fs);
            fs
        };
        look(&with(&|fs| fs.remove(&path)));
        look(&with(&|fs| fs.write(&path, &other.read(&path).unwrap_or_default())));
        for (from, _) in files.iter().filter(|(from, _)| Kind::of(from) == Some(kind)) {
            look(&with(&|fs| fs.write(&path, &good.read(&Path::new(DIR).join(from)).unwrap())));
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for cut in (0..used).step_by(used / 40 + 1) {
            look(&with(&|fs| fs.write(&path, &bytes[..cut])));
        }
        for at in (0..used).step_by(2) {
            for (bits, sealed) in [(0x01, false), (0x01, true), (0x84, true)] {
                let mut bad = bytes.clone();
                bad[at] ^= bits;
                if sealed {
                    reseal(kind, &mut bad);
                }
                let fs = with(&|fs| fs.write(&path, &bad));
                // A file is believed if the manifest agrees with it, so let it.
                if matches!(kind, Kind::Table | Kind::Values) && sealed && at % 4 == 0 {
                    believe(&fs, file, &bad);
                }
                look(&fs);
            }
        }
    }
}

/// What no flipped bit brings about.
fn foreign_entries(seen: &mut Seen) {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    // What will be an extension is the front of the key first.
    db.insert(b"\x01\x81\0\0\0\0\0\0key", "value").unwrap();
    let extended = with_changed_entry(&fs, 0, |entry| {
        entry[0] |= 0x10;
        entry[6] -= 8;
        entry[13] = 1;
    });
    let operand = with_changed_entry(&fs, 0, |entry| entry[0] |= 3);
    for fs in [extended, operand] {
        for problem in problems(&fs) {
            seen.note(&problem);
        }
    }
}

#[test]
fn every_kind_of_damage_is_told() {
    let mut seen = Seen::default();
    damage_all(&small(1), &small(2), &mut seen);
    damage_all(&packed(1), &packed(2), &mut seen);
    foreign_entries(&mut seen);
    for fs in unreadable() {
        for problem in problems(&fs) {
            seen.note(&problem);
        }
    }
    let has_codec = cfg!(any(feature = "lz4", feature = "zstd"));
    let has_all = cfg!(all(feature = "lz4", feature = "zstd"));
    seen.expect_all("Damage", if has_codec { &[] } else { &["BadBlock"] });
    seen.expect_all("Feature", if has_all { &["Compression"] } else { &[] });
    // Which codec is missing, in words, if this build has them.
    let named: BTreeSet<String> = (1..4).map(|codec| Feature::Compression(codec).to_string()).collect();
    assert_eq!(named.len(), 3);
}

/// Every error that a caller can get, by what brings it about.
#[test]
fn every_error_has_a_cause() {
    let mut seen = Seen::default();
    let mut refused = |result: maplsm::Result<()>| seen.note(&result.expect_err("it is refused"));
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.memtable_entries(Some(1000)).max_batch_bytes(1 << 20);
    let open = |options: &maplsm::Options, dir: &str| options.open(dir).map(drop);

    refused(open(options.clone().create_if_missing(false), "/nowhere"));
    refused(open(options.clone().index_interval(0), "/nowhere"));
    let crowded = SimFs::new();
    crowded.limit_open_files(0);
    let db = sim_options(&crowded).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    db.flush().unwrap();
    drop(db);
    refused(sim_options(&crowded).open(DIR).unwrap().get("key").map(drop));
    let db = options.open(DIR).unwrap();
    refused(open(&options, DIR));

    refused(db.insert(vec![0; 70_000], ""));
    refused(db.insert("key", vec![0; 1 << 32]));
    refused(db.insert("key", vec![0; 2 << 20]));
    refused(db.ingest([("b", ""), ("a", "")]).map(drop));
    refused(db.ingest([("b", ""), ("b", "")]).map(drop));
    let named = db.keyspace("named").unwrap();
    refused(db.create_keyspace("named", &KeyspaceOptions::new()).map(drop));
    refused(db.merge("key", "operand"));
    let counting = sim_options(&fs).merge_operator(Counter).open("/counting").unwrap();
    counting.merge("key", "no number").unwrap();
    refused(counting.get("key").map(drop));
    drop(counting);
    refused(open(sim_options(&fs).merge_operator(Max), "/counting"));
    refused(db.drop_keyspace("unnamed"));
    refused(db.keyspace("").map(drop));
    let other = sim_options(&fs).open("/other").unwrap();
    refused(other.write(WriteBatch::new().insert_into(&named, "key", "value")));
    refused(other.backup(DIR).map(drop));
    other.insert("key", "value").unwrap();
    other.close().unwrap();
    refused(options.read_checkpoint("/other").map(drop));
    db.drop_keyspace("named").unwrap();
    refused(named.insert("key", "value"));

    db.insert("key", "odd").unwrap();
    let value = db.get("key").unwrap().unwrap();
    refused(value.get_as::<u64>().map(drop));
    refused(maplsm::key::decode::<u64>(&value).map(drop).map_err(Error::from));
    let transaction = db.transaction();
    transaction.get("key").unwrap();
    transaction.insert("key", "mine").unwrap();
    db.insert("key", "theirs").unwrap();
    refused(transaction.commit());

    db.close().unwrap();
    refused(db.insert("key", "value"));
    drop((db, named));
    let reader = options.clone().read_only(true).open(DIR).unwrap();
    refused(reader.insert("key", "value"));
    drop(reader);

    let db = sim_options(&fs).memtable_entries(Some(10)).open(DIR).unwrap();
    let urgent = |number: u32| db.try_write(WriteBatch::new().insert(number.to_be_bytes(), ""));
    refused((0..1000).try_for_each(urgent));
    drop(db);

    // What it needs is gone.
    let fs = small(1);
    fs.remove(&Path::new(DIR).join(&names(&fs, ".sst")[0]));
    refused(open(&sim_options(&fs), DIR));
    refused(used_up());
    let db = failing();
    refused(db.sync());
    refused(db.insert("key", "value"));
    refused(unlocked());
    refused(stuck());
    refused(within_itself());
    #[cfg(target_os = "linux")]
    {
        // A signal handler is for a process of its own, of which only words arrive.
        let lost = Error::MappingLost(Arc::new(PathBuf::new()));
        assert!(crate::system::mapped::first_error("sst truncate").contains(lost.to_string().trim_start()));
        refused(Err(lost));
    }
    foreign_entries(&mut seen);
    // Builds with debug assertions, which tests are, panic instead of telling of a bug.
    seen.expect_all("Error", if cfg!(target_os = "linux") { &["Bug"] } else { &["Bug", "MappingLost"] });
    seen.expect_all("ErrorKind", &["Bug"]);
}

/// A database whose next sync of the log fails.
fn failing() -> Db {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    fs.inject(Fault::Error { after: 1, kind: io::ErrorKind::Other });
    db
}

/// Writes to a database whose lock file is gone.
fn unlocked() -> maplsm::Result<()> {
    let fs = SimFs::new();
    let db = sim_options(&fs).durability(Durability::Sync).open(DIR)?;
    db.insert("key", "value")?;
    fs.remove(&Path::new(DIR).join("LOCK"));
    db.insert("key", "another one")
}

/// Writes until background work that never succeeds keeps writers waiting.
fn stuck() -> maplsm::Result<()> {
    let mut options = sim_options(&SimFs::new());
    options.background_threads(1).memtable_entries(Some(20)).l0_tables(2).level_bytes_base(4 << 10);
    let db = options.compaction_filter(|_| -> Verdict { panic!("on purpose") }).open(DIR)?;
    (0..u64::MAX).try_for_each(|number| db.insert(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), ""))
}

/// A compaction inside of a compaction.
fn within_itself() -> maplsm::Result<()> {
    let (slot, told) = (Arc::new(Mutex::new(None::<Db>)), Arc::new(Mutex::new(Ok(()))));
    let (db, answer) = (Arc::clone(&slot), Arc::clone(&told));
    let filter = move |_: FilterEntry<'_>| {
        let db = db.lock().unwrap().clone();
        *answer.lock().unwrap() = db.map_or(Ok(()), |db| db.compact());
        Verdict::Keep
    };
    let db = sim_options(&SimFs::new()).compaction_filter(filter).open(DIR)?;
    db.insert("key", "value")?;
    *slot.lock().unwrap() = Some(db.clone());
    db.compact()?;
    slot.lock().unwrap().take();
    let told = told.lock().unwrap();
    told.clone()
}

/// The largest number that a file can have ends the database.
fn used_up() -> maplsm::Result<()> {
    let fs = small(1);
    fs.write(&Path::new(DIR).join("9223372036854775806.sst"), b"");
    let db = sim_options(&fs).open(DIR)?;
    (0..4).try_for_each(|i| db.insert("key", [i]).and_then(|()| db.flush()))?;
    db.compact()
}

/// The memory is asked for and never touched.
#[test]
fn values_beyond_the_limit_are_refused() {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    let value = vec![0; 1 << 32];
    assert!(matches!(db.insert("key", &value), Err(Error::ValueTooLong { bytes }) if bytes == 1 << 32));
    assert!(matches!(db.write(WriteBatch::new().insert("key", &value)), Err(Error::ValueTooLong { .. })));
    assert_eq!(db.iter().count(), 0);
}

/// As an error of `std::io`, each has the kind of its cause, and is there with all that it says.
#[test]
fn errors_of_the_store_are_errors_of_io() {
    let fs = SimFs::new();
    let kind = |refused: Result<(), Error>| {
        let refused = refused.expect_err("it is refused");
        let said = refused.to_string();
        let error = io::Error::from(refused);
        assert_eq!(error.to_string(), said);
        assert!(error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>));
        error.kind()
    };
    let mut absent = sim_options(&fs);
    assert_eq!(kind(absent.create_if_missing(false).open(DIR).map(drop)), io::ErrorKind::NotFound);
    let db = sim_options(&fs).open(DIR).unwrap();
    assert_eq!(kind(sim_options(&fs).open(DIR).map(drop)), io::ErrorKind::ResourceBusy);
    assert_eq!(kind(db.insert(vec![0; 70_000], "")), io::ErrorKind::InvalidInput);
    assert_eq!(kind(maplsm::key::decode::<bool>(b"").map(drop).map_err(Error::from)), io::ErrorKind::InvalidData);
    let named = db.keyspace("named").unwrap();
    assert_eq!(
        kind(db.create_keyspace("named", &maplsm::KeyspaceOptions::new()).map(drop)),
        io::ErrorKind::AlreadyExists
    );
    db.drop_keyspace("named").unwrap();
    assert_eq!(kind(named.get("key").map(drop)), io::ErrorKind::NotFound);
    db.insert("key", "value").unwrap();
    fs.inject(maplsm::Fault::Error { after: 1, kind: io::ErrorKind::TimedOut });
    assert_eq!(kind(db.sync()), io::ErrorKind::TimedOut);
    assert_eq!(kind(db.insert("key", "value")), io::ErrorKind::TimedOut, "the cause of what has poisoned the store");
    drop((named, db));
    let db = sim_options(&fs).read_only(true).open(DIR).unwrap();
    assert_eq!(kind(db.insert("key", "value")), io::ErrorKind::PermissionDenied);
    db.close().unwrap();
    assert_eq!(kind(db.get("key").map(drop)), io::ErrorKind::NotConnected);
}

/// Whoever catches a panic of his own code goes on with the handles.
#[test]
fn handles_go_on_after_a_panic_of_the_callers_code() {
    let db = sim_options(&SimFs::new()).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    let (named, snapshot, mut iter) = (db.keyspace("named").unwrap(), db.snapshot(), db.iter());
    let caught = std::panic::catch_unwind(|| {
        db.update("key", |_| -> Option<&str> { panic!("of the caller") }).map(drop)?;
        named.update("key", |_| Some("value")).map(drop)
    });
    assert!(caught.is_err());
    let caught = std::panic::catch_unwind(|| db.transact(|_| -> Result<(), Error> { panic!("of the caller") }));
    assert!(caught.is_err());
    assert_eq!(db.update("key", |old| old.map(|old| [old, b"2"].concat())).unwrap().as_deref(), Some(&b"value2"[..]));
    assert_eq!(snapshot.get("key").unwrap().unwrap(), "value");
    assert_eq!(iter.next().unwrap().unwrap().value(), b"value");
    assert!(named.is_empty().unwrap() && db.verify().is_ok());
}
