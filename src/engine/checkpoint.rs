//! Checkpoints: the store as it is at one moment, as a database of its own, made while everything goes on.
//!
//! Tables, indexes and value files never change and are only ever unlinked, so the copy has them by hard links where the
//! file system can do that. What is in the log only is written as one more table of level 0, large values as well, and not
//! copied as groups: the checksums of a log are seeded with the id of its database, and the copy has an id of its own, so
//! that neither can take the other's log or manifest for its own. So the copy also has nothing to replay. A live segment is
//! never linked: it grows.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::files::Files;
use super::health::Health;
use super::read_state::ReadState;
use super::readers::Readers;
use super::recover::take_lock;
use super::registry::Registration;
use super::scheduler::{AtWork, Scheduler};
use crate::error::{Damage, Error, Result};
use crate::format::edit::{Edit, TableMeta};
use crate::format::names::FileKind;
use crate::format::values::ValuesMeta;
use crate::format::{FileNumber, KeyspaceId, Sequence};
use crate::memtable::RunCursor;
use crate::merge::{Merge, Source, Versions};
use crate::options::Options;
use crate::sys::Dir;
use crate::table::{Table, TableCache, TableWriter, ValueFile};
use crate::version::{Handles, Manifest, State, Version};
use crate::visibility::{Cover, Fragments, Visibility};

/// Files are copied in pieces of this size.
const PIECE_BYTES: usize = 4 << 20;

/// A live store, from which copies are made.
pub(super) struct Copier<'e> {
    pub(super) options: &'e Options,
    pub(super) health: &'e Health,
    pub(super) files: &'e Files,
    pub(super) readers: &'e Readers,
    pub(super) scheduler: &'e Scheduler,
}

impl Copier<'_> {
    /// Makes a copy of what is committed now in the directory `path`, which must not be there. After an error, there is none.
    /// A poisoned store has commits that were refused and may be gone after the next open, which no copy is to preserve.
    pub(super) fn copy_to(&self, path: &Path, links: Links) -> Result<Copies> {
        let _at_work = self.begin()?;
        let create = |e| Error::io("create", path, e);
        let (parent, name) = self.files.fs.open_parent(path, self.options.access()).map_err(create)?;
        let dir = parent.create_dir(&name).map_err(create)?;
        let made = self.copy_into(&dir, links);
        if made.is_err() {
            for name in dir.list().unwrap_or_default() {
                let _ = dir.remove(&name);
            }
            let _ = parent.remove_dir(&name);
        }
        made
    }

    /// Makes whoever wants to give the directory up wait for a copy.
    pub(super) fn begin(&self) -> Result<AtWork<'_>> {
        self.health.check_open()?;
        self.health.check_intact()?;
        self.scheduler.begin_work(self.health)
    }

    /// Fills an empty directory with a copy. `CURRENT` comes last.
    pub(super) fn copy_into(&self, dir: &Arc<dyn Dir>, links: Links) -> Result<Copies> {
        let table_cache = TableCache::new(Arc::clone(dir), self.options.table, 0, None);
        let copies = Copies::default();
        let mut copying = Copying { files: self.files, readers: self.readers, table_cache, links, copies };
        copying.fill()?;
        self.health.check_intact()?;
        Ok(copying.copies)
    }
}

/// What a copy has links to; what else is needed is copied.
pub(super) enum Links {
    /// The files of the store itself.
    Source,
    /// Those of an earlier copy that are the same.
    Earlier(Earlier),
    None,
}

/// An earlier copy of the same store.
pub(super) struct Earlier {
    pub(super) dir: Arc<dyn Dir>,
    pub(super) version: Version,
}

impl Earlier {
    fn has_table(&self, meta: &TableMeta) -> bool {
        self.version.tables().any(|(_, table)| {
            let TableMeta { number, id, file_bytes, footer_checksum, sections: _ } = &table.meta;
            (number, id) == (&meta.number, &meta.id)
                && (file_bytes, footer_checksum) == (&meta.file_bytes, &meta.footer_checksum)
        })
    }

    fn has_values(&self, meta: &ValuesMeta) -> bool {
        self.version.values().iter().any(|stored| stored.file.meta == *meta)
    }

    /// Whether the file is still there, as long as it was.
    fn stands(&self, name: &str, bytes: u64) -> bool {
        self.dir.length(name).is_ok_and(|length| length == bytes)
    }
}

/// How many bytes of tables and value files a copy has written, and linked to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Copies {
    pub(super) written: u64,
    pub(super) linked: u64,
}

/// A copy in the making.
struct Copying<'e> {
    files: &'e Files,
    readers: &'e Readers,
    /// Where it is made.
    table_cache: Arc<TableCache>,
    links: Links,
    copies: Copies,
}

impl Copying<'_> {
    fn fill(&mut self) -> Result<()> {
        let _lock = take_lock(&*self.table_cache.dir, false, true)?;
        let (at, read_state) = self.moment();
        for (_, table) in read_state.version.tables() {
            self.copy_table(table)?;
        }
        for stored in read_state.version.values().iter() {
            self.copy_value_file(&stored.file)?;
        }
        let (dir, table_cache) = (&self.table_cache.dir, &self.table_cache);
        let tables = read_state.version.tables().map(|(_, table)| table.number().0);
        let highest =
            tables.chain(read_state.version.values().iter().map(|stored| stored.file.number().0)).max().unwrap_or(0);
        let [table, manifest, segment] = [1, 2, 3].map(|step| FileNumber(highest + step));
        let unflushed = self.write_unflushed(&read_state, at.at, table)?;
        let written = unflushed.iter().map(|meta| meta.file_bytes).sum::<u64>();
        let edit = Edit { add: unflushed.into_iter().map(|meta| (0, meta)).collect(), ..Edit::default() };
        let version = read_state.version.apply(&edit, &Handles::new(table_cache));
        let version = version.map_err(|damage| Error::corrupt(dir.path(), 0, damage))?;
        let state = State { next_number: segment, last_sequence: at.at, first_segment: segment, ..State::default() };
        let mut copy = Manifest::new(Arc::clone(dir), self.files.new_id()?, state, None);
        copy.append(&Edit::default(), &version, || Ok(manifest))?;
        copy.close(&Edit::default())?;
        self.copies.written += written;
        Ok(())
    }

    /// A registered sequence and a read state in whose tables nothing is newer.
    fn moment(&self) -> (Registration, Arc<ReadState>) {
        loop {
            let at = self.readers.register();
            let read_state = self.readers.read_state();
            // What has been flushed or loaded since was committed since.
            if read_state.version.sections().all(|section| section.max_sequence <= at.at) {
                return (at, read_state);
            }
        }
    }

    fn copy_table(&mut self, table: &Table) -> Result<()> {
        let [name, index] = [FileKind::Table, FileKind::Index].map(|kind| kind.name(table.number()));
        let is_shared = matches!(&self.links, Links::Earlier(earlier) if earlier.has_table(&table.meta));
        // A copy is read, so it may as well be checked.
        let copied = self.copy_needed(&name, table.meta.file_bytes, is_shared)?;
        if copied == Copied::Written {
            let copy = Arc::new(Table::new(table.meta.clone(), Arc::clone(&self.table_cache), Vec::new()));
            copy.pin()?.file().verify(&self.files.cancelled)?;
        }
        let is_linked = self.link_earlier(&index, copied == Copied::Linked && is_shared);
        match if is_linked { Ok(Copied::Linked) } else { self.copy_own(&index) } {
            Err((_, e)) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("copy", &self.table_cache.dir.path().join(&index), e))
            }
            // Without one, the first reader makes it.
            _ => Ok(()),
        }
    }

    fn copy_value_file(&mut self, file: &ValueFile) -> Result<()> {
        let name = FileKind::Values.name(file.number());
        let is_shared = matches!(&self.links, Links::Earlier(earlier) if earlier.has_values(&file.meta));
        if self.copy_needed(&name, file.meta.file_bytes, is_shared)? == Copied::Written {
            ValueFile::new(file.meta, Arc::clone(&self.table_cache)).verify(&self.files.cancelled)?;
        }
        Ok(())
    }

    /// Links or copies a file without which the copy is none. `is_shared` says that the earlier copy has the same.
    fn copy_needed(&mut self, name: &str, bytes: u64, is_shared: bool) -> Result<Copied> {
        let stands = matches!(&self.links, Links::Earlier(earlier) if earlier.stands(name, bytes));
        let copied = if self.link_earlier(name, is_shared && stands) {
            Copied::Linked
        } else {
            self.copy_own(name).map_err(|(operation, e)| match e.kind() {
                io::ErrorKind::NotFound => Error::corrupt(&self.files.path_of(name), 0, Damage::Missing),
                _ => Error::io(operation, &self.table_cache.dir.path().join(name), e),
            })?
        };
        match copied {
            Copied::Linked => self.copies.linked += bytes,
            Copied::Written => self.copies.written += bytes,
        }
        Ok(copied)
    }

    /// Links to a file of the earlier copy, if it is the same one; whether that is so now. It is not where a file system has no
    /// links, or no more of them.
    fn link_earlier(&self, name: &str, is_same: bool) -> bool {
        let Links::Earlier(earlier) = &self.links else { return false };
        is_same && earlier.dir.link(name, &*self.table_cache.dir).is_ok()
    }

    /// Links or copies a file of the store.
    fn copy_own(&self, name: &str) -> Result<Copied, (&'static str, io::Error)> {
        let (from, to) = (&*self.files.dir, &self.table_cache.dir);
        match self.links {
            Links::Source => copy_file(from, name, to, &self.files.cancelled),
            Links::Earlier(_) | Links::None => write_copy(from, name, to, &self.files.cancelled),
        }
    }

    /// Writes what a reader at `at`, who is registered, sees of the memtables into a table, if there is anything.
    fn write_unflushed(&self, read_state: &ReadState, at: Sequence, number: FileNumber) -> Result<Option<TableMeta>> {
        let named = read_state.version.named();
        let keyspaces = read_state.memtables.iter().flat_map(|memtable| memtable.keyspaces());
        let keyspaces: BTreeSet<KeyspaceId> = keyspaces.filter(|keyspace| named.is_live(*keyspace)).collect();
        if keyspaces.is_empty() {
            return Ok(None);
        }
        for memtable in &read_state.memtables {
            self.files.verify_groups(memtable)?;
        }
        let mut writer = TableWriter::create(&self.table_cache, number, self.files.new_id()?, &self.files.cancelled)?;
        for keyspace in keyspaces {
            writer.start_section(named.section_options(keyspace, self.table_cache.options.section).at_level(0))?;
            self.copy_unflushed(read_state, keyspace, at, &mut writer)?;
        }
        if writer.is_empty() {
            drop(writer);
            let (dir, name) = (&self.table_cache.dir, FileKind::Table.name(number));
            return dir.remove(&name).map(|()| None).map_err(|e| Error::io("remove", &dir.path().join(name), e));
        }
        Ok(Some(writer.finish()?.meta))
    }

    fn copy_unflushed(
        &self,
        read_state: &ReadState,
        keyspace: KeyspaceId,
        at: Sequence,
        writer: &mut TableWriter,
    ) -> Result<()> {
        let mut sources = Vec::new();
        let mut cover = Cover::default();
        for memtable in &read_state.memtables {
            let runs = memtable.runs(keyspace, || self.readers.retain())?;
            sources.extend(runs.into_iter().map(|run| Source::Run(RunCursor::new(Arc::clone(memtable), run))));
            cover.add(memtable.ranges(keyspace).iter().flat_map(|lists| lists.iter()), sources.len());
        }
        let rule = Visibility::retain(Vec::new(), at);
        let mut ranges = Fragments::merge(cover.fragments(), &mut rule.clone());
        ranges.remove(|removal| removal > at);
        let mut versions = Versions::new(Merge::new(sources), cover, rule)?;
        while let Some((found, _)) = versions.next()? {
            // The rule has no say about what is newer than its cut.
            if found.entry.sequence <= at {
                writer.add(keyspace, versions.merge().entry(&found), false)?;
            }
        }
        writer.add_ranges(keyspace, &ranges)
    }
}

/// How a file got its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    Linked,
    Written,
}

/// Links a file into another directory, or copies it where that cannot be done. After an error, returns what was tried as
/// well.
pub(super) fn copy_file(
    dir: &dyn Dir,
    name: &str,
    to: &Arc<dyn Dir>,
    stop: &AtomicBool,
) -> Result<Copied, (&'static str, io::Error)> {
    match dir.link(name, &**to) {
        Ok(()) => Ok(Copied::Linked),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(("link", e)),
        Err(_) => write_copy(dir, name, to, stop),
    }
}

/// Copies a file into another directory.
fn write_copy(
    dir: &dyn Dir,
    name: &str,
    to: &Arc<dyn Dir>,
    stop: &AtomicBool,
) -> Result<Copied, (&'static str, io::Error)> {
    let from = dir.open(name).map_err(|e| ("read", e))?;
    let mut file = to.create(name).map_err(|e| ("create", e))?;
    for piece in from.bytes().chunks(PIECE_BYTES) {
        if stop.load(Ordering::Relaxed) {
            return Err(("copy", io::ErrorKind::Interrupted.into()));
        }
        file.append(piece).map_err(|e| ("write", e.into()))?;
    }
    file.sync().map_err(|e| ("sync", e))?;
    Ok(Copied::Written)
}
