//! What a process may have: file sizes, descriptors, address space, memory.

use maplsm::IoMode;

use super::{Orders, can};

/// Runs a victim under a limit of the shell and checks what it has left; answers whether it got to the end.
fn under(limit: &str, mode: IoMode) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), mode);
    let script = format!("{limit}; exec \"$@\"");
    let ended = orders.run(&["bash", "-c", &script, "victim"]);
    assert!(!ended.panicked(), "{limit}: {}", ended.said);
    if orders.db.exists() {
        orders.check(&format!("{limit}, {mode:?}"));
    }
    ended.well && !ended.said.contains("ended by")
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn limits_of_a_process_are_errors_and_lose_nothing() {
    for mode in [IoMode::Map, IoMode::Read] {
        let mut report = Vec::new();
        // The signal of a file that grows too large is ignored, so that the call fails.
        for blocks in [0, 1, 2, 4, 5, 6, 8, 16, 64] {
            report.push((format!("file size {blocks} KiB"), under(&format!("trap '' XFSZ; ulimit -f {blocks}"), mode)));
        }
        for files in 4..24 {
            report.push((format!("{files} descriptors"), under(&format!("ulimit -n {files}"), mode)));
        }
        for kibibytes in (1..16).map(|step| step * 8192) {
            report.push((format!("{kibibytes} KiB of addresses"), under(&format!("ulimit -v {kibibytes}"), mode)));
        }
        let (through, ended): (Vec<_>, Vec<_>) = report.into_iter().partition(|(_, through)| *through);
        println!("{mode:?}: {} limits were too narrow, {} were not", ended.len(), through.len());
        assert!(!through.is_empty() && !ended.is_empty());
    }
}

/// A process that may have less memory than its database takes is slower and nothing else.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn little_memory_is_enough() {
    let group = std::path::Path::new("/sys/fs/cgroup/memory/maplsm-test");
    let limit = group.join("memory.limit_in_bytes");
    if std::fs::create_dir_all(group).is_err() || std::fs::write(&limit, "32M").is_err() {
        println!("skipped: little memory: this machine has no memory cgroups of version 1");
        let _ = std::fs::remove_dir(group);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), IoMode::Map);
    orders.commits = 400;
    let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    let ended = orders.run(&["bash", "-c", &script, "victim"]);
    assert!(ended.well, "{}", ended.said);
    orders.check("32 MiB of memory");
    assert_eq!(orders.acknowledged(), 400);
    let _ = std::fs::remove_dir(group);
}

/// Another process, and a child that is forked while the database is open, is refused.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn another_process_is_refused_while_this_one_lives() {
    let dir = tempfile::tempdir().unwrap();
    let orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), IoMode::Map);
    let db = super::options(IoMode::Map).open(&orders.db).unwrap();
    let refused = |what: &str| {
        let ended = orders.run(&[]);
        assert!(ended.said.contains("is in use by another process"), "{what}: {}", ended.said);
    };
    refused("while it is open");
    // A child inherits no descriptor, so it cannot keep the lock when its parent has closed the database.
    let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    refused("with a child");
    db.close().unwrap();
    let ended = orders.run(&[]);
    assert!(ended.well, "{}", ended.said);
    orders.check("after the close");
    assert!(can("kill", &["-0", &child.id().to_string()], "a child that outlives the lock"));
    child.kill().unwrap();
    child.wait().unwrap();
}
