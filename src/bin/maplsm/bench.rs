//! Measures the store, with the workloads of `db_bench`: keys of 16 digits, values of random bytes, one thread.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use maplsm::{Db, Durability, Options};
use serde_json::json;

use crate::args::{BenchArgs, Size, Target, Workload};
use crate::failure::{Failure, Status};
use crate::interrupt;

pub(crate) fn run(target: &Target, args: &BenchArgs) -> Result<Status, Failure> {
    let place = Temporary::new(args.dir.as_deref())?;
    let mut options = Options::new();
    target.options.apply(&mut options);
    options.memtable_entries(target.capacity.map(Into::into));
    options.durability(if args.sync { Durability::Sync } else { Durability::Buffered });
    let db = options.open(&place.path)?;
    let mut bench = Bench { db: &db, args, chance: Chance(args.seed), value: Vec::new() };
    let Size(value_bytes) = args.value_size;
    bench.value = (0..value_bytes + VALUES).map(|_| bench.chance.next().to_le_bytes()[0]).collect();
    let mut out = io::stdout();
    for &workload in &args.workloads {
        let line = bench.measure(workload)?.line(workload, args.json);
        writeln!(out, "{line}")?;
    }
    db.close()?;
    Ok(Status::Success)
}

/// The directory of the database, gone when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn new(dir: Option<&Path>) -> Result<Self, Failure> {
        let path = dir
            .map_or_else(|| std::env::temp_dir().join(format!("maplsm-bench-{}", std::process::id())), Path::to_owned);
        fs::create_dir(&path).map_err(|error| Failure::file("make the directory", &path, &error))?;
        Ok(Self { path })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Different values that are cut out of one stretch of random bytes.
const VALUES: usize = 1024;

struct Bench<'a> {
    db: &'a Db,
    args: &'a BenchArgs,
    chance: Chance,
    value: Vec<u8>,
}

impl Bench<'_> {
    fn measure(&mut self, workload: Workload) -> Result<Measured, Failure> {
        let db = self.db;
        let num = self.args.num.get();
        let ops = self.args.ops.map_or(num, Into::into);
        match workload {
            Workload::FillSeq => self.each(num, Self::put),
            Workload::FillRandom | Workload::Overwrite => self.each(num, |bench, _| {
                let number = bench.chance.below(num);
                bench.put(number)
            }),
            Workload::ReadRandom => self.each(ops, |bench, _| {
                let key = key(bench.chance.below(num));
                Ok(db.get(key)?.is_some())
            }),
            Workload::ReadMissing => self.each(ops, |bench, _| {
                let key = key(bench.chance.below(num));
                Ok(db.get(key + ".")?.is_some())
            }),
            Workload::ReadSeq => {
                let mut entries = db.iter();
                self.each(ops, |_, _| Ok(entries.next().transpose()?.is_some()))
            }
            Workload::ReadReverse => {
                let mut entries = db.iter().rev();
                self.each(ops, |_, _| Ok(entries.next().transpose()?.is_some()))
            }
            Workload::SeekRandom => self.each(ops, |bench, _| {
                let key = key(bench.chance.below(num));
                Ok(db.range(key..).next().transpose()?.is_some())
            }),
            Workload::DeleteSeq => self.each(ops, |_, at| Ok(db.remove(key(at)).map(|()| true)?)),
            Workload::DeleteRandom => self.each(ops, |bench, _| {
                let key = key(bench.chance.below(num));
                Ok(db.remove(key).map(|()| true)?)
            }),
            Workload::Compact => self.each(1, |_, _| Ok(interrupt::during(|| db.compact())?.map(|()| true)?)),
        }
    }

    fn put(&mut self, number: u64) -> Result<bool, Failure> {
        let Size(bytes) = self.args.value_size;
        let start = usize::try_from(self.chance.below(VALUES as u64)).unwrap_or_default();
        self.db.insert(key(number), &self.value[start..start + bytes])?;
        Ok(true)
    }

    /// Times `ops` calls one by one. Each says whether it has found what it was about.
    fn each(
        &mut self,
        ops: u64,
        mut call: impl FnMut(&mut Self, u64) -> Result<bool, Failure>,
    ) -> Result<Measured, Failure> {
        // Three digits are kept, whatever the value.
        let mut latencies = Histogram::new(3).map_err(Failure::new)?;
        let mut found = 0;
        let begin = Instant::now();
        let mut last = begin;
        for at in 0..ops {
            interrupt::check()?;
            found += u64::from(call(self, at)?);
            let now = Instant::now();
            latencies.saturating_record(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
            last = now;
        }
        Ok(Measured { latencies, found, took: begin.elapsed() })
    }
}

struct Measured {
    latencies: Histogram<u64>,
    found: u64,
    took: Duration,
}

impl Measured {
    fn line(&self, workload: Workload, json: bool) -> String {
        let name = format!("{workload:?}").to_lowercase();
        let (ops, found, seconds) = (self.latencies.len(), self.found, self.took.as_secs_f64());
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        let max = self.latencies.max();
        if json {
            return json!({
                "workload": name,
                "operations": ops,
                "found": found,
                "seconds": seconds,
                "ns": { "mean": self.latencies.mean(), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p99.9": at(0.999), "max": max },
            })
            .to_string();
        }
        let us = |ns: u64| format!("{}.{:02}", ns / 1000, ns % 1000 / 10);
        let [p50, p99, p999, max] = [at(0.5), at(0.99), at(0.999), max].map(us);
        let mean = self.latencies.mean() / 1000.0;
        format!(
            "{name:<12}  {ops} ops, {found} found, {mean:.3} us/op; p50 {p50}, p99 {p99}, p99.9 {p999}, max {max} us"
        )
    }
}

fn key(number: u64) -> String {
    format!("{number:016}")
}

/// `SplitMix64`: the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
