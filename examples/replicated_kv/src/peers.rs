//! How nodes talk to each other: over a connection that begins with the line `RAFT`, a request and a response in turns, each
//! with its length (u32, little-endian) before it.

use std::io;

use openraft::error::{Infallible, InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, Raft};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::types::Types;

/// The first line of a connection between nodes.
pub(crate) const GREETING: &str = "RAFT";

/// No message is longer.
const MESSAGE_BYTES_MAX: u32 = 64 << 20;

#[derive(Serialize, Deserialize)]
enum Question {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<Types>),
}

async fn send(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    to.write_u32_le(u32::try_from(bytes.len()).map_err(io::Error::other)?).await?;
    to.write_all(&bytes).await?;
    to.flush().await
}

async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = from.read_u32_le().await?;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes).await?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Serves another node until it goes.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(raft: &Raft<Types>, mut peer: S) -> io::Result<()> {
    loop {
        match receive(&mut peer).await? {
            Question::Append(request) => send(&mut peer, &raft.append_entries(request).await).await?,
            Question::Vote(request) => send(&mut peer, &raft.vote(request).await).await?,
            Question::Snapshot(request) => send(&mut peer, &raft.install_snapshot(request).await).await?,
        }
    }
}

/// Makes connections to other nodes.
pub(crate) struct Peers;

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, node: &BasicNode) -> Peer {
        Peer { id, address: node.addr.clone(), connection: None }
    }
}

/// Another node.
pub(crate) struct Peer {
    id: u64,
    address: String,
    connection: Option<TcpStream>,
}

type Failure<E> = RPCError<u64, BasicNode, RaftError<u64, E>>;

impl Peer {
    async fn connect(&self) -> io::Result<TcpStream> {
        let mut connection = TcpStream::connect(&self.address).await?;
        connection.set_nodelay(true)?;
        connection.write_all(format!("{GREETING}\n").as_bytes()).await?;
        Ok(connection)
    }

    async fn ask<T, E>(&mut self, question: Question) -> Result<T, Failure<E>>
    where
        T: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        // A connection on which a question was given up is of no use, so it comes back only after a response.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))?,
        };
        let asked = send(&mut connection, &question).await;
        let answer: io::Result<Result<T, RaftError<u64, E>>> = match asked {
            Ok(()) => receive(&mut connection).await,
            Err(e) => Err(e),
        };
        let answer = answer.map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        self.connection = Some(connection);
        answer.map_err(|e| RPCError::RemoteError(RemoteError::new(self.id, e)))
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure<Infallible>> {
        self.ask(Question::Append(request)).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        self.ask(Question::Snapshot(request)).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<Infallible>> {
        self.ask(Question::Vote(request)).await
    }
}
