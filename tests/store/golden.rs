//! Golden directories: databases with every feature of the format, as they must be read for ever.
//!
//! Each is made here, on a simulated disk with fixed seeds, and kept under `tests/golden`. A test makes them again and
//! compares byte by byte, so that no change of what is written goes unnoticed; another one opens what is kept. After an
//! intended change, which changes FORMAT.md as well, `BLESS=1 cargo test --features lz4,zstd golden` writes them again.

use std::fs;
use std::path::{Path, PathBuf};

use maplsm::operators::{Append, Counter};
use maplsm::{Db, ErrorKind, KeyspaceOptions, Options, PointIndex, SimFs, WriteBatch};

use crate::support::model::{Map, read_all};
use crate::support::{DIR, image, sim_options};

/// How the files come to be what they are in the end.
#[derive(Clone, Copy)]
enum End {
    Closed,
    Killed,
    /// By the death of the process and a change of the files.
    Changed(fn(&SimFs) -> SimFs),
}

/// What there must be in a keyspace.
type Contents = (&'static str, Map);

/// One directory: its name, what makes it, what is in it, and whether this build knows all of that.
struct Golden {
    name: &'static str,
    make: fn(&mut Options) -> Db,
    end: End,
    contents: fn() -> Vec<Contents>,
    built: bool,
}

const ALL: [Golden; 10] = [
    Golden { name: "plain", make: plain, end: End::Closed, contents: plain_contents, built: true },
    Golden { name: "open", make: plain, end: End::Killed, contents: plain_contents, built: true },
    Golden { name: "bloom", make: bloom, end: End::Closed, contents: plain_contents, built: true },
    Golden { name: "keyspaces", make: keyspaces, end: End::Closed, contents: keyspaces_contents, built: true },
    Golden {
        name: "extension",
        make: extension,
        end: End::Changed(with_extension),
        contents: extension_contents,
        built: true,
    },
    Golden { name: "merges", make: merges, end: End::Closed, contents: merges_contents, built: true },
    Golden { name: "values", make: values, end: End::Closed, contents: values_contents, built: true },
    Golden { name: "ingest", make: ingest, end: End::Closed, contents: ingest_contents, built: true },
    Golden { name: "lz4", make: lz4, end: End::Closed, contents: packed_contents, built: cfg!(feature = "lz4") },
    Golden { name: "zstd", make: zstd, end: End::Closed, contents: packed_contents, built: cfg!(feature = "zstd") },
];

fn map<K: AsRef<[u8]>, V: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, V)>) -> Map {
    entries.into_iter().map(|(key, value)| (key.as_ref().to_vec(), value.as_ref().to_vec())).collect()
}

fn fill(db: &Db) {
    db.insert("apple", "red").unwrap();
    db.insert("", "empty").unwrap();
    db.insert("cherry", "dark").unwrap();
    db.flush().unwrap();
    db.write(WriteBatch::new().insert("apple", "green").remove("cherry")).unwrap();
    db.flush().unwrap();
    db.insert("damson", "blue").unwrap();
    db.remove_range("x"..="z").unwrap();
}

fn plain(options: &mut Options) -> Db {
    let db = options.open(DIR).unwrap();
    fill(&db);
    db
}

fn plain_contents() -> Vec<Contents> {
    vec![("default", map([("", "empty"), ("apple", "green"), ("damson", "blue")]))]
}

fn bloom(options: &mut Options) -> Db {
    let db = options.point_index(PointIndex::Bloom { error_rate: 0.01 }).open(DIR).unwrap();
    fill(&db);
    db
}

/// Aligned values, range tombstones in tables, and a keyspace that is gone.
fn keyspaces(options: &mut Options) -> Db {
    let db = options.open(DIR).unwrap();
    let eight = db.create_keyspace("eight", KeyspaceOptions::new().value_alignment(8)).unwrap();
    let sixteen = db.create_keyspace("sixteen", KeyspaceOptions::new().value_alignment(16)).unwrap();
    let gone = db.create_keyspace("gone", &KeyspaceOptions::new()).unwrap();
    let mut batch = WriteBatch::new();
    batch
        .insert("k", "default")
        .insert_into(&eight, "key", "8")
        .insert_into(&sixteen, "key", "16")
        .insert_into(&gone, "a", "b");
    db.write(&batch).unwrap();
    sixteen.insert("another key", "value").unwrap();
    eight.insert("removed", "x").unwrap();
    db.flush().unwrap();
    eight.remove_range("r".."s").unwrap();
    db.flush().unwrap();
    db.drop_keyspace("gone").unwrap();
    sixteen.insert("in the log", "17").unwrap();
    db
}

fn keyspaces_contents() -> Vec<Contents> {
    vec![
        ("default", map([("k", "default")])),
        ("eight", map([("key", "8")])),
        ("sixteen", map([("key", "16"), ("another key", "value"), ("in the log", "17")])),
    ]
}

/// The front of the key becomes an extension: the entry expires in 2103.
fn extension(options: &mut Options) -> Db {
    let db = options.open(DIR).unwrap();
    db.insert(b"\x01\x81\xff\xee\xdd\xfa\0\0key", "value").unwrap();
    db.insert("merged", "operand").unwrap();
    db
}

fn with_extension(fs: &SimFs) -> SimFs {
    let fs = super::layout::with_changed_entry(fs, 0, |entry| {
        entry[0] |= 0x10;
        entry[6] -= 8;
    });
    super::layout::with_changed_entry(&fs, 1, |entry| entry[0] |= 3)
}

fn extension_contents() -> Vec<Contents> {
    vec![("default", map([("key", "value")]))]
}

/// Operands in a table, of which one stands for several, and in the log; with values below them and without.
fn merges(options: &mut Options) -> Db {
    let db = options.merge_operator(Counter).open(DIR).unwrap();
    let logs = db.create_keyspace("logs", KeyspaceOptions::new().merge_operator(Append).value_alignment(8)).unwrap();
    let count = |key: &str, number: u64| db.merge(key, number.to_le_bytes()).unwrap();
    db.insert("visits", 100u64.to_le_bytes()).unwrap();
    for number in 1..=6 {
        count("visits", number);
    }
    let snapshot = db.snapshot();
    for number in 7..=9 {
        count("visits", number);
    }
    count("absent", 5);
    logs.merge("ada", "in;").unwrap();
    logs.insert("gone", "value").unwrap();
    // Those above the snapshot become one operand, and those below a value.
    db.compact().unwrap();
    drop(snapshot);
    logs.merge("ada", "out;").unwrap();
    logs.remove("gone").unwrap();
    logs.merge("gone", "back;").unwrap();
    db.flush().unwrap();
    count("visits", 1000);
    logs.remove_range("a".."b").unwrap();
    logs.merge("ada", "in again;").unwrap();
    db
}

fn merges_contents() -> Vec<Contents> {
    let numbers = [("visits", 1145u64.to_le_bytes()), ("absent", 5u64.to_le_bytes())];
    vec![("default", map(numbers)), ("logs", map([("ada", "in again;"), ("gone", "back;")]))]
}

fn values(options: &mut Options) -> Db {
    let db = options.large_value_bytes(Some(64)).open(DIR).unwrap();
    db.insert("large", [b'l'; 100]).unwrap();
    db.insert("small", "s").unwrap();
    db.flush().unwrap();
    db
}

fn values_contents() -> Vec<Contents> {
    vec![("default", map([("large", &[b'l'; 100][..]), ("small", b"s")]))]
}

fn ingest(options: &mut Options) -> Db {
    let db = options.open(DIR).unwrap();
    db.insert("before", "1").unwrap();
    db.ingest([("a", "loaded"), ("b", "loaded too")]).unwrap();
    db.insert("behind", "2").unwrap();
    db
}

fn ingest_contents() -> Vec<Contents> {
    vec![("default", map([("a", "loaded"), ("b", "loaded too"), ("before", "1"), ("behind", "2")]))]
}

/// Two blocks that shrink.
fn packed(options: &mut Options) -> Db {
    let db = options.compressed_from_level(0).block_bytes(4096).open(DIR).unwrap();
    db.ingest(packed_contents().remove(0).1).unwrap();
    db
}

fn packed_contents() -> Vec<Contents> {
    vec![("default", map((0..60).map(|i| (format!("key{i:02}"), format!("{i:02}").repeat(40)))))]
}

#[cfg(feature = "lz4")]
fn lz4(options: &mut Options) -> Db {
    packed(options.compression(maplsm::Compression::Lz4))
}

#[cfg(not(feature = "lz4"))]
fn lz4(options: &mut Options) -> Db {
    packed(options)
}

#[cfg(feature = "zstd")]
fn zstd(options: &mut Options) -> Db {
    packed(options.compression(maplsm::Compression::Zstd(3)))
}

#[cfg(not(feature = "zstd"))]
fn zstd(options: &mut Options) -> Db {
    packed(options)
}

impl Golden {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(self.name)
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let fs = SimFs::with_seed(7);
        let mut options = sim_options(&fs);
        options.memtable_bytes(4 << 10).reserve_bytes(0);
        let db = (self.make)(&mut options);
        match self.end {
            End::Closed => {
                db.close().unwrap();
                image(&fs)
            }
            End::Killed => image(&fs.kill()),
            End::Changed(change) => image(&change(&fs)),
        }
    }

    fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.path()).unwrap_or_else(|e| panic!("{}: {e}", self.path().display()));
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn plant(&self) -> SimFs {
        let fs = SimFs::new();
        for (name, bytes) in self.kept() {
            fs.write(&Path::new(DIR).join(name), &bytes);
        }
        fs
    }
}

/// The databases that this build has not got what it takes to read.
pub(super) fn unreadable() -> impl Iterator<Item = SimFs> {
    ALL.iter().filter(|golden| !golden.built).map(Golden::plant)
}

#[test]
fn what_is_written_is_what_was_written() {
    for golden in ALL.iter().filter(|golden| golden.built) {
        let files = golden.files();
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 100 << 10, "{} has {bytes} bytes", golden.name);
        if std::env::var_os("BLESS").is_some() {
            let _ = fs::remove_dir_all(golden.path());
            fs::create_dir_all(golden.path()).unwrap();
            for (name, bytes) in &files {
                fs::write(golden.path().join(name), bytes).unwrap();
            }
        }
        let kept = golden.kept();
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&files), names(&kept), "{}", golden.name);
        for ((name, new), (_, old)) in files.iter().zip(&kept) {
            let at = new.iter().zip(old).position(|(a, b)| a != b);
            assert!(new == old, "{}/{name} differs at {at:?}: has the format changed? FORMAT.md says how", golden.name);
        }
    }
}

#[test]
fn what_is_kept_can_be_read() {
    for golden in ALL.iter().filter(|golden| golden.built) {
        let fs = golden.plant();
        for read_only in [true, false] {
            let db = sim_options(&fs).read_only(read_only).open(DIR).unwrap();
            let names: Vec<&str> = (golden.contents)().iter().map(|(name, _)| *name).skip(1).collect();
            assert_eq!(db.keyspaces(), names, "{}", golden.name);
            for (name, expected) in (golden.contents)() {
                let keyspace = db.keyspace(name).unwrap();
                if golden.name == "extension" {
                    assert_eq!(keyspace.get("merged").unwrap_err().kind(), ErrorKind::UnsupportedFormat);
                    assert_eq!(keyspace.get("key").unwrap().unwrap(), "value");
                    continue;
                }
                assert!(read_all(keyspace.iter()).unwrap() == expected, "{}: {name}", golden.name);
            }
            assert!(db.verify().is_ok(), "{}: {:?}", golden.name, db.verify().problems);
            if !read_only {
                db.compact().unwrap();
                assert!(db.verify().is_ok(), "{}: {:?}", golden.name, db.verify().problems);
            }
        }
    }
}
