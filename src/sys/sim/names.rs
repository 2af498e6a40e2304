//! The names in one simulated directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chance::Chance;

/// Files go by number, so that a copy of the disk is a copy of two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

pub(super) type Names = BTreeMap<Arc<str>, FileId>;

#[derive(Clone)]
pub(super) enum Change {
    Link(Arc<str>, FileId),
    Rename { from: Arc<str>, to: Arc<str>, file: FileId },
    Unlink(Arc<str>),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(name, file) => {
                names.insert(Arc::clone(name), *file);
            }
            Self::Rename { from, to, file } => {
                // After a power cut the file may still be under a name from before an earlier rename that was lost.
                names.retain(|name, other| name != from && other != file);
                names.insert(Arc::clone(to), *file);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

/// Whether a change of a directory waits for its sync.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    AfterSync,
    AtOnce,
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    pub(super) live: Names,
    durable: Names,
    /// What leads from `durable` to `live`.
    pending: Vec<(Change, Lasting)>,
}

impl Folder {
    /// One whose names have been there for long.
    pub(super) fn durable(names: Names) -> Self {
        Self { live: names.clone(), durable: names, pending: Vec::new() }
    }

    pub(super) fn change(&mut self, change: Change, lasting: Lasting) {
        change.apply(&mut self.live);
        if lasting == Lasting::AtOnce && self.pending.is_empty() {
            change.apply(&mut self.durable);
        } else {
            self.pending.push((change, lasting));
        }
    }

    pub(super) fn sync(&mut self) {
        if !self.pending.is_empty() {
            self.durable = self.live.clone();
            self.pending.clear();
        }
    }

    pub(super) fn after_power_cut(&self, chance: &mut Chance) -> Names {
        let mut names = self.durable.clone();
        chance.next_subject();
        for (change, lasting) in &self.pending {
            if *lasting == Lasting::AtOnce || chance.pick(2) == 1 {
                change.apply(&mut names);
            }
        }
        names
    }

    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        let pending = self.pending.iter().filter_map(|(change, _)| match change {
            Change::Link(_, file) | Change::Rename { file, .. } => Some(*file),
            Change::Unlink(_) => None,
        });
        self.live.values().chain(self.durable.values()).copied().chain(pending)
    }
}
