//! Real power cuts: a kernel in user mode runs the victim on a disk of its own, and is killed with everything that it has in
//! its memory. Its file system is then mounted, and must hold every number that was acknowledged.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maplsm::IoMode;

use super::{Orders, can};

const KERNEL: &str = "linux.uml";

/// Power cuts, unless the environment names another number.
const CUTS: u64 = 6;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the kernel starts: mounts the disk and becomes the victim. The notes are on the host, which keeps them.
fn write_init(at: &Path, orders: &Orders) {
    let victim = std::env::current_exe().unwrap();
    let mode = if orders.mode == IoMode::Read { "read" } else { "map" };
    let script = format!(
        "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount -t proc proc /proc\nmount -t tmpfs tmpfs /run\n\
         mkdir /run/disk\nmount /dev/ubda /run/disk || echo no disk > {notes}.failed\n\
         export VICTIM_DB=/run/disk/db VICTIM_NOTES={notes} VICTIM_MODE={mode} VICTIM_COMMITS=1000000 VICTIM_THREADS=1\n\
         exec {victim} --exact system::victim::victim --ignored --nocapture --test-threads=1 > {notes}.said 2>&1\n",
        notes = orders.notes.display(),
        victim = victim.display(),
    );
    std::fs::write(at, script).unwrap();
    run("chmod", &["+x", at.to_str().unwrap()]);
}

/// Lets the victim commit until it has reached a number, then cuts its power.
fn run_until(init: &Path, disk: &Path, orders: &Orders, number: u64) {
    let mut kernel = Command::new(KERNEL)
        .args(["mem=192M", "rootfstype=hostfs", "rootflags=/", "rw", "con=null", "con0=null,null", "quiet"])
        .arg(format!("init={}", init.display()))
        .arg(format!("ubda={}", disk.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while orders.acknowledged() < number {
        assert!(kernel.try_wait().unwrap().is_none(), "the kernel has ended by itself");
        assert!(begun.elapsed() < Duration::from_secs(120), "the victim gets nowhere");
        std::thread::sleep(Duration::from_millis(5));
    }
    // All its processes at once: those that it has made are of its group.
    run("kill", &["-9", "--", &format!("-{}", kernel.id())]);
    kernel.wait().unwrap();
}

#[test]
#[ignore = "minutes, root and a kernel in user mode: .ci/powercut"]
fn a_real_power_cut_loses_nothing_that_was_acknowledged() {
    if !can("sh", &["-c", "command -v linux.uml && command -v mkfs.ext4"], "real power cuts") {
        return;
    }
    let cuts = std::env::var("POWER_CUTS").ok().map_or(CUTS, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (disk, mounted, init) = (dir.path().join("disk"), dir.path().join("mounted"), dir.path().join("init"));
    std::fs::create_dir(&mounted).unwrap();
    let mut committed = 0;
    for cut in 0..cuts {
        let mode = if cut % 2 == 0 { IoMode::Map } else { IoMode::Read };
        let notes = dir.path().join(format!("notes {cut}").replace(' ', "-"));
        std::fs::File::create(&disk).unwrap().set_len(96 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", disk.to_str().unwrap()]);
        let orders = Orders { threads: 1, ..Orders::new(mounted.join("db"), notes, mode) };
        write_init(&init, &orders);
        // Twice: the second run begins with a recovery.
        for number in [7 + cut * 13, 60 + cut * 29] {
            run_until(&init, &disk, &orders, number);
        }
        committed += orders.acknowledged();
        run("mount", &["-o", "loop", disk.to_str().unwrap(), mounted.to_str().unwrap()]);
        orders.check(&format!("power cut {cut}, {mode:?}"));
        run("umount", &[mounted.to_str().unwrap()]);
        std::fs::remove_file(&disk).unwrap();
    }
    println!("real power cuts: {}, {committed} commits acknowledged in front of them", 2 * cuts);
}
