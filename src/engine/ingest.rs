//! Loading sorted entries straight into tables, beside log and memtable.
//!
//! The tables are written without a sequence number. All of them get the same one when they are installed, in one edit and
//! while nobody can commit: what was committed before is hidden by them, what is committed after hides them, and a snapshot
//! sees all of a load or nothing. Two rules make that so:
//!
//! 1. Whatever was committed before is durable before the edit is, so that a crash cannot keep the load and lose what it
//!    came after.
//! 2. Readers look into memtables first. So a memtable that has keys in the range of the load is flushed before; and all of
//!    them are before a load goes to level 0, whose tables are in order of their sequence numbers.

use std::sync::Arc;

use super::append::Appender;
use super::counters::Counters;
use super::files::Files;
use super::flush::Flusher;
use super::health::Health;
use super::log::{LogEnd, Syncing, Writer};
use super::outputs::Outputs;
use super::readers::Readers;
use super::scheduler::{Scheduler, Standstill};
use super::store::{Installed, Store};
use super::sync::Syncer;
use super::value_sink::ValueSink;
use crate::batch::check_lengths;
use crate::error::{Error, Result, bug, must};
use crate::format::edit::Edit;
use crate::format::entry::{Entry, Kind, push_entry};
use crate::format::range::Range;
use crate::format::{FileNumber, Sequence};
use crate::keyspace_state::KeyspaceState;
use crate::memtable::{Memtable, RunCursor};
use crate::options::{Options, SectionOptions};
use crate::sys::atomic::Ordering;
use crate::table::{TableWriter, ValueFile, WrittenTable};
use crate::version::level_for;
use crate::visibility::Visibility;

/// Flushes beside other commits, each of which has less to do than the one before, until the last one holds them up.
const ROUNDS: usize = 4;

/// What a load has added to the store; see [`Db::ingest`](crate::Db::ingest).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Ingested {
    /// Entries.
    pub entries: u64,
    /// Tables that hold them.
    pub tables: usize,
    /// Bytes of these tables, indexes not counted.
    pub bytes: u64,
    /// The level that they stand on: 0 if they overlap older data near the top, which a compaction will merge with them.
    pub level: u8,
}

/// Where a load may go.
struct Landing {
    level: u8,
    /// The newest memtable that must be flushed before, if there is one: that has keys in the range of the load; or, for level
    /// 0, any. Its tables are ordered by their sequence numbers, so those of the load must be above all that is in front of it.
    in_the_way: Option<FileNumber>,
}

/// Loads entries into tables.
pub(crate) struct Loader {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LogEnd>,
    pub(super) appender: Arc<Appender>,
    pub(super) syncer: Arc<Syncer>,
    pub(super) flusher: Arc<Flusher>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) counters: Arc<Counters>,
}

impl Loader {
    /// Loads entries whose keys ascend. Nothing of them is left if it fails, unless the edit may be durable.
    pub(crate) fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
        &self,
        keyspace: &KeyspaceState,
        entries: impl IntoIterator<Item = Result<(K, V), E>>,
    ) -> Result<Ingested, E> {
        let mut load = Load::new(self, keyspace)?;
        for entry in entries {
            let (key, value) = entry?;
            load.add(key.as_ref(), value.as_ref()).map_err(|e| self.health.stop_at_bug(e))?;
        }
        Ok(load.install().map_err(|e| self.health.stop_at_bug(e))?)
    }

    /// Gives the tables their sequence number and makes them part of the database.
    fn install_load(&self, load: &mut Load<'_>) -> Result<Ingested> {
        let mut round = 0;
        loop {
            round += 1;
            let in_the_way = self.landing(load, &self.scheduler.stand_still())?.in_the_way;
            if let Some(newest) = in_the_way {
                self.freeze_through(newest, &mut self.log.writer());
                self.flusher.flush_through(newest)?;
            }
            // Nearly everything that must be durable; what comes in between is synced while nobody can commit.
            self.syncer.sync()?;
            let flushing = (round >= ROUNDS).then(|| self.scheduler.flushing());
            let standstill = self.scheduler.stand_still();
            let syncing = self.log.syncing();
            let mut writer = self.log.writer();
            self.health.check_writable()?;
            load.keyspace.check_open(&writer.committing)?;
            let mut landing = self.landing(load, &standstill)?;
            if landing.in_the_way.is_some() && flushing.is_none() {
                continue;
            }
            while let (Some(newest), Some(alone)) = (landing.in_the_way, &flushing) {
                self.freeze_through(newest, &mut writer);
                self.flusher.flush_held(alone, &mut writer, newest)?;
                landing = self.landing(load, &standstill)?;
            }
            return self.install_held(load, landing.level, &syncing, &mut writer);
        }
    }

    /// Where a load may go while compactions stand still.
    fn landing(&self, load: &Load<'_>, standstill: &Standstill<'_>) -> Result<Landing> {
        let ranges = load.ranges();
        let read_state = self.readers.read_state();
        let level = level_for(&read_state.version, load.keyspace.id, &ranges, standstill.running());
        for memtable in &read_state.memtables {
            let is_in_the_way = match level {
                0 => memtable.entries() > 0,
                _ => has_keys_in(memtable, load.keyspace, &ranges, || self.readers.retain())?,
            };
            if is_in_the_way {
                return Ok(Landing { level, in_the_way: Some(memtable.number()) });
            }
        }
        Ok(Landing { level, in_the_way: None })
    }

    /// Installs a load on a level while nobody can commit.
    fn install_held(
        &self,
        load: &mut Load<'_>,
        level: u8,
        syncing: &Syncing<'_>,
        writer: &mut Writer,
    ) -> Result<Ingested> {
        let mut ingested = Ingested { entries: load.entries, level, ..Ingested::default() };
        let edit = Edit {
            add: load.written.iter().map(|table| (level, table.meta.clone())).collect(),
            add_values: load.values.iter().map(|file| file.meta).collect(),
            ..Edit::default()
        };
        let mut written = 0;
        let installed = self.appender.install_beside_log(syncing, writer, edit, |mut edit, sequence| {
            // From here on, `install_new` sees to the files.
            let mut outputs = Outputs { values: std::mem::take(&mut load.values), ..Outputs::default() };
            for (table, (_, meta)) in std::mem::take(&mut load.written).into_iter().zip(&mut edit.add) {
                let table = table.with_global_sequence(sequence).into_table(Arc::clone(&self.files.table_cache));
                meta.clone_from(&table.meta);
                ingested.tables += 1;
                ingested.bytes += table.meta.file_bytes;
                outputs.tables.push(table);
            }
            written = outputs.bytes();
            self.store.install_new(edit, &outputs, &[])
        })?;
        if installed == Installed::Superseded {
            return Err(load.keyspace.gone());
        }
        self.counters.written.note_group(load.by_user, 0);
        self.counters.written.loaded.fetch_add(written, Ordering::Relaxed);
        Ok(ingested)
    }

    /// Freezes the growing memtable if it is number `last`.
    fn freeze_through(&self, last: FileNumber, writer: &mut Writer) {
        if writer.active.as_ref().is_some_and(|(log, _)| log.number() == last) {
            writer.freeze(&self.store);
        }
    }
}

/// Whether a memtable has keys or range tombstones of a keyspace in one of these ranges, which are in order.
fn has_keys_in(
    memtable: &Arc<Memtable>,
    keyspace: &KeyspaceState,
    ranges: &[Range<'_>],
    rule: impl FnOnce() -> Visibility,
) -> Result<bool> {
    if memtable.entries_of(keyspace.id) == 0 {
        return Ok(false);
    }
    let removals = memtable.ranges(keyspace.id);
    let mut removals = removals.iter().flat_map(|lists| lists.iter()).flat_map(|fragments| fragments.list().iter());
    let removed = removals.any(|removal| {
        let behind = ranges.partition_point(|(_, upper)| *upper <= removal.start);
        ranges.get(behind).is_some_and(|(lower, _)| *lower < removal.end)
    });
    if removed {
        return Ok(true);
    }
    for run in memtable.runs(keyspace.id, rule)? {
        let mut cursor = RunCursor::new(Arc::clone(memtable), run);
        let mut next = ranges;
        while let Some((lower, _)) = next.first() {
            cursor.seek(lower.key());
            cursor.check()?;
            let Some(entry) = cursor.entry() else { break };
            let key = entry.key();
            next = &next[next.partition_point(|(_, upper)| upper.is_in_front_of(key))..];
            if next.first().is_some_and(|(lower, _)| lower.is_in_front_of(key)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Tables of a load that are not installed; their files are removed if it goes no further.
struct Load<'e> {
    loader: &'e Loader,
    keyspace: &'e KeyspaceState,
    section: SectionOptions,
    written: Vec<WrittenTable>,
    /// Where large values go, and the files of them once all entries are there.
    sink: ValueSink<'e>,
    values: Vec<Arc<ValueFile>>,
    growing: Option<(FileNumber, TableWriter)>,
    entries: u64,
    /// Bytes of their keys and values.
    by_user: u64,
    last_key: Vec<u8>,
    /// An entry on its way into a table.
    entry: Vec<u8>,
}

impl<'e> Load<'e> {
    fn new(loader: &'e Loader, keyspace: &'e KeyspaceState) -> Result<Self> {
        loader.health.check_writable()?;
        keyspace.checked(())?;
        Ok(Self {
            loader,
            keyspace,
            // Level 0 is where such tables seldom go.
            section: loader.readers.section_options(keyspace.id, loader.options.table.section).at_level(1),
            written: Vec::new(),
            sink: ValueSink::new(&loader.files),
            values: Vec::new(),
            growing: None,
            entries: 0,
            by_user: 0,
            last_key: Vec::new(),
            entry: Vec::new(),
        })
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        check_lengths(key, value)?;
        if self.entries > 0 && key <= self.last_key.as_slice() {
            return Err(Error::NotAscending { position: self.entries, duplicate: key == self.last_key });
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.entry.clear();
        push_entry(&mut self.entry, Kind::Put, Sequence(0), key, value, self.keyspace.alignment);
        let limit = self.loader.options.table_bytes;
        let full = |(_, writer): &(FileNumber, TableWriter)| writer.bytes() >= limit || writer.is_full();
        if self.growing.as_ref().is_none_or(full) {
            self.start_table()?;
        }
        let (_, writer) = self.growing.as_mut().ok_or_else(|| bug("a table has been begun and is not there"))?;
        let entry = Entry::parse(&self.entry, 0, self.entry.len(), Sequence(0));
        let entry = entry.map_err(|_| bug("an entry that has just been made is none"))?;
        if self.section.stands_apart(&entry) {
            // A value file may begin or end with this.
            let _at_work = self.loader.scheduler.begin_work(&self.loader.health)?;
            self.sink.add(writer, self.keyspace.id, entry.in_bytes(&self.entry), (Sequence(0), value), true)?;
        } else {
            writer.add(self.keyspace.id, entry.in_bytes(&self.entry), true)?;
        }
        self.entries += 1;
        self.by_user += (key.len() + value.len()) as u64;
        Ok(())
    }

    #[cold]
    fn start_table(&mut self) -> Result<()> {
        self.finish_table()?;
        let _at_work = self.loader.scheduler.begin_work(&self.loader.health)?;
        self.loader.health.check_writable()?;
        let (number, id) = (self.loader.files.new_number()?, self.loader.files.new_id()?);
        let writer = TableWriter::create(&self.loader.files.table_cache, number, id, self.loader.health.cancelled());
        let mut writer = writer.inspect_err(|_| self.loader.files.remove_table(number))?;
        writer.start_section(self.section)?;
        writer.take_global_sequence(self.loader.readers.visible());
        self.growing = Some((number, writer));
        Ok(())
    }

    fn finish_table(&mut self) -> Result<()> {
        let Some((number, writer)) = self.growing.take() else { return Ok(()) };
        let _at_work = self.loader.scheduler.begin_work(&self.loader.health)?;
        let mut written = writer.finish().inspect_err(|_| self.loader.files.remove_table(number))?;
        // A load may have more tables than can be open.
        written.let_go();
        self.written.push(written);
        Ok(())
    }

    /// The keys of each table.
    fn ranges(&self) -> Vec<Range<'_>> {
        let sections = self.written.iter().flat_map(|table| &table.meta.sections);
        sections.map(|section| (section.lower.as_ref(), section.upper.as_ref())).collect()
    }

    fn install(mut self) -> Result<Ingested> {
        self.finish_table()?;
        if self.written.is_empty() {
            // Like any other load, it makes durable what was committed before.
            return self.loader.syncer.sync().map(|()| Ingested::default());
        }
        let sections = self.written.iter().flat_map(|table| &table.meta.sections);
        let written: u64 = sections.map(|section| section.entries).sum();
        must(written == self.entries, "a load has another number of entries than its tables")?;
        let loader = self.loader;
        let _at_work = loader.scheduler.begin_work(&loader.health)?;
        self.values = self.sink.finish()?;
        loader.install_load(&mut self)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let growing = self.growing.iter().map(|(number, _)| *number);
        let numbers: Vec<FileNumber> = growing.chain(self.written.iter().map(|table| table.meta.number)).collect();
        // Once the directory is given up, the next open removes them.
        let Ok(_at_work) = self.loader.scheduler.begin_work(&self.loader.health) else { return self.sink.abandon() };
        for number in numbers {
            self.loader.files.remove_table(number);
        }
        for file in &self.values {
            self.loader.files.remove_values(file.number());
        }
        self.sink.discard();
    }
}
