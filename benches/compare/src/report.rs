//! The table, and what a reader needs to judge it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::stores::Kind;

/// What a row counts; less is better in all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// For each operation.
    Nanoseconds,
    /// For each operation.
    Microseconds,
    /// For the whole.
    Milliseconds,
    /// For each entry.
    Bytes,
    /// For each operation.
    KibFromDisk,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns/op",
            Self::Microseconds => "us/op",
            Self::Milliseconds => "ms",
            Self::Bytes => "B/entry",
            Self::KibFromDisk => "KiB/op from disk",
        }
    }
}

/// One row of the table.
struct Row {
    name: String,
    unit: Unit,
    /// Of one repetition by one store; the largest, where they differ.
    operations: u32,
    samples: Vec<(Kind, f64)>,
}

/// All measurements.
pub(crate) struct Samples {
    rows: Vec<Row>,
    /// Who is running.
    store: Kind,
}

impl Samples {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), store: Kind::Maplsm }
    }

    /// What follows is of this store.
    pub(crate) fn begin(&mut self, store: Kind) {
        self.store = store;
    }

    /// Adds the time that so many operations took.
    pub(crate) fn add(&mut self, name: &str, unit: Unit, operations: u32, took: Duration) {
        let scale = match unit {
            Unit::Nanoseconds | Unit::Bytes | Unit::KibFromDisk => 1e9,
            Unit::Microseconds => 1e6,
            Unit::Milliseconds => 1e3,
        };
        self.push(name, unit, operations, took.as_secs_f64() * scale / f64::from(operations.max(1)));
    }

    /// Adds the space that so many entries take.
    pub(crate) fn add_bytes(&mut self, name: &str, entries: u32, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let bytes = bytes as f64;
        self.push(name, Unit::Bytes, entries, bytes / f64::from(entries));
    }

    /// Adds what so many operations have read from the disk.
    pub(crate) fn add_read(&mut self, name: &str, operations: u32, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let kib = bytes as f64 / 1024.0;
        self.push(&format!("{name}, read"), Unit::KibFromDisk, operations, kib / f64::from(operations.max(1)));
    }

    fn push(&mut self, name: &str, unit: Unit, operations: u32, sample: f64) {
        let sample = (self.store, sample);
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => {
                row.operations = row.operations.max(operations);
                row.samples.push(sample);
            }
            None => self.rows.push(Row { name: name.to_owned(), unit, operations, samples: vec![sample] }),
        }
    }

    /// Prints the table: a column for each store, medians over the repetitions.
    pub(crate) fn print(&self, stores: &[Kind]) {
        let names: Vec<_> = stores.iter().map(|store| store.name()).collect();
        println!("| workload | operations | unit | {} | best peer / maplsm | spread |", names.join(" | "));
        println!("|---|---:|---|{}---:|---:|", "---:|".repeat(stores.len()));
        for row in &self.rows {
            let cells: Vec<_> =
                stores.iter().map(|store| row.median(*store).map_or_else(|| "-".to_owned(), digits)).collect();
            println!(
                "| {} | {} | {} | {} | {} | {} |",
                row.name,
                row.operations,
                row.unit.name(),
                cells.join(" | "),
                row.ratio(stores).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                row.spread(stores).map_or_else(|| "-".to_owned(), |spread| format!("{:.0} %", spread * 100.0)),
            );
        }
    }
}

impl Row {
    /// The samples of a store, ascending.
    fn of(&self, store: Kind) -> Vec<f64> {
        let mut samples: Vec<_> =
            self.samples.iter().filter(|(of, _)| *of == store).map(|(_, sample)| *sample).collect();
        samples.sort_by(f64::total_cmp);
        samples
    }

    fn median(&self, store: Kind) -> Option<f64> {
        let samples = self.of(store);
        let upper = samples.get(samples.len() / 2)?;
        let lower = samples.get(samples.len().saturating_sub(1) / 2)?;
        Some(f64::midpoint(*lower, *upper))
    }

    /// The least of the peers' medians by maplsm's: above 1, maplsm is better than all of them.
    fn ratio(&self, stores: &[Kind]) -> Option<f64> {
        let peers = stores.iter().filter(|store| !store.is_own());
        let best = peers.filter_map(|store| self.median(*store)).min_by(f64::total_cmp)?;
        Some(best / self.median(Kind::Maplsm)?)
    }

    /// How far the repetitions of one store lie apart, by their median; the largest of all stores.
    fn spread(&self, stores: &[Kind]) -> Option<f64> {
        let spread = |store: &Kind| {
            let samples = self.of(*store);
            let ([least, .., most], median) = (samples.as_slice(), self.median(*store)?) else { return None };
            Some((most - least) / median)
        };
        stores.iter().filter_map(spread).max_by(f64::total_cmp)
    }
}

/// Three significant digits or all before the point.
fn digits(number: f64) -> String {
    let decimals = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.decimals$}")
}

/// The version of a package, from the lock file of this build.
pub(crate) fn version(package: &str) -> &'static str {
    let begin = format!("name = \"{package}\"\nversion = \"");
    let lock = include_str!("../Cargo.lock");
    lock.split_once(&begin).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}

/// What the numbers were measured on, a line each.
pub(crate) fn machine(directory: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |cpu| cpu.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim().to_owned();
    vec![
        format!("Commit: {}", commit()),
        format!("CPU: {cpu}, {cores} cores; memory: {memory}"),
        format!("Kernel: {}; file system: {}", read("/proc/sys/kernel/osrelease").trim(), file_system(directory)),
        format!("Load average at the start: {}", read("/proc/loadavg").trim()),
    ]
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let is_clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    if is_clean { commit } else { format!("{commit} with changes") }
}

/// What this process has caused to be read from disks so far, where the system tells.
pub(crate) fn bytes_from_disk() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok())
}

/// How far the kernel reads ahead on the disk of a directory.
pub(crate) fn readahead_kib(directory: &Path) -> Option<String> {
    let device = fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let of_disk = format!("/sys/dev/block/{major}:{minor}/queue/read_ahead_kb");
    let of_partition = format!("/sys/dev/block/{major}:{minor}/../queue/read_ahead_kb");
    let kib = fs::read_to_string(of_disk).or_else(|_| fs::read_to_string(of_partition)).ok()?;
    Some(kib.trim().to_owned())
}

/// The type of the file system that a directory is on: that of the longest mount point in front of it.
fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let mount = mounts.filter(|(point, _)| directory.starts_with(point)).max_by_key(|(point, _)| point.len());
    mount.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}
