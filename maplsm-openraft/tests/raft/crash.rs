//! What is found after a crash is the state after some of the steps, and not before one that was acknowledged as durable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use maplsm::SimFs;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{EntryPayload, LogId, Membership, RaftLogReader, RaftSnapshotBuilder, Snapshot, StoredMembership, Vote};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::support::{Log, Machine, Random, Types, append, blank, log_id, open, seeds, set, small, temp_dir};

/// All that can be seen of a group.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    vote: Option<Vote<u64>>,
    committed: Option<LogId<u64>>,
    purged: Option<LogId<u64>>,
    last: Option<LogId<u64>>,
    log: Vec<LogId<u64>>,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, openraft::BasicNode>,
    state: Vec<(Vec<u8>, Vec<u8>)>,
    snapshot: Option<String>,
}

async fn see(log: &mut Log, machine: &mut Machine) -> Seen {
    let ends = log.get_log_state().await.unwrap();
    let (applied, membership) = machine.applied_state().await.unwrap();
    let state = machine.reader().snapshot();
    let entry = |entry: maplsm::Result<maplsm::Entry>| {
        let entry = entry.unwrap();
        (entry.key().to_vec(), entry.value().to_vec())
    };
    Seen {
        vote: log.read_vote().await.unwrap(),
        committed: log.read_committed().await.unwrap(),
        purged: ends.last_purged_log_id,
        last: ends.last_log_id,
        log: log.try_get_log_entries(..).await.unwrap().into_iter().map(|entry| entry.log_id).collect(),
        applied,
        membership,
        state: state.iter().map(entry).collect(),
        snapshot: machine.get_current_snapshot().await.unwrap().map(|snapshot| snapshot.meta.snapshot_id),
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A disk, and a copy of the snapshots of the same moment.
struct Image {
    disk: SimFs,
    dir: TempDir,
    /// Steps that were durable.
    durable: usize,
}

/// A leader whose snapshots are installed.
struct Leader {
    machine: Machine,
    _dir: TempDir,
}

impl Leader {
    fn new() -> Self {
        let dir = temp_dir();
        let db = small().file_system(SimFs::new()).open("leader").unwrap();
        Self { machine: open(&db, dir.path()).1, _dir: dir }
    }

    /// A snapshot up to an index, with a few registers of its own.
    async fn snapshot(&mut self, term: u64, index: u64, random: &mut Random) -> Snapshot<Types> {
        for _ in 0..random.below(4) {
            let entry = set(term, index, &format!("leader {}", random.below(9)), random.next());
            self.machine.apply([entry]).await.unwrap();
        }
        self.machine.apply([blank(term, index)]).await.unwrap();
        self.machine.get_snapshot_builder().await.build_snapshot().await.unwrap()
    }
}

async fn receive(machine: &mut Machine, snapshot: &mut Snapshot<Types>) {
    let mut receiving = machine.begin_receiving_snapshot().await.unwrap();
    tokio::io::copy(&mut snapshot.snapshot, &mut receiving).await.unwrap();
    receiving.shutdown().await.unwrap();
    machine.install_snapshot(&snapshot.meta, receiving).await.unwrap();
}

/// One step, and whether it is durable when it is acknowledged.
async fn step(random: &mut Random, now: &Seen, leader: &mut Leader, log: &mut Log, machine: &mut Machine) -> bool {
    let next = now.last.map_or(0, |last| last.index + 1);
    let unapplied: Vec<_> = now.log.iter().filter(|id| Some(**id) > now.applied).collect();
    match random.below(10) {
        0 => {
            log.save_vote(&Vote::new(next + random.below(9), random.below(3))).await.unwrap();
            true
        }
        1..4 => {
            let entries = (next..=next + random.below(3)).map(|index| {
                let mut entry = set(1, index, &format!("key {}", random.below(5)), random.next());
                if random.below(4) == 0 {
                    let members = BTreeSet::from([index, index + 1]);
                    entry.payload = EntryPayload::Membership(Membership::new(vec![members], None));
                }
                entry
            });
            append(log, entries.collect::<Vec<_>>()).await;
            true
        }
        4 if !unapplied.is_empty() => {
            let from = unapplied[usize::try_from(random.below(unapplied.len() as u64)).unwrap()];
            log.truncate(*from).await.unwrap();
            false
        }
        5 | 6 if !unapplied.is_empty() => {
            let upto = unapplied[usize::try_from(random.below(unapplied.len() as u64)).unwrap()].index;
            let first = now.applied.map_or(0, |applied| applied.index + 1);
            let entries = log.try_get_log_entries(first..=upto).await.unwrap();
            machine.apply(entries).await.unwrap();
            false
        }
        7 if now.applied.is_some() && now.applied > now.purged => {
            log.purge(now.applied.unwrap()).await.unwrap();
            false
        }
        8 => {
            machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
            true
        }
        9 => {
            let mut snapshot = leader.snapshot(2, next + random.below(3), random).await;
            receive(machine, &mut snapshot).await;
            true
        }
        _ => {
            log.save_committed(now.last).await.unwrap();
            false
        }
    }
}

async fn run(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let (disk, dir) = (SimFs::with_seed(seed), temp_dir());
    let db = small().file_system(disk.clone()).open("db").unwrap();
    let (mut log, mut machine) = open(&db, dir.path());
    let mut leader = Leader::new();

    let images = Arc::new(Mutex::new(Vec::new()));
    let durable = Arc::new(AtomicUsize::new(0));
    let watching = (Arc::clone(&images), Arc::clone(&durable), dir.path().to_owned());
    disk.watch(move |disk| {
        let (images, durable, dir): &(Arc<Mutex<Vec<Image>>>, Arc<AtomicUsize>, PathBuf) = &watching;
        let copied = temp_dir();
        copy(dir, copied.path());
        images.lock().push(Image { disk, dir: copied, durable: durable.load(Ordering::Relaxed) });
    });

    let mut seen = vec![see(&mut log, &mut machine).await];
    let mut last_index = None;
    let mut checked = 0;
    for number in 1..=steps {
        // Openraft purges the log up to a snapshot that was installed.
        let now = seen.last().unwrap().clone();
        let is_durable = if now.last < now.applied {
            log.purge(now.applied.unwrap()).await.unwrap();
            false
        } else {
            step(&mut random, &now, &mut leader, &mut log, &mut machine).await
        };
        seen.push(see(&mut log, &mut machine).await);
        last_index = last_index.max(seen[number].last);
        if is_durable {
            durable.store(number, Ordering::Relaxed);
        }
        let crashed = std::mem::take(&mut *images.lock());
        for image in crashed {
            let cuts = [image.disk.kill(), image.disk.power_cut(random.next())];
            for (cut, after) in cuts.into_iter().enumerate() {
                let copied = temp_dir();
                copy(image.dir.path(), copied.path());
                let db = small().file_system(after).open("db").unwrap();
                let (mut log, mut machine) = open(&db, copied.path());
                let found = see(&mut log, &mut machine).await;
                let possible = &seen[image.durable..=number];
                assert!(
                    possible.contains(&found),
                    "seed {seed}, step {number}, cut {cut}: {found:#?} of {possible:#?}"
                );
                // It goes on from there: what was left over is in nobody's way.
                let index = found.last.max(found.applied).map_or(0, |id| id.index + 1);
                receive(&mut machine, &mut leader.snapshot(3, index, &mut Random(seed)).await).await;
                assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(3, index)));
                assert_eq!(db.keyspaces().len(), 3, "seed {seed}: {:?}", db.keyspaces());
                checked += 1;
            }
        }
    }
    assert!(checked > steps, "seed {seed}: only {checked} crashes");
    let last = see(&mut log, &mut machine).await;
    drop((log, machine));
    db.close().unwrap();
    let db = small().file_system(disk).open("db").unwrap();
    let (mut log, mut machine) = open(&db, dir.path());
    assert_eq!(see(&mut log, &mut machine).await, last, "seed {seed}");
}

#[tokio::test]
async fn after_any_crash_the_group_is_as_after_some_step() {
    for seed in seeds(3) {
        run(seed, 40).await;
    }
}

#[tokio::test]
async fn entries_that_cannot_be_written_are_not_acknowledged() {
    let (disk, dir) = (SimFs::new(), temp_dir());
    let db = small().file_system(disk.clone()).open("db").unwrap();
    let (mut log, mut machine) = open(&db, dir.path());
    append(&mut log, [blank(1, 0)]).await;
    for fault in 1..=2 {
        disk.inject(maplsm::Fault::Error { after: fault, kind: std::io::ErrorKind::Other });
    }
    let failed = openraft::storage::RaftLogStorageExt::blocking_append(&mut log, vec![blank(1, 1)]).await;
    assert!(failed.is_err());
    assert!(log.save_vote(&Vote::new(2, 1)).await.is_err(), "nothing is written after a failed sync");
    let before = see(&mut log, &mut machine).await;
    assert_eq!(before.vote, None);

    let db = small().file_system(disk.power_cut(1)).open("db").unwrap();
    let (mut log, _) = open(&db, dir.path());
    assert!(log.get_log_state().await.unwrap().last_log_id >= Some(log_id(1, 0)));
}
