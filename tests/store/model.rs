//! Random operations against the model, in every format.
//!
//! `MAPLSM_SEED` runs one seed, `MAPLSM_SEEDS` that many in place of the usual ones.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::model::{self, Format};

/// Seeds from `first` on, on two threads; or the one that the environment names.
fn seeds(first: u64, count: u64, run: impl Fn(u64) + Sync) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("MAPLSM_SEED") {
        return run(seed);
    }
    let end = first + number("MAPLSM_SEEDS").unwrap_or(count);
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    run(seed);
                }
            });
        }
    });
}

/// Consecutive seeds go through all formats.
#[test]
fn random_operations_on_a_simulated_disk() {
    seeds(0, Format::COUNT, |seed| {
        model::run_seed(seed, 250, "cargo test --test main random_operations_on_a_simulated_disk");
    });
}

#[test]
fn long_runs_on_a_simulated_disk() {
    seeds(10_000, 8, |seed| {
        model::run_seed(seed, 2500, "cargo test --test main long_runs_on_a_simulated_disk");
    });
}

#[test]
fn random_operations_on_a_real_disk_with_threads() {
    let dir = tempfile::tempdir().unwrap();
    seeds(20_000, 24, |seed| {
        let path = dir.path().join(seed.to_string());
        let threads = usize::try_from(seed % 3).unwrap();
        model::run_disk(
            seed,
            &path,
            threads,
            600,
            "cargo test --test main random_operations_on_a_real_disk_with_threads",
        );
    });
}

#[test]
fn bytes_are_a_source_as_well() {
    let bytes: Vec<u8> = (0..6000u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    model::run_bytes(&bytes);
    model::run_bytes(&[]);
}
