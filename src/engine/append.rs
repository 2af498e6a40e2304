//! Appending to the log: a group into the mapped segment, its entries into the memtable, one step of the visible sequence; and
//! the next segment, where there is no room for it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::background::Background;
use super::between::Between;
use super::body::Body;
use super::counters::Counters;
use super::files::Files;
use super::health::Health;
use super::log::{Syncing, Writer};
use super::readers::Readers;
use super::reserve::Reserve;
use super::store::{Installed, Store};
use super::sync::Syncer;
use crate::error::{Bug, Error, Result, bug, must};
use crate::format::edit::Edit;
use crate::format::entry::Entry;
use crate::format::group::{GROUP_HEADER_BYTES, Group};
use crate::format::names::FileKind;
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::{NUMBER_MAX, Position, Sequence};
use crate::log::{self, SegmentWriter, Space, Use};
use crate::memtable::{Memtable, Removals};
use crate::options::Options;
use crate::sys::Ahead;

/// The room that each segment keeps: this share of the size of a memtable, and of the reserve, and no more than this.
const ROOM_SHARE: u64 = 16;
const RESERVE_SHARE: u64 = 64;
const LOG_ROOM_MAX: u64 = 256 << 10;

/// Appends to the log, for whoever has the [`Writer`].
pub(crate) struct Appender {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) store: Arc<Store>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) syncer: Arc<Syncer>,
    pub(super) background: Arc<Background>,
    pub(super) counters: Arc<Counters>,
}

impl Appender {
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
            self.reserve.cover(log.end() + GROUP_HEADER_BYTES + bytes)?;
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
                let refused = self.files.log_error(&self.health, log, refused);
                self.append_refused(log, refused, group, for_use, fill)?
            }
        };
        let between = Between::disk_and_memory(&self.health);
        self.readers.learned.gaps.give(Sequence(next.0 - 1));
        writer.has_removals |= for_use == Use::Freeing;
        self.health.check_mapped()?;
        let by_user = self.index(memtable, &group, range, first).map_err(|e| self.health.poison(e))?;
        self.counters.written.note_group(by_user, group.span());
        let end = Position { segment: log.number(), offset: log.end() };
        writer.next_sequence = next;
        self.readers.show(Sequence(next.0 - 1));
        memtable.note_shown(end.offset);
        between.agree();
        Ok(end)
    }

    /// Indexes the entries of the last group of the segment, whose body stands at `range`. It has just been written, so it
    /// is as it should be, or there is a bug. Returns the bytes of keys and values.
    fn index(&self, memtable: &Memtable, group: &Group, range: Range<u64>, first: Sequence) -> Result<u64> {
        let readers = &self.readers;
        let (cut, last) = (Sequence(first.0 - 1), Sequence(first.0 + u64::from(group.count) - 1));
        // A version may go if a newer one is visible to every reader that will register from now on, and no registered one
        // stands between the two.
        let mut droppable =
            |older: Sequence, newer: Sequence| newer <= cut && !readers.registry().stands_in(older..newer);
        let mut removals = Removals::default();
        let bytes = memtable.bytes();
        must(bytes.len() as u64 == range.end, "the log does not end where its last group does")?;
        let body_start = usize::try_from(range.start).ok().filter(|start| *start <= bytes.len());
        let body_start = body_start.ok_or_else(|| bug("a group is outside of the log"))?;
        let (mut next, mut by_user) = (first, 0);
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
                    let path = self.files.path_of(&FileKind::Segment.name(memtable.number()));
                    return Err(Error::io("index", &path, io::ErrorKind::OutOfMemory.into()));
                }
                by_user += entry.key_end - entry.key_start + entry.value_bytes();
                next = Sequence(next.0 + 1);
                at = entry.next();
            }
        }
        must(next.0 - 1 == last.0, "a group in the log has another number of entries than it says")?;
        if !removals.is_empty() {
            memtable.remove_ranges(removals, &mut readers.registry().retain(cut).with_group(last));
        }
        memtable.set_indexed(range.end);
        Ok(by_user as u64)
    }

    /// Makes place in the log for a group, if there is none. One that makes space stays in the segment, in the room kept
    /// there, if the disk has no space for another one; and when that is used up, gets one from the reserve.
    #[inline]
    pub(super) fn make_place(&self, writer: &mut Writer, bytes: u64, count: u64, for_use: Use) -> Result<()> {
        if writer.has_room(bytes, count, Use::Ordinary, self.options.memtable_entries) {
            return Ok(());
        }
        self.find_place(writer, bytes, count, for_use)
    }

    #[cold]
    fn find_place(&self, writer: &mut Writer, bytes: u64, count: u64, for_use: Use) -> Result<()> {
        // What makes space has to do with what there is.
        if let Err(e) = self.reserve.cover(SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES + bytes)
            && for_use == Use::Ordinary
        {
            return Err(e);
        }
        match self.rotate(writer, bytes) {
            Err(e) if for_use == Use::Freeing && e.is_full() => {
                if writer.has_room(bytes, count, Use::Freeing, self.options.memtable_entries) {
                    return Ok(());
                }
                self.reserve.with_reserve(|| self.rotate(writer, bytes))
            }
            Err(e) if e.is_full() => {
                self.reserve.note_pressed();
                Err(e)
            }
            other => other,
        }
    }

    /// Appends a group that makes space with what the reserve gives up; another one is refused.
    #[cold]
    pub(super) fn append_refused(
        &self,
        log: &mut SegmentWriter,
        refused: Error,
        group: Group,
        for_use: Use,
        fill: impl Fn(&mut [u8]) -> Result<(), Bug>,
    ) -> Result<Range<u64>> {
        if !refused.is_full() || self.health.is_poisoned() {
            return Err(refused);
        }
        if for_use == Use::Ordinary {
            self.reserve.note_pressed();
            return Err(refused);
        }
        self.reserve.with_reserve(|| {
            let room = log.make_room(group.span(), for_use, Ahead::Needed);
            room.and_then(|()| log.append(group, &fill)).map_err(|e| self.files.log_error(&self.health, log, e))
        })
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
        self.store.start_manifest()?;
        self.store.manifest.make_room(&edit)?;
        let sequence = self.take_sequence(writer)?;
        let between = Between::disk_and_memory(&self.health);
        self.syncer.sync_held(syncing, writer)?;
        edit.last_sequence = Some(sequence);
        edit.log_durable = writer.durable;
        // A log that goes on behind a number of which the manifest knows nothing would be refused.
        let installed = install(edit, sequence).map_err(|e| self.health.poison(e))?;
        if let Some(durable) = writer.durable {
            if installed == Installed::Superseded {
                self.store.manifest.record_durable(durable)?;
            }
            writer.recorded = writer.recorded.max(durable.segment);
            self.syncer.commits.set_durable(durable);
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
        log.skip(1, durable).map_err(|e| self.files.log_error(&self.health, log, e))?;
        writer.next_sequence = Sequence(taken.0 + 1);
        writer.beside_log = taken;
        self.readers.learned.gaps.give(taken);
        Ok(taken)
    }

    /// Freezes the growing memtable and begins a new segment with room for a body of `body_bytes`.
    #[cold]
    pub(super) fn rotate(&self, writer: &mut Writer, body_bytes: u64) -> Result<()> {
        self.store.start_manifest()?;
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
        writer.freeze(&self.store);
        let mapping = log.mapping().clone();
        let memtable = Arc::new(Memtable::new(mapping, self.files.database, number, base, writer.expected_keys));
        self.store.publish(|read_state| {
            read_state.memtables.insert(0, Arc::clone(&memtable));
            read_state.growing = true;
        });
        debug_assert!(writer.last_end.segment < number, "segments have ascending numbers");
        writer.active = Some((log, memtable));
        writer.directory_dirty = true;
        self.background.wake();
        Ok(())
    }

    /// The room that each segment keeps for removals.
    fn log_room(&self) -> u64 {
        let of_memtable = self.options.memtable_bytes as u64 / ROOM_SHARE;
        of_memtable.min(self.options.reserve_bytes / RESERVE_SHARE).min(LOG_ROOM_MAX)
    }
}

/// Whoever has made sure that there is room has made sure that there is a segment.
#[cold]
fn no_segment() -> Bug {
    bug("there is room in the log and no segment")
}
