//! What is not as it was written is an error that says what, and nothing of it is used.

use std::error::Error as _;
use std::io::Cursor;

use maplsm::{Db, SimFs};
use maplsm_openraft::{Error, Group};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder, StorageError, Vote};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Log, Machine, Registers, Request, append, blank, log_id, open, set, small, temp_dir};

fn new() -> (Db, TempDir, Log, Machine) {
    let (db, dir) = (small().file_system(SimFs::new()).open("db").unwrap(), temp_dir());
    let (log, machine) = open(&db, dir.path());
    (db, dir, log, machine)
}

fn text(error: &StorageError<u64>) -> String {
    let StorageError::IO { source } = error else { panic!("{error:?}") };
    source.to_string()
}

#[tokio::test]
async fn a_hole_in_the_log_is_an_error_wherever_it_is_read() {
    let (db, _dir, mut log, _) = new();
    append(&mut log, (0..10).map(|index| blank(1, index))).await;
    db.keyspace("group/log").unwrap().remove(4u64.to_be_bytes()).unwrap();
    for (start, end) in [(0, 10), (2, 5), (3, 6), (4, 5), (4, 8), (0, 5), (4, 100)] {
        let error = log.try_get_log_entries(start..end).await.unwrap_err();
        assert!(text(&error).contains("a hole: entry 4"), "{start}..{end}: {error}");
    }
    assert_eq!(log.try_get_log_entries(0..4).await.unwrap().len(), 4);
    assert_eq!(log.try_get_log_entries(5..).await.unwrap().len(), 5);
    assert_eq!(log.try_get_log_entries(8..20).await.unwrap().len(), 2);
    assert_eq!(log.try_get_log_entries(20..30).await.unwrap().len(), 0);

    let apart = log.blocking_append(vec![blank(1, 10), blank(1, 12)]).await.unwrap_err();
    assert!(text(&apart).contains("a hole: entry 11"), "{apart}");
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(1, 9)), "nothing of it is there");
}

#[tokio::test]
async fn entries_that_are_missing_after_what_was_purged_are_a_hole() {
    let (db, _dir, mut log, _) = new();
    append(&mut log, (0..10).map(|index| blank(1, index))).await;
    log.purge(log_id(1, 3)).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_purged_log_id, Some(log_id(1, 3)));
    assert_eq!(log.try_get_log_entries(0..6).await.unwrap().len(), 2, "what is purged is not missing");
    db.keyspace("group/log").unwrap().remove(4u64.to_be_bytes()).unwrap();
    let error = log.get_log_state().await.unwrap_err();
    assert!(text(&error).contains("a hole: entry 4"), "{error}");
}

#[tokio::test]
async fn records_that_do_not_decode_are_errors() {
    let (db, dir, mut log, machine) = new();
    append(&mut log, (0..3).map(|index| set(1, index, "key", index))).await;
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    let entries = db.keyspace("group/log").unwrap();
    let (key, whole) = (1u64.to_be_bytes(), entries.get(1u64.to_be_bytes()).unwrap().unwrap().to_vec());

    let longer = [&whole[..], &[0]].concat();
    let newer = [&[9], &whole[1..]].concat();
    let other = entries.get(2u64.to_be_bytes()).unwrap().unwrap().to_vec();
    for (bytes, said) in [
        (Vec::new(), "it is empty"),
        (whole[..whole.len() - 1].to_vec(), "does not decode"),
        (longer, "longer than what it encodes"),
        (newer, "version 9"),
        (other, "another index than its key"),
        (vec![1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], "does not decode"),
    ] {
        entries.insert(key, &bytes).unwrap();
        let error = log.try_get_log_entries(0..3).await.unwrap_err();
        assert!(text(&error).contains("log entry 1") && text(&error).contains(said), "{bytes:?}: {error}");
    }
    entries.insert(key, &whole).unwrap();
    entries.insert("no index", "").unwrap();
    assert!(log.try_get_log_entries(..).await.is_err());
    entries.insert("odd", "").unwrap();
    assert!(log.try_get_log_entries(..).await.is_err());

    db.keyspace("group/meta").unwrap().insert("vote", [1, 255]).unwrap();
    assert!(text(&log.read_vote().await.unwrap_err()).contains("the vote"));
    db.keyspace("group/meta").unwrap().insert("generation", [1]).unwrap();
    drop((log, machine));
    let refused = Group::new("group", dir.path()).open::<super::support::Types, _>(&db, Registers).unwrap_err();
    assert!(matches!(refused, Error::Undecodable { .. }) && refused.source().is_some(), "{refused}");
}

#[tokio::test]
async fn a_state_that_somebody_has_dropped_is_an_error() {
    let (db, dir, log, machine) = new();
    drop((log, machine));
    db.drop_keyspace("group/state/0").unwrap();
    for _ in 0..2 {
        let refused = Group::new("group", dir.path()).open::<super::support::Types, _>(&db, Registers).unwrap_err();
        assert!(matches!(&refused, Error::KeyspaceGone { name } if name == "group/state/0"), "{refused}");
    }
}

#[tokio::test]
async fn a_failed_apply_changes_nothing() {
    let (_db, _dir, _, mut machine) = new();
    machine.apply([set(1, 0, "key", 7)]).await.unwrap();
    let mut failing = set(1, 2, "key", 9);
    failing.payload = EntryPayload::Normal(Request::Fail);
    let error = machine.apply([set(1, 1, "key", 8), failing]).await.unwrap_err();
    assert!(text(&error).contains("entry 2 cannot be applied"), "{error}");
    assert_eq!(machine.reader().get("key").unwrap().unwrap(), 7u64.to_be_bytes());
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 0)));
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_the_state_stays() {
    let (_db, _dir, _, mut leader) = new();
    let entries = (0..2000).map(|index| set(1, index, &format!("key {index}"), index));
    leader.apply(entries.collect::<Vec<_>>()).await.unwrap();
    let mut snapshot = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut bytes = Vec::new();
    snapshot.snapshot.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.len() > 40_000);

    let (db, dir, _, mut machine) = new();
    machine.apply([set(1, 0, "old", 1)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let before = machine.get_current_snapshot().await.unwrap().unwrap().meta;
    for position in (0..bytes.len()).step_by(2503).chain([bytes.len()]) {
        let mut sent = bytes.clone();
        match sent.get_mut(position) {
            Some(byte) => *byte ^= 1,
            None => sent.truncate(position - 1),
        }
        let mut receiving = machine.begin_receiving_snapshot().await.unwrap();
        tokio::io::copy(&mut Cursor::new(sent), &mut receiving).await.unwrap();
        receiving.shutdown().await.unwrap();
        let error = machine.install_snapshot(&snapshot.meta, receiving).await.unwrap_err();
        assert!(text(&error).contains("the snapshot is damaged"), "{position}: {error}");
        assert_eq!(machine.reader().snapshot().iter().count(), 1);
        assert_eq!(machine.get_current_snapshot().await.unwrap().unwrap().meta, before);
        assert_eq!(db.keyspaces(), ["group/log", "group/meta", "group/state/0"], "nothing of it is left");
        assert_eq!(std::fs::read_dir(dir.path().join("snapshots/group")).unwrap().count(), 1);
    }
    let mut receiving = machine.begin_receiving_snapshot().await.unwrap();
    receiving.write_all(&bytes).await.unwrap();
    receiving.shutdown().await.unwrap();
    machine.install_snapshot(&snapshot.meta, receiving).await.unwrap();
    assert_eq!(machine.reader().snapshot().iter().count(), 2000);
}
