//! Runs benchmarks through criterion and prints, at the end, each next to its floor and its target.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::Criterion;

/// One benchmark.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Group and name.
    pub(crate) id: (&'static str, &'static str),
    /// What one iteration handles.
    pub(crate) work: Work,
    /// The benchmark of group `floor` that does the unavoidable part.
    pub(crate) floor: Option<&'static str>,
    /// What was aimed at, in the unit of the report.
    pub(crate) target: Option<f64>,
}

/// How much one iteration does, and with it the unit of the report.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Nanoseconds for each of so many operations.
    Operations(u32),
    /// Milliseconds for the whole.
    Whole,
    /// Megabytes a second over so many bytes.
    Bytes(u64),
}

impl Case {
    pub(crate) fn new(group: &'static str, name: &'static str) -> Self {
        Self { id: (group, name), work: Work::Operations(1), floor: None, target: None }
    }

    /// Divides an iteration by so many operations.
    pub(crate) fn operations(self, count: u32) -> Self {
        Self { work: Work::Operations(count), ..self }
    }

    /// Reports throughput.
    pub(crate) fn bytes(self, bytes: u64) -> Self {
        Self { work: Work::Bytes(bytes), ..self }
    }

    /// Reports milliseconds.
    pub(crate) fn whole(self) -> Self {
        Self { work: Work::Whole, ..self }
    }

    pub(crate) fn floor(self, name: &'static str) -> Self {
        Self { floor: Some(name), ..self }
    }

    pub(crate) fn target(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// A line of the report.
struct Line {
    case: Case,
    /// Median of the samples, in nanoseconds an iteration.
    nanoseconds: f64,
}

/// All benchmarks of a run.
pub(crate) struct Suite {
    criterion: Criterion,
    lines: Vec<Line>,
    /// Benchmarks that a filter left out.
    skipped: usize,
    notes: Vec<String>,
}

/// Samples that criterion takes last, after those of its warm-up.
const SAMPLES: usize = 10;

impl Suite {
    pub(crate) fn new(criterion: Criterion) -> Self {
        Self { criterion, lines: Vec::new(), skipped: 0, notes: Vec::new() }
    }

    /// Runs one benchmark, unless it is filtered out. `run` does so many iterations and answers how long they took.
    pub(crate) fn bench(&mut self, case: Case, mut run: impl FnMut(u64) -> Duration) {
        let mut samples = Vec::new();
        let mut made = false;
        let mut group = self.criterion.benchmark_group(case.id.0);
        group.bench_function(case.id.1, |bencher| {
            if !made {
                // Makes what is measured, outside of what criterion takes for the warm-up.
                run(1);
                made = true;
            }
            bencher.iter_custom(|iterations| {
                let took = run(iterations);
                samples.push(nanoseconds(took) / count(iterations));
                took
            });
        });
        group.finish();
        let last = samples.len().saturating_sub(SAMPLES);
        match median(samples.split_off(last)) {
            Some(nanoseconds) => self.lines.push(Line { case, nanoseconds }),
            None => self.skipped += 1,
        }
    }

    /// Whether no benchmark has been left out so far.
    pub(crate) fn is_complete(&self) -> bool {
        self.skipped == 0
    }

    /// Adds a line to the end of the report.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints every benchmark next to its floor and its target.
    pub(crate) fn report(&self) {
        let floors: BTreeMap<&str, &Line> =
            self.lines.iter().filter(|line| line.case.id.0 == "floor").map(|line| (line.case.id.1, line)).collect();
        println!(
            "\n{:<36} {:>16} {:>16} {:>8} {:>20}",
            "median of the samples", "measured", "floor", "ratio", "target"
        );
        for line in &self.lines {
            let (group, name) = line.case.id;
            let (measured, unit) = line.measured();
            let floor = line.case.floor.and_then(|floor| floors.get(floor)).map(|floor| line.scaled(floor));
            let (floor, ratio) = match floor {
                Some(floor) => (in_unit(floor, unit), format!("{:.1}", ratio(measured, floor, unit))),
                None => (String::new(), String::new()),
            };
            let target = line.case.target.map_or(String::new(), |target| {
                let met = if unit == "MB/s" { measured >= target } else { measured <= target };
                format!("{} {}", in_unit(target, unit), if met { "met" } else { "MISSED" })
            });
            println!(
                "{:<36} {:>16} {floor:>16} {ratio:>8} {target:>20}",
                format!("{group}/{name}"),
                in_unit(measured, unit)
            );
        }
        for note in &self.notes {
            println!("{note}");
        }
    }

    /// Ends the run.
    pub(crate) fn finish(self) {
        self.criterion.final_summary();
    }
}

impl Line {
    fn measured(&self) -> (f64, &'static str) {
        match self.case.work {
            Work::Operations(count) => (self.nanoseconds / f64::from(count), "ns"),
            Work::Whole => (self.nanoseconds / 1e6, "ms"),
            Work::Bytes(bytes) => (count(bytes) * 1e3 / self.nanoseconds, "MB/s"),
        }
    }

    /// What `floor` takes for the work of one iteration of this line, in this line's unit.
    fn scaled(&self, floor: &Self) -> f64 {
        match (self.case.work, floor.case.work) {
            (Work::Operations(_), Work::Operations(count)) => floor.nanoseconds / f64::from(count),
            _ => Self { case: self.case, nanoseconds: floor.nanoseconds }.measured().0,
        }
    }
}

fn ratio(measured: f64, floor: f64, unit: &str) -> f64 {
    if unit == "MB/s" { floor / measured } else { measured / floor }
}

fn in_unit(number: f64, unit: &str) -> String {
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$} {unit}")
}

#[expect(clippy::cast_precision_loss, reason = "counts and times far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}
