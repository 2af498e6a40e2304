//! A child that is forked while a database is open: it has the parent's memory, its descriptors and a share of its lock, and
//! none of its threads.

use std::cell::RefCell;
use std::process::Command;

use maplsm::{Error, IoMode, WriteBatch};

use super::options;

/// What the child does with the parent's database; answers the first thing that is wrong.
fn as_a_child(db: maplsm::Db, path: &std::path::Path, mode: IoMode) -> Option<&'static str> {
    let closed = |result: maplsm::Result<()>| matches!(result, Err(Error::Closed));
    let mut batch = WriteBatch::new();
    batch.insert("child", "was here");
    let calls = [
        ("insert", closed(db.insert("child", "was here"))),
        ("try_write", closed(db.try_write(&batch))),
        ("get", closed(db.get("parent").map(drop))),
        ("scan", closed(db.iter().next().unwrap_or(Err(Error::Closed)).map(drop))),
        ("sync", closed(db.sync())),
        ("flush", closed(db.flush())),
        ("compact", closed(db.compact())),
        ("wait_for_background", closed(db.wait_for_background())),
        ("create_keyspace", closed(db.create_keyspace("child", &maplsm::KeyspaceOptions::new()).map(drop))),
        ("checkpoint", closed(db.checkpoint(path.join("copy")))),
        ("close", closed(db.close())),
    ];
    drop(db);
    let wrong = calls.into_iter().find(|(_, right)| !right).map(|(call, _)| call);
    let taken = matches!(options(mode).open(path.join("db")), Err(Error::Locked(_)));
    wrong.or((!taken).then_some("the lock"))
}

/// The program under test, in a process of its own, since a test runner has other threads that hold locks.
#[test]
#[ignore = "a program for the other tests of this module"]
fn forker() {
    let Some(path) = std::env::var_os("FORK_DB") else { return };
    let path = std::path::Path::new(&path);
    let mode = if std::env::var("FORK_MODE").unwrap() == "Read" { IoMode::Read } else { IoMode::Map };
    let db = RefCell::new(Some(options(mode).open(path.join("db")).unwrap()));
    db.borrow().as_ref().unwrap().insert("parent", "first").unwrap();
    let child = fork_and(|| {
        // The last handle, with the lock.
        let wrong = as_a_child(db.take().unwrap(), path, mode);
        let _ = std::fs::write(path.join("wrong"), wrong.unwrap_or_default());
        // Its handles go as well, and it lives on.
        std::thread::sleep(std::time::Duration::from_secs(3));
    });
    let db = db.take().unwrap();
    while !path.join("wrong").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    db.insert("parent", "second").unwrap();
    assert!(matches!(options(mode).open(path.join("db")), Err(Error::Locked(_))), "the child gave the lock up");
    db.close().unwrap();
    drop(db);
    // The child still has the descriptor.
    let db = options(mode).open(path.join("db")).unwrap();
    assert_eq!(db.get("parent").unwrap().as_deref(), Some(&b"second"[..]));
    assert_eq!(db.iter().count(), 1);
    child.wait();
    assert_eq!(std::fs::read_to_string(path.join("wrong")).unwrap(), "");
    db.insert("parent", "third").unwrap();
    db.close().unwrap();
    println!("alive");
}

/// The first process of its PID namespace, as is its child of another one, which so has its number.
#[test]
#[ignore = "a program for the other tests of this module"]
fn namesake() {
    let Some(path) = std::env::var_os("FORK_DB") else { return };
    let path = std::path::Path::new(&path);
    if std::process::id() != 1 {
        return;
    }
    let mut options = options(IoMode::Map);
    options.background_threads(0);
    let db = RefCell::new(Some(options.open(path.join("db")).unwrap()));
    db.borrow().as_ref().unwrap().insert("parent", "first").unwrap();
    #[expect(unsafe_code, reason = "the standard library has no namespaces")]
    // SAFETY: no preconditions.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    assert_eq!(unshared, 0, "{}", std::io::Error::last_os_error());
    let child = fork_and(|| {
        let number = std::process::id();
        let db = db.take().unwrap();
        let closed = matches!(db.insert("child", "was here"), Err(Error::Closed));
        // The last handle, with the lock.
        drop(db);
        let _ = std::fs::write(path.join("child"), format!("{number} {closed}"));
    });
    child.wait();
    assert_eq!(std::fs::read_to_string(path.join("child")).unwrap(), "1 true");
    let again = options.open(path.join("db")).map(drop);
    println!("{}", if matches!(again, Err(Error::Locked(_))) { "still locked" } else { "given up" });
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_child_with_its_parents_number_does_not_give_up_the_lock() {
    if !super::can("unshare", &["-p", "-f", "true"], "a child in another PID namespace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-p", "-f"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "system::fork::namesake", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env("FORK_DB", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("still locked"), "{:?}: {said}", output.status);
}

struct Child(libc::pid_t);

impl Child {
    fn wait(self) {
        let mut status = 0;
        #[expect(unsafe_code, reason = "the standard library cannot wait for a forked child")]
        // SAFETY: the pointer is to a live integer.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert!(waited == self.0 && status == 0, "{status}");
    }
}

fn fork_and(child: impl FnOnce()) -> Child {
    #[expect(unsafe_code, reason = "the standard library cannot fork")]
    // SAFETY: the process has no other thread that could hold a lock of the allocator but those of the store, which sleep.
    match unsafe { libc::fork() } {
        0 => {
            #[expect(unsafe_code, reason = "a hang ends the child")]
            // SAFETY: no preconditions.
            unsafe {
                libc::alarm(30);
            }
            child();
            #[expect(unsafe_code, reason = "the test runner's exit is not the child's matter")]
            // SAFETY: no preconditions.
            unsafe {
                libc::_exit(0);
            }
        }
        pid => Child(pid),
    }
}

#[test]
fn a_forked_child_cannot_use_or_harm_the_database() {
    for mode in [IoMode::Map, IoMode::Read] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "system::fork::forker", "--ignored", "--nocapture", "--test-threads=1"]);
        let output = command.env("FORK_DB", dir.path()).env("FORK_MODE", format!("{mode:?}")).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("alive"), "{mode:?}: {:?}: {said}", output.status);
    }
}
