//! What the line editor offers: names of commands and keyspaces, and what a command takes.

use std::borrow::Cow;

use maplsm::Db;
use rustyline::Context;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::Validator;

use crate::escape::Shown;
use crate::open;
use crate::shell::catalog::{self, COMMANDS};

pub(crate) struct Helper {
    db: Db,
}

impl Helper {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }
}

impl rustyline::Helper for Helper {}

impl Validator for Helper {}

impl Completer for Helper {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(candidates(&line[..pos], || {
            let names = [open::DEFAULT.to_owned()].into_iter().chain(self.db.keyspaces());
            names.map(|name| Shown(name.as_bytes()).to_string()).collect()
        }))
    }
}

/// What the last word of `text` may become, and where it begins.
fn candidates(text: &str, keyspaces: impl FnOnce() -> Vec<String>) -> (usize, Vec<String>) {
    let start = text.rfind([' ', '\t']).map_or(0, |blank| blank + 1);
    let (before, word) = text.split_at(start);
    let commands = || COMMANDS.iter().map(|usage| usage.name.to_owned()).collect();
    let words: Vec<String> = match before.trim().to_ascii_uppercase().as_str() {
        "" | "HELP" => commands(),
        "USE" | "DROP" => keyspaces(),
        "KEYS" => vec!["MEMTABLE".to_owned()],
        _ => Vec::new(),
    };
    let is_lower = word.chars().any(char::is_lowercase);
    let fits = |candidate: &String| {
        candidate.len() >= word.len()
            && candidate.is_char_boundary(word.len())
            && candidate[..word.len()].eq_ignore_ascii_case(word)
    };
    let is_name = matches!(before.trim().to_ascii_uppercase().as_str(), "USE" | "DROP");
    let complete = |candidate: String| match (is_name, is_lower) {
        (true, _) => candidate,
        (false, true) => candidate.to_lowercase() + " ",
        (false, false) => candidate + " ",
    };
    let words =
        words.into_iter().filter(|candidate| if is_name { candidate.starts_with(word) } else { fits(candidate) });
    (start, words.map(complete).collect())
}

/// What a command takes, behind its name. It is shown, and not taken over.
pub(crate) struct Arguments(String);

impl Hint for Arguments {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Helper {
    type Hint = Arguments;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Arguments> {
        if pos == line.len() { hint(line).map(|text| Arguments(text.to_owned())) } else { None }
    }
}

fn hint(line: &str) -> Option<&'static str> {
    let name = line.trim_start().strip_suffix(' ')?;
    catalog::find(name.as_bytes()).map(|usage| usage.arguments).filter(|arguments| !arguments.is_empty())
}

impl Highlighter for Helper {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> (usize, Vec<String>) {
        candidates(text, || vec!["default".to_owned(), "users".to_owned(), "Urns".to_owned()])
    }

    #[test]
    fn commands_and_keyspaces_are_completed() {
        assert_eq!(complete("GE"), (0, vec!["GET ".to_owned()]));
        assert_eq!(complete("keysp"), (0, vec!["keyspaces ".to_owned()]));
        assert_eq!(complete("HELP de"), (5, vec!["del ".to_owned(), "delrange ".to_owned()]));
        assert_eq!(complete("use us"), (4, vec!["users".to_owned()]));
        assert_eq!(complete("DROP U"), (5, vec!["Urns".to_owned()]));
        assert_eq!(complete("USE ").1.len(), 3);
        assert_eq!(complete("KEYS m"), (5, vec!["memtable ".to_owned()]));
        assert_eq!(complete("GET k"), (4, Vec::new()));
        assert_eq!(complete("ü"), (0, Vec::new()));
    }

    #[test]
    fn a_command_says_what_it_takes() {
        assert_eq!(hint("set "), Some("<key> <value>"));
        assert_eq!(hint("SET k "), None);
        assert_eq!(hint("SET"), None);
        assert_eq!(hint("FLUSH "), None);
        assert_eq!(hint("frob "), None);
    }
}
