//! The end of the log: who appends to it, who syncs it, and how far it is durable.

use std::sync::Arc;

use super::health::Health;
use super::store::Store;
use crate::error::Result;
use crate::format::{FileNumber, Position, SEQUENCE_SPAN, Sequence};
use crate::keyspace_state::Committing;
use crate::log::{SegmentWriter, Use};
use crate::memtable::Memtable;
use crate::sys::{Condvar, LockRank, Mutex, MutexGuard, SyncFile};

#[derive(Debug)]
pub(crate) struct LogEnd {
    turns: Turns,
    syncing: Mutex<()>,
    writer: Mutex<Writer>,
}

impl LogEnd {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            turns: Turns::default(),
            syncing: Mutex::new(LockRank::Syncing, ()),
            writer: Mutex::new(LockRank::Writer, writer),
        }
    }

    /// Waits for whoever appends now.
    #[inline]
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    /// Waits for whoever syncs now.
    pub(super) fn syncing(&self) -> Syncing<'_> {
        Syncing { _held: self.syncing.lock() }
    }

    pub(super) fn end(&self) -> Position {
        self.writer().end()
    }

    /// Every commit up to this one is on disk.
    pub(super) fn durable_sequence(&self) -> Sequence {
        self.writer().durable_sequence
    }

    /// Waits until the log is durable up to `end`. Whoever gets the turn syncs, as `sync` does, for all who have committed
    /// until then.
    pub(super) fn sync_to(&self, end: Position, sync: impl FnOnce(&Syncing<'_>) -> Result<Position>) -> Result<()> {
        match self.turns.take(end) {
            Waited::IsDurable => return Ok(()),
            Waited::HasTurn => {}
        }
        let durable = self.sync_alone(end, sync);
        self.turns.end(durable.as_ref().ok().copied());
        durable.map(|_| ())
    }

    /// Makes the log durable up to `end` at least; returns how far it is.
    fn sync_alone(&self, end: Position, sync: impl FnOnce(&Syncing<'_>) -> Result<Position>) -> Result<Position> {
        let syncing = self.syncing();
        if let Some(durable) = self.writer().durable.filter(|durable| *durable >= end) {
            return Ok(durable);
        }
        sync(&syncing)
    }

    /// Where the log ends, if it has groups behind the last mark and anything is written any more.
    pub(super) fn unmarked(&self, health: &Health) -> Option<Position> {
        let writer = self.writer();
        let end = writer.end();
        (writer.active.is_some() && writer.marked < end && !health.is_poisoned()).then_some(end)
    }
}

/// The right to sync the log: one sync after the other, so that each finds what the one before has left.
pub(super) struct Syncing<'e> {
    _held: MutexGuard<'e, ()>,
}

/// The end of the log. Whoever has it is the only one who appends, commits, and takes sequence numbers.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) committing: Committing,
    /// The growing segment and its memtable; none before the first write, and after a flush of everything.
    pub(super) active: Option<(SegmentWriter, Arc<Memtable>)>,
    pub(super) next_sequence: Sequence,
    /// Where the last segment ended, for the chain.
    pub(super) last_end: Position,
    /// Frozen segments that have not been synced since their last group, oldest first, and where they end.
    pub(super) unsynced: Vec<(Position, Arc<dyn SyncFile>)>,
    /// Everything before this place of the log is known to be on disk. Moved by whoever also has [`Syncing`].
    pub(super) durable: Option<Position>,
    /// Every commit up to this one is on disk, here or in a table.
    durable_sequence: Sequence,
    /// Whether a segment has been created since the directory was synced.
    pub(super) directory_dirty: bool,
    /// The newest segment of which the manifest knows that something in it is durable.
    pub(super) recorded: FileNumber,
    /// Keys of the last memtable, to size the next one.
    pub(super) expected_keys: usize,
    /// The end of the log when the last mark was written.
    pub(super) marked: Position,
    /// Whether removals are in the growing segment.
    pub(super) has_removals: bool,
    /// The newest sequence number of a change that is not in the log.
    pub(super) beside_log: Sequence,
}

impl Writer {
    pub(super) fn new(next_sequence: Sequence, last_end: Position) -> Self {
        Self {
            committing: Committing::default(),
            active: None,
            next_sequence,
            last_end,
            unsynced: Vec::new(),
            durable: None,
            durable_sequence: Sequence(next_sequence.0 - 1),
            directory_dirty: false,
            recorded: last_end.segment,
            expected_keys: 0,
            marked: last_end,
            has_removals: false,
            beside_log: Sequence(0),
        }
    }

    /// The newest sequence number that has been given away.
    #[inline]
    pub(super) fn last_sequence(&self) -> Sequence {
        Sequence(self.next_sequence.0 - 1)
    }

    /// What is in a durable table needs no sync of the log any more.
    pub(super) fn forget(&mut self, flushed: FileNumber) {
        self.unsynced.retain(|(position, _)| position.segment > flushed);
    }

    /// Freezes the growing memtable, if there is one.
    pub(super) fn freeze(&mut self, store: &Store) {
        let Some((log, memtable)) = self.active.take() else { return };
        let end = Position { segment: log.number(), offset: log.end() };
        debug_assert!(self.last_end < end, "segments follow each other");
        debug_assert!(self.unsynced.last().is_none_or(|(last, _)| *last < end), "the oldest are synced first");
        self.last_end = end;
        self.unsynced.push((self.last_end, log.syncer()));
        self.expected_keys = memtable.keys();
        self.has_removals = false;
        store.publish(|read_state| read_state.growing = false);
    }

    /// The end of the log.
    #[inline]
    pub(super) fn end(&self) -> Position {
        match &self.active {
            Some((log, _)) => Position { segment: log.number(), offset: log.end() },
            None => self.last_end,
        }
    }

    /// What a sync has to do now.
    pub(super) fn unsynced(&self) -> Unsynced {
        let end = self.end();
        let mut files = self.unsynced.clone();
        if self.durable < Some(end) {
            files.extend(self.active.as_ref().map(|(log, _)| (end, log.syncer())));
        }
        let unrecorded = self.recorded < end.segment;
        Unsynced { end, last: self.last_sequence(), files, directory: self.directory_dirty, unrecorded }
    }

    /// Takes down that a sync has done it.
    pub(super) fn note_synced(&mut self, synced: &Unsynced) {
        debug_assert!(synced.end <= self.end(), "nothing is durable that is not in the log");
        self.unsynced.retain(|(position, _)| *position > synced.end);
        if self.end().segment == synced.end.segment {
            self.directory_dirty = false;
        }
        self.durable = self.durable.max(Some(synced.end));
        self.durable_sequence = self.durable_sequence.max(synced.last);
    }

    /// Whether the segment has room for so many entries, and its memtable, which has at most `cap` of them.
    #[inline]
    pub(super) fn has_room(&self, body_bytes: u64, count: u64, for_use: Use, cap: Option<usize>) -> bool {
        let Some((log, memtable)) = &self.active else { return false };
        let entries = memtable.entries();
        let below_cap = cap.is_none_or(|cap| entries < cap as u64);
        let spanned = self.next_sequence.0 + count - log.base().0;
        log.has_room(body_bytes, for_use) && below_cap && !memtable.is_full() && spanned < SEQUENCE_SPAN
    }
}

/// What a sync of the log has to do at one moment.
pub(super) struct Unsynced {
    pub(super) end: Position,
    /// The newest commit in front of the end.
    pub(super) last: Sequence,
    /// Oldest first, with the place up to which each is to be synced.
    pub(super) files: Vec<(Position, Arc<dyn SyncFile>)>,
    pub(super) directory: bool,
    /// Whether the manifest does not know yet that there is anything durable in the segment of the end.
    pub(super) unrecorded: bool,
}

/// Who syncs, and how far the log is durable: where those wait who want no more than that. They must not queue for [`Syncing`],
/// behind somebody who syncs what he has committed since.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<Turn>,
    /// The state has changed.
    over: Condvar,
}

impl Default for Turns {
    fn default() -> Self {
        Self { state: Mutex::new(LockRank::Turns, Turn::default()), over: Condvar::default() }
    }
}

/// How a wait for a turn to sync has ended.
enum Waited {
    IsDurable,
    HasTurn,
}

#[derive(Debug, Default)]
struct Turn {
    taken: bool,
    durable: Option<Position>,
}

impl Turns {
    /// Waits until the log is durable up to `end`, or it is the caller's turn to make it so, and to [end it](Self::end).
    fn take(&self, end: Position) -> Waited {
        let mut turn = self.state.lock();
        loop {
            if turn.durable >= Some(end) {
                return Waited::IsDurable;
            }
            if !turn.taken {
                turn.taken = true;
                return Waited::HasTurn;
            }
            self.over.wait(&mut turn);
        }
    }

    fn end(&self, durable: Option<Position>) {
        let mut turn = self.state.lock();
        turn.taken = false;
        turn.durable = turn.durable.max(durable);
        drop(turn);
        self.over.notify_all();
    }
}
