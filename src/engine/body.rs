//! What a commit writes: the body of one group of the log.

use zerocopy::IntoBytes;

use crate::batch::{WriteBatch, check_lengths};
use crate::error::{Bug, Error, Result, bug, must};
use crate::format::alignment::Alignment;
use crate::format::entry::{Entry, Kind, alignment_of, entry_bytes, stamp, write_entry};
use crate::format::group::{GROUP_HEADER_BYTES, GroupKind, RUN_HEADER_BYTES, RunHeader, padding_before_run};
use crate::format::{KeyspaceId, Sequence};
use crate::keyspace_state::{Committing, KeyspaceState, Owner};
use crate::log::{self, Use};

/// What a commit writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    One { keyspace: &'a KeyspaceState, kind: Kind, key: &'a [u8], value: &'a [u8] },
    Batch(&'a WriteBatch),
}

impl Body<'_> {
    pub(super) fn kind(&self) -> GroupKind {
        match self {
            Self::One { keyspace, .. } if keyspace.id == KeyspaceId::DEFAULT => GroupKind::Plain,
            _ => GroupKind::Data,
        }
    }

    /// Bytes of the group's body, at most: padding depends on where it goes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::One { keyspace, key, value, .. } => {
                let (key_bytes, value_bytes) = (key.len() as u64, value.len() as u64);
                if self.kind() == GroupKind::Plain {
                    return entry_bytes(key_bytes, value_bytes, Alignment::None);
                }
                let padding = room(usize::from(keyspace.alignment == Alignment::Sixteen));
                padding + RUN_HEADER_BYTES + entry_bytes(key_bytes, value_bytes, keyspace.alignment)
            }
            Self::Batch(batch) => batch.body().len() as u64 + room(batch.wide_runs()),
        }
    }

    /// Bytes of a body that begins at `start` of the segment and has at most `bytes`.
    pub(super) fn bytes_at(&self, start: u64, bytes: u64) -> Result<u64, Bug> {
        match self {
            Self::One { keyspace, .. } if keyspace.alignment != Alignment::Sixteen => Ok(bytes),
            Self::One { keyspace, .. } => Ok(bytes - room(1) + padding_before_run(start, keyspace.alignment)),
            Self::Batch(batch) if batch.wide_runs() == 0 => Ok(bytes),
            Self::Batch(batch) => runs_of(batch).try_fold(0, |length, run| {
                let (_, entries) = run?;
                let padding = padding_before_run(start + length, alignment_of(entries)?);
                Ok(length + padding + RUN_HEADER_BYTES + entries.len() as u64)
            }),
        }
    }

    /// Whether it makes space: nothing but removals does.
    pub(super) fn for_use(&self) -> Use {
        let removes = match self {
            Self::One { kind, .. } => kind.removes(),
            Self::Batch(batch) => batch.only_removes(),
        };
        if removes { Use::Freeing } else { Use::Ordinary }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::One { .. } => 1,
            Self::Batch(batch) => batch.len() as u64,
        }
    }

    /// Whether it merges something, which somebody has to look after.
    #[inline]
    pub(super) fn merges(&self) -> bool {
        match self {
            Self::One { kind, .. } => *kind == Kind::Merge,
            Self::Batch(batch) => batch.merges() > 0,
        }
    }

    /// Shows the keys that it merges something into.
    #[cold]
    pub(super) fn visit_merges(&self, mut visit: impl FnMut(KeyspaceId, &[u8])) {
        let batch = match self {
            Self::One { keyspace, key, .. } => return visit(keyspace.id, key),
            Self::Batch(batch) => batch,
        };
        for (keyspace, entries) in runs_of(batch).map_while(Result::ok) {
            let mut at = 0;
            // Of an alignment of 16, the places count from where the run stands, which is one of those as well.
            while let Ok(entry) = Entry::parse(entries, at, entries.len(), Sequence(0)) {
                if entry.kind() == Kind::Merge {
                    visit(keyspace, entry.key(entries));
                }
                at = entry.next();
            }
        }
    }

    /// `default` is the default keyspace.
    pub(super) fn check(&self, owner: &Owner, default: &KeyspaceState, limit: u64) -> Result<()> {
        match self {
            Self::One { key, value, keyspace, kind } => {
                check_lengths(key, value)?;
                if *kind == Kind::Merge {
                    keyspace.check_operator()?;
                }
            }
            Self::Batch(batch) => batch.check(owner, default)?,
        }
        let bytes = GROUP_HEADER_BYTES + self.bytes();
        if bytes > limit || self.count() > u64::from(u32::MAX) {
            return Err(Error::BatchTooLarge { bytes, limit });
        }
        Ok(())
    }

    /// Whether all keyspaces that it names take commits.
    #[inline]
    pub(super) fn check_keyspaces(&self, committing: &Committing) -> Result<()> {
        match self {
            Self::One { keyspace, .. } => keyspace.check_open(committing),
            Self::Batch(batch) => batch.check_keyspaces(committing),
        }
    }

    /// Writes the body to `start` of the segment, all of `out`; its entries get the sequence numbers from `first` on.
    pub(super) fn write(&self, out: &mut [u8], start: u64, first: Sequence) -> Result<(), Bug> {
        match self {
            Self::One { kind, key, value, .. } if self.kind() == GroupKind::Plain => {
                write_entry(out, *kind, first, key, value, Alignment::None)
            }
            Self::One { keyspace, kind, key, value } => {
                let out = write_padding(out, padding_before_run(start, keyspace.alignment))?;
                let (header, entry) = room_for(out, size_of::<RunHeader>())?;
                header.copy_from_slice(RunHeader::new(keyspace.id, entry.len() as u64).as_bytes());
                write_entry(entry, *kind, first, key, value, keyspace.alignment)
            }
            Self::Batch(batch) => {
                let (mut out, mut start, mut sequence) = (out, start, first);
                for run in runs_of(batch) {
                    let (keyspace, entries) = run?;
                    let padding = padding_before_run(start, alignment_of(entries)?);
                    let (header, rest) = room_for(write_padding(out, padding)?, size_of::<RunHeader>())?;
                    header.copy_from_slice(RunHeader::new(keyspace, entries.len() as u64).as_bytes());
                    let (run, rest) = room_for(rest, entries.len())?;
                    run.copy_from_slice(entries);
                    sequence = Sequence(sequence.0 + stamp(run, sequence)?);
                    start += padding + RUN_HEADER_BYTES + entries.len() as u64;
                    out = rest;
                }
                must(out.is_empty(), "a batch has less bytes than it says")?;
                must(sequence.0 - first.0 == batch.len() as u64, "a batch has another number of changes than it says")
            }
        }
    }
}

/// The runs of a batch: their keyspaces and entries.
fn runs_of(batch: &WriteBatch) -> impl Iterator<Item = Result<(KeyspaceId, &[u8]), Bug>> {
    log::runs(GroupKind::Data, batch.body())
        .map(|run| run.map(|(keyspace, _, entries)| (keyspace, entries)).map_err(|_| bug("a batch is no list of runs")))
}

/// The first `length` bytes of `out`, and the rest.
#[inline]
fn room_for(out: &mut [u8], length: usize) -> Result<(&mut [u8], &mut [u8]), Bug> {
    out.split_at_mut_checked(length).ok_or_else(|| bug("a group has less room than it takes"))
}

/// Room for padding in front of runs.
fn room(runs: usize) -> u64 {
    runs as u64 * RUN_HEADER_BYTES
}

/// Fills the front of `out` with `bytes` of padding runs, and returns the rest.
#[inline]
fn write_padding(out: &mut [u8], bytes: u64) -> Result<&mut [u8], Bug> {
    if bytes == 0 {
        return Ok(out);
    }
    must(bytes == RUN_HEADER_BYTES, "the padding of a run is not one empty run")?;
    let (padding, rest) = room_for(out, size_of::<RunHeader>())?;
    padding.copy_from_slice(RunHeader::padding().as_bytes());
    Ok(rest)
}
