//! Repair under every kind of damage to every kind of file: what is saved, and that what is not is reported.

use maplsm::{Db, Error, Keyspace, Options, Outcome, RepairReport, SimFs, WriteBatch};

use crate::support::model::{Map, read_all};
use crate::support::{DIR, change, contents, image, names, path, sim_options};

fn options(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.table_bytes(6 << 10).memtable_bytes(24 << 10).level_bytes_base(8 << 10).level_multiplier(2).l0_tables(2);
    options.large_value_bytes(Some(512)).index_interval(4);
    options
}

/// The last values of a database, and all that its keys ever had.
struct Past {
    now: [Map; 2],
    older: [Vec<(Vec<u8>, Vec<u8>)>; 2],
}

impl Past {
    fn put(&mut self, space: usize, key: &[u8], value: &[u8]) {
        self.older[space].push((key.to_vec(), value.to_vec()));
        self.now[space].insert(key.to_vec(), value.to_vec());
    }

    fn keys(&self) -> usize {
        self.now.iter().map(Map::len).sum()
    }
}

fn value(round: u8, key: u8) -> Vec<u8> {
    let length = match key % 7 {
        0 => 600 + usize::from(key),
        1 => 300,
        _ => 20 + usize::from(key % 5),
    };
    [vec![round, key], vec![b'v'; length]].concat()
}

/// Inline and large values, several levels, two keyspaces, deletes, range tombstones, and several segments.
fn database() -> (SimFs, Past) {
    let fs = SimFs::new();
    let db = options(&fs).open(DIR).unwrap();
    let users = db.keyspace("users").unwrap();
    let mut past = Past { now: Default::default(), older: Default::default() };
    let mut write = |db: &Db, users: &Keyspace, round: u8, keys: std::ops::Range<u8>| {
        for key in keys {
            let (a, b) = (value(round, key), value(round.wrapping_add(100), key));
            db.write(WriteBatch::new().insert([b'k', key], &a).insert_into(users, [key, key], &b)).unwrap();
            past.put(0, &[b'k', key], &a);
            past.put(1, &[key, key], &b);
        }
        let gone = round.wrapping_mul(23) % 90;
        db.remove([b'k', gone]).unwrap();
        past.now[0].remove(&vec![b'k', gone]);
        let (from, to) = (gone + 5, gone + 12);
        db.remove_range([b'k', from]..[b'k', to]).unwrap();
        past.now[0].retain(|key, _| !(from..to).contains(&key[1]));
    };
    for round in 0..5 {
        write(&db, &users, round, 0..110);
        db.maintain().unwrap();
    }
    // What follows stays in the log: nobody flushes.
    write(&db, &users, 6, 60..100);
    write(&db, &users, 7, 20..50);
    assert!(contents(&db) == past.now[0]);
    db.close().unwrap();
    for (ending, least) in [(".sst", 4), (".val", 3), (".wal", 2), (".idx", 4)] {
        assert!(names(&fs, ending).len() >= least, "{ending}: {:?}", names(&fs, ""));
    }
    (fs, past)
}

/// What is done to the bytes of a file, by name.
type Damage = (String, Box<dyn Fn(&mut Vec<u8>)>);

/// The ways in which a file of this length is damaged.
fn damages(length: usize) -> Vec<Damage> {
    let mut all: Vec<Damage> = Vec::new();
    let within = |at: &usize| *at < length;
    let ends = [0, 9, 30, 45, 60, 70, 90, 130];
    let spread = (1..12).map(|i| length * i / 12 + i);
    let tail = [1, 6, 70, 90, 100, 125, 140, 180, 230, 300].map(|back| length.saturating_sub(back));
    for at in ends.into_iter().chain(spread).chain(tail).filter(within) {
        all.push((format!("bit of {at}"), Box::new(move |bytes| bytes[at] ^= 1 << (at % 8))));
    }
    for sector in (0..8).map(|i| length * i / 8 / 512).chain([length.saturating_sub(1) / 512]) {
        let clear = move |bytes: &mut Vec<u8>| {
            let end = bytes.len().min((sector + 1) * 512);
            bytes[sector * 512..end].fill(0);
        };
        all.push((format!("sector {sector}"), Box::new(clear)));
    }
    for to in [0, 40, length / 2, length.saturating_sub(100), length.saturating_sub(1)] {
        all.push((format!("cut to {to}"), Box::new(move |bytes| bytes.truncate(to))));
    }
    all
}

/// What one kind of file has come to.
#[derive(Default)]
struct Tally {
    cases: usize,
    whole: usize,
    refused: usize,
    saved: usize,
    keys: usize,
}

impl Tally {
    /// Repairs a damaged database, and checks that everything is as it was or reported.
    fn check(&mut self, fs: &SimFs, past: &Past, what: &str) {
        self.cases += 1;
        let before = image(fs);
        let report = match maplsm::repair(DIR, &options(fs)) {
            Err(Error::UnsupportedFormat(_)) => {
                assert!(image(fs) == before, "{what}: refused and changed");
                self.refused += 1;
                return;
            }
            report => report.unwrap_or_else(|e| panic!("{what}: {e}")),
        };
        let db = options(fs).create_if_missing(false).open(DIR).unwrap_or_else(|e| panic!("{what}: {e}: {report:?}"));
        let verified = db.verify();
        assert!(verified.is_ok(), "{what}: {:?}", verified.problems);
        // A log that ends early looks like that of a crash, which the open reports.
        let torn = report.is_intact() && !db.recovery_report().clean;
        let users = db.keyspaces().first().map(|name| db.keyspace(name).unwrap());
        let found = [contents(&db), users.map(|users| read_all(users.iter()).unwrap()).unwrap_or_default()];
        let names = ["default".to_owned(), db.keyspaces().first().cloned().unwrap_or_else(|| "users".to_owned())];
        let mut saved = 0;
        for space in [0, 1] {
            let keys = past.now[space].keys().chain(found[space].keys());
            for key in keys.collect::<std::collections::BTreeSet<_>>() {
                let (is, was) = (found[space].get(key), past.now[space].get(key));
                if is == was {
                    saved += usize::from(was.is_some());
                    continue;
                }
                let real = is.is_none_or(|is| past.older[space].iter().any(|(k, v)| (k, v) == (key, is)));
                assert!(real, "{what}: {key:?} has a value that it never had");
                let reported = is_reported(&report, &names[space], key, is.is_some());
                assert!(torn || reported, "{what}: {key:?}, then {:?}: {report:?}", is.map(|is| is[0]));
            }
        }
        self.keys += past.keys();
        self.saved += saved;
        self.whole += usize::from(saved == past.keys() && found.iter().map(Map::len).sum::<usize>() == saved);
    }
}

/// Whether a report says of a key that it may be absent, or, if it `is_old`, have an older value.
fn is_reported(report: &RepairReport, keyspace: &str, key: &[u8], is_old: bool) -> bool {
    report.findings.iter().any(|finding| {
        let mut lost = finding.lost_keys.iter();
        let named = lost.any(|lost| lost.keyspace == keyspace && lost.key == key) && !is_old;
        let mut ranges = finding.lost_ranges.iter();
        // Of a stretch of the log, and of a file about which nothing is known, no keys are.
        let unknown = match finding.outcome {
            Outcome::Gap { .. } | Outcome::Inferred => true,
            Outcome::Lost { .. } => finding.lost_range_count == 0,
            _ => false,
        };
        assert!(!unknown || finding.may_bring_back() || finding.lost_key_count > 0);
        named || unknown || ranges.any(|range| range.keyspace == keyspace && range.contains(key))
    })
}

/// Damage to one file at a time, with the manifest and without.
#[test]
fn every_kind_of_damage() {
    let (before, past) = database();
    for manifest in [true, false] {
        for ending in ["CURRENT", ".manifest", ".sst", ".val", ".wal", ".idx"] {
            if !manifest && [".manifest", ".idx", "CURRENT"].contains(&ending) {
                continue;
            }
            let mut tally = Tally::default();
            let prepared = before.kill();
            if !manifest {
                let name = names(&prepared, ".manifest").pop().unwrap();
                prepared.remove(&path(&name));
            }
            let files = names(&prepared, ending);
            for (at, file) in files.iter().enumerate() {
                let length = prepared.read(&path(file)).unwrap().len();
                let all = damages(length);
                // Without the manifest, every other one.
                for (damage, apply) in
                    all.into_iter().enumerate().filter(|(i, _)| manifest || i % 2 == at % 2).map(|(_, d)| d)
                {
                    let fs = prepared.kill();
                    change(&fs, file, apply);
                    tally.check(&fs, &past, &format!("{file}, {damage}, manifest: {manifest}"));
                }
                let fs = prepared.kill();
                fs.remove(&path(file));
                tally.check(&fs, &past, &format!("{file} removed, manifest: {manifest}"));
                if let Some(other) = files.get(at + 1) {
                    let fs = prepared.kill();
                    let [a, b] = [file, other].map(|name| fs.read(&path(name)).unwrap());
                    fs.write(&path(file), &b);
                    fs.write(&path(other), &a);
                    tally.check(&fs, &past, &format!("{file} and {other} swapped, manifest: {manifest}"));
                }
            }
            let Tally { cases, whole, refused, saved, keys } = tally;
            println!(
                "{ending:9} {} manifest: {cases:4} cases, {whole:4} whole, {refused:3} refused, {saved} of {keys} keys saved",
                if manifest { "with   " } else { "without" },
            );
        }
    }
}

/// The first file with this ending in which a change leads to a report for which `holds`.
fn find_case(
    before: &SimFs,
    ending: &str,
    step: usize,
    holds: impl Fn(&RepairReport) -> bool,
) -> (SimFs, RepairReport) {
    for name in names(before, ending) {
        let length = before.read(&path(&name)).unwrap().len();
        for at in (64..length).step_by(step) {
            let damaged = before.kill();
            change(&damaged, &name, |bytes| bytes[at] ^= 1);
            let fs = damaged.kill();
            if let Ok(report) = maplsm::repair(DIR, &options(&fs))
                && holds(&report)
            {
                return (damaged, report);
            }
        }
    }
    panic!("no damage of {ending} leads there")
}

/// A value that is lost takes its key with it: the version before it must not take its place.
#[test]
fn a_lost_value_hides_older_ones_and_is_named() {
    for apart in [true, false] {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        options.large_value_bytes(apart.then_some(512)).l0_tables(20);
        let db = options.open(DIR).unwrap();
        for round in 0..3 {
            for key in 0..20 {
                db.insert([key], vec![round; 9000]).unwrap();
            }
            db.flush().unwrap();
        }
        db.close().unwrap();
        let newest = names(&fs, if apart { ".val" } else { ".sst" }).pop().unwrap();
        // In the middle of a value, a chunk or more away from all keys.
        change(&fs, &newest, |bytes| bytes[6 * 9000 + 4500] ^= 1);
        let report = maplsm::repair(DIR, options.file_system(fs.clone())).unwrap();
        let [finding] = &report.findings[..] else { panic!("{report:?}") };
        assert!(report.has_losses() && !report.may_bring_back(), "{report:?}");
        assert_eq!(finding.outcome, Outcome::Salvaged { entries: 19, lost: Some(1) });
        let [lost] = &finding.lost_keys[..] else { panic!("{report:?}") };
        assert_eq!((&lost.keyspace[..], finding.lost_key_count), ("default", 1));
        let db = options.open(DIR).unwrap();
        assert_eq!(db.get(&lost.key).unwrap(), None);
        let found = contents(&db);
        assert!(found.len() == 19 && found.values().all(|value| *value == [2; 9000]));
    }
}

#[test]
fn lost_ranges_lie_between_the_keys_that_could_be_read() {
    let (before, past) = database();
    let (damaged, report) = find_case(&before, ".sst", 150, |report| {
        report.findings.iter().any(|finding| {
            finding.lost_range_count == 1
                && matches!(finding.outcome, Outcome::Salvaged { entries: 10.., lost: Some(1..) })
        })
    });
    assert!(report.may_bring_back());
    let range = report.findings.iter().flat_map(|finding| &finding.lost_ranges).next().unwrap();
    let space = usize::from(range.keyspace != "default");
    let inside = past.now[space].keys().filter(|key| range.contains(key)).count();
    assert!(inside > 0 && inside < past.now[space].len() / 2, "{inside} in {range:?}");
    Tally::default().check(&damaged, &past, "one range");
}

/// Gaps are named with their places and, where the numbers on both sides tell, with their entries.
#[test]
fn the_log_says_what_it_has_lost() {
    let (before, past) = database();
    let logs = names(&before, ".wal");
    let middle = &logs[0];
    let fs = before.kill();
    change(&fs, middle, |bytes| bytes[2000..2600].fill(0xee));
    let report = maplsm::repair(DIR, &options(&fs)).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    let corruption = finding.problem.corruption().unwrap();
    let Outcome::Gap { bytes, entries: Some(entries) } = finding.outcome else { panic!("{report:?}") };
    assert!(corruption.path.ends_with(middle) && (1000..=2000).contains(&corruption.offset), "{report:?}");
    assert!(corruption.offset + bytes >= 2600 && bytes < 2000 && (2..40).contains(&entries), "{report:?}");

    let fs = before.kill();
    fs.remove(&path(middle));
    let report = maplsm::repair(DIR, &options(&fs)).unwrap();
    let missing = report.findings.iter().find(|f| f.problem.corruption().unwrap().path.ends_with(middle)).unwrap();
    assert!(missing.may_bring_back() && report.may_bring_back());
    Tally::default().check(&before.kill(), &past, "nothing");
}

/// An error of the disk ends the repair, whatever file it is of, and is never taken for damage.
#[test]
fn a_disk_that_fails_ends_the_repair() {
    let (before, _) = database();
    let last = |ending: &str| names(&before, ending).pop().unwrap();
    for (name, at) in
        [(last(".sst"), 2000), (last(".sst"), 30), (last(".val"), 700), (last(".val"), 50), (last(".wal"), 400)]
    {
        let damaged = before.kill();
        change(&damaged, &name, |bytes| bytes[at] ^= 1);
        let result = |fs: &SimFs| {
            let db = options(fs).open(DIR).unwrap();
            (contents(&db), read_all(db.keyspace("users").unwrap().iter()).unwrap())
        };
        let fs = damaged.kill();
        maplsm::repair(DIR, &options(&fs)).unwrap();
        let expected = result(&fs);
        let mut failed = 0;
        for after in 1.. {
            let fs = damaged.kill();
            fs.inject(maplsm::Fault::Look { after, kind: std::io::ErrorKind::Other });
            match maplsm::repair(DIR, &options(&fs)) {
                Err(e) => {
                    // Reading a table back takes an index that it cannot open for a lost one.
                    assert!(
                        e.kind() == maplsm::ErrorKind::Io || e.to_string().contains(".idx"),
                        "at look {after}: {e}"
                    );
                    failed += 1;
                    maplsm::repair(DIR, &options(&fs)).unwrap();
                }
                Ok(_) if fs.looks() < after => break,
                Ok(_) => {}
            }
            assert!(result(&fs) == expected, "{name}: at look {after}");
        }
        assert!(failed > 5, "{failed}");
    }
}
