//! Where the shell remembers its lines. It works as well without.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use rustyline::history::FileHistory;
use rustyline::{Editor, Helper};

/// The history file, in the place for state that programs keep for a user.
pub(crate) fn path() -> Option<PathBuf> {
    let directory = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME")
        .or_else(|| directory("HOME").map(|home| home.join(".local/state")))
        .or_else(|| directory("LOCALAPPDATA"))?;
    Some(state.join("maplsm").join("history"))
}

pub(crate) fn save(editor: &mut Editor<impl Helper, FileHistory>, path: &Path) {
    if let Some(directory) = path.parent() {
        let _ = fs::create_dir_all(directory);
    }
    let _ = editor.append_history(path);
}
