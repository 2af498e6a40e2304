//! What the compiler does not check about the code: which room imports which, where the outside world begins, and how long
//! files are.

mod circles;
mod faults;
mod locks;
mod names;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, from the top floor to the ground: each imports only from those below it, and files of one floor that make up
/// one room from each other.
const FLOORS: [&[&str]; 12] = [
    &["lib"],
    &[
        "commit",
        "db",
        "digest",
        "guide",
        "handle",
        "inspect",
        "iter",
        "keyspace",
        "offline",
        "snapshot",
        "stats",
        "transaction",
        "typed",
        "unwind",
        "update",
    ],
    &["engine"],
    &["version"],
    &["merge"],
    &["memtable", "table"],
    &["log"],
    &["batch", "codec", "event", "key", "keyspace_state", "meter", "operator", "options", "slice"],
    &["sys"],
    &["visibility", "format"],
    &["error"],
    &["serial"],
];

const LINES_MAX: usize = 500;

/// A source file: its room, its path, and its code without comments and without the tests at its end.
struct Source {
    room: String,
    path: PathBuf,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    visit(&root, &mut |path| {
        let inside = path.strip_prefix(&root).unwrap();
        if inside.starts_with("bin") || inside.file_name().is_some_and(|name| name == "tests.rs") {
            return;
        }
        let first = inside.components().next().unwrap();
        let room = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let code = without_tests(&text);
        let code: Vec<&str> = code.lines().map(|line| line.find("//").map_or(line, |at| &line[..at])).collect();
        found.push(Source { room, path: inside.to_owned(), code: code.join("\n") });
    });
    assert!(found.len() > 40, "the sources are found");
    found
}

/// What stands in front of the module of tests.
fn without_tests(text: &str) -> &str {
    let mark = "\n#[cfg(test)]\n";
    let is_module = |at: &usize| {
        let next = text[at + mark.len()..].lines().next().unwrap_or_default();
        next.starts_with("mod ") || next.starts_with("pub") && next.contains(" mod ")
    };
    let tests = text.match_indices(mark).map(|(at, _)| at).find(is_module);
    &text[..tests.unwrap_or(text.len())]
}

fn visit(dir: &Path, with: &mut impl FnMut(&Path)) {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            visit(&path, with);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            with(&path);
        }
    }
}

/// The names behind each `crate::` of the code.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, path) in code.match_indices("crate::") {
        // `pub(crate)` has no colons behind it; `$crate::` and other crates' names are no paths of this kind.
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            None => {
                names.insert(word(rest));
            }
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            names.insert(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let own = floor(&source.room).unwrap_or_else(|| panic!("{} is in no room", source.path.display()));
        for name in imports(&source.code) {
            // What the root exports comes from the top.
            let of = floor(&name).unwrap_or(0);
            if of < own {
                wrong.push(format!("{} imports {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up: {wrong:#?}");
}

#[test]
fn the_outside_world_is_behind_the_seam() {
    for source in sources().iter().filter(|source| source.room != "sys") {
        for outside in
            ["std::fs", "std::net", "std::process", "Instant", "SystemTime", "rustix", "memmap2", "getrandom", "libc"]
        {
            assert!(!source.code.contains(outside), "{} uses {outside}", source.path.display());
        }
    }
}

#[test]
fn nothing_depends_on_the_time_of_day() {
    for source in sources() {
        assert!(!source.code.contains("SystemTime"), "{}", source.path.display());
    }
}

#[test]
fn unsafe_code_is_in_four_files() {
    let allowed = ["region.rs", "guard.rs", "lend.rs", "share.rs"].map(|name| Path::new("sys").join(name));
    for source in sources().iter().filter(|source| !allowed.contains(&source.path)) {
        let words = source.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(words.clone().all(|word| word != "unsafe"), "{}", source.path.display());
        assert!(words.clone().all(|word| word != "unsafe_code"), "{} allows it", source.path.display());
    }
}

#[test]
fn files_can_be_held_in_mind() {
    for source in sources() {
        let lines = source.code.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", source.path.display());
    }
}

/// Who copies an example has no dependency but this crate.
#[test]
fn examples_derive_by_what_this_crate_exports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut derives = 0;
    for folder in ["src", "examples"] {
        visit(&root.join(folder), &mut |path| {
            let text = fs::read_to_string(path).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (line, next) in lines.iter().zip(&lines[1..]) {
                let is_shown = folder == "examples" || line.starts_with("//");
                if is_shown && line.contains("derive(") && line.contains("FromBytes") {
                    derives += 1;
                    assert!(next.contains(r#"#[zerocopy(crate = "maplsm::zerocopy")]"#), "{}: {line}", path.display());
                }
            }
        });
    }
    assert!(derives > 2, "they are found");
}

/// Files and rooms that ARCHITECTURE.md speaks of are there, and all rooms are in it.
#[test]
fn the_map_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut quoted: Vec<&str> = map.split('`').skip(1).step_by(2).collect();
    let is_source = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "rs");
    for name in quoted.iter().filter(|name| is_source(name)) {
        assert!(root.join("src").join(name).is_file(), "{name} is not there");
    }
    for name in quoted.iter().filter(|name| name.contains('/') && !name.contains('.')) {
        assert!(root.join("src").join(name).is_dir() || root.join(name).is_dir(), "{name} is not there");
    }
    quoted.retain(|name| floor(name).is_some());
    for room in FLOORS.iter().copied().flatten().filter(|room| **room != "lib") {
        assert!(quoted.contains(room), "{room} is not on the map");
    }
}
