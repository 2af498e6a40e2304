//! The table of faults in `tests/README.md`: every row is there, and every test and file that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::visit;

const ROWS: usize = 42;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The tests of all sources, by their paths, without the `tests` that the modules of `src` have them in.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for top in ["src", "tests"].map(|name| root().join(name)) {
        visit(&top, &mut |path| {
            let inside = path.strip_prefix(&top).unwrap().with_extension("");
            let module: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
            let module = module.into_iter().filter(|part| *part != "mod");
            let text = fs::read_to_string(path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                match line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) {
                    Some(name) if std::mem::take(&mut marked) => {
                        found.insert(plain(&module.clone().chain([name]).collect::<Vec<_>>().join("::")));
                    }
                    _ => marked |= line == "#[test]",
                }
            }
        });
    }
    found
}

fn plain(path: &str) -> String {
    path.split("::").filter(|part| *part != "tests").collect::<Vec<_>>().join("::")
}

/// Whether a file is there outside of the repository as well: packages leave out what only those who work on it need.
fn is_packaged(name: &str) -> bool {
    let in_repository = root().join(".ci").exists();
    in_repository || ![".ci/", "fuzz/", "tests/mutants/"].iter().any(|left_out| name.starts_with(left_out))
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_of_the_fault_table_exists() {
    let text = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let tests = tests();
    for name in quoted(&text) {
        if name.contains("::") {
            assert!(tests.contains(&plain(name)), "there is no test {name}");
        } else if is_packaged(name) && name.contains('/') {
            assert!(root().join(name).exists(), "there is no {name}");
        }
    }
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        Some((cells.first()?.parse::<usize>().ok()?, cells))
    });
    let mut numbers = Vec::new();
    for (number, cells) in rows {
        assert_eq!(cells.len(), 4, "row {number}");
        let named = quoted(cells[3]).any(|name| name.contains("::"));
        assert!(named || cells[3].starts_with("none: "), "row {number} has no test and does not say why");
        numbers.push(number);
    }
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
}
