//! One name, one type.

use std::collections::{BTreeMap, BTreeSet};

use super::sources;

/// Names that two types have all the same, and why.
const TWICE: [(&str, &str); 6] = [
    (
        "Condvar",
        "with the order of locks, and in the place of `parking_lot`'s for the models, under the same interface",
    ),
    ("Entry", "the word of the format, and what callers get: from a database, or from the reader of a single table"),
    ("Fault", "what is wrong with bytes, and what callers make go wrong on a simulated disk"),
    ("Mutex", "as `Condvar`"),
    ("MutexGuard", "as `Condvar`"),
    ("ZeroedArray", "one for the models, in place of the other"),
];

/// The type that a line declares, if more than the modules around it see it.
fn declared(line: &str) -> Option<&str> {
    let rest = ["pub ", "pub(crate) "].into_iter().find_map(|start| line.strip_prefix(start))?;
    let (kind, rest) = rest.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
    is_type.then(|| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())?
}

#[test]
fn types_that_are_seen_from_afar_share_no_name() {
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        for name in source.code.lines().filter_map(|line| declared(line.trim_start())) {
            types.entry(name.to_owned()).or_default().insert(source.path.display().to_string());
        }
    }
    assert!(types.len() > 100, "types are found");
    for (name, files) in &types {
        let why = TWICE.iter().find(|(twice, _)| twice == name);
        assert_eq!(files.len() > 1, why.is_some(), "{name} is in {files:?}");
    }
}
