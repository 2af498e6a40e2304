//! Which file needs which: no file needs one that needs it in turn.
//!
//! A file needs those that define what it names by a path, whoever passes that on: a `pub use` alone needs nothing and hides
//! nothing. Parents and children count like all others; a method of a parent's type may well stand in the child.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Source, sources};

/// A path from the root of the crate, or the module that a file is.
type ModulePath = Vec<String>;

/// The modules that each module needs, with a name that it needs them for.
type Needs = BTreeMap<ModulePath, BTreeMap<ModulePath, String>>;

/// A name that a module has from elsewhere.
struct Import {
    name: String,
    from: ModulePath,
    is_passed_on: bool,
}

struct Module {
    file: String,
    /// The code without its imports.
    body: String,
    imports: Vec<Import>,
}

struct Crate(BTreeMap<ModulePath, Module>);

fn module_of(path: &Path) -> ModulePath {
    let parts = path.with_extension("");
    let parts = parts.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of an import, each with the name that it gets.
fn leaves(tree: &str) -> Vec<(String, String)> {
    let tree = tree.trim();
    let Some((front, list)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, tree.rsplit("::").next().unwrap()));
        return vec![(path.trim().to_owned(), name.trim().to_owned())];
    };
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in list.trim_end().strip_suffix('}').expect("a list ends").chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| leaves(part));
    let whole = front.trim_end_matches("::");
    let join = |(path, name): (String, String)| match path.as_str() {
        "self" if name == "self" => (whole.to_owned(), whole.rsplit("::").next().unwrap().to_owned()),
        "self" => (whole.to_owned(), name),
        _ => (format!("{front}{path}"), name),
    };
    parts.map(join).collect()
}

/// The lines of a file, each with the number of modules that it has around it inside of the file.
fn nested(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut open: Vec<usize> = Vec::new();
    code.lines().map(move |line| {
        let (indent, text) = (line.len() - line.trim_start().len(), line.trim());
        if text == "}" && open.last() == Some(&indent) {
            open.pop();
        }
        let depth = open.len();
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [.., "mod", _, "{"] = words.as_slice() {
            open.push(indent);
        }
        (depth, line)
    })
}

impl Crate {
    fn read() -> Self {
        let sources = sources();
        let empty = |source: &Source| {
            let file = source.path.to_str().unwrap().to_owned();
            (module_of(&source.path), Module { file, body: String::new(), imports: Vec::new() })
        };
        let mut all = Self(sources.iter().map(empty).collect());
        for source in &sources {
            let module = module_of(&source.path);
            let (imports, body) = all.split(&module, &source.code);
            let found = all.0.get_mut(&module).unwrap();
            (found.imports, found.body) = (imports, body);
        }
        all
    }

    /// The imports of a module, and the rest of its code.
    fn split(&self, module: &ModulePath, code: &str) -> (Vec<Import>, String) {
        let (mut imports, mut body) = (Vec::new(), String::new());
        let mut import: Option<(usize, String)> = None;
        for (depth, line) in nested(code) {
            let words = line.trim_start();
            let declares =
                words.strip_prefix("pub").map_or(words, |rest| rest.split_once(' ').map_or("", |(_, rest)| rest));
            if import.is_none() && declares.starts_with("use ") {
                import = Some((depth, String::new()));
            }
            if declares.starts_with("mod ") && declares.ends_with(';') {
                continue;
            }
            let Some((depth, text)) = &mut import else {
                // `super` of a module in the file is in the file.
                body.push_str(&line.replacen("super::", "", depth));
                body.push('\n');
                continue;
            };
            text.push_str(line);
            let Some((head, _)) = text.split_once(';') else { continue };
            let (visibility, tree) = head.split_once("use ").unwrap();
            let tree = tree.replacen("super::", "", *depth);
            for (path, name) in leaves(&tree) {
                let path: Vec<&str> = path.split("::").collect();
                if let Some(from) = self.absolute(module, &path) {
                    imports.push(Import { name, from, is_passed_on: visibility.trim_start().starts_with("pub") });
                }
            }
            import = None;
        }
        (imports, body)
    }

    /// A path from the root of the crate, if it is one of this crate.
    fn absolute(&self, module: &ModulePath, path: &[&str]) -> Option<ModulePath> {
        let above = path.iter().take_while(|part| **part == "super").count();
        let (base, rest) = match path[0] {
            "crate" => (&[][..], &path[1..]),
            "self" => (module.as_slice(), &path[1..]),
            "super" => (&module[..module.len().checked_sub(above)?], &path[above..]),
            first if self.0.contains_key(&child(module, first)) => (module.as_slice(), path),
            _ => return None,
        };
        Some(base.iter().cloned().chain(rest.iter().map(|part| (*part).to_owned())).collect())
    }

    /// The module that defines what a path leads to.
    fn owner(&self, path: &[String], steps: usize) -> ModulePath {
        assert!(steps < 20, "{path:?} leads nowhere");
        let length =
            (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length])).expect("the root is there");
        let (module, rest) = path.split_at(length);
        let import = rest.first().and_then(|name| self.0[module].imports.iter().find(|import| import.name == *name));
        match import {
            Some(import) => self.owner(&[&import.from[..], &rest[1..]].concat(), steps + 1),
            None => module.to_vec(),
        }
    }

    /// The modules that a module needs, each with a name that it needs it for.
    fn needs(&self, module: &ModulePath) -> BTreeMap<ModulePath, String> {
        let Module { body, imports, .. } = &self.0[module];
        let mut needed = BTreeMap::new();
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        for (at, _) in body.match_indices("::") {
            let start = body[..at].rfind(|c| !is_word(c) && c != ':').map_or(0, |before| before + 1);
            let end = body[at..].find(|c| !is_word(c) && c != ':').map_or(body.len(), |length| at + length);
            paths.insert(body[start..end].trim_matches(':'));
        }
        let words: BTreeSet<&str> =
            body.split(|c| !is_word(c) && c != ':').map(|word| word.split("::").next().unwrap()).collect();
        let mut need = |path: &[String], name: &str| {
            let owner = self.owner(path, 0);
            if owner != *module {
                needed.entry(owner).or_insert_with(|| name.to_owned());
            }
        };
        for import in imports.iter().filter(|import| !import.is_passed_on || words.contains(import.name.as_str())) {
            need(&import.from, &import.name);
        }
        for text in paths {
            let path: Vec<&str> = text.split("::").collect();
            let imported = imports.iter().find(|import| import.name == path[0]);
            let path = match imported {
                Some(import) => {
                    let rest = path[1..].iter().map(|part| (*part).to_owned());
                    Some(import.from.iter().cloned().chain(rest).collect::<ModulePath>())
                }
                None => self.absolute(module, &path),
            };
            if let Some(path) = path {
                need(&path, text);
            }
        }
        needed
    }
}

fn child(module: &[String], name: &str) -> ModulePath {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// What a module needs, and what that needs, and so on.
fn reach<'n>(needs: &'n Needs, from: &'n ModulePath) -> BTreeSet<&'n ModulePath> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(next) = left.pop() {
        left.extend(needs[next].keys().filter(|needed| reached.insert(*needed)));
    }
    reached
}

#[test]
fn no_file_needs_one_that_needs_it() {
    let all = Crate::read();
    let needs: Needs = all.0.keys().map(|module| (module.clone(), all.needs(module))).collect();
    assert!(needs.values().map(BTreeMap::len).sum::<usize>() > 500, "imports are found");
    let mut circles = Vec::new();
    for (module, needed) in &needs {
        for (other, name) in needed.iter().filter(|(other, _)| reach(&needs, other).contains(module)) {
            circles.push(format!("{} needs {} for {name}", all.0[module].file, all.0[other].file));
        }
    }
    assert!(circles.is_empty(), "files that need each other: {circles:#?}");
}

#[test]
fn imports_are_understood() {
    let found = leaves("crate::{a::{self, B, c::D as E}, f::G}");
    let found: Vec<String> = found.iter().map(|(path, name)| format!("{path} {name}")).collect();
    assert_eq!(found, ["crate::a a", "crate::a::B B", "crate::a::c::D E", "crate::f::G G"]);
    let depths: Vec<usize> = nested("use a;\nmod b {\n    use c;\n}\nuse d;").map(|(depth, _)| depth).collect();
    assert_eq!(depths, [0, 0, 1, 0, 0]);
}
