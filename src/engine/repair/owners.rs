//! Which database the files of a directory belong to.
//!
//! `CURRENT`, manifests and segments name their database, and a manifest names its tables and value files by their ids. If
//! more than one database is named, the files are counted: the one with the most of them is the one to repair, and what only
//! another one claims is never taken in. `CURRENT` and manifests of which no table is there count nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evidence::{Evidence, open_listed};
use super::findings::intact;
use crate::engine::recover::read_found;
use crate::error::Result;
use crate::format::FileNumber;
use crate::format::checksum::Id;
use crate::format::mend::stated_owner;
use crate::format::names::{FileKind, numbered};
use crate::format::prefix::Magic;
use crate::table::{TableCache, read_id};

/// What the files say about whose they are.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The database that is repaired, if any file tells.
    pub(super) ours: Option<Id>,
    /// Tables and value files that manifests of others name.
    pub(super) claimed: BTreeSet<Id>,
    /// The manifests that say whose they are.
    manifests: BTreeMap<FileNumber, Id>,
}

impl Owners {
    /// Weighs what `CURRENT`, if it is intact, and the files of this directory say.
    pub(super) fn weigh(
        table_cache: &Arc<TableCache>,
        names: &[String],
        current: Option<(Id, FileNumber)>,
    ) -> Result<Self> {
        let mut owners = Self::default();
        // Of each database: `CURRENT` and manifests, and other files.
        let mut counts: BTreeMap<Id, [u64; 2]> = current.iter().map(|(database, _)| (*database, [1, 0])).collect();
        for (kind, number) in numbered(names) {
            let magic = match kind {
                FileKind::Manifest => Magic::MANIFEST,
                FileKind::Segment => Magic::SEGMENT,
                _ => continue,
            };
            let file = open_listed(&table_cache.dir, kind, number)?;
            if let Some(database) = stated_owner(file.bytes(), magic, number) {
                let count = counts.entry(database).or_default();
                if kind == FileKind::Manifest {
                    count[0] += 1;
                    owners.manifests.insert(number, database);
                } else {
                    count[1] += 1;
                }
            }
        }
        if counts.len() > 1 {
            owners.count_files(table_cache, names, &mut counts)?;
        }
        let votes: BTreeMap<Id, u64> =
            counts.into_iter().map(|(database, count)| (database, count.iter().sum())).collect();
        let most = votes.values().max().copied().unwrap_or(0);
        owners.ours = votes.iter().find(|(_, count)| **count == most).map(|(database, _)| *database);
        if let Some((database, manifest)) = current
            && (votes.get(&database) == Some(&most) || is_whole(table_cache, names, database, manifest)?)
        {
            owners.ours = Some(database);
        }
        if votes.len() > 1 {
            for database in votes.keys().filter(|database| Some(**database) != owners.ours) {
                let evidence = owners.evidence(table_cache, names, *database)?;
                owners.claimed.extend(evidence.ids());
            }
        }
        Ok(owners)
    }

    /// What the manifests of one database say.
    pub(super) fn evidence(&self, table_cache: &TableCache, names: &[String], database: Id) -> Result<Evidence> {
        let mut manifests: Vec<FileNumber> = of_kind(names, FileKind::Manifest);
        manifests.retain(|number| self.manifests.get(number).is_none_or(|owner| *owner == database));
        Evidence::gather(&table_cache.dir, &manifests, &[database])
    }

    /// The youngest manifest of the database to repair, unless a younger one does not say whose it is.
    pub(super) fn youngest_manifest(&self, names: &[String]) -> Option<FileNumber> {
        let others = |number: &FileNumber| self.manifests.get(number).is_some_and(|owner| Some(*owner) != self.ours);
        let youngest = of_kind(names, FileKind::Manifest).into_iter().rfind(|number| !others(number))?;
        self.manifests.contains_key(&youngest).then_some(youngest)
    }

    /// Counts the tables and value files that are where a manifest of a database says they are.
    fn count_files(
        &self,
        table_cache: &TableCache,
        names: &[String],
        counts: &mut BTreeMap<Id, [u64; 2]>,
    ) -> Result<()> {
        let mut there = BTreeSet::new();
        for (kind, number) in numbered(names).filter(|(kind, _)| [FileKind::Table, FileKind::Values].contains(kind)) {
            there.extend(read_id(table_cache, kind, number)?.map(|id| (number, id)));
        }
        for (database, count) in counts.iter_mut() {
            let evidence = self.evidence(table_cache, names, *database)?;
            let found =
                |files: &mut dyn Iterator<Item = (FileNumber, Id)>| files.filter(|file| there.contains(file)).count();
            let (mut tables, mut values) = (evidence.live_tables().peekable(), evidence.value_files());
            let names_tables = tables.peek().is_some();
            let tables = found(&mut tables) as u64;
            if names_tables && tables == 0 {
                count[0] = 0;
            }
            count[1] += tables + found(&mut values) as u64;
        }
        Ok(())
    }
}

/// Whether a state is whole: it has tables, and all its files are there. So it is after a repair that was cut off at its end,
/// among more files of the state before.
fn is_whole(table_cache: &Arc<TableCache>, names: &[String], database: Id, manifest: FileNumber) -> Result<bool> {
    let Some(found) = intact(read_found(table_cache, database, manifest))? else { return Ok(false) };
    let tables = found.version.tables().map(|(_, table)| (FileKind::Table, table.number(), table.meta.id));
    let values = found.version.values().iter().map(|stored| stored.file.meta);
    let files: Vec<_> = tables.chain(values.map(|meta| (FileKind::Values, meta.number, meta.id))).collect();
    for (kind, number, id) in &files {
        let is_listed = names.contains(&kind.name(*number));
        if !is_listed || read_id(table_cache, *kind, *number)? != Some(*id) {
            return Ok(false);
        }
    }
    Ok(!files.is_empty())
}

/// The numbers of the files of a kind, ascending.
pub(super) fn of_kind(names: &[String], kind: FileKind) -> Vec<FileNumber> {
    let mut numbers: Vec<FileNumber> = numbered(names).filter(|(k, _)| *k == kind).map(|(_, number)| number).collect();
    numbers.sort_unstable();
    numbers
}
