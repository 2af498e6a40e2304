//! The store against a model: one driver for the tests and for the fuzz targets, which include this folder by its path.
//!
//! A [`Source`] decides on a sequence of operations. A [`Driver`] applies them to a database and to a [`History`], which is
//! nothing but a map and the commits that led to it, and compares what both answer. Everything follows from the source, so a
//! failure is replayed by its seed or its bytes.
#![allow(dead_code, reason = "each of those who include it uses a part")]

mod checks;
mod draw;
mod driver;
mod history;
mod operation;
mod place;
mod reopen;
mod setup;
mod source;
mod submitted;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;

use maplsm::SimFs;

#[allow(unused_imports, reason = "as above")]
pub(crate) use self::{
    driver::Driver,
    history::{History, State, difference, state_difference},
    operation::{Change, Commit, How, Op, Space},
    place::{Place, read_all, read_state, second},
    setup::{Format, Setup},
    source::Source,
};

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Operations that a failure prints.
const TRACE: usize = 16;

/// Runs `steps` operations of a seed against a simulated disk. The seed decides about everything, also about the format.
pub(crate) fn run_seed(seed: u64, steps: u64, replay: &str) {
    let replay = format!("MAPLSM_SEED={seed} {replay}");
    let format = Format::of(seed);
    run(Source::Random(seed ^ 0x6d61_706c), Place::Memory(SimFs::with_seed(seed)), format, 0, steps, replay);
}

/// Runs the operations that a fuzzer's bytes stand for.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let mut source = Source::Bytes(bytes);
    let format = Format::of(source.below(256) as u64);
    run(source, Place::Memory(SimFs::new()), format, 0, 1000, "the fuzzer's input".to_owned());
}

/// Runs operations on a real disk, with background threads.
pub(crate) fn run_disk(seed: u64, path: &Path, threads: usize, steps: u64, replay: &str) {
    let replay = format!("MAPLSM_SEED={seed} {replay}");
    let format = Format::of(seed);
    run(Source::Random(seed), Place::Disk(path.to_owned()), format, threads, steps, replay);
}

fn run(mut source: Source<'_>, place: Place, format: Format, threads: usize, steps: u64, replay: String) {
    let mut setup = Setup::draw(&mut source, format, threads);
    setup.alignment = source.pick(&[1, 1, 8, 16]);
    let mut driver = Driver::new(place, setup, replay);
    driver.quick = matches!(source, Source::Bytes(_));
    while driver.step < steps && !source.is_over() {
        driver.step += 1;
        let op = driver.draw(&mut source);
        if driver.trace.len() == TRACE {
            driver.trace.pop_front();
        }
        driver.trace.push_back(op.clone());
        driver.apply(op);
    }
    driver.finish();
}
