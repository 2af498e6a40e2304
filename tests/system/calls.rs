//! Every n-th system call fails, or is the last thing that the process does.

use std::collections::BTreeMap;
use std::process::Command;

use maplsm::{Durability, IoMode};

use super::{Orders, can};

/// The calls by which the store changes the disk, and those by which it looks at it.
const CALLS: [&str; 13] = [
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "renameat",
    "unlinkat",
    "fallocate",
    "ftruncate",
    "mmap",
    "openat",
    "mkdirat",
    "newfstatat",
    "flock",
];

/// What happens at the n-th one.
const FATES: [&str; 4] = ["error=EIO", "error=ENOSPC", "error=EINTR", "signal=SIGKILL"];

/// A program starts with calls that are the loader's; an interrupted one of those, or of `mmap`, is nothing that happens.
fn can_happen(call: &str, fate: &str) -> bool {
    let restarts = ["write", "pwrite64", "fdatasync", "fsync", "openat", "fallocate", "flock"];
    fate != "error=EINTR" || restarts.contains(&call)
}

/// Every other call is interrupted, and not one of those that are made on the database's behalf notices.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn interrupted_calls_are_made_again() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"], "system calls that are interrupted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    // Of those that the loader makes as well, the ones with the directory only.
    let calls = [
        ("write", false),
        ("pwrite64", false),
        ("fdatasync", false),
        ("fsync", false),
        ("fallocate", false),
        ("ftruncate", false),
        ("flock", false),
        ("mkdirat", false),
        ("renameat", false),
        ("unlinkat", false),
        ("linkat", false),
        ("getdents64", true),
        ("openat", true),
        ("newfstatat", true),
        ("fstatfs", false),
    ];
    let mut interrupted = BTreeMap::new();
    for mode in [IoMode::Map, IoMode::Read] {
        for (call, inside_only) in calls {
            let orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), mode);
            std::fs::create_dir(&orders.db).unwrap();
            let inject = format!("inject={call}:error=EINTR:when=1+2");
            let filter = format!("trace={call}");
            let mut strace = vec!["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", &filter, "-e", &inject];
            if inside_only {
                strace.extend(["-P", orders.db.to_str().unwrap()]);
            }
            let ended = orders.run(&strace);
            let what = format!("{mode:?}, every other {call} is interrupted");
            assert!(ended.well && !ended.said.contains("ended by"), "{what}: {}", ended.said);
            orders.check(&what);
            assert_eq!(orders.acknowledged(), orders.commits, "{what}");
            let traced = std::fs::read_to_string(&trace).unwrap();
            *interrupted.entry(call).or_insert(0) += traced.lines().filter(|line| line.contains("(INJECTED)")).count();
            std::fs::remove_dir_all(&orders.db).unwrap();
            let _ = std::fs::remove_file(&orders.notes);
        }
    }
    println!("interrupted calls that were made again: {interrupted:?}");
    let often = ["fdatasync", "fsync", "fallocate", "flock", "renameat", "unlinkat", "openat", "newfstatat"];
    assert!(often.iter().all(|call| interrupted[call] > 0), "{interrupted:?}");
}

extern "C" fn do_nothing(_: libc::c_int) {}

fn interrupt_all_the_time() {
    let interval = libc::timeval { tv_sec: 0, tv_usec: 500 };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    let handler: extern "C" fn(libc::c_int) = do_nothing;
    #[expect(unsafe_code, reason = "the standard library has no signals")]
    // SAFETY: the handler is a function for ever, and does nothing.
    let before = unsafe { libc::signal(libc::SIGALRM, handler as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
    #[expect(unsafe_code, reason = "the standard library has no timers")]
    // SAFETY: the structure lives as long as the call, which needs no room for the old one.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Grows logs while a timer interrupts it more often than its largest growth takes.
#[test]
#[ignore = "a program for the other tests of this module"]
fn grower() {
    let Some(path) = std::env::var_os("GROWER_DB") else { return };
    interrupt_all_the_time();
    let mut options = super::options(IoMode::Map);
    options.memtable_bytes(64 << 20).background_threads(0).durability(Durability::Buffered);
    let db = options.open(path).unwrap();
    for number in 0..12u32 {
        // Each takes a segment of its own, which grows in a few large steps.
        db.insert(number.to_be_bytes(), vec![7; 12 << 20]).unwrap();
    }
    assert_eq!(db.iter().count(), 12);
    db.close().unwrap();
    println!("grown");
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_log_grows_under_a_storm_of_signals() {
    for place in ["/tmp", "/dev/shm"] {
        let Ok(dir) = tempfile::tempdir_in(place) else {
            println!("skipped: there is no {place}");
            continue;
        };
        let mut command = Command::new("timeout");
        command.arg("60").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "system::calls::grower", "--ignored", "--nocapture", "--test-threads=1"]);
        let begun = std::time::Instant::now();
        let output = command.env("GROWER_DB", dir.path().join("db")).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("grown"), "{place}: {:?}: {said}", output.status);
        println!("a storm of signals: a log in {place} grew in {:?}", begun.elapsed());
    }
}

/// How often a victim whom nothing happens to makes each call, in the thread that makes it most often.
fn count(orders: &Orders, log: &std::path::Path) -> BTreeMap<&'static str, u64> {
    let calls = format!("trace={}", CALLS.join(","));
    let ended = orders.run(&["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &calls]);
    assert!(ended.well, "{}", ended.said);
    let mut counts = BTreeMap::<(&str, &str), u64>::new();
    let text = std::fs::read_to_string(log).unwrap();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        if let Some(call) = CALLS.into_iter().find(|name| call.trim_start().starts_with(&format!("{name}("))) {
            *counts.entry((call, thread)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in counts {
        let entry = most.entry(call).or_insert(0);
        *entry = count.max(*entry);
    }
    most
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn every_system_call_may_fail_or_be_the_last_one() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"], "system calls that fail") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut runs = BTreeMap::<(&str, &str), u64>::new();
    for mode in [IoMode::Map, IoMode::Read] {
        let calm = Orders::new(dir.path().join("calm"), dir.path().join("calm notes"), mode);
        let counts = count(&calm, &dir.path().join("trace"));
        calm.check("nothing happened");
        std::fs::remove_dir_all(&calm.db).unwrap();
        std::fs::remove_file(&calm.notes).unwrap();
        for (call, most) in counts {
            for fate in FATES.into_iter().filter(|fate| can_happen(call, fate)) {
                for n in 1..=most {
                    let what = format!("{mode:?}, {call} {n} of {most}: {fate}");
                    let orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), mode);
                    let inject = format!("inject={call}:{fate}:when={n}");
                    let trace = format!("trace={call}");
                    let ended = orders.run(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
                    assert!(!ended.panicked(), "{what}: {}", ended.said);
                    orders.check(&what);
                    std::fs::remove_dir_all(&orders.db).unwrap();
                    let _ = std::fs::remove_file(&orders.notes);
                    *runs.entry((call, fate)).or_default() += 1;
                }
            }
        }
    }
    println!("system calls that failed or were the last: {}: {runs:?}", runs.values().sum::<u64>());
}

/// A disk that takes a tenth of a second for each sync makes commits slow and nothing else: no busy loop.
#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_slow_disk_is_waited_for() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"], "a slow disk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut orders = Orders::new(dir.path().join("db"), dir.path().join("notes"), IoMode::Map);
    (orders.commits, orders.threads) = (60, 8);
    let inject = "inject=fdatasync:delay_enter=100000";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject];
    // User and system time in seconds, of the victim alone.
    let timed = ["bash", "-c", "TIMEFORMAT='%U %S'; { time \"$@\" ; } 2> \"$VICTIM_NOTES.time\"", "victim"];
    let ended = orders.run(&[&strace[..], &timed].concat());
    assert!(ended.well, "{}", ended.said);
    orders.check("a slow disk");
    let time = std::fs::read_to_string(dir.path().join("notes.time")).unwrap();
    let line = time.lines().rev().find(|line| line.split(' ').count() == 2).unwrap();
    let busy: f64 = line.split(' ').map(|part| part.parse::<f64>().unwrap()).sum();
    println!("a slow disk: 60 commits of 8 threads took {busy} s of processor time");
    assert!(busy < 3.0, "busy for {busy} s while it waited");
}

/// Bytes that are written while each sync takes long, and the most that the process may ever have had in memory.
const FLOOD_BYTES: usize = 64 << 20;
const MEMORY_BYTES_MAX: usize = 32 << 20;

/// Writes as fast as it may, in a mode without mappings: all of its memory is its own.
#[test]
#[ignore = "a program for the other tests of this module"]
fn flooder() {
    let Some(path) = std::env::var_os("FLOODER_DB") else { return };
    let mut options = super::options(IoMode::Read);
    options.memtable_bytes(1 << 20).table_bytes(4 << 20).level_bytes_base(16 << 20).level_multiplier(8).l0_tables(4);
    let db = options.durability(Durability::Buffered).cache_bytes(1 << 20).open(path).unwrap();
    let value = vec![7; 16 << 10];
    for number in 0..FLOOD_BYTES / value.len() {
        db.insert(format!("{number:08}"), &value).unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
    db.close().unwrap();
}

#[test]
#[ignore = "minutes, strace and root: .ci/faults"]
fn a_slow_disk_does_not_fill_the_memory() {
    if !can("strace", &["-qq", "-o", "/dev/null", "true"], "a slow disk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=50000"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "system::calls::flooder", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env("FLOODER_DB", dir.path().join("db")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    let (_, highest) = said.split_once("VmHWM:").unwrap();
    let kibibytes: usize = highest.split_whitespace().next().unwrap().parse().unwrap();
    println!("a slow disk: {} MiB written with {kibibytes} KiB of memory at most", FLOOD_BYTES >> 20);
    assert!(kibibytes << 10 <= MEMORY_BYTES_MAX, "{kibibytes} KiB");
}
