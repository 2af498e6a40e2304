//! What the targets run: shared with the tests of the library, which replay what was found.

#[path = "../../tests/support/damage.rs"]
mod damage;
#[path = "../../tests/support/keys.rs"]
mod keys;
#[path = "../../tests/support/model/mod.rs"]
mod model;
#[path = "../../tests/support/reseal.rs"]
mod reseal;
mod seeds;

use damage::Shape;
use reseal::Kind;

/// All targets.
pub const TARGETS: [&str; 10] = [
    "inspect",
    "wal_replay",
    "sst_open",
    "idx_open",
    "val_open",
    "manifest_replay",
    "directory",
    "repair",
    "keys",
    "ops",
];

/// Runs a target of this name on an input.
pub fn run(target: &str, data: &[u8]) {
    damage::run(target, data);
}

/// Names and contents of a target's first inputs.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    seeds::seeds(target)
}

fn kind_of(target: &str) -> Option<Kind> {
    match target {
        "wal_replay" => Some(Kind::Segment),
        "sst_open" => Some(Kind::Table),
        "idx_open" => Some(Kind::Index),
        "val_open" => Some(Kind::Values),
        "manifest_replay" => Some(Kind::Manifest),
        _ => None,
    }
}

/// The files that a target damages: the bits of the mode that choose the database, the byte that chooses the file, and its
/// used length.
pub fn files(target: &str) -> Vec<(u8, u8, usize)> {
    let mut found = Vec::new();
    let Some(kind) = kind_of(target) else { return found };
    for (shape, image) in (0..).zip(Shape::ALL.map(damage::Image::new)) {
        let files = image.files.iter().filter(|(name, _)| Kind::of(name) == Some(kind));
        for (number, (_, bytes)) in (0..).zip(files) {
            found.push((shape, number, bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)));
        }
    }
    found
}
