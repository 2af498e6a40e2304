//! The log and the vote.

use std::fmt::{self, Debug};
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use maplsm::{Durability, WriteBatch};
use openraft::log_id::RaftLogId;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    ErrorSubject, ErrorVerb, LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig, StorageError, Vote,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::blocking;
use crate::error::{Error, Result, failed};
use crate::group::Shared;
use crate::record::{Record, index_of};

/// Bytes of entries after which a read that may return fewer ends.
const READ_BYTES_MAX: usize = 4 << 20;

/// The log and the vote of a group: openraft's [`RaftLogStorage`] and [`RaftLogReader`]. From [`Group::open`](crate::Group::open).
///
/// | call | is done when | durable by then |
/// |---|---|---|
/// | `append` | the entries can be read; openraft's callback is called when they are durable | at the callback |
/// | `save_vote` | the vote is durable | yes, with all that was appended before |
/// | `truncate`, `purge`, `save_committed` | it can be read | with the next append or vote, and never later than what follows it |
///
/// What follows in time is never there after a crash without what was before it, as all of it goes through one log, so
/// a truncation is durable when entries that replace what was truncated are. Truncation and purge cost the same however many
/// entries they remove.
pub struct LogStore<C> {
    shared: Arc<Shared>,
    config: PhantomData<fn() -> C>,
}

impl<C> Debug for LogStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogStore({:?})", self.shared.log)
    }
}

/// Both ends of the log, and what was purged before it, at one moment.
struct Ends<C: RaftTypeConfig> {
    first: Option<u64>,
    last: Option<LogId<C::NodeId>>,
    purged: Option<LogId<C::NodeId>>,
}

impl<C> LogStore<C>
where
    C: RaftTypeConfig,
    C::Entry: DeserializeOwned,
{
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, config: PhantomData }
    }

    fn ends(shared: &Shared) -> Result<Ends<C>> {
        let snapshot = shared.log.snapshot();
        let purged: Option<LogId<C::NodeId>> = Shared::read_at(&snapshot.keyspace(&shared.meta), Record::Purged)?;
        let first = snapshot.iter().next().transpose()?.map(|entry| index_of(entry.key())).transpose()?;
        let last = snapshot.iter().next_back().transpose()?;
        let last = last.map(|entry| decode::<C>(entry.key(), entry.value())).transpose()?;
        let last = last.map(|(_, entry)| entry.get_log_id().clone());
        Ok(Ends { first, last, purged })
    }
}

/// An entry of the log with its index.
fn decode<C>(key: &[u8], value: &[u8]) -> Result<(u64, C::Entry)>
where
    C: RaftTypeConfig,
    C::Entry: DeserializeOwned,
{
    let index = index_of(key)?;
    let record = Record::Entry(index);
    let entry: C::Entry = record.decode(value)?;
    if entry.get_log_id().index != index {
        return Err(Error::Malformed { record, problem: "it has another index than its key" });
    }
    Ok((index, entry))
}

/// The entries of a range, from `start` on and before `end`; of those, at least one and what comes to about `bytes_max`.
///
/// What is missing at either end of the range must lie outside of the log, else it is a hole.
fn read<C>(shared: &Shared, start: u64, end: Option<u64>, bytes_max: usize) -> Result<Vec<C::Entry>>
where
    C: RaftTypeConfig,
    C::Entry: DeserializeOwned,
{
    let log = shared.log.snapshot();
    let key = |index: u64| index.to_be_bytes();
    let from = Bound::Included(key(start));
    let mut entries = Vec::new();
    let (mut next, mut bytes) = (start, 0usize);
    for found in log.range((from, end.map_or(Bound::Unbounded, |end| Bound::Excluded(key(end))))) {
        let found = found?;
        let (index, entry) = decode::<C>(found.key(), found.value())?;
        let before_all = || Ok::<_, Error>(log.range(..key(start)).next_back().transpose()?.is_none());
        if index != next && !(entries.is_empty() && before_all()?) {
            return Err(Error::Hole { missing: next });
        }
        entries.push(entry);
        bytes = bytes.saturating_add(found.value().len());
        next = index.saturating_add(1);
        if bytes >= bytes_max {
            return Ok(entries);
        }
    }
    if let Some(end) = end.filter(|end| next < *end) {
        let after = log.range(key(end)..).next().transpose()?.is_some();
        let before = !entries.is_empty() || log.range(..key(start)).next_back().transpose()?.is_some();
        if after && before {
            return Err(Error::Hole { missing: next });
        }
    }
    Ok(entries)
}

async fn read_range<C>(
    shared: &Arc<Shared>,
    range: impl RangeBounds<u64>,
    bytes_max: usize,
) -> Result<Vec<C::Entry>, StorageError<C::NodeId>>
where
    C: RaftTypeConfig,
    C::Entry: DeserializeOwned,
{
    let start = match range.start_bound() {
        Bound::Included(&index) => Some(index),
        Bound::Excluded(&index) => index.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index.checked_add(1),
        Bound::Excluded(&index) => Some(index),
        Bound::Unbounded => None,
    };
    let Some(start) = start.filter(|start| end.is_none_or(|end| *start < end)) else { return Ok(Vec::new()) };
    let shared = Arc::clone(shared);
    let entries = blocking(move || read::<C>(&shared, start, end, bytes_max)).await;
    entries.map_err(failed(ErrorSubject::LogIndex(start), ErrorVerb::Read))
}

impl<C> RaftLogReader<C> for LogStore<C>
where
    C: RaftTypeConfig,
    C::Entry: DeserializeOwned,
{
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError<C::NodeId>> {
        read_range::<C>(&self.shared, range, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<C::Entry>, StorageError<C::NodeId>> {
        read_range::<C>(&self.shared, start..end, READ_BYTES_MAX).await
    }
}

impl<C> LogStore<C>
where
    C: RaftTypeConfig,
    C::Entry: Serialize + DeserializeOwned,
{
    /// The batch that appends entries.
    fn batch_of(&self, entries: impl IntoIterator<Item = C::Entry>) -> Result<WriteBatch> {
        let (mut batch, mut next) = (WriteBatch::new(), None);
        for entry in entries {
            let index = entry.get_log_id().index;
            if let Some(missing) = next.filter(|next| *next != index) {
                return Err(Error::Hole { missing });
            }
            let record = Record::Entry(index);
            batch.insert_into(&self.shared.log, record.key(), record.encode(&entry)?);
            next = index.checked_add(1);
        }
        Ok(batch)
    }

    async fn write(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || Ok(shared.db.write_with(&batch, durability)?)).await
    }

    /// Writes a record together with what is in the batch.
    async fn save(
        &self,
        mut batch: WriteBatch,
        record: Record,
        value: &(impl Serialize + Sync),
        durability: Durability,
    ) -> Result<()> {
        self.shared.put(&mut batch, record, value)?;
        self.write(batch, durability).await
    }

    /// Commits a batch, after which it can be read, and calls `flushed` when it is durable, or may never be. Nobody waits for
    /// the disk, unless the database has no threads that do.
    async fn commit(&self, batch: WriteBatch, flushed: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let commit = shared.db.submit(&batch)?;
            commit.on_durable(move |outcome| flushed(outcome.map_err(Error::from)));
            if !commit.is_driven() {
                // The callback hears what comes of it.
                let _ = commit.wait();
            }
            Ok(())
        })
        .await
    }

    fn remove(&self, range: impl RangeBounds<[u8; 8]>) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.remove_range_from(&self.shared.log, range);
        batch
    }
}

impl<C> RaftLogStorage<C> for LogStore<C>
where
    C: RaftTypeConfig,
    C::Entry: Serialize + DeserializeOwned,
{
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError<C::NodeId>> {
        let shared = Arc::clone(&self.shared);
        let state = blocking(move || {
            let ends = Self::ends(&shared)?;
            let purged = ends.purged;
            let next = purged.as_ref().and_then(|id| id.index.checked_add(1));
            match (next, ends.first) {
                (Some(missing), Some(first)) if first > missing => return Err(Error::Hole { missing }),
                _ => {}
            }
            let last_log_id = ends.last.max(purged.clone());
            Ok(LogState { last_purged_log_id: purged, last_log_id })
        });
        state.await.map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn get_log_reader(&mut self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }

    async fn save_vote(&mut self, vote: &Vote<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let saved = self.save(WriteBatch::new(), Record::Vote, vote, Durability::Sync).await;
        saved.map_err(failed(ErrorSubject::Vote, ErrorVerb::Write))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<C::NodeId>>, StorageError<C::NodeId>> {
        self.shared.read(Record::Vote).map_err(failed(ErrorSubject::Vote, ErrorVerb::Read))
    }

    async fn save_committed(&mut self, committed: Option<LogId<C::NodeId>>) -> Result<(), StorageError<C::NodeId>> {
        let saved = self.save(WriteBatch::new(), Record::Committed, &committed, Durability::Buffered).await;
        saved.map_err(failed(ErrorSubject::Logs, ErrorVerb::Write))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<C::NodeId>>, StorageError<C::NodeId>> {
        let committed = self.shared.read::<Option<_>>(Record::Committed);
        committed.map(Option::flatten).map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), StorageError<C::NodeId>>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let batch = self.batch_of(entries).map_err(failed(ErrorSubject::Logs, ErrorVerb::Write))?;
        let committed =
            self.commit(batch, |flushed| callback.log_io_completed(flushed.map_err(io::Error::other))).await;
        committed.map_err(failed(ErrorSubject::Logs, ErrorVerb::Write))
    }

    async fn truncate(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let batch = self.remove(log_id.index.to_be_bytes()..);
        let done = self.write(batch, Durability::Buffered).await;
        done.map_err(failed(ErrorSubject::Log(log_id), ErrorVerb::Delete))
    }

    async fn purge(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let batch = self.remove(..=log_id.index.to_be_bytes());
        let done = self.save(batch, Record::Purged, &log_id, Durability::Buffered).await;
        done.map_err(failed(ErrorSubject::Log(log_id), ErrorVerb::Delete))
    }
}
