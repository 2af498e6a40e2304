//! What can be done with a database.

use std::fmt;
use std::ops::Bound;

use maplsm::{Durability, Fault};

use super::Map;
use super::setup::Setup;

pub(crate) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Insert(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    RemoveRange(Range),
    /// The operand goes behind the value.
    Merge(Vec<u8>, Vec<u8>),
}

/// Which keyspace a change is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// The one of the run, which is always there.
    First,
    /// The other one, which is made and dropped on the way.
    Second,
}

/// Changes in order.
pub(crate) type Commit = Vec<(Space, Change)>;

/// How a commit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `insert`, `merge` or `remove`, with the durability of the options.
    Single,
    /// A batch with the durability of the options.
    Batch,
    /// A batch with its own.
    With(Durability),
    /// A batch that does not wait for the disk.
    Submitted,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    First,
    Last,
    Seek,
    SeekBack,
    Next,
    Prev,
}

/// One operation.
#[derive(Clone)]
pub(crate) enum Op {
    Write(Commit, How),
    Ingest(Space, Map),
    /// Makes the second keyspace, or drops it, if it is not so already.
    CreateSecond,
    DropSecond,
    Get(Vec<u8>),
    /// Keeps the value to look at it again later.
    Hold(Vec<u8>),
    Scan(Range, Vec<bool>),
    Prefix(Vec<u8>, Vec<bool>),
    IterOpen(Range),
    /// Bits say which end moves.
    IterMove(usize, Vec<bool>),
    CursorOpen,
    CursorMove(usize, Vec<(Move, Vec<u8>)>),
    Take,
    Look(usize, Vec<u8>),
    LookAll(usize),
    Release(usize),
    Flush,
    Maintain,
    Wait,
    Compact,
    CompactRange(Range),
    Sync,
    /// Waits for a submitted commit.
    Await(usize),
    Checkpoint,
    Check,
    Reopen(Setup),
    Kill(Setup),
    PowerCut(u64, Setup),
    ReadOnly,
    Crash(Crash),
}

/// Something goes wrong while operations go on.
#[derive(Debug, Clone)]
pub(crate) struct Crash {
    pub(super) fault: Fault,
    pub(super) work: Vec<Op>,
    /// The seed of a power cut, or the death of the process.
    pub(super) power_cut: Option<u64>,
    /// The disk stops again in the recovery.
    pub(super) again: Option<(u64, u64)>,
    pub(super) setup: Setup,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |bytes: &Vec<u8>| Bytes(bytes.clone());
        let ends = |range: &Range| (range.0.as_ref().map(short), range.1.as_ref().map(short));
        match self {
            Self::Write(commit, how) => {
                let first: Vec<_> = commit
                    .iter()
                    .take(3)
                    .map(|(space, change)| match change {
                        Change::Insert(key, value) => format!("{space:?} {:?} = {} bytes", short(key), value.len()),
                        Change::Remove(key) => format!("{space:?} {:?} removed", short(key)),
                        Change::Merge(key, operand) => format!("{space:?} {:?} + {} bytes", short(key), operand.len()),
                        Change::RemoveRange(range) => format!("{space:?} {:?} removed", ends(range)),
                    })
                    .collect();
                write!(f, "Write({how:?}, {} changes: {first:?})", commit.len())
            }
            Self::Ingest(space, entries) => {
                let keys: Vec<_> = entries.keys().take(3).map(short).collect();
                write!(f, "Ingest({space:?}, {} entries: {keys:?})", entries.len())
            }
            Self::CreateSecond => write!(f, "CreateSecond"),
            Self::DropSecond => write!(f, "DropSecond"),
            Self::Get(key) => write!(f, "Get({:?})", short(key)),
            Self::Hold(key) => write!(f, "Hold({:?})", short(key)),
            Self::Scan(range, moves) => write!(f, "Scan({:?}, {} moves)", ends(range), moves.len()),
            Self::Prefix(prefix, moves) => write!(f, "Prefix({:?}, {} moves)", short(prefix), moves.len()),
            Self::IterOpen(range) => write!(f, "IterOpen({:?})", ends(range)),
            Self::IterMove(slot, moves) => write!(f, "IterMove({slot}, {moves:?})"),
            Self::CursorOpen => write!(f, "CursorOpen"),
            Self::CursorMove(slot, moves) => {
                let moves: Vec<_> = moves.iter().map(|(to, key)| (to, short(key))).collect();
                write!(f, "CursorMove({slot}, {moves:?})")
            }
            Self::Take => write!(f, "Take"),
            Self::Look(slot, key) => write!(f, "Look({slot}, {:?})", short(key)),
            Self::LookAll(slot) => write!(f, "LookAll({slot})"),
            Self::Release(slot) => write!(f, "Release({slot})"),
            Self::Flush => write!(f, "Flush"),
            Self::Maintain => write!(f, "Maintain"),
            Self::Wait => write!(f, "Wait"),
            Self::Compact => write!(f, "Compact"),
            Self::CompactRange(range) => write!(f, "CompactRange({:?})", ends(range)),
            Self::Sync => write!(f, "Sync"),
            Self::Await(slot) => write!(f, "Await({slot})"),
            Self::Checkpoint => write!(f, "Checkpoint"),
            Self::Check => write!(f, "Check"),
            Self::Reopen(setup) => write!(f, "Reopen({setup:?})"),
            Self::Kill(setup) => write!(f, "Kill({setup:?})"),
            Self::PowerCut(seed, setup) => write!(f, "PowerCut({seed}, {setup:?})"),
            Self::ReadOnly => write!(f, "ReadOnly"),
            Self::Crash(crash) => crash.fmt(f),
        }
    }
}

/// Bytes that are printed short.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..16).unwrap_or(&self.0);
        write!(f, "b\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() { write!(f, "..[{}]", self.0.len()) } else { Ok(()) }
    }
}
