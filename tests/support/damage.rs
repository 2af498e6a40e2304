//! Small databases, what happens to their files, and everything a program can then do with them.
//!
//! One entry point for each kind of file, [`run`], fed with arbitrary bytes: by the fuzzer, and by a test with inputs that
//! once found something. Whatever the input, the answer is a typed error or data that is right; a panic is a finding.
//!
//! An input is a byte of [modes](Mode), a byte that chooses a file, and then either the new contents of that file or a list of
//! [patches](patch). For the target `directory` it is a byte of modes and a list of [actions](act) on any file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use maplsm::{
    Compression, Cursor, Damage, Db, Durability, Entry, Error, ErrorKind, KeyspaceOptions, Options, PointIndex, Result,
    SimFs, WriteBatch,
};

use super::reseal::{Kind, adopt, reseal};

pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

const DIR: &str = "/db";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Cleanly closed, tables with a hash index.
    Hash,
    /// Cleanly closed, tables with a bloom filter, and compressed ones if this build has LZ4.
    Bloom,
    /// The process died.
    Killed,
    /// Few entries of many kinds: keyspaces, one of them dropped, with options of their own, removed ranges, and loads. The
    /// process died.
    Mixed,
}

/// The keyspace of [`Shape::Mixed`] beside the default one.
const SECOND: &str = "second";

impl Shape {
    pub(crate) const ALL: [Self; 4] = [Self::Hash, Self::Bloom, Self::Killed, Self::Mixed];

    fn options(self) -> Options {
        let mut options = Options::new();
        let index = if self == Self::Bloom { PointIndex::Bloom { error_rate: 0.01 } } else { PointIndex::Hash };
        options.background_threads(0).durability(Durability::Buffered).point_index(index);
        options.memtable_bytes(8 << 10).table_bytes(4 << 10).level_bytes_base(8 << 10).level_multiplier(4);
        options.l0_tables(4).reserve_bytes(0);
        options.index_interval(4).large_value_bytes(Some(3000));
        if self == Self::Bloom && cfg!(feature = "lz4") {
            options.compression(Compression::Lz4).block_bytes(4 << 10);
        }
        if self == Self::Mixed {
            options.memtable_bytes(4 << 10).large_value_bytes(Some(64)).level_multiplier(2);
        }
        options
    }
}

/// What was ever in a keyspace.
struct Past {
    /// The contents after each commit, by the number of its last entry.
    states: BTreeMap<u64, Contents>,
    /// Every value that each key ever had.
    values: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
}

impl Past {
    fn new() -> Self {
        Self { states: BTreeMap::from([(0, Contents::new())]), values: BTreeMap::new() }
    }

    fn last(&self) -> Contents {
        self.states.last_key_value().map(|(_, last)| last.clone()).unwrap_or_default()
    }

    fn add(&mut self, sequence: u64, contents: Contents) {
        for (key, value) in &contents {
            self.values.entry(key.clone()).or_default().insert(value.clone());
        }
        self.states.insert(sequence, contents);
    }

    fn was_ever(&self, key: &[u8], value: &[u8]) -> bool {
        self.values.get(key).is_some_and(|values| values.contains(value))
    }
}

/// The files of a database, and what was ever in it.
pub(crate) struct Image {
    pub(crate) shape: Shape,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Of the default keyspace, and of the second one, if there is one.
    past: [Past; 2],
}

/// Keys, and what becomes of them.
type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Writes to a database and to its past at once.
struct Author<'i> {
    db: Db,
    past: &'i mut [Past; 2],
}

impl Author<'_> {
    fn write(&mut self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) {
        self.write_both(changes, &[]);
    }

    /// One commit to both keyspaces.
    fn write_both(&mut self, first: &[(Vec<u8>, Option<Vec<u8>>)], second: &[(Vec<u8>, Option<Vec<u8>>)]) {
        let mut batch = WriteBatch::new();
        let mut contents = [self.past[0].last(), self.past[1].last()];
        for (key, value) in first {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            };
        }
        if !second.is_empty() {
            let keyspace = self.db.keyspace(SECOND).expect("a good disk");
            for (key, value) in second {
                match value {
                    Some(value) => batch.insert_into(&keyspace, key, value),
                    None => batch.remove_from(&keyspace, key),
                };
            }
        }
        for (contents, changes) in contents.iter_mut().zip([first, second]) {
            for (key, value) in changes {
                match value {
                    Some(value) => contents.insert(key.clone(), value.clone()),
                    None => contents.remove(key),
                };
            }
        }
        self.db.write(&batch).expect("a good disk");
        self.note(contents);
    }

    fn remove_range(&mut self, of: usize, from: u8, to: u8) {
        let range = name_of(from)..name_of(to);
        let keyspace = self.db.keyspace(["default", SECOND][of]).expect("a good disk");
        keyspace.remove_range(range.clone()).expect("a good disk");
        let mut contents = [self.past[0].last(), self.past[1].last()];
        contents[of].retain(|key, _| !range.contains(key));
        self.note(contents);
    }

    fn load(&mut self, of: usize, entries: &[(Vec<u8>, Vec<u8>)]) {
        let keyspace = self.db.keyspace(["default", SECOND][of]).expect("a good disk");
        keyspace.ingest(entries.iter().map(|(key, value)| (key, value))).expect("a good disk");
        let mut contents = [self.past[0].last(), self.past[1].last()];
        contents[of].extend(entries.iter().cloned());
        self.note(contents);
    }

    fn note(&mut self, contents: [Contents; 2]) {
        let sequence = self.db.stats().last_sequence;
        for (past, contents) in self.past.iter_mut().zip(contents) {
            past.add(sequence, contents);
        }
    }

    /// One commit for each of these keys; every seventh is a removal.
    fn round(&mut self, round: u8, keys: impl Iterator<Item = u8>) {
        for key in keys {
            let value = (key % 7 != round % 7).then(|| vec![round ^ key; usize::from(key) * 3 % 50]);
            self.write(&[(name_of(key), value)]);
        }
    }

    /// Large tables far down, so large that nothing is due, and two of level 0 with old versions and tombstones.
    fn fill(&mut self) {
        self.round(1, 0..90);
        // Bytes that do not shrink.
        let noise = |key: u8| (0..2600u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8 ^ key).collect();
        let large: Vec<_> = (0..14).map(|key| (vec![0xfe, key], Some(noise(key)))).collect();
        self.write(&large);
        self.write(&[(vec![0xfd], Some(vec![7; 3100]))]);
        self.db.compact().expect("a good disk");
        let snapshot = self.db.snapshot();
        self.round(2, (0..90).step_by(3));
        self.round(3, (0..90).step_by(9));
        self.db.flush().expect("a good disk");
        self.round(4, (5..60).step_by(2));
        self.write(&[(vec![0xfd, 1], Some(vec![8; 3100]))]);
        self.db.flush().expect("a good disk");
        // A segment that the next run finds closed, with an idle mark in it.
        self.round(5, 10..14);
        self.db.maintain().expect("a good disk");
        self.round(6, 14..18);
        drop(snapshot);
        self.db.close().expect("a good disk");
    }

    /// The same places with a few entries each.
    fn fill_mixed(&mut self) {
        let of = |key: u8, value: u8| (name_of(key), Some(vec![value; usize::from(key) * 5 % 80]));
        let mut options = KeyspaceOptions::new();
        options.value_alignment(16).point_index(PointIndex::Bloom { error_rate: 0.01 }).index_interval(2);
        if cfg!(feature = "lz4") {
            options.compression(Compression::Lz4).compressed_from_level(0).block_bytes(4 << 10);
        }
        self.db.create_keyspace(SECOND, &options).expect("a good disk");
        self.db.keyspace("dropped").and_then(|dropped| dropped.insert("a", "b")).expect("a good disk");
        self.note([Contents::new(), Contents::new()]);
        let (first, second): (Changes, Changes) =
            ((0..12).map(|key| of(key, 1)).collect(), (6..16).map(|key| of(key, 2)).collect());
        self.write_both(&first, &second);
        self.db.compact().expect("a good disk");
        self.db.drop_keyspace("dropped").expect("a good disk");
        let snapshot = self.db.snapshot();
        self.remove_range(0, 5, 8);
        self.remove_range(1, 9, 12);
        self.write_both(&[of(6, 3), (name_of(10), None)], &[of(10, 4), (name_of(6), None), of(15, 5)]);
        self.remove_range(0, 7, 11);
        self.db.flush().expect("a good disk");
        self.load(0, &[(name_of(8), b"loaded".to_vec()), (name_of(9), vec![6; 90])]);
        self.load(1, &[(name_of(40), vec![7; 70]), (name_of(41), b"loaded too".to_vec())]);
        drop(snapshot);
        self.write_both(&[of(20, 8)], &[of(21, 9)]);
        self.db.close().expect("a good disk");
    }
}

/// Keys with shared prefixes, the empty key, zeros and the highest byte.
fn name_of(key: u8) -> Vec<u8> {
    match key {
        0 => Vec::new(),
        1 => vec![0],
        2 => vec![0, 0],
        3 => vec![0xff; 20],
        _ => [b"prefix/long/", &[key / 16][..], &vec![b'x'; usize::from(key % 4) * 4], &[key]].concat(),
    }
}

impl Image {
    pub(crate) fn new(shape: Shape) -> Self {
        let fs = SimFs::with_seed(1);
        let mut options = shape.options();
        options.file_system(fs.clone());
        let mut past = [Past::new(), Past::new()];
        let open = || options.open(DIR).expect("a good disk");
        let mut author = Author { db: open(), past: &mut past };
        if shape == Shape::Mixed {
            author.fill_mixed();
        } else {
            author.fill();
        }

        // A segment of the last run, with a batch.
        let mut author = Author { db: open(), past: &mut past };
        if shape == Shape::Mixed {
            author.write_both(&[(name_of(22), Some(vec![10; 9]))], &[(name_of(23), Some(vec![11; 100]))]);
            author.remove_range(0, 0, 3);
            author.db.sync().expect("a good disk");
            author.write_both(&[(name_of(1), Some(vec![12; 9]))], &[(name_of(21), None)]);
        } else {
            author.round(7, 20..30);
            let batch: Vec<_> = (28..36).map(|key| (name_of(key), (key % 3 > 0).then(|| vec![key; 9]))).collect();
            author.write(&batch);
            author.db.sync().expect("a good disk");
            author.round(8, 40..44);
        }
        let fs = if matches!(shape, Shape::Killed | Shape::Mixed) {
            fs.kill()
        } else {
            author.db.close().expect("a good disk");
            fs
        };
        let name = |(name, _): (String, u64)| Some((name.clone(), fs.read(&path(&name))?));
        let files = fs.files(Path::new(DIR)).into_iter().filter_map(name).collect();
        Self { shape, files, past }
    }

    /// Made once.
    fn cached(shape: Shape) -> &'static Self {
        static IMAGES: [OnceLock<Image>; 4] = [const { OnceLock::new() }; 4];
        IMAGES[shape as usize].get_or_init(|| Self::new(shape))
    }

    fn plant(&self) -> SimFs {
        let fs = SimFs::with_seed(2);
        for (name, bytes) in &self.files {
            fs.write(&path(name), bytes);
        }
        fs
    }

    /// The names of the files of a kind.
    fn names(&self, kind: Kind) -> impl Iterator<Item = &String> {
        self.files.iter().map(|(name, _)| name).filter(move |name| Kind::of(name) == Some(kind))
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.files.iter().find(|(other, _)| other == name).map_or(&[], |(_, bytes)| bytes)
    }

    /// Every key that was ever in the default keyspace.
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.past[0].values.keys().map(Vec::as_slice)
    }

    /// What was in a keyspace when this was the last number.
    fn state(&self, of: usize, sequence: u64) -> &Contents {
        self.past[of].states.get(&sequence).unwrap_or_else(|| panic!("no commit ends with {sequence}"))
    }
}

/// The first byte of an input.
#[derive(Debug, Clone, Copy)]
struct Mode(u8);

impl Mode {
    fn shape(self) -> Shape {
        Shape::ALL[usize::from(self.0 & 3)]
    }

    /// Whether checksums are made right after the damage.
    fn reseals(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether the rest of the input is the file itself.
    fn replaces(self) -> bool {
        self.0 & 8 != 0
    }

    fn read_only(self) -> bool {
        self.0 & 16 != 0
    }

    fn verify_always(self) -> bool {
        self.0 & 32 != 0
    }

    /// Whether it is written to afterwards.
    fn writes(self) -> bool {
        self.0 & 64 != 0 && !self.read_only()
    }
}

/// How much of what is read can be known, from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// The bytes may be anything.
    Typed,
    /// Whole files may be gone or old: each value is one that the key once had.
    Seen,
    /// The bytes may be anything, but full verification finds nothing: scans agree with each other.
    Consistent,
    /// The bytes may be anything, but memtables index them: all ways of reading agree.
    Agrees,
    /// What is read is the state after some commit, all of it, or an error.
    Right,
    /// Full verification must not find everything in order.
    Impossible,
}

/// Takes bytes off the front.
fn take<'d>(data: &mut &'d [u8], length: usize) -> &'d [u8] {
    let (front, rest) = data.split_at(length.min(data.len()));
    *data = rest;
    front
}

fn take_u8(data: &mut &[u8]) -> usize {
    take(data, 1).first().copied().unwrap_or(0).into()
}

fn take_u16(data: &mut &[u8]) -> usize {
    take_u8(data) | take_u8(data) << 8
}

/// Applies one patch: a byte with an operation in its lower two bits and a length n - 1 in the others, a place of two bytes
/// (modulo the length of the file), and
/// 0: n bytes to be written there; 1: the file is cut off there; 2: two bytes of another place, from which 8 n bytes are
/// copied; 3: 8 n zero bytes are inserted.
fn patch(file: &mut Vec<u8>, data: &mut &[u8]) {
    let head = take_u8(data);
    let (operation, length) = (head & 3, (head >> 2) + 1);
    let place = take_u16(data) % (file.len() + 1);
    match operation {
        0 => {
            for (to, from) in file[place..].iter_mut().zip(take(data, length)) {
                *to = *from;
            }
        }
        1 => file.truncate(place),
        2 => {
            let from = take_u16(data) % (file.len() + 1);
            let length = (8 * length).min(file.len() - from.max(place));
            file.copy_within(from..from + length, place);
        }
        _ => {
            let behind = file.split_off(place);
            file.resize(place + 8 * length, 0);
            file.extend(behind);
        }
    }
}

/// Runs a target on an input.
pub(crate) fn run(target: &str, data: &[u8]) {
    match target {
        "wal_replay" => damage_one(Kind::Segment, data),
        "sst_open" => damage_one(Kind::Table, data),
        "idx_open" => damage_one(Kind::Index, data),
        "val_open" => damage_one(Kind::Values, data),
        "manifest_replay" => damage_one(Kind::Manifest, data),
        "directory" => damage_any(data),
        "repair" => repair(data),
        "inspect" => inspect(data),
        "keys" => super::keys::run(data),
        "ops" => super::model::run_bytes(data),
        other => panic!("there is no target {other}"),
    }
}

/// Reads a table from its bytes alone, whatever they are.
fn read_alone(file: &[u8]) {
    let Ok(table) = maplsm::table::Reader::new(file) else { return };
    for keyspace in table.keyspaces() {
        let mut first: Option<Vec<u8>> = None;
        for entry in table.entries(keyspace).map_while(Result::ok).take(file.len()) {
            first.get_or_insert_with(|| entry.key.into());
        }
        let _ = table.get(keyspace, first.unwrap_or_default(), u64::MAX);
        let _ = table.range_tombstones(keyspace);
    }
    let _ = table.verify();
}

/// Damages one file and shows what it holds: the decoders of all kinds of files without a database around them. An input
/// begins like that of [`damage_one`], but the second byte chooses among all files.
fn inspect(mut data: &[u8]) {
    let mode = Mode(u8::try_from(take_u8(&mut data)).unwrap_or(0));
    let image = Image::cached(mode.shape());
    let (name, bytes) = &image.files[take_u8(&mut data) % image.files.len()];
    let mut file = bytes.clone();
    if mode.replaces() {
        file = data.to_vec();
    } else {
        while !data.is_empty() {
            patch(&mut file, &mut data);
        }
    }
    if let Some(kind) = Kind::of(name).filter(|_| mode.reseals()) {
        reseal(kind, &mut file);
    }
    let (mut items, most) = (0, 16 + file.len());
    if Kind::of(name) == Some(Kind::Table) {
        read_alone(&file);
    }
    let shown = maplsm::inspect::bytes(&path(name), &file, &mut |item| {
        items += 1;
        assert!(items <= most, "more items than bytes");
        assert!(item.offset <= file.len() as u64, "an item behind the file's end");
        Ok(())
    });
    if file == *bytes {
        assert!(shown.is_ok() || name == "LOCK", "{name}: {shown:?}");
    }
    let _ = typed(shown);
}

/// Damages one file and uses the database.
fn damage_one(kind: Kind, mut data: &[u8]) {
    let mode = Mode(u8::try_from(take_u8(&mut data)).unwrap_or(0));
    let image = Image::cached(mode.shape());
    let names: Vec<&String> = image.names(kind).collect();
    let name = names[take_u8(&mut data) % names.len()];
    let mut file = image.bytes(name).to_vec();
    if mode.replaces() {
        file = data.to_vec();
    } else {
        while !data.is_empty() {
            patch(&mut file, &mut data);
        }
    }
    if mode.reseals() {
        reseal(kind, &mut file);
    }
    let fs = image.plant();
    fs.write(&path(name), &file);
    if matches!(kind, Kind::Table | Kind::Values) && mode.reseals() {
        adopt_file(&fs, image, name, &file);
    }
    let trust = match (kind, mode.reseals()) {
        (Kind::Segment, true) => Trust::Agrees,
        (_, true) => Trust::Typed,
        (Kind::Manifest, false) => Trust::Seen,
        (_, false) => Trust::Right,
    };
    // A table must look whole, and an index lead to everything that it is asked for.
    let verified = match kind {
        Kind::Table | Kind::Values if mode.reseals() => Trust::Consistent,
        Kind::Table | Kind::Values if file != image.bytes(name) => Trust::Impossible,
        Kind::Index => Trust::Right,
        _ => trust,
    };
    exercise(&fs, image, mode, trust, verified);
}

/// Makes the manifest say what the table or value file says.
fn adopt_file(fs: &SimFs, image: &Image, name: &str, file: &[u8]) {
    let Some(number) = name.split('.').next().and_then(|number| number.parse().ok()) else { return };
    for manifest in image.names(Kind::Manifest) {
        let Some(mut bytes) = fs.read(&path(manifest)) else { continue };
        adopt(&mut bytes, number, file);
        reseal(Kind::Manifest, &mut bytes);
        fs.write(&path(manifest), &bytes);
    }
}

/// Damages any files and uses what is left.
fn damage_any(mut data: &[u8]) {
    let mode = Mode(u8::try_from(take_u8(&mut data)).unwrap_or(0));
    let image = Image::cached(mode.shape());
    let fs = image.plant();
    while !data.is_empty() {
        act(&fs, &mut data);
    }
    if mode.reseals() {
        reseal_all(&fs, image);
    }
    let trust = if mode.reseals() { Trust::Typed } else { Trust::Seen };
    exercise(&fs, image, mode, trust, trust);
}

/// Makes all checksums right, and the manifest say what tables and value files say.
fn reseal_all(fs: &SimFs, image: &Image) {
    for (name, _) in fs.files(Path::new(DIR)) {
        if let (Some(kind), Some(mut bytes)) = (Kind::of(&name), fs.read(&path(&name))) {
            reseal(kind, &mut bytes);
            fs.write(&path(&name), &bytes);
            if matches!(kind, Kind::Table | Kind::Values) {
                adopt_file(fs, image, &name, &bytes);
            }
        }
    }
}

/// Damages any files, or puts some of another database among them, and repairs what is left.
fn repair(mut data: &[u8]) {
    let mode = Mode(u8::try_from(take_u8(&mut data)).unwrap_or(0));
    let image = Image::cached(mode.shape());
    let fs = image.plant();
    let is_mixed = mode.replaces();
    if is_mixed {
        let choice = take_u8(&mut data);
        let other = Image::cached(Shape::ALL[(usize::from(mode.0) + 1 + choice % 3) % 4]);
        for _ in 0..=choice / 3 % 3 {
            let (name, bytes) = &other.files[take_u8(&mut data) % other.files.len()];
            fs.write(&path(name), bytes);
        }
    }
    while !data.is_empty() {
        act(&fs, &mut data);
    }
    if mode.reseals() {
        reseal_all(&fs, image);
    }
    let mut options = image.shape.options();
    options.file_system(fs.clone()).verify_always(mode.verify_always());
    let absent = |e: &Error| e.kind() == ErrorKind::NotFound;
    let examined = match maplsm::examine(DIR, &options) {
        Err(e) if absent(&e) => return,
        examined => typed(examined),
    };
    let Some(report) = typed(maplsm::repair(DIR, &options)) else { return };
    let examined = examined.expect("what can be repaired can be examined");
    assert_eq!(examined.is_empty(), report.is_intact(), "{examined:?}, {report:?}");
    let opened = options.create_if_missing(false).open(DIR);
    let db = opened.unwrap_or_else(|e| panic!("it does not open: {e}, {report:?}"));
    let problems = db.verify().problems;
    assert!(problems.is_empty(), "{problems:?}, {report:?}");
    let bytes = fs.files(Path::new(DIR)).iter().map(|(_, length)| *length).sum();
    let trust = if mode.reseals() || is_mixed { Trust::Consistent } else { Trust::Seen };
    let reader = Reader { image, trust, bytes };
    reader.check(&db);
    let _ = typed(db.close());
    if mode.writes() {
        let again = maplsm::repair(DIR, &options).expect("it is whole");
        assert!(again.is_intact(), "{again:?}, {report:?}");
    }
}

/// Names that are not among the files, or should not be.
const STRANGE: [&str; 13] = [
    "CURRENT.new",
    "000099.wal",
    "000099.manifest",
    "000099.sst",
    "000099.idx",
    "000099.val",
    "7.sst",
    "000007.SST",
    "+00007.wal",
    "000000.wal",
    "9223372036854775806.wal",
    "9223372036854775807.sst",
    "18446744073709551615.idx",
];

/// Does one thing to one file: a byte that chooses it, and a byte modulo 8 of what to do, 0 to 4: a patch; 5: it is removed;
/// 6: it is copied over the file that the next byte chooses; 7: it is copied to a strange name that the next byte chooses.
fn act(fs: &SimFs, data: &mut &[u8]) {
    let files = fs.files(Path::new(DIR));
    let choice = take_u8(data);
    let action = take_u8(data) % 8;
    let Some((name, _)) = files.get(choice % files.len().max(1)) else { return };
    let mut bytes = fs.read(&path(name)).unwrap_or_default();
    match action {
        0..=4 => {
            patch(&mut bytes, data);
            fs.write(&path(name), &bytes);
        }
        5 => fs.remove(&path(name)),
        6 => fs.write(&path(&files[take_u8(data) % files.len()].0), &bytes),
        _ => fs.write(&path(STRANGE[take_u8(data) % STRANGE.len()]), &bytes),
    }
}

/// Notes the error of damaged or foreign files; any other kind is a finding.
fn typed<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let kind = error.corruption().map_or(error.kind(), |_| ErrorKind::Corruption);
            let expected = [ErrorKind::Corruption, ErrorKind::UnsupportedFormat];
            // A file may claim the last number there is.
            let fits = expected.contains(&kind)
                || matches!(kind, ErrorKind::State | ErrorKind::Background)
                || matches!(error, Error::NumbersExhausted);
            assert!(fits, "unexpected {kind:?}: {error}");
            None
        }
    }
}

/// Opens the database and does everything with it. Full verification, if it finds nothing, gives another degree of trust.
fn exercise(fs: &SimFs, image: &Image, mode: Mode, trust: Trust, verified: Trust) {
    let mut options = image.shape.options();
    options.file_system(fs.clone()).read_only(mode.read_only()).verify_always(mode.verify_always());
    let db = match options.open(DIR) {
        Ok(db) => db,
        Err(error) => {
            let kind = error.kind();
            assert!(kind == ErrorKind::NotFound || typed::<()>(Err(error)).is_none());
            return;
        }
    };
    let bytes = fs.files(Path::new(DIR)).iter().map(|(_, length)| *length).sum();
    let mut reader = Reader { image, trust, bytes };
    reader.check(&db);
    if db.verify().is_ok() && verified != trust {
        assert!(verified != Trust::Impossible, "a changed table passes full verification");
        reader.trust = verified;
        reader.check(&db);
    }
    if mode.writes() {
        reader.write(&db, &options, fs);
    }
    let _ = typed(db.close());
}

/// Reads in every way.
struct Reader<'i> {
    image: &'i Image,
    trust: Trust,
    /// Of all files together.
    bytes: u64,
}

/// Key, value.
type Pair = (Vec<u8>, Vec<u8>);

fn pair(entry: Result<Entry>) -> Result<Pair> {
    entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec()))
}

impl Reader<'_> {
    fn check(&self, db: &Db) {
        let sequence = db.stats().last_sequence;
        let expected = |of| (self.trust == Trust::Right).then(|| self.image.state(of, sequence));
        self.check_against(db, expected(0));
        self.check_second(db, expected(1));
    }

    /// The second keyspace, if there is one: scans both ways, and a look at what they show.
    fn check_second(&self, db: &Db, expected: Option<&Contents>) {
        let Some(second) = db.keyspaces().iter().any(|name| name == SECOND).then(|| db.keyspace(SECOND)) else {
            assert!(expected.is_none_or(Contents::is_empty), "a keyspace is gone");
            return;
        };
        let Some(second) = typed(second) else { return };
        let past = &self.image.past[1];
        let forward = self.collect(past, second.iter().map(pair));
        let mut back = self.collect(past, second.iter().rev().map(pair));
        back.pairs.reverse();
        if let Some(expected) = expected {
            assert!(forward.is_start_of(expected.iter()), "a scan differs");
            assert!(back.is_end_of(expected.iter()), "a reverse scan differs");
        }
        let agree = self.trust >= Trust::Consistent && forward.complete && back.complete;
        assert!(!agree || forward.pairs == back.pairs, "the two directions differ");
        for (key, value) in &forward.pairs {
            let Some(found) = typed(second.get(key)) else { continue };
            let found = found.as_deref();
            assert!(self.trust < Trust::Agrees || found == Some(&value[..]), "{key:?}: {found:?}");
        }
    }

    fn check_against(&self, db: &Db, expected: Option<&Contents>) {
        let past = &self.image.past[0];
        let forward = self.collect(past, db.iter().map(pair));
        let mut back = self.collect(past, db.iter().rev().map(pair));
        back.pairs.reverse();
        if let Some(expected) = expected {
            assert!(forward.is_start_of(expected.iter()), "a scan differs");
            assert!(back.is_end_of(expected.iter()), "a reverse scan differs");
        }
        if self.trust >= Trust::Consistent && forward.complete && back.complete {
            assert!(forward.pairs == back.pairs, "the two directions differ");
        }
        assert!(forward.pairs.is_sorted_by(|a, b| a.0 < b.0), "a scan is out of order");
        assert!(back.pairs.is_sorted_by(|a, b| a.0 < b.0), "a reverse scan is out of order");
        self.check_points(db, expected, &forward);
        let _ = self.check_cursor(db, expected, &mut db.cursor()).map_err(|e| typed::<()>(Err(e)));
        for prefix in [&b"prefix"[..], b"", b"\xff\xff", b"prefix/long/\x02"] {
            let found = self.collect(past, db.prefix(prefix).map(pair));
            if let Some(expected) = expected {
                assert!(found.is_start_of(expected.iter().filter(|(key, _)| key.starts_with(prefix))));
            }
        }
        let range = name_of(20)..=name_of(50);
        let found = self.collect(past, db.range(range.clone()).rev().map(pair));
        if let Some(expected) = expected {
            let found = Scanned { pairs: found.pairs.into_iter().rev().collect(), ..found };
            assert!(found.is_end_of(expected.range(range)));
        }
    }

    fn collect(&self, past: &Past, scan: impl Iterator<Item = Result<Pair>>) -> Scanned {
        let mut scanned = Scanned { pairs: Vec::new(), complete: true };
        for pair in scan {
            let Some(pair) = typed(pair) else {
                scanned.complete = false;
                break;
            };
            self.see(past, &pair.0, &pair.1);
            scanned.pairs.push(pair);
            assert!(scanned.pairs.len() as u64 <= self.bytes / 16, "a scan goes on for ever");
        }
        scanned
    }

    fn see(&self, past: &Past, key: &[u8], value: &[u8]) {
        if self.trust == Trust::Seen {
            assert!(past.was_ever(key, value), "{key:?} never had the value {value:?}");
        }
    }

    fn check_points(&self, db: &Db, expected: Option<&Contents>, scanned: &Scanned) {
        let snapshot = db.snapshot();
        let absent: [&[u8]; 4] = [b"absent", b"prefix", b"\0\0\0", &[0xff; 21]];
        let found = scanned.pairs.iter().map(|(key, _)| key.as_slice()).take(500);
        let keys: BTreeSet<&[u8]> = self.image.keys().chain(absent).chain(found).collect();
        for key in keys {
            let Some(value) = typed(db.get(key)) else { continue };
            let borrowed = typed(snapshot.get_ref(key)).flatten();
            if let Some(value) = &value {
                self.see(&self.image.past[0], key, value);
            }
            if let Some(expected) = expected {
                assert_eq!(value.as_deref(), expected.get(key).map(Vec::as_slice), "{key:?}");
            }
            if self.trust == Trust::Agrees && scanned.complete {
                let at = scanned.pairs.binary_search_by(|pair| pair.0.as_slice().cmp(key)).ok();
                assert_eq!(value.as_deref(), at.map(|at| scanned.pairs[at].1.as_slice()), "{key:?}");
                assert_eq!(value.as_deref(), borrowed.as_deref(), "{key:?}");
            }
        }
    }

    fn check_cursor(&self, db: &Db, expected: Option<&Contents>, cursor: &mut Cursor) -> Result<()> {
        for key in self.image.keys().step_by(7) {
            let found = cursor.seek(key)?;
            if let Some(expected) = expected {
                let first = expected.range(key.to_vec()..).next();
                assert_eq!(found.then(|| (cursor.key(), cursor.value())), first.map(|(k, v)| (&k[..], &v[..])));
            }
            for forward in [true, false, false, true] {
                if if forward { cursor.next()? } else { cursor.prev()? } {
                    self.see(&self.image.past[0], cursor.key(), cursor.value());
                }
            }
            let found = cursor.seek_back(key)?;
            if let Some(expected) = expected {
                let last = expected.range(..=key.to_vec()).next_back();
                assert_eq!(found.then(|| (cursor.key(), cursor.value())), last.map(|(k, v)| (&k[..], &v[..])));
            }
            for forward in [false, true, true, false] {
                if if forward { cursor.next()? } else { cursor.prev()? } {
                    self.see(&self.image.past[0], cursor.key(), cursor.value());
                }
            }
        }
        // Both ends of one iterator meet without showing an entry twice.
        let mut both = db.iter();
        let mut seen = 0;
        while let (Some(front), back) = (both.next().transpose()?, both.next_back().transpose()?) {
            seen += 1 + u64::from(back.is_some());
            assert!(seen <= self.bytes / 16 + 1, "a scan from both ends goes on for ever");
            if let (Some(_), Some(back)) = (expected, back) {
                assert!(front.key() < back.key());
            }
        }
        Ok(())
    }

    /// Writes, reorganises, reads, and opens again.
    fn write(&self, db: &Db, options: &Options, fs: &SimFs) {
        let sequence = db.stats().last_sequence;
        let mut expected = (self.trust == Trust::Right).then(|| self.image.state(0, sequence).clone());
        let expected_second = (self.trust == Trust::Right).then(|| self.image.state(1, sequence));
        for key in [4, 20, 33, 200] {
            let name = name_of(key);
            let written = if key == 20 { db.remove(&name) } else { db.insert(&name, "new") };
            if typed(written).is_none() {
                return;
            }
            if key != 20 {
                assert!(self.trust == Trust::Typed || db.get(&name).is_ok_and(|v| v.as_deref() == Some(b"new")));
            }
            if let Some(expected) = &mut expected {
                if key == 20 {
                    expected.remove(&name)
                } else {
                    expected.insert(name, b"new".to_vec())
                };
            }
        }
        let _ = typed(db.flush());
        let _ = typed(db.maintain());
        let is_table = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "sst");
        let names = fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name).filter(is_table);
        let tables: BTreeSet<PathBuf> = names.map(|name| path(&name)).collect();
        let second = db.keyspaces().iter().any(|name| name == SECOND).then(|| db.keyspace(SECOND));
        let compacted = typed(db.compact()).is_some()
            && second.is_none_or(|second| typed(second.and_then(|second| second.compact())).is_some());
        // It leaves tables alone, unread, in which there is nothing to drop, as a manifest with right checksums says that does not
        // fit them. It copies pointers and leaves the files that they lead to alone, and it copies numbers beyond a history that
        // such a manifest has cut short.
        let is_of_values = |path: &Path| path.extension().is_some_and(|extension| extension == "val");
        let is_copied = |e: &Error| match e {
            Error::UnsupportedFormat(unsupported) => is_of_values(&unsupported.path),
            _ => e.corruption().is_some_and(|c| {
                is_of_values(&c.path) || c.offset == 0 && matches!(c.what, Damage::BadSequence | Damage::OutOfOrder)
            }),
        };
        let is_left = |e: &Error| {
            e.corruption().is_some_and(|c| tables.contains(&c.path) && matches!(c.what, Damage::ManifestMismatch))
        };
        let damage: Vec<Error> = db.verify().problems.into_iter().filter(|e| !is_copied(e) && !is_left(e)).collect();
        assert!(!compacted || damage.is_empty(), "a compaction copies damage: {damage:?}");
        let trust = if self.trust == Trust::Right { Trust::Right } else { Trust::Typed };
        let reader = Reader { trust, bytes: self.bytes * 2 + 1024, ..*self };
        reader.check_against(db, expected.as_ref());
        reader.check_second(db, expected_second);
        let _ = typed(db.close());
        match options.clone().file_system(fs.kill()).open(DIR) {
            Ok(again) => {
                reader.check_against(&again, expected.as_ref());
                reader.check_second(&again, expected_second);
            }
            Err(error) => {
                typed::<()>(Err(error.clone()));
                assert!(self.trust != Trust::Right, "opened once, but not again: {error}");
            }
        }
    }
}

/// What a scan showed before it ended or failed.
struct Scanned {
    pairs: Vec<Pair>,
    complete: bool,
}

impl Scanned {
    /// Whether this is the beginning of what was expected, and all of it if the scan did not fail.
    fn is_start_of<'e>(&self, expected: impl Iterator<Item = (&'e Vec<u8>, &'e Vec<u8>)>) -> bool {
        let expected: Vec<_> = expected.collect();
        let fits = self.pairs.iter().zip(&expected).all(|(a, b)| (&a.0, &a.1) == *b);
        fits && self.pairs.len() <= expected.len() && (!self.complete || self.pairs.len() == expected.len())
    }

    /// The same from behind.
    fn is_end_of<'e>(&self, expected: impl Iterator<Item = (&'e Vec<u8>, &'e Vec<u8>)>) -> bool {
        let expected: Vec<_> = expected.collect();
        let fits = self.pairs.iter().rev().zip(expected.iter().rev()).all(|(a, b)| (&a.0, &a.1) == *b);
        fits && self.pairs.len() <= expected.len() && (!self.complete || self.pairs.len() == expected.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_every_structure() {
        for shape in Shape::ALL {
            let image = Image::new(shape);
            let of = |kind| image.names(kind).count();
            assert!(of(Kind::Segment) >= 2 && of(Kind::Table) >= 4 && of(Kind::Index) == of(Kind::Table), "{shape:?}");
            assert!(of(Kind::Values) >= 1, "{shape:?}");
            assert!(image.files == Image::new(shape).files, "{shape:?} is not the same each time");
            let bytes: usize = image.files.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(bytes < 100_000, "{shape:?} has {bytes} bytes");
        }
    }

    #[test]
    fn undamaged_images_are_right_in_every_mode() {
        for target in ["wal_replay", "sst_open", "idx_open", "val_open", "manifest_replay", "directory", "repair"] {
            for mode in 0..128u8 {
                let is_mode = match target {
                    "directory" => true,
                    "repair" => mode & (16 | 32) == 0,
                    _ => mode & 8 == 0,
                };
                if is_mode {
                    run(target, &[mode]);
                }
            }
        }
    }

    /// What the fuzz target `repair` does, for a while: inputs that follow from a seed.
    #[test]
    fn random_damage_is_repaired() {
        let count: u64 = std::env::var("REPAIRS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
        let begin: u64 = std::env::var("REPAIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
        for seed in begin..begin + count {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut noise = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_le_bytes()[7]
            };
            let length = 2 + usize::from(noise() % 24);
            let input: Vec<u8> = (0..length).map(|_| noise()).collect();
            let ended = std::panic::catch_unwind(|| run("repair", &input));
            assert!(ended.is_ok(), "seed {seed}: {input:02x?}");
        }
    }

    /// What the fuzzer once found: `fuzz/regressions/<target>/<what>`.
    #[test]
    fn what_was_found_once_is_not_found_again() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !root.join(".ci").exists() {
            eprintln!("packages have no fuzz targets");
            return;
        }
        let regressions = root.join("fuzz/regressions");
        for target in std::fs::read_dir(regressions).unwrap() {
            let target = target.unwrap();
            for input in std::fs::read_dir(target.path()).unwrap() {
                let input = input.unwrap().path();
                eprintln!("{}", input.display());
                run(target.file_name().to_str().unwrap(), &std::fs::read(input).unwrap());
            }
        }
    }
}
