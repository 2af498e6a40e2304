//! What the targets run: shared with the tests of the library, which replay what was found.

#[path = "../../tests/support/damage.rs"]
mod damage;
#[path = "../../tests/support/reseal.rs"]
mod reseal;
mod seeds;

/// All targets.
pub const TARGETS: [&str; 5] = ["wal_replay", "sst_open", "idx_open", "manifest_replay", "directory"];

/// Runs a target of this name on an input.
pub fn run(target: &str, data: &[u8]) {
    damage::run(target, data);
}

/// Names and contents of a target's first inputs.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    seeds::seeds(target)
}
