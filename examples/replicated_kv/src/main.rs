//! A key-value service that goes on when one of its three processes dies: openraft over maplsm.

mod clients;
mod peers;
mod types;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maplsm::Db;
use maplsm_openraft::Group;
use openraft::error::{InitializeError, RaftError};
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use tokio::net::TcpListener;

use crate::clients::Service;
use crate::peers::Peers;
use crate::types::KeysAndValues;

const USAGE: &str =
    "replicated_kv node ID DIRECTORY ENTRIES ADDRESS...   runs node ID (from 1) of those at the addresses, and \
takes a snapshot every so many entries
replicated_kv ask ADDRESS COMMAND...                 asks a node: GET key, SET key value, DEL key, STATUS";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["node", id, directory, entries, addresses @ ..] => {
            run(id.parse()?, directory.as_ref(), entries.parse()?, addresses).await
        }
        ["ask", address, command @ ..] if !command.is_empty() => {
            println!("{}", clients::ask(address, &command.join(" ")).await?);
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

async fn run(id: u64, directory: &Path, snapshot_entries: u64, addresses: &[&str]) -> Result<(), Box<dyn Error>> {
    let nodes: BTreeMap<u64, BasicNode> = (1..).zip(addresses.iter().map(BasicNode::new)).collect();
    let address = &nodes.get(&id).ok_or(USAGE)?.addr;

    std::fs::create_dir_all(directory)?;
    let snapshots: PathBuf = directory.join("snapshots");
    let db = Db::open(directory.join("db"))?;
    let (log, machine) = Group::new("kv", snapshots).open(&db, KeysAndValues)?;
    let state = machine.reader();

    let config = Config {
        heartbeat_interval: 150,
        election_timeout_min: 500,
        election_timeout_max: 1000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_entries),
        max_in_snapshot_log_to_keep: snapshot_entries / 2,
        ..Config::default()
    };
    let raft = Raft::new(id, Arc::new(config.validate()?), Peers, log, machine).await?;
    // The first nodes that meet make the cluster; the others, and all of them later, find it made.
    match raft.initialize(nodes.clone()).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => return Err(error.into()),
    }

    let listener = TcpListener::bind(address).await?;
    println!("node {id} listens at {address}");
    let service = Service { id, raft, state };
    loop {
        let (connection, _) = listener.accept().await?;
        // A connection that breaks is the end of it, and nothing else.
        tokio::spawn(service.clone().serve(connection));
    }
}
