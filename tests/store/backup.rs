//! Backups: what each of them holds, costs, and survives.

use std::io::ErrorKind;
use std::path::Path;

use maplsm::{Db, Error, Fault, Options, SimFs, WriteBatch};

use crate::support::model::Map;
use crate::support::{DIR, contents, sim_options};

const BACKUPS: &str = "/backups";

fn options(fs: &SimFs) -> Options {
    let mut options = sim_options(fs);
    options.table_bytes(16 << 10).large_value_bytes(Some(4000));
    options
}

/// Tables below level 0, value files, a keyspace, and entries in the log.
fn filled(fs: &SimFs) -> Db {
    let db = options(fs).open(DIR).unwrap();
    let named = db.keyspace("named").unwrap();
    for number in 0..600u32 {
        let length = if number % 40 == 0 { 5000 } else { 100 };
        db.write(WriteBatch::new().insert(number.to_be_bytes(), vec![7; length]).insert_into(
            &named,
            number.to_be_bytes(),
            "named",
        ))
        .unwrap();
    }
    db.compact().unwrap();
    named.compact().unwrap();
    db.insert("in the log", "1").unwrap();
    db
}

fn opened(fs: &SimFs, path: &Path) -> Map {
    let db = sim_options(fs).read_only(true).open(path).unwrap();
    assert!(db.verify().is_ok(), "{:?}", db.verify().problems);
    assert_eq!(db.keyspace("named").unwrap().iter().count(), 600);
    contents(&db)
}

#[test]
fn each_backup_is_the_store_of_its_moment_and_shares_what_has_not_changed() {
    let fs = SimFs::new();
    let db = filled(&fs);
    let first_state = contents(&db);
    let first = db.backup(BACKUPS).unwrap();
    assert!(first.backup.number == 1 && first.shared_bytes == 0 && first.copied_bytes > 100_000, "{first:?}");
    db.insert("in the log", "2").unwrap();
    db.remove(7u32.to_be_bytes()).unwrap();
    let second_state = contents(&db);
    let second = db.backup(BACKUPS).unwrap();
    assert!(second.copied_bytes * 10 < first.copied_bytes, "{second:?}");
    assert!(second.shared_bytes * 10 > first.copied_bytes * 9);
    // Numbers that a backup has used for what was in the log, the store uses for other tables.
    db.flush().unwrap();
    db.insert("in the log", "3").unwrap();
    db.flush().unwrap();
    let third_state = contents(&db);
    let third = db.backup(BACKUPS).unwrap();
    assert!(third.shared_bytes >= second.shared_bytes, "{third:?}");
    db.close().unwrap();

    let all = sim_options(&fs).backups(BACKUPS).unwrap();
    assert_eq!(all, [&first, &second, &third].map(|report| report.backup.clone()));
    for (backup, state) in all.iter().zip([&first_state, &second_state, &third_state]) {
        assert!(opened(&fs, &backup.path) == *state);
    }
    // A power cut after the call changes nothing.
    let after = fs.power_cut(1);
    assert!(opened(&after, &third.backup.path) == third_state);

    // The older ones go, the last one stays whole and is restored.
    assert_eq!(sim_options(&fs).prune_backups(BACKUPS, 1).unwrap(), 2);
    assert_eq!(sim_options(&fs).backups(BACKUPS).unwrap(), std::slice::from_ref(&third.backup));
    sim_options(&fs).restore(BACKUPS, "/restored").unwrap();
    let restored = sim_options(&fs).open("/restored").unwrap();
    assert!(contents(&restored) == third_state && restored.verify().is_ok());
    restored.insert("goes", "on").unwrap();
    restored.compact().unwrap();
    assert!(opened(&fs, &third.backup.path) == third_state, "what is restored shares nothing with the backup");
}

#[test]
fn a_backup_outlives_its_database_and_any_other_one() {
    let fs = SimFs::new();
    let db = filled(&fs);
    let state = contents(&db);
    let first = db.backup(BACKUPS).unwrap();
    db.backup(BACKUPS).unwrap();
    // Bytes of the store itself are somebody else's.
    for (name, _) in fs.files(Path::new(DIR)) {
        fs.write(&Path::new(DIR).join(name), b"overwritten");
    }
    sim_options(&fs).restore(&first.backup.path, "/first").unwrap();
    assert!(contents(&sim_options(&fs).open("/first").unwrap()) == state);
}

#[test]
fn only_backups_of_the_same_database_go_into_a_directory() {
    let fs = SimFs::new();
    let db = filled(&fs);
    db.backup(BACKUPS).unwrap();
    let other = sim_options(&fs).open("/other").unwrap();
    assert!(matches!(other.backup(BACKUPS), Err(Error::ForeignBackup { .. })));
    assert!(matches!(other.backup(DIR), Err(Error::ForeignBackup { .. })), "a database is no directory of backups");
    sim_options(&fs).restore(BACKUPS, "/restored").unwrap();
    let restored = sim_options(&fs).open("/restored").unwrap();
    assert!(matches!(restored.backup(BACKUPS), Err(Error::ForeignBackup { .. })));
    restored.backup("/others").unwrap();
    assert!(matches!(sim_options(&fs).backups("/nowhere"), Err(Error::NotFound(_))));
    assert!(matches!(sim_options(&fs).prune_backups(DIR, 1), Err(Error::NotFound(_))));
    assert!(matches!(sim_options(&fs).restore("/nowhere", "/new"), Err(Error::NotFound(_))));
    assert!(matches!(sim_options(&fs).restore(BACKUPS, "/other"), Err(Error::Io(_))), "it exists");
    assert_eq!(sim_options(&fs).backups(BACKUPS).unwrap().len(), 1);
}

/// Stopped before each operation of the disk, or one fails: the older backups are whole, what is listed is complete, and the
/// next backup is.
#[test]
fn an_interrupted_backup_leaves_the_older_ones_whole() {
    let base = SimFs::new();
    let db = filled(&base);
    let first_state = contents(&db);
    let first = db.backup(BACKUPS).unwrap();
    db.insert("second", "value").unwrap();
    db.close().unwrap();
    drop(db);
    let mut interrupted = 0;
    for after in 1..50 {
        for halts in [false, true] {
            let fs = base.kill();
            let db = options(&fs).open(DIR).unwrap();
            let state = contents(&db);
            let fault = if halts { Fault::Halt { after } } else { Fault::Error { after, kind: ErrorKind::Other } };
            fs.inject(fault);
            let made = db.backup(BACKUPS);
            interrupted += usize::from(made.is_err());
            drop(db);
            let fs = fs.power_cut(after);
            let all = sim_options(&fs).backups(BACKUPS).unwrap();
            assert_eq!(all[0], first.backup, "operation {after}");
            assert!(opened(&fs, &all[0].path) == first_state);
            if let Ok(made) = &made {
                assert_eq!(all.last(), Some(&made.backup), "operation {after}");
            }
            if let [_, second] = &all[..] {
                assert!(opened(&fs, &second.path) == state, "operation {after}: what is listed is complete");
            }
            let db = options(&fs).open(DIR).unwrap();
            let next = db.backup(BACKUPS).unwrap();
            assert!(opened(&fs, &next.backup.path) == state);
            let complete = sim_options(&fs).backups(BACKUPS).unwrap().len();
            assert_eq!(sim_options(&fs).prune_backups(BACKUPS, 1).unwrap(), complete - 1);
            assert!(opened(&fs, &next.backup.path) == state);
        }
    }
    assert!(interrupted > 20, "{interrupted} backups were interrupted");
}

#[test]
fn a_damaged_file_is_not_backed_up_and_a_damaged_backup_shares_nothing() {
    let fs = SimFs::new();
    let db = filled(&fs);
    let first = db.backup(BACKUPS).unwrap();
    // The manifest of the first one is gone: the second one copies everything.
    let current = first.backup.path.join("CURRENT");
    fs.write(&current, b"garbled");
    let second = db.backup(BACKUPS).unwrap();
    assert_eq!(second.shared_bytes, 0);
    opened(&fs, &second.backup.path);
    // A table of the second one has another length: it is copied again.
    let table = fs.files(&second.backup.path).into_iter().find(|(name, _)| name.contains(".sst")).unwrap().0;
    fs.write(&second.backup.path.join(&table), b"short");
    let third = db.backup(BACKUPS).unwrap();
    assert!(third.copied_bytes > 0 && third.shared_bytes > 0, "{third:?}");
    opened(&fs, &third.backup.path);
    assert!(sim_options(&fs).restore(&second.backup.path, "/restored").unwrap_err().is_corruption());
    assert!(fs.files("/restored".as_ref()).is_empty());
}

#[test]
fn numbers_of_backups_come_to_an_end() {
    let fs = SimFs::new();
    let db = filled(&fs);
    let first = db.backup(BACKUPS).unwrap().backup;
    let of = first.path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned();
    let last = Path::new(BACKUPS).join(format!("{}-{of}", u64::MAX));
    fs.move_dir(&first.path, &last);
    assert!(matches!(db.backup(BACKUPS), Err(Error::NumbersExhausted)));
    assert_eq!(sim_options(&fs).backups(BACKUPS).unwrap()[0].number, u64::MAX);
}
