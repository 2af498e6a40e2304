//! Flushing: a frozen memtable becomes a table of level 0, strictly in the order of the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::background::{Background, Duty, Work};
use super::counters::Counters;
use super::files::Files;
use super::health::Health;
use super::log::{LogEnd, Writer};
use super::outputs::Outputs;
use super::read_state::ReadState;
use super::readers::Readers;
use super::reserve::Reserve;
use super::scheduler::{Flushing, Scheduler};
use super::store::{Installed, Store};
use super::value_sink::ValueSink;
use super::write_stalls::WriteStalls;
use crate::error::{Result, bug, must};
use crate::event::Event;
use crate::format::edit::Edit;
use crate::format::{FileNumber, KeyspaceId};
use crate::memtable::{Memtable, RunCursor};
use crate::merge::{Merge, Source, Versions};
use crate::meter::{Measured, Started};
use crate::options::{Options, SectionOptions};
use crate::sys::atomic::Ordering;
use crate::table::TableWriter;
use crate::visibility::{Cover, Fragments};

/// Frozen memtables of earlier runs that are left alone until there is more to flush.
const REPLAYED_MAX: usize = 4;

/// Flushes frozen memtables.
pub(crate) struct Flusher {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LogEnd>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) stalls: Arc<WriteStalls>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) background: Arc<Background>,
    pub(super) counters: Arc<Counters>,
}

impl Flusher {
    /// Flushes the frozen memtables up to number `last`.
    pub(super) fn flush_through(&self, last: FileNumber) -> Result<()> {
        loop {
            // Nothing of the read state is kept meanwhile: with it, the space of a segment that is flushed would be.
            let oldest = self.readers.read_state().frozen().last().map(|memtable| memtable.number());
            if oldest.is_none_or(|oldest| oldest > last) || self.flush_oldest()? == Work::NoneDue {
                return Ok(());
            }
        }
    }

    /// Whether a frozen memtable should be flushed now. Those of this run always; those replayed by the open only when they
    /// add up or keep a commit waiting, so that a program which opens, writes a little and closes does not make a table each
    /// time.
    pub(super) fn is_due(&self) -> bool {
        let read_state = self.readers.read_state();
        let frozen = read_state.frozen();
        let bytes: u64 = frozen.iter().map(|memtable| memtable.log_bytes()).sum();
        let entries: u64 = read_state.memtables.iter().map(|memtable| memtable.entries()).sum();
        !frozen.is_empty()
            && (self.stalls.are_some_waiting()
                || frozen.iter().any(|memtable| self.files.is_own(memtable.number()))
                || frozen.len() >= REPLAYED_MAX
                || bytes >= self.options.memtable_bytes as u64 / 2
                || self.options.memtable_entries.is_some_and(|cap| entries >= cap as u64))
    }

    /// Flushes the oldest frozen memtable, if one is due and nobody else is at it.
    pub(super) fn flush_if_due(&self) -> Result<Work> {
        if !self.is_due() {
            return Ok(Work::NoneDue);
        }
        match self.scheduler.try_flushing() {
            Some(alone) => self.flush_one(&alone),
            None => Ok(Work::NoneDue),
        }
    }

    /// Flushes if that is due and has not just failed.
    pub(super) fn flush_in_turn(&self) -> Result<Work> {
        if !self.background.may_try(Duty::Flush) {
            return Ok(Work::NoneDue);
        }
        self.flush_if_due().inspect_err(|e| {
            self.health.events.raise(|| Event::BackgroundError(e.clone()));
            self.background.note_failure(Duty::Flush, e);
        })
    }

    /// Flushes the oldest frozen memtable, if there is one.
    pub(super) fn flush_oldest(&self) -> Result<Work> {
        self.flush_one(&self.scheduler.flushing())
    }

    fn flush_one(&self, alone: &Flushing<'_>) -> Result<Work> {
        let flushed = self.flush_memtable(alone).map_err(|e| self.health.stop_at_bug(e))?;
        let Some(flushed) = flushed else { return Ok(Work::NoneDue) };
        // With its last handle goes the space of a segment.
        self.log.writer().forget(flushed);
        self.reserve.note_freed();
        self.background.note_success(Duty::Flush);
        self.background.wake();
        Ok(Work::Done)
    }

    /// Flushes the memtables up to number `last` while nobody can commit.
    pub(super) fn flush_held(&self, alone: &Flushing<'_>, writer: &mut Writer, last: FileNumber) -> Result<()> {
        while self.readers.read_state().frozen().last().is_some_and(|memtable| memtable.number() <= last) {
            let flushed = self.flush_memtable(alone).map_err(|e| self.health.stop_at_bug(e))?;
            let Some(flushed) = flushed else { break };
            writer.forget(flushed);
        }
        Ok(())
    }

    /// Flushes the oldest frozen memtable, or more of them; returns the number of the newest of these. On a full disk, one
    /// table of all is tried: what newer memtables remove from older ones, or write over, is not in it.
    fn flush_memtable(&self, _alone: &Flushing<'_>) -> Result<Option<FileNumber>> {
        self.health.check_writable()?;
        let read_state = self.readers.read_state();
        let frozen = read_state.frozen();
        let Some(oldest) = frozen.len().checked_sub(1) else { return Ok(None) };
        let begun = Started::now();
        let bytes = frozen.iter().map(|memtable| memtable.log_bytes()).sum();
        self.health.events.raise(|| Event::FlushBegan { bytes });
        let flushed =
            self.reserve.with_reserve(|| self.flush_together(&read_state, frozen.get(oldest..).unwrap_or_default()));
        let flushed = match flushed {
            Err(e) if e.is_full() && oldest > 0 => {
                self.reserve.with_reserve(|| self.flush_together(&read_state, frozen))
            }
            other => other,
        };
        self.tell(&flushed, begun);
        let (flushed, _) = flushed?;
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.readers.meters.note(Measured::Flush, begun);
        Ok(Some(flushed))
    }

    /// Tells what has become of a flush.
    fn tell(&self, flushed: &Result<(FileNumber, Outputs)>, begun: Started) {
        let events = &self.health.events;
        let outputs = flushed.as_ref().map(|(_, outputs)| outputs).inspect_err(|e| events.note_error(e));
        events.raise(|| Event::FlushEnded {
            tables: outputs.map(Outputs::table_numbers).unwrap_or_default(),
            bytes: outputs.map_or(0, Outputs::bytes),
            took: begun.elapsed(),
            error: outputs.err().cloned(),
        });
    }

    /// Makes one table of some memtables, the oldest ones, which are given newest first; returns the number of the newest, and
    /// what was written.
    fn flush_together(&self, read_state: &ReadState, memtables: &[Arc<Memtable>]) -> Result<(FileNumber, Outputs)> {
        let numbers: Vec<FileNumber> = memtables.iter().map(|memtable| memtable.number()).collect();
        let newest = *numbers.first().ok_or_else(|| bug("a flush has nothing to write"))?;
        // In front of it, and so newer, stands the first one that is needed.
        let next = read_state.memtables.iter().rev().find(|memtable| memtable.number() > newest);
        let mut edit = Edit {
            first_segment: Some(next.map_or(FileNumber(newest.0 + 1), |next| next.number())),
            last_sequence: memtables.iter().map(|memtable| memtable.max_sequence()).max(),
            ..Edit::default()
        };
        let outputs = self.writer().write(memtables)?;
        outputs.add_to(&mut edit, 0);
        let installed = self.store.install_new(edit, &outputs, &numbers)?;
        self.counters.written.by_flushes.fetch_add(outputs.bytes(), Ordering::Relaxed);
        must(installed == Installed::Done, "a flush has been refused as if it took something away")?;
        Ok((newest, outputs))
    }

    fn writer(&self) -> MemtableWriter<'_> {
        MemtableWriter { files: &self.files, readers: &self.readers }
    }
}

/// Writes memtables into level 0.
struct MemtableWriter<'e> {
    files: &'e Files,
    readers: &'e Readers,
}

impl MemtableWriter<'_> {
    /// Writes what memtables hold of keyspaces that have not been dropped into a table, if there is anything, and large values
    /// into value files.
    fn write(&self, memtables: &[Arc<Memtable>]) -> Result<Outputs> {
        let version = self.readers.version();
        let keyspaces: BTreeSet<KeyspaceId> = memtables.iter().flat_map(|memtable| memtable.keyspaces()).collect();
        let keyspaces: Vec<KeyspaceId> =
            keyspaces.into_iter().filter(|keyspace| version.named().is_live(*keyspace)).collect();
        if keyspaces.is_empty() {
            return Ok(Outputs::default());
        }
        memtables.iter().try_for_each(|memtable| self.files.verify_groups(memtable))?;
        let mut sink = ValueSink::new(self.files);
        let table = self.files.write_table(|writer| {
            for keyspace in keyspaces {
                let options = version.named().section_options(keyspace, self.files.table_cache.options.section);
                let options = options.at_level(0);
                writer.start_section(options)?;
                self.copy_keyspace(memtables, keyspace, options, writer, &mut sink)?;
            }
            Ok(())
        })?;
        let values = sink.finish().inspect_err(|_| self.files.remove_table(table.number()))?;
        Ok(Outputs { tables: vec![table], values })
    }

    fn copy_keyspace(
        &self,
        memtables: &[Arc<Memtable>],
        keyspace: KeyspaceId,
        options: SectionOptions,
        writer: &mut TableWriter,
        sink: &mut ValueSink<'_>,
    ) -> Result<()> {
        let rule = self.readers.retain();
        let (mut sources, mut cover) = (Vec::new(), Cover::default());
        for memtable in memtables {
            let runs = memtable.runs(keyspace, || rule.clone())?;
            sources.extend(runs.into_iter().map(|run| Source::Run(RunCursor::new(Arc::clone(memtable), run))));
            cover.add(memtable.ranges(keyspace).iter().flat_map(|lists| lists.iter()), 0);
        }
        let ranges = Fragments::merge(cover.fragments(), &mut rule.clone());
        let mut versions = Versions::new(Merge::new(sources), cover, rule)?;
        while let Some((found, _)) = versions.next()? {
            let entry = versions.merge().entry(&found);
            if options.stands_apart(entry.place()) {
                let value = (entry.sequence, entry.value());
                sink.add(writer, keyspace, entry, value, false)?;
            } else {
                writer.add(keyspace, entry, false)?;
            }
        }
        // The newest version of a key is never left out, unless a range tombstone has removed it. Index and runs know the keys
        // each in their own way. A key may be in several memtables.
        let indexed = memtables.iter().map(|memtable| memtable.keys_of(keyspace));
        let (least, most) = indexed.fold((0, 0), |(least, most), keys| (keys.max(least), most + keys));
        let removes = memtables.iter().any(|memtable| memtable.ranges(keyspace).is_some());
        let written = writer.keys_of(keyspace);
        must(written <= most && (written >= least || removes), "a flush has other keys than its memtables")?;
        writer.add_ranges(keyspace, &ranges)
    }
}
