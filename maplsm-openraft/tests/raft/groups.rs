//! Several groups in a database, their removal, and readers beside an installation.

use maplsm::{Db, SimFs};
use maplsm_openraft::Group;
use openraft::RaftSnapshotBuilder;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use tokio::io::AsyncWriteExt;

use super::support::{Log, Machine, Registers, append, blank, log_id, set, small, temp_dir};

fn db() -> Db {
    small().file_system(SimFs::new()).open("db").unwrap()
}

#[tokio::test]
async fn groups_have_nothing_to_do_with_each_other() {
    let (db, dir) = (db(), temp_dir());
    let open = |name: &str| -> (Log, Machine) { Group::new(name, dir.path()).open(&db, Registers).unwrap() };
    let names = ["a", "a/b", "..", "a b", "A"];
    let mut groups: Vec<_> = names.iter().map(|name| open(name)).collect();
    for (number, (log, machine)) in (0u64..).zip(&mut groups) {
        append(log, (0..=number).map(|index| blank(1, index))).await;
        machine.apply([set(1, number, "key", number)]).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }
    drop(groups);
    Group::new("a", dir.path()).remove(&db).unwrap();
    for (number, name) in (0u64..).zip(names) {
        let (mut log, mut machine) = open(name);
        let last = log.get_log_state().await.unwrap().last_log_id;
        let applied = machine.applied_state().await.unwrap().0;
        let value = machine.reader().get("key").unwrap().map(|value| value.to_vec());
        let snapshot = machine.get_current_snapshot().await.unwrap();
        if name == "a" {
            assert!(last.is_none() && applied.is_none() && value.is_none() && snapshot.is_none());
        } else {
            assert_eq!((last, applied), (Some(log_id(1, number)), Some(log_id(1, number))));
            assert_eq!(value.as_deref(), Some(&number.to_be_bytes()[..]));
            assert!(snapshot.is_some());
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), names.len());
    for name in names {
        Group::new(name, dir.path()).remove(&db).unwrap();
    }
    assert!(db.keyspaces().is_empty() && std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn readers_keep_the_state_that_an_installation_replaces() {
    let (db, dir) = (db(), temp_dir());
    let open = |name: &str| -> (Log, Machine) { Group::new(name, dir.path()).open(&db, Registers).unwrap() };
    let ((_, mut leader), (log, mut machine)) = (open("leader"), open("follower"));
    machine.apply([set(1, 0, "key", 1), set(1, 1, "only here", 1)]).await.unwrap();
    leader.apply([set(1, 0, "key", 2)]).await.unwrap();
    let reader = machine.reader();
    let before = reader.snapshot();
    let mut builder = machine.get_snapshot_builder().await;

    for round in 1..=3 {
        leader.apply([set(1, 10 + round, "key", 10 + round)]).await.unwrap();
        let mut snapshot = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
        let mut receiving = machine.begin_receiving_snapshot().await.unwrap();
        tokio::io::copy(&mut snapshot.snapshot, &mut receiving).await.unwrap();
        receiving.shutdown().await.unwrap();
        machine.install_snapshot(&snapshot.meta, receiving).await.unwrap();
        assert_eq!(reader.get("key").unwrap().unwrap(), (10 + round).to_be_bytes());
        assert_eq!(before.get("key").unwrap().unwrap(), 1u64.to_be_bytes());
        assert_eq!(before.iter().count(), 2);
    }
    // A snapshot that was begun before is older than the current one, and does not take its place.
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(log_id(1, 1)));
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 13)));
    drop(built);
    assert_eq!(std::fs::read_dir(dir.path().join("follower")).unwrap().count(), 1);

    let states = |db: &Db| db.keyspaces().iter().filter(|name| name.starts_with("follower/state/")).count();
    assert_eq!(states(&db), 2, "the one that is read, and the current one");
    drop((before, builder));
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(states(&db), 1);
    drop((log, machine, current));
    assert_eq!(open("follower").1.reader().get("key").unwrap().unwrap(), 13u64.to_be_bytes());
}

#[tokio::test]
async fn a_snapshot_whose_file_is_gone_is_none() {
    let (db, dir) = (db(), temp_dir());
    let (log, mut machine): (Log, Machine) = Group::new("group", dir.path()).open(&db, Registers).unwrap();
    machine.apply([set(1, 0, "key", 1)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    drop((log, machine));
    std::fs::remove_dir_all(dir.path().join("group")).unwrap();
    let (_, mut machine): (Log, Machine) = Group::new("group", dir.path()).open(&db, Registers).unwrap();
    assert!(machine.get_current_snapshot().await.unwrap().is_none());
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert!(machine.get_current_snapshot().await.unwrap().is_some());
}
