//! Iterators and cursors.

mod entry;
mod parts;

use std::fmt;
use std::ops::RangeBounds;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::engine::{Engine, Reading};
use crate::error::{Damage, Error, Result};
use crate::format::Sequence;
use crate::format::range::{Edge, Range, behind_prefix, edges};
use crate::keyspace_state::KeyspaceState;
use crate::merge::{Place, Scan};
use crate::meter::Sampled;
use crate::slice::view_as;

pub use entry::Entry;
pub use parts::{KeyIter, ValueIter};

/// A range of keys as the caller gave it.
#[derive(Debug, Clone)]
pub(crate) struct KeyRange {
    pub(crate) start: Edge,
    pub(crate) end: Edge,
}

impl KeyRange {
    pub(crate) fn new<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Self {
        let (start, end) = edges(range);
        Self { start, end }
    }

    pub(crate) fn all() -> Self {
        Self { start: Edge::START.to_owned(), end: Edge::End }
    }

    /// All keys that begin with `prefix`: up to the shortest key that is after all of them, if there is one.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let end = behind_prefix(prefix).map_or(Edge::End, Edge::Before);
        Self { start: Edge::Before(prefix.to_vec()), end }
    }

    fn edges(&self) -> Range<'_> {
        (self.start.as_ref(), self.end.as_ref())
    }

    #[inline]
    fn is_before_end(&self, scan: &Scan) -> bool {
        self.end == Edge::End || !self.end.is_in_front_of(scan.key())
    }

    #[inline]
    fn is_behind_start(&self, scan: &Scan) -> bool {
        self.start.is_in_front_of(scan.key())
    }

    /// Goes to the first key of the range; returns whether there is one.
    fn first(&self, scan: &mut Scan) -> Result<bool> {
        let mut found = scan.go(Place::AtOrBehind(self.start.key()))?;
        if found && !self.is_behind_start(scan) {
            found = scan.next()?;
        }
        self.goes_on(scan, found, true)
    }

    /// Goes to the last key of the range; returns whether there is one.
    fn last(&self, scan: &mut Scan) -> Result<bool> {
        let mut found = match &self.end {
            Edge::End => scan.go(Place::Last)?,
            Edge::Before(key) | Edge::After(key) => scan.go(Place::AtOrInFront(key))?,
        };
        if found && !self.is_before_end(scan) {
            found = scan.prev()?;
        }
        self.goes_on(scan, found, false)
    }

    /// Whether the entry that a scan has found is in the range, at the end where it is going. The last look is at the one
    /// behind the first that is not: of a table out of order, that may be in the range again.
    #[inline]
    fn goes_on(&self, scan: &mut Scan, found: bool, forward: bool) -> Result<bool> {
        let is_inside = |scan| if forward { self.is_before_end(scan) } else { self.is_behind_start(scan) };
        if !found || is_inside(scan) { Ok(found) } else { end_in_order(scan, forward) }
    }
}

/// Returns false, or the error of a table out of order. What else is wrong outside of a range is no business of it.
#[cold]
fn end_in_order(scan: &mut Scan, forward: bool) -> Result<bool> {
    match if forward { scan.next() } else { scan.prev() } {
        Err(e) if e.corruption().is_some_and(|corruption| corruption.what == Damage::OutOfOrder) => Err(e),
        _ => Ok(false),
    }
}

/// The entries of a range in order of key, from both ends, as they were when the iterator was made.
///
/// Owns what it needs: it may be stored, sent to another thread, and outlive flushes and compactions. While it lives, the
/// versions that it sees and the tables that it walks are kept. Each step costs O(1) amortised; each entry keeps alive what it
/// is in, which costs a reference count when it is dropped. See [`Cursor`] for scans without that.
///
/// After an error the iterator ends.
pub struct Iter {
    range: KeyRange,
    /// An error is the first item.
    reading: Result<Reading>,
    /// None before the first move of that end.
    front: Option<Box<Scan>>,
    back: Option<Box<Scan>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Neither end has moved yet.
    Fresh,
    /// Only the front has moved.
    Forward,
    /// Only the back has moved.
    Backward,
    /// Both have: they stop where they meet.
    Both,
    Ended,
}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iter({:?} at {:?})", self.range, moment(&self.reading))
    }
}

impl Iter {
    pub(crate) fn new(reading: Result<Reading>, range: KeyRange) -> Self {
        Self { range, reading, front: None, back: None, state: State::Fresh }
    }

    /// Over what there is now.
    pub(crate) fn now(engine: &Engine, keyspace: &KeyspaceState, range: KeyRange) -> Self {
        Self::new(engine.reading(keyspace, engine.readers.register()), range)
    }

    /// The first entry.
    pub(crate) fn first(mut self) -> Result<Option<Entry>> {
        self.next().transpose()
    }

    /// The last entry.
    pub(crate) fn last_entry(mut self) -> Result<Option<Entry>> {
        self.next_back().transpose()
    }

    /// Whether there is no entry. Nothing is pinned for it.
    pub(crate) fn has_none(mut self) -> Result<bool> {
        self.advance().map(|found| !found)
    }

    /// Moves the front on to `key`: what [`next`](Iterator::next) returns then is the first entry at or after it. What lies
    /// between is passed, for both ends. The front does not go back, and the range ends where it did: with a key that the
    /// front has passed, nothing happens. O(log n), with the next move of the front.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// # for i in 0..10u8 { db.write_with(maplsm::WriteBatch::new().insert([i], [i]), maplsm::Durability::Buffered)?; }
    /// let mut entries = db.iter();
    /// entries.seek([7]);
    /// assert_eq!(entries.next().transpose()?.expect("there is one").key(), [7]);
    /// assert_eq!(entries.count(), 2);
    /// # db.close()
    /// # }
    /// ```
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        let moved = matches!(self.state, State::Forward | State::Both);
        let is_passed = moved && self.front.as_ref().is_some_and(|front| front.key() >= key);
        if is_passed || self.range.start.as_ref() >= Edge::Before(key) {
            return;
        }
        self.range.start = Edge::Before(key.to_vec());
        // The front has to be found anew; its scan goes there.
        self.state = match self.state {
            State::Forward => State::Fresh,
            State::Both => State::Backward,
            other => other,
        };
    }

    /// Whether an end that has found an entry has not met the other one. Where it has, it takes the last look.
    #[inline]
    fn meet(&mut self, found: bool, forward: bool) -> Result<bool> {
        if !found || self.state != State::Both || !self.crossed() {
            return Ok(found);
        }
        let end = if forward { &mut self.front } else { &mut self.back };
        end.as_mut().map_or(Ok(false), |scan| end_in_order(scan, forward))
    }

    /// Whether front and back have passed each other.
    fn crossed(&self) -> bool {
        match (&self.front, &self.back) {
            (Some(front), Some(back)) if front.is_at_entry() && back.is_at_entry() => front.key() >= back.key(),
            _ => true,
        }
    }

    #[inline]
    fn advance(&mut self) -> Result<bool> {
        let range = &self.range;
        let found = match (self.state, &mut self.front) {
            (State::Ended, _) => return Ok(false),
            (State::Forward | State::Both, Some(front)) => {
                let found = front.next()?;
                range.goes_on(front, found, true)?
            }
            (_, front) => {
                let back = self.back.as_deref();
                seek(&mut self.reading, |reading| range.first(scan(front, back, reading, range)?))?
            }
        };
        self.state = if matches!(self.state, State::Backward | State::Both) { State::Both } else { State::Forward };
        self.meet(found, true)
    }

    fn advance_back(&mut self) -> Result<bool> {
        let range = &self.range;
        let found = match (self.state, &mut self.back) {
            (State::Ended, _) => return Ok(false),
            (State::Backward | State::Both, Some(back)) => {
                let found = back.prev()?;
                range.goes_on(back, found, false)?
            }
            (_, back) => {
                let front = self.front.as_deref();
                seek(&mut self.reading, |reading| range.last(scan(back, front, reading, range)?))?
            }
        };
        self.state = if matches!(self.state, State::Forward | State::Both) { State::Both } else { State::Backward };
        self.meet(found, false)
    }

    #[inline]
    fn item(&mut self, moved: Result<bool>, back: bool) -> Option<Result<Entry>> {
        match moved {
            Ok(true) => {
                let scan = if back { &mut self.back } else { &mut self.front };
                scan.as_mut()?.pin_from_purse().map(|pinned| Ok(Entry(pinned)))
            }
            Ok(false) => {
                self.state = State::Ended;
                None
            }
            Err(e) => {
                self.state = State::Ended;
                note_error(&self.reading, &e);
                Some(Err(e))
            }
        }
    }
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let moved = self.advance();
        self.item(moved, false)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        let moved = self.advance_back();
        self.item(moved, true)
    }
}

impl std::iter::FusedIterator for Iter {}

/// The scan of one end of a range, made if there is none: that of the other end, to begin with, if that is there.
#[cold]
fn scan<'s>(
    end: &'s mut Option<Box<Scan>>,
    other: Option<&Scan>,
    reading: &mut Result<Reading>,
    range: &KeyRange,
) -> Result<&'s mut Scan> {
    let scan = match (end.take(), other, reading) {
        (Some(scan), ..) => scan,
        (None, Some(other), _) => Box::new(other.clone()),
        (None, None, Ok(reading)) => reading.scan(range.edges())?,
        (None, None, Err(e)) => return Err(e.clone()),
    };
    Ok(end.insert(scan))
}

/// Runs a seek, and measures it if it is one of those.
#[inline]
fn seek(reading: &mut Result<Reading>, run: impl FnOnce(&mut Result<Reading>) -> Result<bool>) -> Result<bool> {
    let begun = reading.as_ref().ok().and_then(|reading| reading.at.meters().begin(Sampled::Seek));
    let found = run(reading);
    let found = found.inspect_err(|e| note_error(reading, e))?;
    if let (Some(begun), Ok(reading)) = (begun, &*reading) {
        reading.at.meters().end(Sampled::Seek, begun);
    }
    Ok(found)
}

/// A move has failed.
#[cold]
fn note_error(reading: &Result<Reading>, error: &Error) {
    if let Ok(reading) = reading {
        reading.at.note_error(error);
    }
}

/// For messages.
fn moment(reading: &Result<Reading>) -> std::result::Result<Sequence, &Error> {
    reading.as_ref().map(|reading| reading.at.at)
}

/// Makes the scan of a cursor, and sends it to a place.
#[cold]
fn go_first(scan: &mut Option<Box<Scan>>, reading: &mut Result<Reading>, place: Place<'_>) -> Result<bool> {
    match reading {
        Ok(reading) => scan.insert(reading.scan((Edge::START, Edge::End))?).go(place),
        Err(e) => Err(e.clone()),
    }
}

/// A position in the store, as it was when the cursor was made: moves in both directions and lends key and value without
/// counting references. After an error it is nowhere, until it is sent somewhere again.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// # for i in 0..10u8 { db.write_with(maplsm::WriteBatch::new().insert([i], [i]), maplsm::Durability::Buffered)?; }
/// let mut cursor = db.cursor();
/// let mut sum = 0;
/// let mut more = cursor.seek([3])?;
/// while more {
///     sum += u32::from(cursor.value()[0]);
///     more = cursor.next()?;
/// }
/// assert_eq!(sum, (3..10).sum());
/// # db.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Cursor {
    /// None before the first seek.
    scan: Option<Box<Scan>>,
    /// An error is the answer of every seek.
    reading: Result<Reading>,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor(at {:?})", moment(&self.reading))
    }
}

impl Cursor {
    pub(crate) fn new(reading: Result<Reading>) -> Self {
        Self { scan: None, reading }
    }

    /// Over what there is now.
    pub(crate) fn now(engine: &Engine, keyspace: &KeyspaceState) -> Self {
        Self::new(engine.reading(keyspace, engine.readers.register()))
    }

    fn go(&mut self, place: Place<'_>) -> Result<bool> {
        let scan = &mut self.scan;
        seek(&mut self.reading, |reading| match scan {
            Some(scan) => scan.go(place),
            None => go_first(scan, reading, place),
        })
    }

    /// Goes to the first entry; returns whether there is one. O(log n).
    pub fn seek_first(&mut self) -> Result<bool> {
        self.go(Place::First)
    }

    /// Goes to the last entry; returns whether there is one. O(log n).
    pub fn seek_last(&mut self) -> Result<bool> {
        self.go(Place::Last)
    }

    /// Goes to the first entry at or after `key`; returns whether there is one. O(log n).
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.go(Place::AtOrBehind(key.as_ref()))
    }

    /// Goes to the last entry at or before `key`; returns whether there is one. O(log n).
    pub fn seek_back(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.go(Place::AtOrInFront(key.as_ref()))
    }

    /// Goes to the first entry after `key`, which need not be there; returns whether there is one. O(log n).
    pub fn seek_after(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        Ok(self.seek(key)? && (self.key() != key || self.next()?))
    }

    /// Goes to the last entry before `key`, which need not be there; returns whether there is one. O(log n).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2").insert("c", "3"))?;
    /// let mut cursor = db.cursor();
    /// assert!(cursor.seek_before("b")? && cursor.key() == b"a");
    /// assert!(cursor.seek_after("b")? && cursor.key() == b"c");
    /// # db.close()
    /// # }
    /// ```
    pub fn seek_before(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        Ok(self.seek_back(key)? && (self.key() != key || self.prev()?))
    }

    /// Goes to the next entry; returns whether there is one. A cursor that is nowhere (new, or past an end) stays there. O(1).
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a lending cursor, not an iterator: it answers `Result<bool>`")]
    pub fn next(&mut self) -> Result<bool> {
        match &mut self.scan {
            Some(scan) => scan.next().inspect_err(|e| note_error(&self.reading, e)),
            None => Ok(false),
        }
    }

    /// Goes to the entry in front; returns whether there is one. O(1).
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        match &mut self.scan {
            Some(scan) => scan.prev().inspect_err(|e| note_error(&self.reading, e)),
            None => Ok(false),
        }
    }

    /// Whether the cursor is at an entry.
    pub fn is_valid(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.is_at_entry())
    }

    /// The key of the current entry; empty if there is none.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match &self.scan {
            Some(scan) => scan.key(),
            None => &[],
        }
    }

    /// The value of the current entry; empty if there is none.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match &self.scan {
            Some(scan) => scan.value(),
            None => &[],
        }
    }

    /// The value of the current entry as a `T`, in place; see [`Slice::get_as`](crate::Slice::get_as).
    pub fn value_as<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T> {
        view_as(self.value())
    }

    /// The current entry, kept alive on its own.
    pub fn entry(&self) -> Option<Entry> {
        self.scan.as_ref()?.pin().map(Entry)
    }
}
