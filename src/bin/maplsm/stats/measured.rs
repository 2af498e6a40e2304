//! What a store has measured: what it takes, what that has cost, and how long its operations have taken.

use std::io::{self, Write};
use std::time::Duration;

use maplsm::{Histogram, Latencies, Stats};

use super::{Size, row};

/// The shares of operations that are told, and how people call them.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

/// What has been measured, by name.
fn histograms(latencies: &Latencies) -> [(&'static str, &Histogram); 6] {
    let Latencies { get, put, seek, sync, flush, compaction, .. } = latencies;
    [("get", get), ("put", put), ("seek", seek), ("sync", sync), ("flush", flush), ("compaction", compaction)]
}

/// Lines of names and numbers: space first, then what has happened since the open, as far as anything has.
pub(super) fn write_text(out: &mut (impl Write + ?Sized), stats: &Stats) -> io::Result<()> {
    let files = &stats.file_bytes;
    let kinds = [
        ("log", files.log),
        ("tables", files.tables),
        ("indexes", files.indexes),
        ("values", files.values),
        ("manifest", files.manifest),
        ("other", files.other),
    ];
    let kinds = kinds.iter().filter(|(_, bytes)| *bytes > 0).map(|(kind, bytes)| format!("{kind} {}", Size(*bytes)));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    row(out, "on disk", format_args!("{}: {kinds}", Size(files.total())))?;
    row(
        out,
        "live entries take",
        format_args!("{}, by estimate{}", Size(stats.live_bytes), times(stats.space_amplification())),
    )?;
    if stats.obsolete_bytes > 0 {
        let pinned = Size(stats.pinned_bytes);
        row(out, "obsolete files", format_args!("{}, kept by readers {pinned}", Size(stats.obsolete_bytes)))?;
    }
    let written = &stats.written;
    if written.by_users > 0 {
        let by = [written.log, written.loads, written.flushes, written.compactions].map(Size);
        let [log, loads, flushes, compactions] = by;
        let of =
            format_args!("{log} into the log, {loads} by loads, {flushes} by flushes, {compactions} by compactions");
        let asked = Size(written.by_users);
        row(out, "written", format_args!("{of}, for {asked}{}", times(stats.write_amplification())))?;
    }
    for stall in stats.stalls.iter().filter(|stall| stall.count > 0) {
        let (together, longest) = (Time(stall.time), Time(stall.longest));
        row(out, "write stalls", format_args!("{}, {together}, longest {longest}: {:?}", stall.count, stall.reason))?;
    }
    if let Some(tables) = stats.lookups.tables_per_lookup() {
        let ruled_out = stats.lookups.ruled_out_share().unwrap_or(1.0) * 100.0;
        row(out, "tables per get", format_args!("{tables:.2}, of those without the key ruled out {ruled_out:.1} %"))?;
    }
    let measured = histograms(&stats.latencies).into_iter().filter(|(_, histogram)| histogram.samples() > 0);
    for (at, (name, histogram)) in measured.enumerate() {
        if at == 0 {
            let [a, b, c, d] = QUANTILES.map(|(_, name)| name);
            writeln!(
                out,
                "\n{:<12}{:>12}  {a:>10}  {b:>10}  {c:>10}  {d:>10}  {:>10}",
                "operation", "about", "longest"
            )?;
        }
        write!(out, "{name:<12}{:>12}", histogram.operations())?;
        for time in QUANTILES.map(|(share, _)| histogram.quantile(share)).into_iter().chain([histogram.longest()]) {
            write!(out, "  {:>10}", time.map_or(String::new(), |time| Time(time).to_string()))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn times(amplification: Option<f64>) -> String {
    amplification.map_or(String::new(), |times| format!(": {times:.2} times"))
}

/// A time with a unit that keeps it short.
struct Time(Duration);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs_f64();
        let units = [(1.0, "s"), (1e3, "ms"), (1e6, "us")];
        match units.into_iter().find(|(in_one, _)| seconds * in_one >= 1.0) {
            Some((in_one, unit)) => write!(f, "{:.1} {unit}", seconds * in_one),
            None => write!(f, "{} ns", self.0.as_nanos()),
        }
    }
}
