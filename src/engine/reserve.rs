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
use std::sync::Arc;
use std::time::Duration;

use super::background::Background;
use super::files::Files;
use super::health::Health;
use super::log::LogEnd;
use super::readers::Readers;
use super::store::Store;
use crate::error::{Error, Result, is_full};
use crate::format::names::RESERVE;
use crate::sys::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::{Ahead, LockRank, Mutex, MutexGuard, now};

/// What a flush takes beside the bytes of its entries: a manifest, the next segment, the ends of files.
const BESIDE_BYTES: u64 = 256 << 10;

/// The reserve follows the log in steps of this size.
const STEP_BYTES: u64 = 256 << 10;

/// How often somebody looks whether there is space again, and how often removals are flushed for others to get some.
const LOOK: Duration = Duration::from_millis(500);

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
    files: Arc<Files>,
    readers: Arc<Readers>,
    health: Arc<Health>,
    background: Arc<Background>,
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
    pub(super) fn new(
        limit: u64,
        files: &Arc<Files>,
        readers: &Arc<Readers>,
        health: &Arc<Health>,
        background: &Arc<Background>,
    ) -> Self {
        Self {
            limit,
            covers: AtomicU64::new(0),
            pressed: AtomicBool::new(false),
            freed: AtomicU64::new(0),
            state: Mutex::new(LockRank::Reserve, State::default()),
            files: Arc::clone(files),
            readers: Arc::clone(readers),
            health: Arc::clone(health),
            background: Arc::clone(background),
        }
    }

    /// Makes sure that the reserve suffices for a segment of `end` bytes, and for the work that is left to be done.
    fn keep(&self, end: u64) -> Result<()> {
        let limit = self.limit;
        let refused = |e| Error::io("reserve space in", &self.files.path_of(RESERVE), e);
        let mut state = self.state.lock();
        if limit == 0 {
            self.covers.store(u64::MAX, Ordering::Relaxed);
            return Ok(());
        }
        if state.spending > 0 {
            return Err(refused(io::ErrorKind::StorageFull.into()));
        }
        let read_state = self.readers.read_state();
        let frozen = read_state.frozen().iter().map(|memtable| memtable.log_bytes()).max().unwrap_or(0);
        let largest = read_state.version.tables().map(|(_, table)| table.meta.file_bytes).max().unwrap_or(0);
        state.look_at = now() + LOOK;
        let mut full = io::Error::from(io::ErrorKind::StorageFull);
        for covered in [end.next_power_of_two(), end.next_multiple_of(STEP_BYTES), end] {
            let bytes = needed(covered.max(frozen), largest, limit);
            let held = if state.bytes >= bytes { Ok(state.bytes) } else { self.files.dir.hold_space(RESERVE, bytes) };
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

    /// Makes sure that the reserve suffices for a segment that a commit makes `end` bytes long.
    #[inline]
    pub(super) fn cover(&self, end: u64) -> Result<()> {
        if end <= self.covers.load(Ordering::Relaxed) { Ok(()) } else { self.keep_or_note(end) }
    }

    #[cold]
    fn keep_or_note(&self, end: u64) -> Result<()> {
        let kept = self.keep(end);
        if kept.is_err() {
            self.note_pressed();
        }
        kept
    }

    /// An ordinary commit was refused: if there are removals, they are worth a flush now.
    pub(super) fn note_pressed(&self) {
        if !self.pressed.swap(true, Ordering::Relaxed) {
            self.background.wake();
        }
    }

    /// How far ahead the log may take space, and what keeps that true meanwhile: what the reserve has given up, for a flush
    /// perhaps, must not become a segment or the end of one.
    pub(super) fn growth(&self) -> (Ahead, MutexGuard<'_, State>) {
        let state = self.state.lock();
        let ahead = if state.wanting || state.spending > 0 { Ahead::Needed } else { Ahead::Doubling };
        (ahead, state)
    }

    /// Gives the reserve up, if there is something to give.
    fn give_up(&self) -> Option<Spending<'_>> {
        let mut state = self.state.lock();
        // An earlier run may have left one that this one has not looked at yet.
        let removed = self.limit > 0 && self.files.dir.remove(RESERVE).is_ok();
        if !removed && state.spending == 0 {
            return None;
        }
        state.spending += 1;
        (state.bytes, state.wanting) = (0, true);
        self.covers.store(0, Ordering::Relaxed);
        Some(Spending(self))
    }

    /// Does work that makes space; on a full disk, with what the reserve gives up.
    pub(super) fn with_reserve<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(e) if e.is_full() && !self.health.is_poisoned() => {
                let Some(_spending) = self.give_up() else { return Err(e) };
                work()
            }
            other => other,
        }
    }

    /// A flush or a compaction has given back more than it took.
    pub(super) fn note_freed(&self) {
        self.freed.fetch_add(1, Ordering::Release);
    }

    /// How often something has been given back.
    pub(super) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Acquire)
    }

    /// Whether it has been given up, and commits that make space have to do with what there is.
    pub(super) fn is_given_up(&self) -> bool {
        self.covers.load(Ordering::Relaxed) == 0 && self.state.lock().wanting
    }

    /// Makes the reserve whole again if it is not, and there is space.
    pub(super) fn refill(&self, log: &LogEnd) {
        {
            let state = self.state.lock();
            if !state.wanting || state.spending > 0 || now() < state.look_at {
                return;
            }
        }
        let writer = log.writer();
        let end = writer.active.as_ref().map_or(1, |(segment, _)| segment.end());
        let _ = self.keep(end);
    }

    /// On a full disk, freezes a memtable with removals, so that they are flushed and what they remove can go.
    pub(super) fn relieve(&self, log: &LogEnd, store: &Store) {
        if !self.pressed.load(Ordering::Relaxed) {
            return;
        }
        let mut writer = log.writer();
        if !writer.has_removals {
            return;
        }
        {
            let mut state = self.state.lock();
            if state.relieved_at.is_some_and(|at| now() < at + LOOK) {
                return;
            }
            state.relieved_at = Some(now());
        }
        self.pressed.store(false, Ordering::Relaxed);
        writer.freeze(store);
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
