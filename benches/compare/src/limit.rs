//! A limit on memory, the page cache included, by a control group of Linux (version 1 or 2).

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use crate::store::Result;

/// A control group that this process is in, until this is dropped.
pub(crate) struct MemoryLimit {
    group: PathBuf,
    /// Where the process was before.
    parent: PathBuf,
}

impl MemoryLimit {
    /// Limits what this process takes from now on; what it has already stays charged where it was. Needs root.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        let (version_1, version_2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (root, limit) = if version_1.exists() {
            (version_1, "memory.limit_in_bytes")
        } else {
            let _ = fs::write(version_2.join("cgroup.subtree_control"), "+memory");
            (version_2, "memory.max")
        };
        let made = Self { group: root.join(format!("maplsm-compare-{}", process::id())), parent: root.to_owned() };
        let wrong = |what: &str, e| format!("cannot {what} the control group {}: {e}", made.group.display());
        fs::create_dir(&made.group).map_err(|e| wrong("make", e))?;
        fs::write(made.group.join(limit), bytes.to_string()).map_err(|e| wrong("limit", e))?;
        move_to(&made.group).map_err(|e| wrong("enter", e))?;
        Ok(made)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let left = move_to(&self.parent).and_then(|()| fs::remove_dir(&self.group));
        if let Err(e) = left {
            eprintln!("cannot remove the control group {}: {e}", self.group.display());
        }
    }
}

fn move_to(group: &Path) -> std::io::Result<()> {
    fs::write(group.join("cgroup.procs"), process::id().to_string())
}
