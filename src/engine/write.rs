//! Committing: one group into the log, its entries into the memtable, one step of the visible sequence.
//!
//! Committers take the writer lock one after another and hold it for a copy and a few hash insertions; those who asked for
//! `Sync` wait outside of it, where one `fdatasync` serves all of them (see `sync`). This does what a queue with a leader
//! does, without handing batches between threads.

use std::io;
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use super::between::Between;
use super::log::{Syncing, Writer};
use super::{Body, Engine, Files, Installed, Readers};
use crate::error::{Bug, Error, Result, bug, must};
use crate::format::edit::Edit;
use crate::format::entry::{Entry, Kind};
use crate::format::group::{GROUP_HEADER_BYTES, Group};
use crate::format::names::FileKind;
use crate::format::range::{edges, range_value};
use crate::format::{NUMBER_MAX, Position, Sequence};
use crate::keyspace_state::KeyspaceState;
use crate::log::{self, SegmentWriter, Space, Use};
use crate::memtable::{Memtable, Removals};
use crate::options::Durability;
use crate::sys::AppendError;

/// What the last look at what a commit relies on has come to, with which it stands or falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Passed,
    /// What has been seen before says too little now.
    Outdated,
}

/// What has become of a commit with a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    Done,
    /// Nothing has been written: the check was [outdated](Check::Outdated).
    Unchanged,
}

/// Whether a commit waits for background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Waits,
    Refuses,
}

impl Engine {
    /// Commits one change with the durability of the options.
    #[inline]
    pub(crate) fn commit_one(&self, keyspace: &KeyspaceState, kind: Kind, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit(Body::One { keyspace, kind, key, value }, self.options.durability)
    }

    /// Commits the removal of a range, if any key can be in it.
    pub(crate) fn remove_range<K: AsRef<[u8]>>(
        &self,
        keyspace: &KeyspaceState,
        range: &impl RangeBounds<K>,
    ) -> Result<()> {
        let (start, end) = edges(range);
        if start >= end {
            return self.commit_nothing(self.options.durability);
        }
        self.commit_one(keyspace, Kind::RangeDelete, start.key(), &range_value(&start, &end))
    }

    /// Commits one group. With [`Durability::Sync`] it is on disk when this returns.
    #[inline]
    pub(crate) fn commit(&self, body: Body<'_>, durability: Durability) -> Result<()> {
        self.commit_checked(body, durability, |_| Ok(Check::Passed)).map(|_| ())
    }

    /// Commits one group unless that would wait for background work.
    pub(crate) fn try_commit(&self, body: Body<'_>, durability: Durability) -> Result<()> {
        self.commit_as(Patience::Refuses, body, durability, |_| Ok(Check::Passed)).map(|_| ())
    }

    /// Commits one group if `check` agrees, which is asked when no other commit can come in between.
    #[inline]
    pub(super) fn commit_checked(
        &self,
        body: Body<'_>,
        durability: Durability,
        check: impl Fn(&Writer) -> Result<Check>,
    ) -> Result<Committed> {
        self.commit_as(Patience::Waits, body, durability, check)
    }

    #[inline]
    fn commit_as(
        &self,
        patience: Patience,
        body: Body<'_>,
        durability: Durability,
        check: impl Fn(&Writer) -> Result<Check>,
    ) -> Result<Committed> {
        self.health.check_writable()?;
        body.check(&self.keyspaces.owner, self.options.max_batch_bytes)?;
        if body.count() == 0 {
            return self.commit_nothing(durability).map(|()| Committed::Done);
        }
        let (bytes, for_use) = (body.bytes(), body.for_use());
        let ticket = match patience {
            Patience::Waits => {
                self.wait_for_room(bytes, for_use)?;
                self.admit(bytes, for_use)?
            }
            Patience::Refuses => {
                let ticket = self.stalls.try_admit(bytes, for_use)?;
                self.take_room(bytes)?;
                ticket
            }
        };
        let alone = || {
            let mut writer = self.log.writer();
            self.health.check_writable()?;
            body.check_keyspaces(&writer.committing)?;
            if check(&writer)? == Check::Outdated {
                return Ok(None);
            }
            self.append(&mut writer, body).map(Some).map_err(|e| self.health.stop_at_bug(e))
        };
        let end = match patience {
            Patience::Waits if for_use == Use::Freeing => self.once_there_is_space(alone)?,
            _ => alone()?,
        };
        let Some(end) = end else { return Ok(Committed::Unchanged) };
        drop(ticket);
        self.background.committed();
        match durability {
            Durability::Sync => self.sync_to(end)?,
            Durability::Buffered => {}
        }
        Ok(Committed::Done)
    }

    /// A commit without a change. Like any other, if it is acknowledged as durable, so is everything in front of it.
    #[cold]
    fn commit_nothing(&self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Sync => self.sync(),
            Durability::Buffered => self.health.check_writable(),
        }
    }

    /// Appends a group, indexes its entries, and makes them visible; returns the end of the log.
    pub(super) fn append(&self, writer: &mut Writer, body: Body<'_>) -> Result<Position> {
        let bytes = body.bytes();
        let count = u32::try_from(body.count()).map_err(|_| bug("the size of a batch has not been checked"))?;
        let first = writer.next_sequence;
        // Both are far from overflow: a number below 2^63 and one of 32 bits.
        let next = Sequence(first.0 + u64::from(count));
        if next.0 >= NUMBER_MAX {
            return Err(Error::NumbersExhausted);
        }
        let for_use = body.for_use();
        self.make_place(writer, bytes, count.into(), for_use)?;
        let durable = writer.durable;
        let (log, memtable) = writer.active.as_mut().ok_or_else(no_segment)?;
        if for_use == Use::Ordinary {
            self.cover(log.end() + GROUP_HEADER_BYTES + bytes)?;
        }
        if let Body::One { keyspace, key, .. } = body {
            memtable.prefetch(keyspace.id, key);
        }
        let start = log.end() + GROUP_HEADER_BYTES;
        let group = Group { kind: body.kind(), body_bytes: body.bytes_at(start, bytes)?, count, durable };
        let fill = |out: &mut [u8]| body.write(out, start, first);
        let room = if log.must_grow(group.span()) {
            let (ahead, _held) = self.reserve.growth();
            log.make_room(group.span(), for_use, ahead)
        } else {
            Ok(())
        };
        let range = match room.and_then(|()| log.append(group, fill)) {
            Ok(range) => range,
            Err(refused) => {
                let refused = self.log_error(log, refused);
                self.append_refused(log, refused, group, for_use, fill)?
            }
        };
        let between = Between::disk_and_memory(&self.health);
        self.readers.learned.gaps.give(Sequence(next.0 - 1));
        writer.has_removals |= for_use == Use::Freeing;
        self.health.check_mapped()?;
        index((&self.readers, &self.files), memtable, &group, range, first).map_err(|e| self.health.poison(e))?;
        let end = Position { segment: log.number(), offset: log.end() };
        writer.next_sequence = next;
        self.readers.show(Sequence(next.0 - 1));
        memtable.note_shown(end.offset);
        between.agree();
        Ok(end)
    }

    /// Makes a change that is not in the log: takes a sequence number for it from the log, makes durable whatever was
    /// committed before, lets `install` install the edit, to which this adds what recovery must know, and shows the change.
    /// Nobody can commit meanwhile, so the history has it in one place.
    pub(super) fn install_beside_log(
        &self,
        syncing: &Syncing<'_>,
        writer: &mut Writer,
        mut edit: Edit,
        install: impl FnOnce(Edit, Sequence) -> Result<Installed>,
    ) -> Result<Installed> {
        // Once a number has been taken, the edit must not be refused.
        self.start_manifest()?;
        self.manifest.lock().make_room(&edit)?;
        let sequence = self.take_sequence(writer)?;
        let between = Between::disk_and_memory(&self.health);
        self.sync_held(syncing, writer)?;
        edit.last_sequence = Some(sequence);
        edit.log_durable = writer.durable;
        // A log that goes on behind a number of which the manifest knows nothing would be refused.
        let installed = install(edit, sequence).map_err(|e| self.health.poison(e))?;
        if let Some(durable) = writer.durable {
            if installed == Installed::Superseded {
                self.record_durable(durable)?;
            }
            writer.recorded = writer.recorded.max(durable.segment);
        }
        self.readers.learned.gaps.clear();
        self.readers.show(sequence);
        between.agree();
        self.background.wake();
        Ok(installed)
    }

    /// Takes a sequence number for entries that are not in the log.
    fn take_sequence(&self, writer: &mut Writer) -> Result<Sequence> {
        let taken = writer.next_sequence;
        if taken.0 + 1 >= NUMBER_MAX {
            return Err(Error::NumbersExhausted);
        }
        self.make_place(writer, 0, 1, Use::Freeing)?;
        let durable = writer.durable;
        let (log, _) = writer.active.as_mut().ok_or_else(no_segment)?;
        log.skip(1, durable).map_err(|e| self.log_error(log, e))?;
        writer.next_sequence = Sequence(taken.0 + 1);
        self.readers.learned.gaps.give(taken);
        Ok(taken)
    }

    /// Freezes the growing memtable and begins a new segment with room for a body of `body_bytes`.
    #[cold]
    pub(super) fn rotate(&self, writer: &mut Writer, body_bytes: u64) -> Result<()> {
        self.start_manifest()?;
        let payload = (self.options.memtable_bytes as u64).max(GROUP_HEADER_BYTES + body_bytes);
        let number = self.files.new_number()?;
        let base = writer.next_sequence;
        let log = {
            let (ahead, _held) = self.reserve.growth();
            let space = Space { payload, kept: self.log_room(), ahead };
            SegmentWriter::create(&*self.files.dir, &self.files.database, number, space, writer.end(), base)
        };
        let log = log.map_err(|e| {
            let name = FileKind::Segment.name(number);
            let error = Error::io("create", &self.files.path_of(&name), e);
            match self.files.dir.remove(&name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    // What was begun is no part of the log and ends it for who reads it: the next open takes it for a torn
                    // end and removes it, but whatever this run put behind it would be damage then.
                    self.health.poison(error)
                }
                _ => error,
            }
        })?;
        self.freeze(writer);
        let mapping = log.mapping().clone();
        let memtable = Arc::new(Memtable::new(mapping, self.files.database, number, base, writer.expected_keys));
        self.publish(|read_state| {
            read_state.memtables.insert(0, Arc::clone(&memtable));
            read_state.growing = true;
        });
        debug_assert!(writer.last_end.segment < number, "segments have ascending numbers");
        writer.active = Some((log, memtable));
        writer.directory_dirty = true;
        self.background.wake();
        Ok(())
    }

    /// Freezes the growing memtable, if there is one.
    pub(super) fn freeze(&self, writer: &mut Writer) {
        let Some((log, memtable)) = writer.active.take() else { return };
        let end = Position { segment: log.number(), offset: log.end() };
        debug_assert!(writer.last_end < end, "segments follow each other");
        debug_assert!(writer.unsynced.last().is_none_or(|(last, _)| *last < end), "the oldest are synced first");
        writer.last_end = end;
        writer.unsynced.push((writer.last_end, log.syncer()));
        writer.expected_keys = memtable.keys();
        writer.has_removals = false;
        self.publish(|read_state| read_state.growing = false);
    }

    /// The error for a failed append. If space was refused before anything was written, the log is as it was; after a failed
    /// write, nobody knows what is in the file, and after a bug, what else is wrong.
    pub(super) fn log_error(&self, log: &SegmentWriter, e: AppendError) -> Error {
        let path = self.files.path_of(&FileKind::Segment.name(log.number()));
        match e {
            AppendError::Refused(e) => Error::io("extend", &path, e),
            AppendError::Failed(e) => self.health.poison(Error::io("write", &path, e)),
            AppendError::Bug(bug) => self.health.poison(bug.into()),
        }
    }

    /// Prepares a manifest before the first segment of this run: what is durable in the log must be known outside of it, and
    /// that there is no space for it has to be said before anything is in the log. The first one of all is there at once: a
    /// log without one is a database that has lost it.
    fn start_manifest(&self) -> Result<()> {
        // Here and with what follows, files get names.
        self.files.check_lock(&self.health)?;
        {
            let mut manifest = self.manifest.lock();
            if manifest.current().is_some() {
                let version = self.readers.version();
                return manifest.prepare(&version, || self.files.new_number()).map_err(|e| self.health.unrecorded(e));
            }
        }
        self.install_edit(Edit::default()).map(|_| ())
    }
}

/// Whoever has made sure that there is room has made sure that there is a segment.
#[cold]
fn no_segment() -> Bug {
    bug("there is room in the log and no segment")
}

/// Indexes the entries of the last group of the segment, whose body stands at `range`. It has just been written, so it
/// is as it should be, or there is a bug.
fn index(
    (readers, files): (&Readers, &Files),
    memtable: &Memtable,
    group: &Group,
    range: Range<u64>,
    first: Sequence,
) -> Result<()> {
    let (cut, last) = (Sequence(first.0 - 1), Sequence(first.0 + u64::from(group.count) - 1));
    // A version may go if a newer one is visible to every reader that will register from now on, and no registered one
    // stands between the two.
    let mut droppable = |older: Sequence, newer: Sequence| newer <= cut && !readers.registry().stands_in(older..newer);
    let mut removals = Removals::default();
    let bytes = memtable.bytes();
    must(bytes.len() as u64 == range.end, "the log does not end where its last group does")?;
    let body_start = usize::try_from(range.start).ok().filter(|start| *start <= bytes.len());
    let body_start = body_start.ok_or_else(|| bug("a group is outside of the log"))?;
    let mut next = first;
    for run in log::runs(group.kind, &bytes[body_start..]) {
        let (keyspace, start, entries) = run.map_err(|_| bug("a group in the log is no list of runs"))?;
        let start = usize::try_from(start).map_err(|_| bug("a run is outside of its group"))?;
        let mut at = body_start + start;
        let end = at + entries.len();
        while at < end {
            let entry = Entry::parse(bytes, at, end, memtable.base());
            let entry = entry.map_err(|_| bug("what was written into the log is no entry"))?;
            must(entry.sequence == next, "an entry in the log has not the number of its place")?;
            if !entry.kind().removes() {
                readers.learned.gaps.cut(keyspace, entry.key(bytes));
            }
            let indexed = memtable.insert(keyspace, &entry, &mut droppable, &mut removals);
            if !indexed.map_err(|_| bug("what was written into the log is no removal"))? {
                let path = files.path_of(&FileKind::Segment.name(memtable.number()));
                return Err(Error::io("index", &path, io::ErrorKind::OutOfMemory.into()));
            }
            next = Sequence(next.0 + 1);
            at = entry.next();
        }
    }
    must(next.0 - 1 == last.0, "a group in the log has another number of entries than it says")?;
    if !removals.is_empty() {
        memtable.remove_ranges(removals, &mut readers.registry().retain(cut).with_group(last));
    }
    memtable.set_indexed(range.end);
    Ok(())
}
