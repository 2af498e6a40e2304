//! What clients may ask, a line each, and the line that they get.

use std::error::Error;
use std::io;

use maplsm_openraft::StateReader;
use openraft::error::{ForwardToLeader, RaftError};
use openraft::{BasicNode, LogId, Raft, TryAsRef};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::peers;
use crate::types::{Change, Types};

/// Before a line that another node has passed on, which is not passed on again.
const PASSED_ON: &str = "PASSED-ON ";

/// A node, as those who serve its connections have it.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) id: u64,
    pub(crate) raft: Raft<Types>,
    pub(crate) state: StateReader,
}

/// Why there is no answer here.
enum Elsewhere {
    /// The leader, if it is known, has to be asked.
    Leader(Option<String>),
    Failed(Box<dyn Error + Send + Sync>),
}

impl<E: Error + TryAsRef<ForwardToLeader<u64, BasicNode>>> From<RaftError<u64, E>> for Elsewhere {
    fn from(error: RaftError<u64, E>) -> Self {
        match error.forward_to_leader() {
            Some(forward) => Self::Leader(forward.leader_node.as_ref().map(|node| node.addr.clone())),
            None => Self::Failed(error.to_string().into()),
        }
    }
}

impl Service {
    pub(crate) async fn serve(self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut connection = BufReader::new(connection);
        let mut line = String::new();
        loop {
            line.clear();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let said = line.trim_end();
            if said == peers::GREETING {
                return peers::serve(&self.raft, connection).await;
            }
            let answer = self.answer(said).await;
            connection.write_all(format!("{answer}\n").as_bytes()).await?;
        }
    }

    async fn answer(&self, said: &str) -> String {
        let (command, passed_on) = match said.strip_prefix(PASSED_ON) {
            Some(command) => (command, true),
            None => (said, false),
        };
        match self.execute(command).await {
            Ok(answer) => answer,
            Err(Elsewhere::Failed(error)) => format!("ERROR {error}"),
            Err(Elsewhere::Leader(Some(address))) if !passed_on => {
                let answer = ask(&address, &format!("{PASSED_ON}{command}")).await;
                answer.unwrap_or_else(|error| format!("ERROR the leader at {address} does not answer: {error}"))
            }
            Err(Elsewhere::Leader(_)) => "ERROR there is no leader now".to_owned(),
        }
    }

    async fn execute(&self, command: &str) -> Result<String, Elsewhere> {
        let mut words = command.splitn(3, ' ');
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("GET", Some(key), None) => {
                self.raft.ensure_linearizable().await?;
                let value = self.state.get(key).map_err(|error| Elsewhere::Failed(error.into()))?;
                Ok(value.map_or("NONE".to_owned(), |value| format!("VALUE {}", String::from_utf8_lossy(&value))))
            }
            ("SET", Some(key), Some(value)) => {
                let change = Change::Set { key: key.to_owned(), value: value.to_owned() };
                self.raft.client_write(change).await?;
                Ok("OK".to_owned())
            }
            ("DEL", Some(key), None) => {
                let change = Change::Remove { key: key.to_owned() };
                let was_there = self.raft.client_write(change).await?.data;
                Ok(if was_there { "OK" } else { "NONE" }.to_owned())
            }
            ("STATUS", None, None) => Ok(self.status()),
            _ => Ok("ERROR say GET key, SET key value, DEL key or STATUS".to_owned()),
        }
    }

    fn status(&self) -> String {
        let metrics = self.raft.metrics().borrow().clone();
        let index = |log_id: Option<LogId<u64>>| log_id.map_or("-".to_owned(), |id| id.index.to_string());
        let leader = metrics.current_leader.map_or("-".to_owned(), |id| id.to_string());
        format!(
            "node={} role={:?} leader={leader} term={} last={} applied={} snapshot={} purged={}",
            self.id,
            metrics.state,
            metrics.current_term,
            metrics.last_log_index.map_or("-".to_owned(), |index| index.to_string()),
            index(metrics.last_applied),
            index(metrics.snapshot),
            index(metrics.purged),
        )
    }
}

/// Asks a node one thing.
pub(crate) async fn ask(address: &str, line: &str) -> io::Result<String> {
    let mut connection = BufReader::new(TcpStream::connect(address).await?);
    connection.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    if connection.read_line(&mut answer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim_end().to_owned())
}
