//! What a store does by itself, as it tells a [listener](crate::Options::listener).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Corruption, Error};

/// Why a compaction is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum CompactionReason {
    /// Level 0 has as many tables as it may have: [`Options::l0_tables`](crate::Options::l0_tables), twice that over a large
    /// level 1.
    Level0Tables,
    /// A level above the deepest one has more bytes than it may have.
    LevelBytes,
    /// The deepest level has more bytes than it may have, so all of it moves one level down. Nothing is rewritten.
    LevelsFull,
    /// Nobody has written for a second, and what stands above the deepest level takes much space.
    Calm,
    /// Reads had to merge level 0 so often that merging it for good is cheaper.
    Readers,
    /// Much of a table is tombstones and old versions that nobody needs any more.
    Tombstones,
    /// Neighbours on a level are much smaller than [`Options::table_bytes`](crate::Options::table_bytes), and become one table.
    SmallTables,
    /// Keyspaces have too little in many tables of level 0 for tables of their own: these become one that they share.
    SmallKeyspaces,
    /// Much of the value files is garbage.
    ValueGarbage,
    /// The disk is full, and these tables take less space without what newer removals hide in them, or as one.
    FullDisk,
    /// Somebody has asked for it: [`Db::compact`](crate::Db::compact), [`Db::compact_range`](crate::Db::compact_range).
    Asked,
}

/// Why a commit is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum StallReason {
    /// Memtables wait to be flushed, so each commit is delayed: a flush takes longer than it takes to fill one.
    FrozenMemtables,
    /// There are many tables of level 0, so each commit is delayed: compactions do not keep up.
    Level0Tables,
    /// As many bytes are frozen as may be: see [`Options::max_frozen_bytes`](crate::Options::max_frozen_bytes). The commit
    /// waits until something is flushed.
    FrozenBytes,
}

/// Something that has happened in a store; see [`Options::listener`](crate::Options::listener).
///
/// For serializers (feature `serde`), durations are numbers of seconds, in fields `took_seconds`.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Event {
    /// The open has read the log: [`Db::recovery_report`](crate::Db::recovery_report) says more. The first event of a store.
    #[non_exhaustive]
    Recovered {
        /// Whether the last run was closed, or there was nothing in the log.
        clean: bool,
        /// Commits replayed.
        groups: u64,
        /// Entries replayed.
        entries: u64,
        /// Bytes cut off at the end of the log, none of which was acknowledged as durable.
        dropped_bytes: u64,
    },
    /// A flush begins.
    #[non_exhaustive]
    FlushBegan {
        /// Bytes of log that wait to be flushed.
        bytes: u64,
    },
    /// A flush is over.
    #[non_exhaustive]
    FlushEnded {
        /// The tables that it has made.
        tables: Vec<u64>,
        /// What they and their value files and indexes take.
        bytes: u64,
        /// How long it has taken.
        #[cfg_attr(feature = "serde", serde(rename = "took_seconds", serialize_with = "crate::serial::seconds"))]
        took: Duration,
        /// Why nothing has come of it, if it has failed.
        error: Option<Error>,
    },
    /// A compaction begins. Tables that move to another level as they are make no event.
    #[non_exhaustive]
    CompactionBegan {
        /// Its number in this run.
        number: u64,
        /// Why it is done.
        reason: CompactionReason,
        /// The tables that it takes, each with its level.
        inputs: Vec<(u8, u64)>,
        /// What it takes of them, in bytes.
        bytes: u64,
        /// The level that its tables go to.
        output_level: u8,
    },
    /// A compaction is over.
    #[non_exhaustive]
    CompactionEnded {
        /// That of its beginning.
        number: u64,
        /// Why it was done.
        reason: CompactionReason,
        /// The tables that it has made.
        outputs: Vec<u64>,
        /// What they and their value files and indexes take.
        bytes: u64,
        /// How long it has taken.
        #[cfg_attr(feature = "serde", serde(rename = "took_seconds", serialize_with = "crate::serial::seconds"))]
        took: Duration,
        /// Why nothing has come of it, if it has failed.
        error: Option<Error>,
    },
    /// From now on, commits are held up, or for another reason than before.
    #[non_exhaustive]
    StallBegan {
        /// Why.
        reason: StallReason,
    },
    /// Commits are not held up any more for this reason.
    #[non_exhaustive]
    StallEnded {
        /// Why they were.
        reason: StallReason,
        /// For how long.
        #[cfg_attr(feature = "serde", serde(rename = "took_seconds", serialize_with = "crate::serial::seconds"))]
        took: Duration,
    },
    /// A call, or work in the background, has come upon damage, or [`Db::verify`](crate::Db::verify) has found it. Each place
    /// is told once.
    CorruptionFound(Arc<Corruption>),
    /// A flush or a compaction has failed on a background thread, and is going to be tried again. Callers hear of it when it
    /// keeps failing and they have to wait for it.
    BackgroundError(Error),
    /// The store takes no more writes until it is opened again: see [`Error::Poisoned`].
    Poisoned(Error),
    /// A file was made, under this name.
    FileMade(String),
    /// A file was removed.
    FileRemoved(String),
    /// Edits go into a fresh manifest from now on.
    ManifestReplaced,
    /// So many events after the one before this were dropped: the listener was too slow.
    Missed(u64),
}

/// The code that is told.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(&Event) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
