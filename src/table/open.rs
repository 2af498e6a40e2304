//! Which tables and value files of a database are open, and which ones are let go.
//!
//! An open table costs the process two mappings, or, with `IoMode::Read`, a descriptor, and the system gives it so many and no
//! more. So a database keeps [`Options::max_open_tables`](crate::Options::max_open_tables) of them open, and all databases
//! of a process together half of what the system allows. Who opens one more lets others go first, those that were used longest
//! ago among some that are looked at in turn. Nobody else ever lets go of a table, and a lookup in an open one does not count
//! itself, see [`Eras`]: it leaves the number of its era, a relaxed store that is due once in an era.
//!
//! What a slice, an iterator or a cursor uses stays open, over the limits, until the process has three quarters of what the
//! system allows: then [`Error::TooManyOpenTables`].
//!
//! Of a table that was let go stay its metadata, its range tombstones, a bit for each chunk that has been verified, and its
//! index if that is in memory and not mapped.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sys::{Era, Eras, LockRank, Mutex, OnceLock, OpenFiles, Taken, is_shortage, pause};

/// At most this many are let go at a time, so that an era ends for many of them.
const AT_A_TIME: usize = 32;

/// Looked at for each of those that are to go.
const LOOKED_AT: usize = 8;

/// Looked at by someone who is not in need, even if all of them are in use.
const LOOKED_AT_MAX: usize = 1024;

/// How often to wait for lookups that have what was let go: about a second.
const PAUSES: usize = if cfg!(shuttle) { 100 } else { 2000 };

/// Shows readers a read state with the current era.
pub(crate) trait Renew: Send + Sync {
    fn renew(&self);
}

/// A table or value file as the clock sees it.
pub(super) trait Lending: Send + Sync {
    /// The number of the last era in which it was used.
    fn last_use(&self) -> u64;

    /// Lets it go, unless someone has it pinned or is opening it.
    fn let_go(&self, taken: &mut Taken<'_>) -> bool;
}

/// Those that are open, in no order.
#[derive(Default)]
struct Clock {
    seats: Vec<Option<Weak<dyn Lending>>>,
    free: Vec<usize>,
    hand: usize,
}

impl Clock {
    fn sit(&mut self, who: Weak<dyn Lending>) -> usize {
        if let Some(seat) = self.free.pop()
            && let Some(place) = self.seats.get_mut(seat)
        {
            *place = Some(who);
            return seat;
        }
        self.seats.push(Some(who));
        self.seats.len() - 1
    }

    fn leave(&mut self, seat: usize) {
        if self.seats.get_mut(seat).and_then(Option::take).is_some() {
            self.free.push(seat);
        }
    }

    /// The next `count` ones from the hand on, or as many as there are. The result may have the last handle of a table,
    /// which leaves its seat when it is dropped, and so not before the clock is unlocked.
    fn next(&mut self, count: usize) -> Vec<Arc<dyn Lending>> {
        let mut found = Vec::with_capacity(count);
        for _ in 0..self.seats.len() {
            if found.len() == count {
                break;
            }
            self.hand = if self.hand + 1 < self.seats.len() { self.hand + 1 } else { 0 };
            found.extend(self.seats.get(self.hand).and_then(Option::as_ref).and_then(Weak::upgrade));
        }
        found
    }
}

/// The open tables and value files of one database.
pub(crate) struct OpenTables {
    most: usize,
    files: OpenFiles,
    pub(super) eras: Eras,
    clock: Mutex<Clock>,
    open: AtomicUsize,
    openings: AtomicU64,
    renew: OnceLock<Weak<dyn Renew>>,
}

impl fmt::Debug for OpenTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenTables({} of {})", self.len(), self.most)
    }
}

impl OpenTables {
    /// At most `most` of them, or a share of what the system allows.
    pub(super) fn new(most: Option<usize>, files: OpenFiles) -> Self {
        Self {
            most: most.unwrap_or_else(|| files.tables_of_one()),
            files,
            eras: Eras::new(),
            clock: Mutex::new(LockRank::Clock, Clock::default()),
            open: AtomicUsize::new(0),
            openings: AtomicU64::new(0),
            renew: OnceLock::new(),
        }
    }

    /// The era that is now, for the read state that is shown next.
    pub(crate) fn era(&self) -> Era {
        self.eras.current()
    }

    /// Who is to be told that an era has ended. Until then, and once he is gone, nobody borrows.
    pub(crate) fn shown_by(&self, renew: Weak<dyn Renew>) {
        let _ = self.renew.set(renew);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How often one has been opened.
    pub(crate) fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    /// Opens one more with `open`, when others have been let go if there are too many. Whoever calls this holds no era,
    /// since it may have to wait for those who do.
    pub(super) fn admit<T>(&self, open: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            match open() {
                // Others than tables may have used up what there is.
                Err(Error::Io(e)) if is_shortage(&e.source) && self.let_go(AT_A_TIME, usize::MAX) > 0 => {}
                other => return other,
            }
        }
    }

    /// Makes room for one more.
    pub(super) fn make_room(&self) -> Result<()> {
        self.eras.release();
        let over = (self.len() + 1).saturating_sub(self.most);
        if over > 0 || self.is_above(self.files.comfortable()) {
            self.let_go(over.max((self.most / 16).clamp(1, AT_A_TIME)), LOOKED_AT_MAX);
        }
        for _ in 0..PAUSES {
            if !self.is_above(self.files.most()) {
                return Ok(());
            }
            // Lookups under way still have some of what has been let go.
            if self.eras.waiting() == 0 && self.let_go(AT_A_TIME, usize::MAX) == 0 {
                break;
            }
            pause();
            self.eras.release();
        }
        if self.is_above(self.files.most()) { Err(self.too_many()) } else { Ok(()) }
    }

    /// Whether one more would make more than `files` open files.
    fn is_above(&self, files: usize) -> bool {
        self.files.open() + self.files.by_table() > files
    }

    #[cold]
    fn too_many(&self) -> Error {
        Error::TooManyOpenTables { open: self.files.open(), limit: self.files.most(), max_open_tables: self.most }
    }

    /// Lets up to `wanted` of them go that nobody uses, of at most `look_at`; returns how many.
    fn let_go(&self, wanted: usize, look_at: usize) -> usize {
        let mut taken = self.eras.taking();
        let mut left = self.len().min(look_at);
        while left > 0 && taken.len() < wanted {
            let count = ((wanted - taken.len()) * LOOKED_AT).max(2 * AT_A_TIME).min(left);
            left -= count;
            let mut looked_at = self.clock.lock().next(count);
            looked_at.sort_by_cached_key(|one| one.last_use());
            for one in &looked_at {
                if taken.len() == wanted {
                    break;
                }
                one.let_go(&mut taken);
            }
        }
        let gone = taken.len();
        // The era ends.
        drop(taken);
        if gone > 0 {
            if let Some(renew) = self.renew.get().and_then(Weak::upgrade) {
                renew.renew();
            }
            self.eras.release();
        }
        gone
    }

    /// Drops what has been let go and is not used any more.
    pub(crate) fn release(&self) {
        self.eras.release();
    }

    pub(super) fn sit(&self, who: Weak<dyn Lending>) -> usize {
        self.openings.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.clock.lock().sit(who)
    }

    pub(super) fn leave(&self, seat: usize) {
        self.clock.lock().leave(seat);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
