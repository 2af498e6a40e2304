//! A network in memory that loses, delays and cuts, and nodes that lose their power.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, Raft};
use parking_lot::Mutex;

use super::support::{Random, Types};

type Failure<E> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// A node that is up.
#[derive(Clone)]
struct Member {
    raft: Raft<Types>,
    /// Which of its lives it is in.
    life: u64,
}

#[derive(Default)]
struct Wires {
    members: BTreeMap<u64, Member>,
    /// Nobody hears from these, and they hear from nobody.
    cut_off: Vec<u64>,
    lives: u64,
}

/// The network. A clone is another handle on it.
#[derive(Clone)]
pub(crate) struct Network {
    wires: Arc<Mutex<Wires>>,
    random: Arc<Mutex<Random>>,
    /// Of 100 messages, how many are lost.
    losses: Arc<AtomicU64>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self { wires: Arc::default(), random: Arc::new(Mutex::new(Random(seed))), losses: Arc::default() }
    }

    /// A new life of a node begins.
    pub(crate) fn join(&self, id: u64, raft: &Raft<Types>) {
        let mut wires = self.wires.lock();
        wires.lives += 1;
        let member = Member { raft: raft.clone(), life: wires.lives };
        wires.members.insert(id, member);
    }

    /// From here on, nothing that this life of the node does is heard of.
    pub(crate) fn leave(&self, id: u64) {
        self.wires.lock().members.remove(&id);
    }

    pub(crate) fn cut_off(&self, ids: &[u64]) {
        self.wires.lock().cut_off = ids.to_vec();
    }

    pub(crate) fn set_losses(&self, percent: u64) {
        self.losses.store(percent, Ordering::Relaxed);
    }

    /// The node, and which life it is in.
    pub(crate) fn member(&self, id: u64) -> Option<(Raft<Types>, u64)> {
        self.wires.lock().members.get(&id).map(|member| (member.raft.clone(), member.life))
    }

    pub(crate) fn is_alive(&self, id: u64, life: u64) -> bool {
        self.wires.lock().members.get(&id).is_some_and(|member| member.life == life)
    }

    /// Both nodes, if they can hear each other.
    fn connected(&self, from: u64, to: u64) -> Option<(Member, Member)> {
        let wires = self.wires.lock();
        let apart = wires.cut_off.contains(&from) || wires.cut_off.contains(&to);
        let (from, to) = (wires.members.get(&from)?, wires.members.get(&to)?);
        (!apart).then(|| (from.clone(), to.clone()))
    }

    async fn message_passes(&self) -> bool {
        let (lost, delay) = {
            let mut random = self.random.lock();
            let delay = if random.below(10) == 0 { random.below(40) } else { random.below(3) };
            (random.below(100) < self.losses.load(Ordering::Relaxed), delay)
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        !lost
    }
}

impl RaftNetworkFactory<Types> for Connections {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Connection {
        Connection { network: self.network.clone(), from: self.from, to: target }
    }
}

/// What a node sends through.
pub(crate) struct Connections {
    pub(crate) network: Network,
    pub(crate) from: u64,
}

pub(crate) struct Connection {
    network: Network,
    from: u64,
    to: u64,
}

fn lost<E: std::error::Error>() -> Failure<E> {
    RPCError::Network(NetworkError::new(&io::Error::from(io::ErrorKind::TimedOut)))
}

impl Connection {
    /// A request and its response, each of which may be lost; the latter also because one of the two has died meanwhile.
    async fn call<T, E, F>(&self, call: impl FnOnce(Raft<Types>) -> F) -> Result<T, Failure<E>>
    where
        F: Future<Output = Result<T, RaftError<u64, E>>>,
        E: std::error::Error,
    {
        let unreachable = || RPCError::Unreachable(Unreachable::new(&io::Error::from(io::ErrorKind::NotConnected)));
        let Some((from, to)) = self.network.connected(self.from, self.to) else { return Err(unreachable()) };
        if !self.network.message_passes().await {
            return Err(lost());
        }
        let response = call(to.raft).await;
        let passes = self.network.message_passes().await;
        let Some((from_now, to_now)) = self.network.connected(self.from, self.to) else { return Err(unreachable()) };
        if !passes || (from_now.life, to_now.life) != (from.life, to.life) {
            return Err(lost());
        }
        response.map_err(|e| RPCError::RemoteError(RemoteError::new(self.to, e)))
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure<openraft::error::Infallible>> {
        self.call(|raft| async move { raft.append_entries(rpc).await }).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        self.call(|raft| async move { raft.install_snapshot(rpc).await }).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<openraft::error::Infallible>> {
        self.call(|raft| async move { raft.vote(rpc).await }).await
    }

    fn backoff(&self) -> openraft::network::Backoff {
        openraft::network::Backoff::new(std::iter::repeat(Duration::from_millis(50)))
    }
}
