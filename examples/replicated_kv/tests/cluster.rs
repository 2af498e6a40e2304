//! Three processes on loopback, of which one after the other is killed and started again, under clients: what was acknowledged
//! is there, in order, whoever is asked. `MAPLSM_SEED=n` chooses who is killed when.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const NODES: usize = 3;

struct Node {
    process: Child,
    number: usize,
    directory: PathBuf,
}

impl Node {
    fn start(number: usize, directory: PathBuf, addresses: &[String]) -> Self {
        let process = Command::new(env!("CARGO_BIN_EXE_replicated_kv"))
            .args(["node", &(number + 1).to_string()])
            .arg(&directory)
            .arg("40")
            .args(addresses)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, number, directory }
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ask(address: &str, line: &str) -> std::io::Result<String> {
    let connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    (&connection).write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// Asks one node after another until one of them knows.
fn ask_any(addresses: &[String], line: &str, wanted: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    for address in addresses.iter().cycle() {
        match ask(address, line) {
            Ok(answer) if wanted(&answer) => return answer,
            other => assert!(Instant::now() < end, "{line}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    unreachable!("there are addresses")
}

/// Which node is the leader.
fn leader(addresses: &[String]) -> usize {
    let status = ask_any(addresses, "STATUS", |answer| answer.contains("role=Leader"));
    let id = status.strip_prefix("node=").and_then(|rest| rest.split(' ').next()).unwrap();
    id.parse::<usize>().unwrap() - 1
}

/// One client, which alone writes its register: numbers that go up. Returns the last one that was acknowledged, the last one
/// that was tried, and how many were acknowledged.
fn count(client: usize, addresses: &[String], over: &AtomicBool) -> (u64, u64, u64) {
    let (mut sure, mut tried, mut acknowledged) = (0, 0, 0);
    for round in client.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let address = &addresses[round % NODES];
        tried += 1;
        if ask(address, &format!("SET client-{client} {tried}")).is_ok_and(|answer| answer == "OK") {
            (sure, acknowledged) = (tried, acknowledged + 1);
        }
        if round % 3 == 0
            && let Ok(answer) = ask(&addresses[(round / 3) % NODES], &format!("GET client-{client}"))
            && !answer.starts_with("ERROR")
            && !answer.is_empty()
        {
            let value = answer.strip_prefix("VALUE ").map_or(0, |value| value.parse().unwrap());
            assert!((sure..=tried).contains(&value), "client {client} reads {value}, not {sure} to {tried}");
            sure = value;
        }
    }
    (sure, tried, acknowledged)
}

#[test]
fn processes_that_are_killed_lose_nothing_that_was_acknowledged() {
    let seed: u64 = std::env::var("MAPLSM_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("MAPLSM_SEED={seed}");
    let dir = TempDir::new().unwrap();
    let ports: Vec<_> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
    drop(ports);
    let mut nodes: Vec<_> =
        (0..NODES).map(|number| Node::start(number, dir.path().join(number.to_string()), &addresses)).collect();
    ask_any(&addresses, "SET first 1", |answer| answer == "OK");

    let over = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (addresses, over) = (&addresses, &over);
                scope.spawn(move || count(client, addresses, over))
            })
            .collect();
        let mut random = seed;
        for round in 0..6 {
            std::thread::sleep(Duration::from_secs(1));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let victim = match round % 2 {
                0 => leader(&addresses),
                _ => usize::try_from(random >> 33).unwrap() % NODES,
            };
            let victim = &mut nodes[victim];
            victim.kill();
            std::thread::sleep(Duration::from_millis(random >> 40 & 511));
            *victim = Node::start(victim.number, victim.directory.clone(), &addresses);
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });

    println!("{counts:?}");
    for (client, (sure, tried, acknowledged)) in counts.into_iter().enumerate() {
        assert!(acknowledged > 5, "client {client}: {acknowledged}");
        for _ in 0..NODES {
            let answer = ask_any(&addresses, &format!("GET client-{client}"), |answer| answer.starts_with("VALUE "));
            let value: u64 = answer["VALUE ".len()..].parse().unwrap();
            assert!((sure..=tried).contains(&value), "client {client}: {value}, not {sure} to {tried}");
        }
    }
    // All have taken snapshots and purged their logs.
    for address in &addresses {
        let status = ask_any(std::slice::from_ref(address), "STATUS", |answer| {
            answer.starts_with("node=") && !answer.ends_with("purged=-")
        });
        println!("{status}");
    }
    nodes.iter_mut().for_each(Node::kill);
    let nodes: Vec<_> = nodes.iter().map(|node| Node::start(node.number, node.directory.clone(), &addresses)).collect();
    assert_eq!(ask_any(&addresses, "GET first", |answer| answer.starts_with("VALUE ")), "VALUE 1");
    assert_eq!(ask_any(&addresses, "DEL first", |answer| !answer.starts_with("ERROR")), "OK");
    assert_eq!(ask_any(&addresses, "GET first", |answer| !answer.starts_with("ERROR")), "NONE");
    drop(nodes);
}
