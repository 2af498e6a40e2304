//! Repair: each kind of damage, what is saved from it, and what the report says.

use std::path::Path;

use maplsm::{Damage, Db, ErrorKind, Fault, Options, Outcome, RepairReport, SimFs, WriteBatch};

use crate::support::model::{Map, read_all};
use crate::support::reseal::{Kind, adopt, reseal};
use crate::support::{DIR, change, contents, image, names, path, sim_options};

fn small(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.table_bytes(16 << 10).memtable_bytes(64 << 10).level_bytes_base(32 << 10).level_multiplier(2).l0_tables(2);
    options
}

/// What a database holds.
#[derive(PartialEq, Eq)]
struct State {
    default: Map,
    users: Map,
}

impl State {
    fn of(db: &Db) -> Self {
        let users = if db.keyspaces().is_empty() { Map::new() } else { read_all(users(db).iter()).unwrap() };
        Self { default: contents(db), users }
    }

    /// Whether nothing is here that is not there.
    fn is_part_of(&self, other: &Self) -> bool {
        let part = |a: &Map, b: &Map| a.iter().all(|(key, value)| b.get(key) == Some(value));
        part(&self.default, &other.default) && part(&self.users, &other.users)
    }

    fn len(&self) -> usize {
        self.default.len() + self.users.len()
    }
}

fn users(db: &Db) -> maplsm::Keyspace {
    let names = db.keyspaces();
    db.keyspace(&names[0]).unwrap()
}

/// Tables on several levels, one that was loaded, a keyspace, range tombstones, and a log.
fn database() -> (SimFs, State) {
    let fs = SimFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let users = db.keyspace("users").unwrap();
    for round in 0..4u8 {
        for key in 0..200u8 {
            db.insert([b'a', key], vec![round; 200]).unwrap();
            users.insert([key], [round; 50]).unwrap();
        }
        db.remove_range([b'a', 20]..[b'a', 40]).unwrap();
        db.maintain().unwrap();
    }
    db.compact().unwrap();
    db.ingest((0..200u8).map(|key| ([b'a', key / 2, key], vec![key; 100]))).unwrap();
    db.flush().unwrap();
    for key in 0..40u8 {
        db.write(WriteBatch::new().insert([b'z', key], "log").insert_into(&users, [key], "log").remove([b'a', key]))
            .unwrap();
    }
    let state = State::of(&db);
    db.close().unwrap();
    assert!(names(&fs, ".sst").len() > 3 && names(&fs, ".wal").len() == 1, "{:?}", image(&fs).len());
    (fs, state)
}

/// Repairs, opens and checks; answers what there is, and the report.
#[track_caller]
fn repair(fs: &SimFs) -> (State, RepairReport) {
    let before = image(fs);
    let report = maplsm::repair(DIR, &small(fs)).unwrap();
    if let Some(originals) = &report.originals {
        for (name, bytes) in before.iter().filter(|(name, _)| name != "LOCK") {
            assert_eq!(fs.read(&originals.join(name)).as_ref(), Some(bytes), "{name} is kept");
        }
    }
    assert!(fs.files(&Path::new(DIR).join("repair")).is_empty());
    let db = small(fs).create_if_missing(false).open(DIR).unwrap();
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    let state = State::of(&db);
    assert!(!report.rebuilt || report.entries == state.len() as u64, "{report:?}");
    db.insert("later", "x").unwrap();
    db.remove("later").unwrap();
    db.compact().unwrap();
    assert!(State::of(&db) == state, "it goes on");
    db.close().unwrap();
    let again = maplsm::repair(DIR, &small(fs)).unwrap();
    assert!(again.is_intact(), "{:?}", again.findings);
    (state, report)
}

#[test]
fn what_is_intact_is_left_as_it_is() {
    let (fs, _) = database();
    let before = image(&fs);
    let report = maplsm::repair(DIR, &small(&fs)).unwrap();
    assert!(report.is_intact() && !report.has_losses() && report.originals.is_none());
    assert_eq!(image(&fs), before);
    // A crashed one is for the open to recover.
    let db = small(&fs).open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    let killed = fs.kill();
    let before = image(&killed);
    assert!(maplsm::repair(DIR, &small(&killed)).unwrap().is_intact());
    assert_eq!(image(&killed), before);
    assert!(matches!(maplsm::repair(DIR, &small(&fs)), Err(maplsm::Error::Locked(_))), "in use");
    assert!(matches!(maplsm::repair("/nowhere", &small(&fs)), Err(maplsm::Error::NotFound(_))));
    killed.write(Path::new("/other/file"), b"x");
    assert!(matches!(maplsm::repair("/other", &small(&killed)), Err(maplsm::Error::NotFound(_))));
}

#[test]
fn current_and_indexes_are_made_again() {
    let (before, state) = database();
    let index = names(&before, ".idx").pop().unwrap();
    for damage in ["no CURRENT", "a bit of CURRENT", "no index", "a bit of an index", "all of it", "no LOCK"] {
        let fs = before.kill();
        if damage == "no CURRENT" || damage == "all of it" {
            fs.remove(&Path::new(DIR).join("CURRENT"));
        }
        match damage {
            "a bit of CURRENT" => change(&fs, "CURRENT", |bytes| bytes[45] ^= 4),
            "no index" => fs.remove(&Path::new(DIR).join(&index)),
            "a bit of an index" => change(&fs, &index, |bytes| bytes[100] ^= 4),
            "all of it" => names(&fs, ".idx").iter().for_each(|name| fs.remove(&Path::new(DIR).join(name))),
            "no LOCK" => {
                fs.remove(&Path::new(DIR).join("LOCK"));
                fs.remove(&Path::new(DIR).join("CURRENT"));
            }
            _ => {}
        }
        let (found, report) = repair(&fs);
        assert!(found == state, "{damage}");
        assert!(!report.is_intact() && !report.has_losses() && !report.rebuilt, "{damage}: {report:?}");
    }
}

#[test]
fn a_manifest_is_made_from_what_is_left_of_it_and_from_the_tables() {
    let (before, state) = database();
    let manifest = names(&before, ".manifest").pop().unwrap();
    let length = before.read(&Path::new(DIR).join(&manifest)).unwrap().len();
    for at in [30, 90, length / 3, length / 2, length - 40] {
        for cut in [false, true] {
            let fs = before.kill();
            change(&fs, &manifest, |bytes| if cut { bytes.truncate(at) } else { bytes[at] ^= 1 });
            if small(&fs).read_only(true).open(DIR).is_ok() {
                // What was cut was never needed.
                continue;
            }
            let (found, report) = repair(&fs);
            assert!(found == state, "{manifest} at {at}, cut: {cut}: {report:?}");
            assert!(report.rebuilt && report.findings.iter().any(|f| f.outcome == Outcome::Inferred), "{report:?}");
        }
    }
    let fs = before.kill();
    fs.remove(&Path::new(DIR).join(&manifest));
    fs.remove(&Path::new(DIR).join("CURRENT"));
    let (found, report) = repair(&fs);
    assert!(found == state, "without any manifest");
    assert_eq!(report.renamed_keyspaces, ["recovered-1"]);
    assert!(report.has_losses());
}

#[test]
fn what_is_intact_of_a_damaged_table_is_saved() {
    let (before, state) = database();
    let (mut salvaged, mut restored, mut lost) = (0, 0, 0);
    for table in names(&before, ".sst") {
        let path = Path::new(DIR).join(&table);
        let length = before.read(&path).unwrap().len();
        for at in [70, length / 3, length / 2, length - 300, length - 60] {
            let fs = before.kill();
            change(&fs, &table, |bytes| bytes[at] ^= 0x10);
            let (found, report) = repair(&fs);
            let finding = &report.findings[0];
            assert!(finding.problem.corruption().unwrap().path.ends_with(&table), "{report:?}");
            // What is missing was in that table, so that older versions may show; nothing is made up.
            let allowed = |map: &Map, of: &Map| map.iter().filter(|(key, value)| of.get(*key) != Some(value)).count();
            let wrong = allowed(&found.default, &state.default) + allowed(&found.users, &state.users);
            match finding.outcome {
                Outcome::Salvaged { entries, lost: Some(lost) } => {
                    assert!(entries > 0 && wrong as u64 <= lost, "{table} at {at}: {wrong} of {report:?}");
                    assert!(found.len() as u64 + lost >= state.len() as u64, "{table} at {at}: {report:?}");
                    salvaged += 1;
                }
                // Its frame follows from the manifest and from itself.
                Outcome::Restored => {
                    assert!(found == state && !report.may_bring_back(), "{table} at {at}: {report:?}");
                    restored += 1;
                }
                Outcome::Lost { entries: Some(entries) } => {
                    assert!(found.len() as u64 + entries >= state.len() as u64, "{table} at {at}: {report:?}");
                    lost += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        let fs = before.kill();
        fs.remove(&path);
        let (found, report) = repair(&fs);
        assert!(matches!(report.findings[0].outcome, Outcome::Lost { entries: Some(1..) }), "{report:?}");
        assert!(found.len() < state.len() + 400);
    }
    assert!(salvaged > lost && restored > lost, "{salvaged} {restored} {lost}");
}

#[test]
fn what_is_intact_of_a_damaged_log_is_saved() {
    let (before, state) = database();
    let log = names(&before, ".wal").pop().unwrap();
    let fs = before.kill();
    change(&fs, &log, |bytes| bytes[80 + 700] ^= 1);
    assert!(small(&fs).open(DIR).unwrap_err().is_corruption());
    let (found, report) = repair(&fs);
    assert!(
        matches!(report.findings[..], [ref f] if matches!(f.outcome, Outcome::Gap { entries: Some(3), bytes: 100.. }))
    );
    assert!(report.may_bring_back());
    let missing = state.default.iter().filter(|(key, value)| found.default.get(*key) != Some(value)).count();
    assert!(missing <= 2, "{missing} of one group");
    // Its header, which follows from its groups, and all of it.
    let fs = before.kill();
    change(&fs, &log, |bytes| bytes[50] ^= 1);
    let (found, report) = repair(&fs);
    assert!(found == state && report.rebuilt && !report.has_losses(), "{report:?}");
    let fs = before.kill();
    fs.remove(&Path::new(DIR).join(&log));
    let (found, report) = repair(&fs);
    assert!(report.may_bring_back() && report.rebuilt, "{report:?}");
    assert!(found.default.keys().all(|key| key[0] == b'a'));
    assert!(found.default.len() >= 200 && !found.is_part_of(&state));
}

#[test]
fn a_repair_that_crashes_is_repeated() {
    let (before, _) = database();
    let table = names(&before, ".sst").remove(0);
    change(&before, &table, |bytes| bytes[200] ^= 1);
    let (expected, _) = repair(&before.kill());
    for after in 1.. {
        let fs = before.kill();
        fs.inject(Fault::Halt { after });
        let outcome = maplsm::repair(DIR, &small(&fs));
        let crashed = fs.power_cut(after);
        maplsm::repair(DIR, &small(&crashed)).unwrap();
        let db = small(&crashed).open(DIR).unwrap();
        assert!(State::of(&db) == expected, "halted at {after}");
        assert!(db.verify().is_ok());
        drop(db);
        if outcome.is_ok() {
            break;
        }
    }
}

/// A disk that fails for a moment is no damage: nothing is given up for that, and nothing that was dropped comes back.
#[test]
fn an_error_of_the_disk_is_not_taken_for_damage() {
    let (before, _) = database();
    let db = small(&before).open(DIR).unwrap();
    let gone = db.keyspace("gone").unwrap();
    gone.insert("key", "value").unwrap();
    db.flush().unwrap();
    db.drop_keyspace("gone").unwrap();
    db.close().unwrap();
    let manifest = names(&before, ".manifest").pop().unwrap();
    for damage_manifest in [false, true] {
        before.remove(&Path::new(DIR).join("CURRENT"));
        if damage_manifest {
            change(&before, &manifest, |bytes| bytes[80 + 30] ^= 1);
        }
        let (expected, _) = repair(&before.kill());
        let (mut failed, kind) = (0, std::io::ErrorKind::Other);
        for after in 1.. {
            let fs = before.kill();
            fs.inject(Fault::Look { after, kind });
            if let Err(e) = maplsm::repair(DIR, &small(&fs)) {
                assert_eq!(e.kind(), ErrorKind::Io, "at look {after}: {e}");
                failed += 1;
                maplsm::repair(DIR, &small(&fs)).unwrap();
            } else if fs.looks() < after {
                break;
            }
            let db = small(&fs).open(DIR).unwrap();
            assert_eq!(db.keyspaces().len(), 1, "at look {after}: {:?}", db.keyspaces());
            assert!(State::of(&db) == expected, "at look {after}");
        }
        assert!(failed > 5, "{failed}");
    }
}

#[test]
fn an_examination_says_what_a_repair_would_find() {
    let (before, _) = database();
    assert!(maplsm::examine(DIR, &small(&before)).unwrap().is_empty());
    let fs = before.kill();
    let tables = names(&fs, ".sst");
    change(&fs, &tables[0], |bytes| bytes[70] ^= 1);
    fs.remove(&Path::new(DIR).join(&tables[1]));
    let log = names(&fs, ".wal").pop().unwrap();
    change(&fs, &log, |bytes| bytes[900] ^= 1);
    fs.remove(&Path::new(DIR).join("CURRENT"));
    let image_before = image(&fs);
    let findings = maplsm::examine(DIR, &small(&fs)).unwrap();
    assert_eq!(image(&fs), image_before);
    for name in [&tables[0], &tables[1], &log, &"CURRENT".to_owned()] {
        let named = |finding: &maplsm::Finding| finding.problem.corruption().is_some_and(|c| c.path.ends_with(name));
        assert!(findings.iter().any(named), "{name}: {findings:?}");
    }
    let (_, report) = repair(&fs);
    assert_eq!(report.findings.len(), findings.len());
}

/// Entries behind a damaged chunk are found by the index, each of them.
#[test]
fn what_a_lookup_reads_a_repair_keeps() {
    for (value, bit) in [(700usize, 190_000usize), (100, 36_000), (20, 9_001), (3000, 1_300_000)] {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        options.index_interval(256);
        let db = options.open(DIR).unwrap();
        for row in 0..600u32 {
            db.insert(format!("row{row:05}"), vec![b'r'; value]).unwrap();
        }
        db.flush().unwrap();
        db.close().unwrap();
        let table = names(&fs, ".sst").pop().unwrap();
        change(&fs, &table, |bytes| bytes[bit] ^= 1);
        let db = options.open(DIR).unwrap();
        let keys = (0..600u32).map(|row| format!("row{row:05}"));
        let read: Vec<String> = keys.filter(|key| db.get(key).is_ok_and(|found| found.is_some())).collect();
        db.close().unwrap();
        let foreseen = maplsm::examine(DIR, &options).unwrap();
        let report = maplsm::repair(DIR, &options).unwrap();
        let db = options.open(DIR).unwrap();
        let kept = read.iter().filter(|key| db.get(key).unwrap().is_some()).count();
        println!("values of {value} bytes: {} of 600 can be read, {kept} of them are kept", read.len());
        assert!(kept == read.len() && read.len() < 600 && read.len() > 400, "{report:?}");
        // An examination says the same.
        let lost = |findings: &[maplsm::Finding]| {
            let keys = |f: &maplsm::Finding| (f.lost_keys.clone(), f.lost_ranges.clone(), f.outcome);
            findings.iter().map(keys).collect::<Vec<_>>()
        };
        assert_eq!(lost(&foreseen), lost(&report.findings));
    }
}

/// Where entries of one length are exchanged and all checksums made right again.
#[test]
fn a_table_out_of_order_is_told_and_loses_nothing() {
    for damaged_as_well in [false, true] {
        let fs = SimFs::new();
        let mut options = sim_options(&fs);
        options.index_interval(4);
        let db = options.open(DIR).unwrap();
        for key in 0..200u8 {
            db.insert([key], [key; 99]).unwrap();
        }
        db.flush().unwrap();
        db.close().unwrap();
        let table = names(&fs, ".sst").pop().unwrap();
        let manifest = names(&fs, ".manifest").pop().unwrap();
        let mut bytes = fs.read(&path(&table)).unwrap();
        // 12 + 1 + 99 bytes each.
        let (a, b) = (64 + 10 * 112, 64 + 60 * 112);
        for at in 0..112 {
            bytes.swap(a + at, b + at);
        }
        reseal(Kind::Table, &mut bytes);
        let number = table.split('.').next().unwrap().parse().unwrap();
        change(&fs, &manifest, |manifest| {
            adopt(manifest, number, &bytes);
            reseal(Kind::Manifest, manifest);
        });
        if damaged_as_well {
            bytes[64 + 150 * 112 + 50] ^= 1;
        }
        fs.write(&path(&table), &bytes);
        let report = maplsm::repair(DIR, &options).unwrap();
        let is_told = |f: &maplsm::Finding| f.problem.corruption().is_some_and(|c| c.what == Damage::OutOfOrder);
        assert!(report.findings.iter().any(is_told), "{report:?}");
        let db = options.open(DIR).unwrap();
        assert!(db.verify().is_ok());
        let found = contents(&db);
        assert!(found.iter().all(|(key, value)| *value == vec![key[0]; 99]), "values are those of their keys");
        if damaged_as_well {
            assert!(found.len() > 150 && report.may_bring_back(), "{} of 200, {report:?}", found.len());
        } else {
            assert!(found.len() == 200 && !report.has_losses(), "{} of 200, {report:?}", found.len());
        }
    }
}

/// Damage to a table and, in the same run, to the values that it points to: the ranges that the table has lost are told.
#[test]
fn two_damages_are_both_told() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.large_value_bytes(Some(200)).index_interval(256);
    let db = options.open(DIR).unwrap();
    for round in 0..2u8 {
        for key in 0..250u8 {
            db.insert([key], vec![round; if key % 2 == 0 { 300 } else { 60 }]).unwrap();
        }
        db.flush().unwrap();
    }
    db.close().unwrap();
    let [table, values] = [".sst", ".val"].map(|ending| names(&fs, ending).pop().unwrap());
    change(&fs, &table, |bytes| bytes[5000] ^= 1);
    change(&fs, &values, |bytes| bytes[9000] ^= 1);
    let report = maplsm::repair(DIR, &options).unwrap();
    let db = options.open(DIR).unwrap();
    let (mut old, mut absent) = (0, 0);
    for key in 0..250u8 {
        let is_told = report.findings.iter().any(|finding| {
            let mut ranges = finding.lost_ranges.iter();
            finding.lost_keys.iter().any(|lost| lost.key == [key]) || ranges.any(|range| range.contains(&[key]))
        });
        match db.get([key]).unwrap() {
            Some(value) if value[0] == 1 => {}
            Some(_) => {
                assert!(is_told && report.may_bring_back(), "{key}: {report:?}");
                old += 1;
            }
            None => {
                assert!(is_told, "{key}: {report:?}");
                absent += 1;
            }
        }
    }
    assert!(old > 0 && absent > 0, "{old} {absent}: {report:?}");
}

/// Without `CURRENT`, a manifest counts by the files that are there for it and not by its number.
#[test]
fn a_manifest_of_another_database_is_not_believed() {
    let (before, state) = database();
    let other = SimFs::with_seed(77);
    let db = small(&other).open(DIR).unwrap();
    for key in 0..100u8 {
        db.insert([b'a', key], "of another one").unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let from = names(&other, ".manifest").pop().unwrap();
    let manifest = other.read(&path(&from)).unwrap();
    for name in ["000777.manifest", &from] {
        let fs = before.kill();
        let mut renamed = manifest.clone();
        let number: u64 = name.split('.').next().unwrap().parse().unwrap();
        renamed[40..48].copy_from_slice(&number.to_le_bytes());
        reseal(Kind::Manifest, &mut renamed);
        fs.write(&path(name), &renamed);
        let current = other.read(&path("CURRENT")).unwrap();
        for current in [None, Some(current)] {
            let fs = fs.kill();
            match current {
                Some(bytes) => fs.write(&path("CURRENT"), &bytes),
                None => fs.remove(&path("CURRENT")),
            }
            let (found, report) = repair(&fs);
            // One of them stands in the place of our own.
            let is_kept = names(&before, ".manifest").iter().all(|own| own != name);
            assert!(found == state, "{name}, kept: {is_kept}, {report:?}");
            assert!(!is_kept || !report.has_losses(), "{report:?}");
        }
    }
}
