//! Optimistic commits: whether anything that a transaction has read has been written since.
//!
//! Backward validation (Kung and Robinson, "On Optimistic Methods for Concurrency Control", 1981): the commits since the
//! transaction began are the tail of the log, so their keys are looked up in what it has read. That happens beside other
//! commits; only what they add meanwhile is looked at under the writer's lock. If the tail has been flushed already, or has a
//! hole where tables were loaded, the newest versions of what was read are looked up instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::body::Body;
use super::files::Files;
use super::log::Writer;
use super::read_state::ReadState;
use super::readers::{Readers, ValidatedUpTo};
use super::write::{Check, Committed, Committer};
use crate::batch::WriteBatch;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind};
use crate::format::names::FileKind;
use crate::format::range::{Edge, range_of};
use crate::format::{KeyspaceId, Position, Sequence};
use crate::keyspace_state::KeyspaceState;
use crate::memtable::Memtable;
use crate::merge::{Merge, Place};
use crate::options::Durability;
use crate::sys::atomic::Ordering;
use crate::visibility::{RangeSet, Visibility};

/// What must not have changed, keyspace by keyspace.
pub(crate) type ReadSet = BTreeMap<KeyspaceId, RangeSet>;

/// Commits that may be left for the look under the lock: a few microseconds' worth.
const LEFT_FOR_LOCK: u64 = 64;

/// Rounds beside other commits. Each has only those to look at that were made during the one before.
const ROUNDS: usize = 8;

/// What the tail of the log says.
enum Tail {
    Untouched(ValidatedUpTo),
    Touched,
    /// A part of it has been flushed, or loaded into tables without it.
    Gone,
}

impl Committer {
    /// Commits a batch if nothing in `read_set` has been written since `began`, at which a reader is registered, and none of
    /// `keyspaces` has been dropped; returns where it ends in the log.
    pub(crate) fn commit_if_untouched(
        &self,
        batch: &WriteBatch,
        read_set: &ReadSet,
        began: ValidatedUpTo,
        keyspaces: &[Arc<KeyspaceState>],
        durability: Durability,
    ) -> Result<Position> {
        if batch.is_empty() {
            // What it has read is the store as it was at one moment; but of a poisoned one, that may be gone after the next
            // open.
            self.health.check_open().and_then(|()| self.health.check_intact())?;
            return Ok(self.log.end());
        }
        let mut validated = began;
        for _ in 0..ROUNDS {
            validated = self.health.events.noted(self.validate(read_set, validated))?;
            if self.readers.visible().0.saturating_sub(validated.sequence.0) > LEFT_FOR_LOCK {
                continue;
            }
            let check = |writer: &Writer| {
                if keyspaces.iter().any(|keyspace| keyspace.check_open(&writer.committing).is_err()) {
                    return Err(self.conflict());
                }
                match look_at_tail((&self.readers, &self.files), read_set, validated, writer.last_sequence())? {
                    Tail::Untouched(_) => Ok(Check::Passed),
                    Tail::Touched => Err(self.conflict()),
                    Tail::Gone => Ok(Check::Outdated),
                }
            };
            if let Committed::UpTo(end) = self.commit_checked(Body::Batch(batch), durability, check)? {
                return Ok(end);
            }
        }
        // Others commit faster than this one looks.
        Err(self.conflict())
    }

    fn conflict(&self) -> Error {
        self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
        Error::Conflict
    }

    /// Looks at everything that is visible now.
    fn validate(&self, read_set: &ReadSet, from: ValidatedUpTo) -> Result<ValidatedUpTo> {
        let upto = self.readers.visible();
        match look_at_tail((&self.readers, &self.files), read_set, from, upto)? {
            Tail::Untouched(validated) => Ok(validated),
            Tail::Touched => Err(self.conflict()),
            Tail::Gone if is_newer(&self.readers, read_set, from.sequence)? => Err(self.conflict()),
            Tail::Gone => Ok(ValidatedUpTo { sequence: upto, hint: None }),
        }
    }
}

/// Looks at the entries behind `from`, up to `upto` at least.
fn look_at_tail(
    (readers, files): (&Readers, &Files),
    read_set: &ReadSet,
    from: ValidatedUpTo,
    upto: Sequence,
) -> Result<Tail> {
    if upto <= from.sequence {
        return Ok(Tail::Untouched(from));
    }
    let read_state = readers.load();
    let newer = read_state.memtables.iter().take_while(|memtable| memtable.max_sequence() > from.sequence);
    let tail: Vec<&Arc<Memtable>> = newer.collect();
    let mut validated = from;
    for memtable in tail.into_iter().rev() {
        if memtable.base().0 > validated.sequence.0 + 1 {
            return Ok(Tail::Gone);
        }
        match look_at(files, memtable, read_set, validated)? {
            Tail::Untouched(seen) => validated = seen,
            other => return Ok(other),
        }
    }
    Ok(if validated.sequence >= upto { Tail::Untouched(validated) } else { Tail::Gone })
}

/// Looks at the entries of one segment behind `from`.
fn look_at(files: &Files, memtable: &Memtable, read_set: &ReadSet, from: ValidatedUpTo) -> Result<Tail> {
    let bytes = memtable.bytes();
    let start = from.hint.filter(|hint| hint.segment == memtable.number()).map_or(0, |hint| hint.offset);
    let (mut touched, mut skipped) = (false, false);
    let mut upto = from.sequence;
    let visit = |keyspace, entry: &Entry| {
        if entry.sequence > from.sequence {
            skipped |= entry.sequence.0 > upto.0 + 1;
            upto = entry.sequence;
            touched = touched || read_set.get(&keyspace).is_some_and(|ranges| touches(bytes, entry, ranges));
        }
    };
    memtable
        .visit(start, bytes, visit)
        .map_err(|(offset, fault)| fault.at(&files.path_of(&FileKind::Segment.name(memtable.number())), offset))?;
    let hint = Position { segment: memtable.number(), offset: bytes.len() as u64 };
    Ok(match (touched, skipped) {
        (true, _) => Tail::Touched,
        (false, true) => Tail::Gone,
        (false, false) => Tail::Untouched(ValidatedUpTo { sequence: upto, hint: Some(hint) }),
    })
}

/// Whether anything in the read set has a version newer than `since`, at which a reader is registered. Looks it up:
/// O(log n) for each key and O(n) for the entries of each range.
fn is_newer(readers: &Readers, read_set: &ReadSet, since: Sequence) -> Result<bool> {
    let read_state = readers.read_state();
    for (keyspace, ranges) in read_set {
        if ranges_newer(&read_state, *keyspace, ranges, since, || readers.retain())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn touches(bytes: &[u8], entry: &Entry, ranges: &RangeSet) -> bool {
    match (entry.kind(), range_of(entry.key(bytes), entry.value(bytes))) {
        (Kind::RangeDelete, Ok((start, end))) => ranges.intersects(&start.to_owned(), &end.to_owned()),
        _ => ranges.contains(entry.key(bytes)),
    }
}

fn ranges_newer(
    read_state: &ReadState,
    keyspace: KeyspaceId,
    ranges: &RangeSet,
    since: Sequence,
    rule: impl Fn() -> Visibility,
) -> Result<bool> {
    let (sources, cover) = read_state.sources(keyspace, (Edge::START, Edge::End), rule)?;
    let removals = cover.fragments().flat_map(|fragments| fragments.list().iter());
    for removal in removals.filter(|removal| removal.sequences.first().is_some_and(|newest| *newest > since)) {
        if ranges.intersects(&removal.start.to_owned(), &removal.end.to_owned()) {
            return Ok(true);
        }
    }
    let mut merge = Merge::new(sources);
    for (start, end) in ranges.iter() {
        merge.go(Place::AtOrBehind(start.key()))?;
        while let Some(top) = merge.top() {
            let key = merge.key(&top);
            if end.is_in_front_of(key) {
                break;
            }
            if top.entry.sequence > since && start.is_in_front_of(key) {
                return Ok(true);
            }
            merge.advance()?;
        }
    }
    Ok(false)
}
