//! Repair of directories in which files of two databases are mixed, and some are damaged as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use maplsm::{Db, Error, Options, Outcome, RepairReport, SimFs, WriteBatch};

use crate::support::model::{Map, read_all};
use crate::support::reseal::Kind;
use crate::support::{DIR, change, contents, names, path, sim_options};

fn options(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.table_bytes(4 << 10).memtable_bytes(16 << 10).level_bytes_base(8 << 10).level_multiplier(2).l0_tables(2);
    options.large_value_bytes(Some(300)).index_interval(16);
    options
}

/// Numbers that look random and follow from a seed.
struct Pick(u64);

impl Pick {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// A database, what its keyspaces hold, and all that their keys ever had.
struct Origin {
    fs: SimFs,
    now: [Map; 2],
    past: [BTreeSet<(Vec<u8>, Vec<u8>)>; 2],
    is_closed: bool,
}

/// The two have the same keys and other values, in the same places.
fn origin(mark: u8, is_closed: bool) -> Origin {
    let fs = SimFs::with_seed(u64::from(mark));
    let db = options(&fs).open(DIR).unwrap();
    let second = db.keyspace("second").unwrap();
    let (mut now, mut past): ([Map; 2], [BTreeSet<_>; 2]) = Default::default();
    for round in 0..4u8 {
        for key in 0..60u8 {
            let value =
                |space: u8| [vec![mark, space, round, key], vec![b'v'; if key % 9 == 0 { 320 } else { 30 }]].concat();
            db.write(WriteBatch::new().insert([b'k', key], value(0)).insert_into(&second, [b'k', key], value(1)))
                .unwrap();
            for space in [0, 1] {
                now[usize::from(space)].insert(vec![b'k', key], value(space));
                past[usize::from(space)].insert((vec![b'k', key], value(space)));
            }
        }
        let gone = [b'k', 10 + 7 * round];
        db.remove(gone).unwrap();
        now[0].remove(&gone[..]);
        let range = [b'k', 40 + round]..[b'k', 44 + round];
        second.remove_range(range.clone()).unwrap();
        now[1].retain(|key, _| !(range.start[..] <= key[..] && key[..] < range.end[..]));
        if round < 3 {
            db.maintain().unwrap();
        }
        if round == 2 {
            db.flush().unwrap();
        }
    }
    let fs = if is_closed {
        db.close().unwrap();
        fs
    } else {
        db.sync().unwrap();
        fs.kill()
    };
    Origin { fs, now, past, is_closed }
}

/// A directory with files of two databases.
struct Mixture {
    fs: SimFs,
    /// Whether some of what its manifest says may be gone, so that nothing tells whose a table is that no manifest names.
    is_untold: bool,
    /// Whether most of what names the database is gone or of the other one: `CURRENT`, manifest and log.
    is_anonymous: bool,
    /// Whether damage to its log may look like a torn write: behind the last mark of a log that was not closed.
    is_torn: bool,
    told: Vec<String>,
}

/// Does this and that to the directory of `ours`.
fn mix(pick: &mut Pick, ours: &Origin, other: &Origin) -> Mixture {
    let fs = ours.fs.kill();
    let (mut manifest_lost, mut log_touched, mut told) = (false, false, Vec::new());
    let files = |fs: &SimFs| names(fs, "").into_iter().filter(|name| name != "LOCK").collect::<Vec<_>>();
    let foreign = files(&other.fs);
    for _ in 0..=pick.below(2) {
        let name = &foreign[pick.index(foreign.len())];
        let bytes = other.fs.read(&path(name)).unwrap();
        // Under its own name, in front of what is there or behind it, or under that of another file of the kind.
        let ending = name.rsplit('.').next().unwrap();
        let same_kind: Vec<String> = files(&fs).into_iter().filter(|own| own.ends_with(ending)).collect();
        let to = match pick.below(3) {
            0 => name.clone(),
            1 if !same_kind.is_empty() => same_kind[pick.index(same_kind.len())].clone(),
            _ if name == "CURRENT" => name.clone(),
            _ => format!("{:06}.{ending}", 500 + pick.below(9)),
        };
        told.push(format!("{name} of the other as {to}"));
        manifest_lost |= to.ends_with(".manifest") && ours.fs.read(&path(&to)).is_some();
        log_touched |= Kind::of(&to) == Some(Kind::Segment);
        fs.write(&path(&to), &bytes);
    }
    for _ in 0..pick.below(3) {
        let own = files(&fs);
        let name = &own[pick.index(own.len())];
        let length = fs.read(&path(name)).unwrap().len().max(1) as u64;
        let at = usize::try_from(pick.below(length)).unwrap();
        manifest_lost |= name.ends_with(".manifest");
        log_touched |= Kind::of(name) == Some(Kind::Segment);
        match pick.below(4) {
            0 => {
                told.push(format!("{name} removed"));
                fs.remove(&path(name));
            }
            1 => {
                told.push(format!("{name} cut to {at}"));
                change(&fs, name, |bytes| bytes.truncate(at));
            }
            _ => {
                told.push(format!("{name}: bit of {at}"));
                change(&fs, name, |bytes| {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << (at % 8);
                    }
                });
            }
        }
    }
    // One that was not closed may have lost its end at any group.
    let naming: Vec<String> = files(&ours.fs)
        .into_iter()
        .filter(|name| [Kind::Current, Kind::Manifest, Kind::Segment].map(Some).contains(&Kind::of(name)))
        .collect();
    let left = naming.iter().filter(|name| fs.read(&path(name)) == ours.fs.read(&path(name))).count();
    let is_anonymous = 2 * left < naming.len();
    let (is_untold, is_torn) = (manifest_lost || !ours.is_closed, log_touched && !ours.is_closed);
    Mixture { fs, is_untold, is_anonymous, is_torn, told }
}

fn read(db: &Db) -> [Map; 2] {
    let second = db.keyspaces().first().map(|name| db.keyspace(name).unwrap());
    [contents(db), second.map(|second| read_all(second.iter()).unwrap()).unwrap_or_default()]
}

/// Whether the report says that `key` may have an older value or be back.
fn may_be_old(report: &RepairReport, space: usize, key: &[u8]) -> bool {
    report.findings.iter().any(|finding| {
        let mut ranges = finding.lost_ranges.iter();
        let in_range = ranges.any(|range| (range.keyspace == "default") == (space == 0) && range.contains(key));
        let unknown = match finding.outcome {
            Outcome::Gap { .. } | Outcome::Inferred => true,
            Outcome::Lost { .. } => finding.lost_range_count == 0,
            _ => false,
        };
        finding.may_bring_back() && (in_range || unknown)
    })
}

/// Nothing is ever invented: whatever is mixed, every key of the result has a value that it had in the database that is
/// repaired, and if that is not its last one, the report says so. Two things are left to chance, as no file can tell: which
/// database it is if most of what names it is gone; and whose a table is of which what is left of the manifest says nothing.
#[test]
fn two_databases_in_one_directory() {
    let count: u64 = std::env::var("MIXED").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let origins = [origin(1, true), origin(2, true), origin(3, false), origin(4, false)];
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..count {
        let mut pick = Pick::new(seed);
        let (a, b) = (pick.index(4), 1 + pick.index(3));
        let (ours, other) = (&origins[a], &origins[(a + b) % 4]);
        let Mixture { fs, is_untold, is_anonymous, is_torn, told } = mix(&mut pick, ours, other);
        let what = format!("seed {seed}: {told:?}");
        // What an open still shows as it was is right as well, so that only the repair is looked at.
        let report = match maplsm::repair(DIR, &options(&fs)) {
            Err(Error::UnsupportedFormat(_)) => {
                *tally.entry("refused").or_default() += 1;
                continue;
            }
            report => report.unwrap_or_else(|e| panic!("{what}: {e}")),
        };
        let db = options(&fs).create_if_missing(false).open(DIR).unwrap_or_else(|e| panic!("{what}: {e}: {report:?}"));
        assert!(db.verify().is_ok(), "{what}: {:?}, {report:?}", db.verify().problems);
        let found = read(&db);
        let is_inferred = report.findings.iter().any(|finding| finding.outcome == Outcome::Inferred);
        let (mut strange, mut old) = (0, 0);
        for space in [0, 1] {
            for (key, value) in &found[space] {
                let pair = (key.clone(), value.clone());
                let was = ours.past[space].contains(&pair);
                strange += u64::from(!was);
                let may_be_other = other.past[space].contains(&pair) && (is_anonymous || is_untold && is_inferred);
                assert!(was || may_be_other, "{what}: {key:?} is {:?}: {report:?}", &value[..4]);
                let is_now = ours.now[space].get(key) == Some(value);
                if was && !is_now {
                    old += 1;
                    let is_told = may_be_old(&report, space, key);
                    assert!(
                        is_told && report.may_bring_back() || is_torn,
                        "{what}: {key:?} {:?}: {report:?}",
                        &value[..4]
                    );
                }
            }
        }
        let kind = match (strange, old) {
            (1.., _) if is_anonymous => "taken for the other one",
            (1.., _) => "with a table that no manifest names",
            (_, 1..) => "with older values, as told",
            _ if found == ours.now => "whole",
            _ => "with losses",
        };
        *tally.entry(kind).or_default() += 1;
        drop(db);
        assert!(maplsm::repair(DIR, &options(&fs)).unwrap().is_intact(), "{what}");
        assert!(fs.files(&Path::new(DIR).join("repair")).is_empty());
    }
    println!("{count} mixtures: {tally:?}");
}
