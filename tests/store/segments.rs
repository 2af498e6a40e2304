//! Segments of the log that are not there, or not whole, and whether that can be a crash.

use maplsm::{Damage, Db, Durability, IoMode, Options, SimFs, WriteBatch};

use super::damage::is_kind;
use super::reader::{Second, second_reader};
use crate::support::{DIR, change, contents, image, names, path, sim_options};

const SYNC: Durability = Durability::Sync;
const BUFFERED: Durability = Durability::Buffered;

fn put(db: &Db, key: u8, durability: Durability) {
    db.write_with(WriteBatch::new().insert([key], vec![key; 50]), durability).unwrap();
}

/// What becomes of a file; none if its name is removed.
type Loss = Option<fn(&mut Vec<u8>)>;

/// Ways to lose what a segment begins with.
const LOSSES: [(&str, Loss); 6] = [
    ("removed", None),
    ("emptied", Some(Vec::clear)),
    ("zeroed", Some(|bytes| bytes.fill(0))),
    ("cut within the header", Some(|bytes| bytes.truncate(40))),
    ("without its header", Some(|bytes| bytes[..80].fill(0))),
    ("without its first page", Some(|bytes| bytes.iter_mut().take(4096).for_each(|byte| *byte = 0))),
];

/// The disk after a kill with this segment lost in one of these ways.
fn lose(fs: &SimFs, name: &str, loss: Loss) -> SimFs {
    let lost = fs.kill();
    match loss {
        None => lost.remove(&path(name)),
        Some(loss) => change(&lost, name, loss),
    }
    lost
}

fn last_segment(fs: &SimFs) -> String {
    names(fs, ".wal").pop().expect("a segment")
}

/// Every reader refuses this disk for the segment, and changes nothing.
fn refused(options: &Options, lost: &SimFs, name: &str, case: &str) {
    let before = image(lost);
    let options = options.clone().file_system(lost.clone()).clone();
    for read_only in [false, true] {
        let e = options.clone().read_only(read_only).open(DIR).expect_err(case);
        let corruption = e.corruption().unwrap_or_else(|| panic!("{case}: {e}"));
        assert_eq!(corruption.path, path(name), "{case}: {e}");
    }
    let findings = maplsm::examine(DIR, &options).unwrap();
    assert!(
        findings.iter().any(|finding| finding.problem.corruption().is_some_and(|c| c.path == path(name))),
        "{case}"
    );
    assert_eq!(image(lost), before, "{case}: a refused open changes nothing");
}

/// Every reader opens this disk; answers how many entries there are.
fn opened(options: &Options, lost: &SimFs, case: &str) -> usize {
    let db =
        options.clone().read_only(true).file_system(lost.clone()).open(DIR).unwrap_or_else(|e| panic!("{case}: {e}"));
    let found = contents(&db);
    drop(db);
    match second_reader(lost) {
        None => {}
        Some(Second::Lines(lines)) => assert_eq!(lines.lines().count(), found.len(), "{case}: the second reader"),
        Some(Second::Refused(code)) => panic!("{case}: the second reader answers {code}"),
    }
    let db = options.clone().file_system(lost.clone()).open(DIR).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(contents(&db), found, "{case}");
    found.len()
}

type Work = fn(&Db);

/// Acknowledged as durable in one way or another, and then killed.
const DURABLE: [(&str, Work); 8] = [
    ("synced commits", |db| (0..5).for_each(|key| put(db, key, SYNC))),
    ("one synced commit", |db| put(db, 0, SYNC)),
    ("a sync", |db| {
        put(db, 0, BUFFERED);
        db.sync().unwrap();
    }),
    ("an idle mark", |db| {
        put(db, 0, BUFFERED);
        db.maintain().unwrap();
    }),
    ("a synced commit behind a flush", |db| {
        put(db, 0, SYNC);
        db.flush().unwrap();
        put(db, 1, SYNC);
    }),
    ("a load", |db| {
        put(db, 1, BUFFERED);
        db.ingest([("load", "ed")]).unwrap();
    }),
    ("behind a load", |db| {
        db.ingest([("load", "ed")]).unwrap();
        db.flush().unwrap();
        put(db, 1, SYNC);
    }),
    ("a flush and more", |db| {
        (0..5).for_each(|key| put(db, key, SYNC));
        db.flush().unwrap();
        put(db, 5, SYNC);
        (6..9).for_each(|key| put(db, key, BUFFERED));
    }),
];

#[test]
fn a_last_segment_with_something_durable_in_it_is_missed() {
    for mode in [IoMode::Map, IoMode::Read] {
        for (what, work) in DURABLE {
            let fs = SimFs::new();
            let options = sim_options(&fs).io_mode(mode).clone();
            let db = options.open(DIR).unwrap();
            work(&db);
            let name = last_segment(&fs);
            for (how, loss) in LOSSES {
                let lost = lose(&fs, &name, loss);
                refused(&options, &lost, &name, &format!("{mode:?}, {what}, {how}"));
                // Which does not depend on how the library reads.
                let second = if mode == IoMode::Map { second_reader(&lost) } else { None };
                assert!(matches!(second, None | Some(Second::Refused(2))), "{what}, {how}: {second:?}");
            }
        }
    }
}

/// Of a segment about which nothing was promised, nothing is missed.
#[test]
fn a_last_segment_without_anything_durable_may_be_lost() {
    let works: [(&str, Work, usize); 3] = [
        ("nothing synced", |db| put(db, 0, BUFFERED), 0),
        (
            "nothing synced behind a flush",
            |db| {
                put(db, 0, SYNC);
                db.flush().unwrap();
                put(db, 1, BUFFERED);
            },
            1,
        ),
        (
            "nothing synced behind a close",
            |db| {
                put(db, 0, SYNC);
                db.close().unwrap();
            },
            1,
        ),
    ];
    for (what, work, left) in works {
        let fs = SimFs::new();
        let options = sim_options(&fs);
        let db = options.open(DIR).unwrap();
        work(&db);
        let db = if db.get([0]).is_ok() { db } else { options.open(DIR).unwrap() };
        put(&db, 9, BUFFERED);
        let name = last_segment(&fs);
        for (how, loss) in LOSSES {
            assert_eq!(opened(&options, &lose(&fs, &name, loss), what), left, "{what}, {how}");
        }
    }
}

/// The manifest is written anew when it has grown, with all that it knows.
#[test]
fn a_fresh_manifest_knows_of_the_log_what_the_old_one_did() {
    let fs = SimFs::new();
    let options = sim_options(&fs);
    let db = options.open(DIR).unwrap();
    put(&db, 0, SYNC);
    let before = names(&fs, ".manifest");
    let mut made = 0;
    while names(&fs, ".manifest") == before {
        db.create_keyspace(format!("{made:0>200}"), &maplsm::KeyspaceOptions::new()).unwrap();
        made += 1;
        assert!(made < 20_000, "the manifest never starts anew");
    }
    let name = last_segment(&fs);
    for (how, loss) in LOSSES {
        let lost = lose(&fs, &name, loss);
        let e = options.clone().file_system(lost).open(DIR).expect_err(how);
        assert!(e.corruption().is_some_and(|c| c.path == path(&name)), "{how}: {e}");
    }
}

/// A frozen segment and a growing one.
fn two_segments(second: Durability) -> (SimFs, Options) {
    let fs = SimFs::new();
    let options = sim_options(&fs).memtable_entries(Some(3)).clone();
    let db = options.open(DIR).unwrap();
    (0..3).for_each(|key| put(&db, key, SYNC));
    put(&db, 3, second);
    assert_eq!(names(&fs, ".wal").len(), 2);
    (fs.kill(), options)
}

#[test]
fn a_segment_between_others_is_missed() {
    for second in [SYNC, BUFFERED] {
        let (fs, options) = two_segments(second);
        let name = names(&fs, ".wal").remove(0);
        for (how, loss) in LOSSES {
            let lost = lose(&fs, &name, loss);
            refused(&options, &lost, &name, &format!("{second:?}, {how}"));
            assert!(matches!(second_reader(&lost), None | Some(Second::Refused(2))), "{how}: the second reader");
        }
    }
}

/// Behind a clean close the segments of the last run are recorded; of those behind them, group headers tell.
#[test]
fn a_segment_behind_a_recorded_one_is_missed() {
    let fs = SimFs::new();
    let options = sim_options(&fs).memtable_entries(Some(3)).clone();
    let db = options.open(DIR).unwrap();
    put(&db, 0, SYNC);
    db.close().unwrap();
    let db = options.open(DIR).unwrap();
    (1..4).for_each(|key| put(&db, key, SYNC));
    put(&db, 4, BUFFERED);
    let [_, middle, _] = &names(&fs, ".wal")[..] else { panic!("three segments") };
    for (how, loss) in LOSSES {
        let lost = lose(&fs, middle, loss);
        let e = options.clone().file_system(lost.clone()).open(DIR).expect_err(how);
        assert!(e.is_corruption(), "{how}: {e}");
        assert!(matches!(second_reader(&lost), None | Some(Second::Refused(2))), "{how}: the second reader");
    }
}

/// The first live segment was never synced, and the durable position that the one behind it carries is in front of both: a
/// power cut may take the name of the one and leave that of the other.
#[test]
fn a_power_cut_that_loses_the_name_of_the_first_segment_opens() {
    let fs = SimFs::new();
    let options = sim_options(&fs).memtable_entries(Some(3)).clone();
    let db = options.open(DIR).unwrap();
    put(&db, 0, SYNC);
    db.flush().unwrap();
    (1..6).for_each(|key| put(&db, key, BUFFERED));
    let segments: Vec<String> = names(&fs, ".wal");
    assert_eq!(segments.len(), 2, "{segments:?}");
    for (how, loss) in LOSSES {
        assert_eq!(opened(&options, &lose(&fs, &segments[0], loss), how), 1, "the first one {how}");
        assert_eq!(opened(&options, &lose(&fs, &segments[1], loss), how), 4, "the second one {how}");
        let both = lose(&lose(&fs, &segments[0], loss), &segments[1], loss);
        assert_eq!(opened(&options, &both, how), 1, "both {how}");
    }
    let mut lost_a_name = 0;
    for seed in 0..200 {
        let cut = fs.power_cut(seed);
        lost_a_name +=
            u32::from(!names(&cut, ".wal").contains(&segments[0]) && names(&cut, ".wal").contains(&segments[1]));
        let db = options.clone().file_system(cut).open(DIR).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let found = contents(&db);
        let is_prefix = found.keys().enumerate().all(|(at, key)| usize::from(key[0]) == at);
        assert!(is_prefix && !found.is_empty(), "seed {seed}: {found:?}");
    }
    assert!(lost_a_name > 5, "only {lost_a_name} power cuts did that");
}

/// A missing file is named as what it is.
#[test]
fn a_missing_segment_is_called_missing() {
    let (fs, options) = two_segments(SYNC);
    for name in names(&fs, ".wal") {
        assert!(is_kind(&name, "wal"));
        let e = options.clone().file_system(lose(&fs, &name, None)).open(DIR).unwrap_err();
        assert_eq!(e.corruption().map(|c| c.what), Some(Damage::Missing), "{name}: {e}");
    }
}
