//! The order of the locks: ARCHITECTURE.md has the one that is checked.

use std::fs;
use std::path::Path;

use super::sources;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The ranks, first to last.
fn ranks() -> Vec<String> {
    let code = read("src/sys/ranked.rs");
    let (_, ranks) = code.split_once("pub(crate) enum LockRank {").unwrap();
    let (ranks, _) = ranks.split_once("\n}").unwrap();
    let names = ranks.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    names.map(|line| line.strip_suffix(',').unwrap().to_owned()).collect()
}

#[test]
fn the_map_has_the_locks_in_their_order() {
    let map = read("ARCHITECTURE.md");
    let (_, chapter) = map.split_once("\n## Locks\n").unwrap();
    let (chapter, _) = chapter.split_once("\n## ").unwrap();
    let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: Vec<&str> = rows.collect();
    println!("{}", ranks().join(" < "));
    assert_eq!(rows, ranks());
}

#[test]
fn every_lock_has_a_rank_of_its_own() {
    let is_model = |path: &Path| path.iter().any(|part| part == "models.rs" || part == "models");
    let sources: Vec<_> = sources().into_iter().filter(|source| !is_model(&source.path)).collect();
    for rank in ranks() {
        let uses = |code: &str| code.matches(&format!("Mutex::new(LockRank::{rank},")).count();
        assert_eq!(sources.iter().map(|source| uses(&source.code)).sum::<usize>(), 1, "locks of rank {rank}");
    }
    // Those that do without: the locks of the guard against lost mappings, which are taken one at a time and in statics, and
    // what the others are made of.
    let without = ["sys/guard.rs", "sys/sync.rs"].map(Path::new);
    for source in sources.iter().filter(|source| source.room != "lib" && !without.contains(&source.path.as_path())) {
        for foreign in ["sync::Mutex", "RwLock", "parking_lot"] {
            let own = source.path == Path::new("sys/ranked.rs") && foreign == "sync::Mutex";
            assert!(own || !source.code.contains(foreign), "{} uses {foreign}", source.path.display());
        }
    }
}
