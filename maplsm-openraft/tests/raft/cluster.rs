//! Three nodes in one process, on simulated disks and a network that loses messages, under clients. What the clients have seen
//! is linearizable, and all nodes end with the same state. The seed decides what goes wrong, not how tasks take turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use maplsm::{Db, SimFs};
use maplsm_openraft::StateReader;
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::crash::copy;
use super::history::{Ask, Operation, check};
use super::network::{Connections, Network};
use super::support::{Random, Request, Types, number, open, seeds, small, temp_dir};

const NODES: [u64; 3] = [1, 2, 3];
const CLIENTS: u64 = 4;
const KEYS: u64 = 5;

fn config() -> Arc<Config> {
    let config = Config {
        heartbeat_interval: 60,
        election_timeout_min: 250,
        election_timeout_max: 500,
        install_snapshot_timeout: 1000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(60),
        max_in_snapshot_log_to_keep: 10,
        replication_lag_threshold: 20,
        snapshot_max_chunk_size: 300,
        ..Config::default()
    };
    Arc::new(config.validate().unwrap())
}

struct Node {
    raft: Raft<Types>,
    reader: StateReader,
    db: Db,
    disk: SimFs,
    dir: TempDir,
}

impl Node {
    async fn start(network: &Network, id: u64, disk: SimFs, dir: TempDir) -> Self {
        let db = small().file_system(disk.clone()).open("db").unwrap();
        let (log, machine) = open(&db, dir.path());
        let reader = machine.reader();
        let connections = Connections { network: network.clone(), from: id };
        let raft = Raft::new(id, config(), connections, log, machine).await.unwrap();
        network.join(id, &raft);
        Self { raft, reader, db, disk, dir }
    }

    /// The power goes; the node starts from what the disk has then.
    async fn power_cut(self, network: &Network, id: u64, seed: u64, down: Duration) -> Self {
        network.leave(id);
        let disk = self.disk.power_cut(seed);
        let after = temp_dir();
        copy(self.dir.path(), after.path());
        let _ = self.raft.shutdown().await;
        tokio::time::sleep(down).await;
        Self::start(network, id, disk, after).await
    }

    async fn restart(self, network: &Network, id: u64) -> Self {
        network.leave(id);
        self.raft.shutdown().await.unwrap();
        // Whoever still works for the node finds its database closed.
        self.db.close().unwrap();
        Self::start(network, id, self.disk.clone(), self.dir).await
    }
}

/// What clients share.
struct Clients {
    network: Network,
    readers: Mutex<BTreeMap<u64, StateReader>>,
    clock: AtomicU64,
    values: AtomicU64,
    over: AtomicBool,
    history: Mutex<Vec<(String, Operation)>>,
}

/// What a client learns of an operation.
enum Outcome {
    Before(Option<u64>),
    /// It has not happened and will not.
    Refused,
    Unknown,
}

impl Clients {
    async fn ask(&self, id: u64, key: &str, ask: Ask) -> Outcome {
        let Some((raft, life)) = self.network.member(id) else { return Outcome::Refused };
        let reader = self.readers.lock().get(&id).cloned();
        let request = match ask {
            Ask::Get => {
                let is_linearizable = raft.ensure_linearizable().await.is_ok();
                let value = reader.filter(|_| is_linearizable).and_then(|reader| reader.get(key).ok());
                return match value {
                    Some(value) if self.network.is_alive(id, life) => {
                        Outcome::Before(value.map(|value| number(&value).unwrap()))
                    }
                    _ => Outcome::Refused,
                };
            }
            Ask::Set(value) => Request::Set { key: key.to_owned(), value },
            Ask::Swap { from, to } => Request::Swap { key: key.to_owned(), from, to },
        };
        match raft.client_write(request).await {
            // What a node says that has lost its power is not heard.
            _ if !self.network.is_alive(id, life) => Outcome::Unknown,
            Ok(response) => Outcome::Before(response.data.before),
            Err(e) if e.forward_to_leader::<BasicNode>().is_some() => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        }
    }

    async fn run(self: Arc<Self>, mut random: Random) {
        let (mut node, mut known) = (random.below(3) + 1, BTreeMap::new());
        while !self.over.load(Ordering::Relaxed) {
            let key = format!("key {}", random.below(KEYS));
            let value = || self.values.fetch_add(1, Ordering::Relaxed);
            let ask = match random.below(10) {
                0..4 => Ask::Get,
                4..7 => Ask::Set(value()),
                _ => Ask::Swap { from: known.get(&key).copied().flatten(), to: value() },
            };
            let called = self.clock.fetch_add(1, Ordering::SeqCst);
            let asked = tokio::time::timeout(Duration::from_millis(700), self.ask(node, &key, ask)).await;
            let returned = self.clock.fetch_add(1, Ordering::SeqCst);
            match asked.unwrap_or(Outcome::Unknown) {
                Outcome::Before(before) => {
                    known.insert(key.clone(), before);
                    let operation = Operation { ask, called, returned: Some((returned, before)) };
                    self.history.lock().push((key, operation));
                }
                Outcome::Unknown if ask != Ask::Get => {
                    self.history.lock().push((key, Operation { ask, called, returned: None }));
                    node = random.below(3) + 1;
                }
                _ => {
                    node = random.below(3) + 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

async fn run(seed: u64, rounds: u64) {
    let mut random = Random(seed);
    let network = Network::new(seed);
    let mut nodes = BTreeMap::new();
    for id in NODES {
        nodes.insert(id, Node::start(&network, id, SimFs::with_seed(seed + id), temp_dir()).await);
    }
    let members: BTreeMap<_, _> = NODES.map(|id| (id, BasicNode::default())).into();
    nodes[&1].raft.initialize(members).await.unwrap();

    let clients = Arc::new(Clients {
        network: network.clone(),
        readers: Mutex::new(nodes.iter().map(|(id, node)| (*id, node.reader.clone())).collect()),
        clock: AtomicU64::new(0),
        values: AtomicU64::new(1),
        over: AtomicBool::new(false),
        history: Mutex::default(),
    });
    let running: Vec<_> =
        (0..CLIENTS).map(|client| tokio::spawn(Arc::clone(&clients).run(Random(seed * 100 + client)))).collect();

    for _ in 0..rounds {
        network.set_losses(random.below(3) * 5);
        let id = random.below(3) + 1;
        match random.below(5) {
            0 | 1 => {
                let (cut, down) = (random.next(), Duration::from_millis(random.below(400)));
                let node = nodes.remove(&id).unwrap().power_cut(&network, id, cut, down).await;
                clients.readers.lock().insert(id, node.reader.clone());
                nodes.insert(id, node);
            }
            2 => {
                let node = nodes.remove(&id).unwrap().restart(&network, id).await;
                clients.readers.lock().insert(id, node.reader.clone());
                nodes.insert(id, node);
            }
            3 => {
                // Long enough for the others to purge what it has not got.
                network.cut_off(&[id]);
                tokio::time::sleep(Duration::from_millis(900)).await;
                network.cut_off(&[]);
            }
            _ => nodes[&id].raft.trigger().snapshot().await.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(200 + random.below(300))).await;
    }
    network.set_losses(0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    clients.over.store(true, Ordering::Relaxed);
    for client in running {
        client.await.unwrap();
    }

    // Everything that any node has committed is applied by all of them in the end.
    let states = || {
        nodes.values().map(|node| {
            let metrics = node.raft.metrics().borrow().clone();
            let entries =
                node.reader.snapshot().iter().map(|entry| entry.map(|e| (e.key().to_vec(), e.value().to_vec())));
            (metrics.last_log_index, metrics.last_applied, entries.collect::<Result<Vec<_>, _>>().unwrap())
        })
    };
    let mut tries = 0;
    loop {
        let states: Vec<_> = states().collect();
        let settled = states.iter().all(|(last, applied, _)| *last == applied.map(|id| id.index));
        if settled && states.windows(2).all(|pair| pair[0] == pair[1]) {
            break;
        }
        tries += 1;
        assert!(tries < 300, "seed {seed}: the nodes do not come to the same state: {states:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for node in nodes.values() {
        let metrics = node.raft.metrics().borrow().clone();
        assert!(metrics.running_state.is_ok(), "seed {seed}: {metrics:?}");
        let index = |log_id: Option<openraft::LogId<u64>>| log_id.map(|id| id.index);
        let (applied, snapshot, purged) = (metrics.last_applied, metrics.snapshot, metrics.purged);
        println!("applied {:?}, snapshot {:?}, purged {:?}", index(applied), index(snapshot), index(purged));
        println!("keyspaces {:?}", node.db.keyspaces());
        assert!(metrics.purged.is_some(), "seed {seed}: too few writes for a snapshot");
    }
    let history = clients.history.lock().clone();
    let known = history.iter().filter(|(_, operation)| operation.returned.is_some()).count();
    println!("{known} operations of {} are known", history.len());
    assert!(known > 100, "seed {seed}: hardly anything was done");
    check(&history);
    for node in nodes.values() {
        node.raft.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_is_linearizable_whatever_becomes_of_nodes_and_messages() {
    for seed in seeds(1) {
        run(seed, 14).await;
    }
}
