//! The reserve: space that is kept for a full disk, so that what makes space finds some.
//!
//! It has three parts. Each segment of the log keeps room behind its end for removals (`log::writer`), and the manifest for
//! edits (`version::manifest`): enough to say what is to go. The third is a file of nothing but space, [`RESERVE`], as large
//! as the output of the next flush, and of a compaction of one table, may become. Whoever makes space (a flush, a
//! compaction, a removal that needs another segment) and finds the disk full gives that file up by unlinking it and tries
//! again. It is unlinked, not renamed and filled: outputs end where their entries end, and no file is ever cut short.
//!
//! What it has given up is kept from ordinary commits: they are refused until it is whole again, for the log as long as they
//! would make it. It is made whole by the first one for which there is space, or in the background. Who sleeps until there
//! is space is a thread with a clock: nobody tells when another program removes a file.
//!
//! A flush and a compaction give back nothing before their outputs are on disk, and meanwhile what they write may be all that
//! the reserve had. So a call that makes space, and finds none, waits for the work under way to end and tries again.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::background::{WAIT_STEP, Work};
use super::log::Writer;
use super::{Engine, Files, Readers};
use crate::error::{Bug, Error, Result, is_full};
use crate::format::group::{GROUP_HEADER_BYTES, Group};
use crate::format::names::RESERVE;
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::log::{SegmentWriter, Use};
use crate::sys::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::{Ahead, LockRank, Mutex, MutexGuard, now};

/// The room that each segment keeps: this share of the size of a memtable, and of the reserve, and no more than this.
const ROOM_SHARE: u64 = 16;
const RESERVE_SHARE: u64 = 64;
const LOG_ROOM_MAX: u64 = 256 << 10;

/// What a flush takes beside the bytes of its entries: a manifest, the next segment, the ends of files.
const BESIDE_BYTES: u64 = 256 << 10;

/// The reserve follows the log in steps of this size.
const STEP_BYTES: u64 = 256 << 10;

/// How often somebody looks whether there is space again, and how often removals are flushed for others to get some.
const LOOK: Duration = Duration::from_millis(500);

/// A call that makes space waits for the work of others no longer than this, all in all: that may be a compaction with a
/// filter, whose code waits for the caller.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Reserve {
    /// Bytes that are kept at the most.
    limit: u64,
    /// Ordinary commits may make a segment this long without a look at the reserve.
    covers: AtomicU64,
    /// An ordinary commit has been refused for want of space.
    pressed: AtomicBool,
    /// Flushes and compactions whose inputs are gone.
    freed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Space that the file holds, as far as it is known.
    bytes: u64,
    /// How many are at work with what it has given up.
    spending: usize,
    /// It has been given up, or could not be made as large as it should be.
    wanting: bool,
    /// When to look again whether there is space.
    look_at: Duration,
    /// When removals were flushed last for the sake of others.
    relieved_at: Option<Duration>,
}

/// Work with what the reserve has given up; ordinary commits get none of it.
pub(super) struct Spending<'r>(&'r Reserve);

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        self.0.state.lock().spending -= 1;
    }
}

/// What a flush of `log` bytes may have to write: entries of 32 bytes come with ten of index.
fn needed(log: u64, largest_table: u64, limit: u64) -> u64 {
    let flushed = log.saturating_add(log / 2);
    let compacted = largest_table.saturating_add(largest_table / 8);
    flushed.max(compacted).saturating_add(BESIDE_BYTES).min(limit)
}

impl Reserve {
    /// Of so many bytes at the most.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            covers: AtomicU64::new(0),
            pressed: AtomicBool::new(false),
            freed: AtomicU64::new(0),
            state: Mutex::new(LockRank::Reserve, State::default()),
        }
    }

    /// Makes sure that the reserve suffices for a segment of `end` bytes, and for the work that is left to be done.
    fn keep(&self, end: u64, readers: &Readers, files: &Files) -> Result<()> {
        let limit = self.limit;
        let refused = |e| Error::io("reserve space in", &files.path_of(RESERVE), e);
        let mut state = self.state.lock();
        if limit == 0 {
            self.covers.store(u64::MAX, Ordering::Relaxed);
            return Ok(());
        }
        if state.spending > 0 {
            return Err(refused(io::ErrorKind::StorageFull.into()));
        }
        let read_state = readers.read_state();
        let frozen = read_state.frozen().iter().map(|memtable| memtable.log_bytes()).max().unwrap_or(0);
        let largest = read_state.version.tables().map(|(_, table)| table.meta.file_bytes).max().unwrap_or(0);
        state.look_at = now() + LOOK;
        let mut full = io::Error::from(io::ErrorKind::StorageFull);
        for covered in [end.next_power_of_two(), end.next_multiple_of(STEP_BYTES), end] {
            let bytes = needed(covered.max(frozen), largest, limit);
            let held = if state.bytes >= bytes { Ok(state.bytes) } else { files.dir.hold_space(RESERVE, bytes) };
            match held {
                Err(e) if is_full(&e) => full = e,
                // The file system cannot keep space, or the process cannot open another file: then there is no reserve.
                held => {
                    state.bytes = held.unwrap_or(0);
                    state.wanting = false;
                    self.covers.store(covered, Ordering::Relaxed);
                    self.pressed.store(false, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
        state.wanting = true;
        Err(refused(full))
    }

    /// How far ahead the log may take space, and what keeps that true meanwhile: what the reserve has given up, for a flush
    /// perhaps, must not become a segment or the end of one.
    pub(super) fn growth(&self) -> (Ahead, MutexGuard<'_, State>) {
        let state = self.state.lock();
        let ahead = if state.wanting || state.spending > 0 { Ahead::Needed } else { Ahead::Doubling };
        (ahead, state)
    }

    /// Gives the reserve up, if there is something to give.
    fn give_up(&self, files: &Files) -> Option<Spending<'_>> {
        let mut state = self.state.lock();
        // An earlier run may have left one that this one has not looked at yet.
        let removed = self.limit > 0 && files.dir.remove(RESERVE).is_ok();
        if !removed && state.spending == 0 {
            return None;
        }
        state.spending += 1;
        (state.bytes, state.wanting) = (0, true);
        self.covers.store(0, Ordering::Relaxed);
        Some(Spending(self))
    }

    /// A flush or a compaction has given back more than it took.
    pub(super) fn note_freed(&self) {
        self.freed.fetch_add(1, Ordering::Release);
    }

    /// How long until somebody should look after the reserve.
    pub(super) fn look_after_in(&self) -> Option<Duration> {
        let state = self.state.lock();
        let pressed = self.pressed.load(Ordering::Relaxed);
        (state.wanting || pressed).then_some(LOOK)
    }

    /// Bytes that the reserve holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }
}

impl Engine {
    /// The room that each segment keeps for removals.
    pub(super) fn log_room(&self) -> u64 {
        let of_memtable = self.options.memtable_bytes as u64 / ROOM_SHARE;
        of_memtable.min(self.options.reserve_bytes / RESERVE_SHARE).min(LOG_ROOM_MAX)
    }

    /// Makes sure that the reserve suffices for a segment that a commit makes `end` bytes long.
    #[inline]
    pub(super) fn cover(&self, end: u64) -> Result<()> {
        if end <= self.reserve.covers.load(Ordering::Relaxed) { Ok(()) } else { self.keep_reserve(end) }
    }

    #[cold]
    fn keep_reserve(&self, end: u64) -> Result<()> {
        let kept = self.reserve.keep(end, &self.readers, &self.files);
        if kept.is_err() {
            self.note_pressed();
        }
        kept
    }

    /// An ordinary commit was refused: if there are removals, they are worth a flush now.
    pub(super) fn note_pressed(&self) {
        if !self.reserve.pressed.swap(true, Ordering::Relaxed) {
            self.background.wake();
        }
    }

    /// Does work that makes space; on a full disk, with what the reserve gives up.
    pub(super) fn with_reserve<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(e) if e.is_full() && !self.health.is_poisoned() => {
                let Some(_spending) = self.reserve.give_up(&self.files) else { return Err(e) };
                work()
            }
            other => other,
        }
    }

    /// Does what makes space for its caller. Where it finds none, but others are at work, who may give some back, it is done
    /// again when they are done. What this thread holds must not be in their way.
    #[inline]
    pub(super) fn once_there_is_space<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            // What has ended all writing is told as it is.
            Err(e) if e.is_full() && !self.health.is_poisoned() && self.within().is_none() => self.keep_trying(work),
            other => other,
        }
    }

    #[cold]
    fn keep_trying<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let until = now() + WAIT_MAX;
        loop {
            self.health.check_writable()?;
            let (freed, beside) = (self.reserve.freed.load(Ordering::Acquire), self.is_at_work());
            let refused = match work() {
                Err(e) if e.is_full() && !self.health.is_poisoned() => e,
                other => return other,
            };
            let is_new = || self.reserve.freed.load(Ordering::Acquire) != freed;
            // Work that has ended without success has given back what it had taken.
            if now() >= until || !(beside || is_new() || self.is_at_work()) {
                return Err(refused);
            }
            while !is_new() && now() < until {
                self.background.wait_for_progress(WAIT_STEP);
                // Between the tries of a thread there may be space as well.
                if !self.scheduler.is_working() {
                    break;
                }
            }
        }
    }

    /// Makes the reserve whole again if it is not, and there is space.
    pub(super) fn refill_reserve(&self) {
        {
            let state = self.reserve.state.lock();
            if !state.wanting || state.spending > 0 || now() < state.look_at {
                return;
            }
        }
        let writer = self.log.writer();
        let end = writer.active.as_ref().map_or(1, |(log, _)| log.end());
        let _ = self.reserve.keep(end, &self.readers, &self.files);
    }

    /// On a full disk, freezes a memtable with removals, so that they are flushed and what they remove can go.
    pub(super) fn relieve(&self) {
        if !self.reserve.pressed.load(Ordering::Relaxed) {
            return;
        }
        let mut writer = self.log.writer();
        if !writer.has_removals {
            return;
        }
        {
            let mut state = self.reserve.state.lock();
            if state.relieved_at.is_some_and(|at| now() < at + LOOK) {
                return;
            }
            state.relieved_at = Some(now());
        }
        self.reserve.pressed.store(false, Ordering::Relaxed);
        self.freeze(&mut writer);
    }

    /// Where the reserve has been given up, a commit that makes space first sees to it that what the log already has to say is
    /// done: its own entries would take the space for that. What cannot be flushed even so is no reason to refuse it.
    pub(super) fn make_space_first(&self) -> Result<()> {
        if self.reserve.covers.load(Ordering::Relaxed) > 0 || !self.reserve.state.lock().wanting {
            return Ok(());
        }
        while !self.readers.read_state().frozen().is_empty() {
            match self.flush_oldest() {
                Ok(Work::Done) => {}
                Err(e) if !e.is_full() => return Err(e),
                Ok(Work::NoneDue) | Err(_) => break,
            }
        }
        self.refill_reserve();
        Ok(())
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
        if let Err(e) = self.cover(SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES + bytes)
            && for_use == Use::Ordinary
        {
            return Err(e);
        }
        match self.rotate(writer, bytes) {
            Err(e) if for_use == Use::Freeing && e.is_full() => {
                if writer.has_room(bytes, count, Use::Freeing, self.options.memtable_entries) {
                    return Ok(());
                }
                self.with_reserve(|| self.rotate(writer, bytes))
            }
            Err(e) if e.is_full() => {
                self.note_pressed();
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
            self.note_pressed();
            return Err(refused);
        }
        self.with_reserve(|| {
            let room = log.make_room(group.span(), for_use, Ahead::Needed);
            room.and_then(|()| log.append(group, &fill)).map_err(|e| self.log_error(log, e))
        })
    }
}
