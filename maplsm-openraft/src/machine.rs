//! The state machine and its snapshots.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::sync::Arc;

use maplsm::{Isolation, WriteBatch};
use openraft::entry::RaftPayload;
use openraft::log_id::RaftLogId;
use openraft::storage::RaftStateMachine;
use openraft::{
    ErrorSubject, ErrorVerb, LogId, OptionalSend, RaftSnapshotBuilder, RaftTypeConfig, Snapshot, SnapshotMeta,
    StorageError, StoredMembership,
};

use crate::apply::{Apply, StateTransaction};
use crate::blocking::blocking;
use crate::error::{Error, Result, failed};
use crate::group::Shared;
use crate::record::Record;
use crate::snapshot::{Directory, Reader, SnapshotFile, SnapshotRecord, Unfinished, Writer};
use crate::state::{Generation, StateReader, States};

type AppliedState<C> = (
    Option<LogId<<C as RaftTypeConfig>::NodeId>>,
    StoredMembership<<C as RaftTypeConfig>::NodeId, <C as RaftTypeConfig>::Node>,
);

/// The state machine of a group: openraft's [`RaftStateMachine`]. From [`Group::open`](crate::Group::open).
///
/// - **Apply** commits what the entries of a call have changed, the last applied log id and the membership in one batch, so a
///   restart goes on exactly where the state is. See [`Group::apply_durability`](crate::Group::apply_durability).
/// - **Snapshots** are built from a [`maplsm::Snapshot`] while entries are applied, straight into a file. The current one
///   survives restarts; a file that somebody has removed is built anew when openraft needs it. Building reads the state once and
///   writes it once; memory is a block.
/// - **Installing** reads what was received once, checks every byte of it, and loads it into a keyspace of its own, straight
///   into tables, in bounded memory; one batch then says that this is the state, with its log id, its membership, and the
///   file as the current snapshot. Whatever happens before that batch is durable, the state is the one from before. Readers
///   keep the state that they have; it goes when the last of them does.
pub struct StateMachine<C, A> {
    shared: Arc<Shared>,
    apply: Arc<A>,
    states: Arc<States>,
    directory: Arc<Directory>,
    config: std::marker::PhantomData<fn() -> C>,
}

impl<C, A> fmt::Debug for StateMachine<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateMachine({:?})", self.states.current())
    }
}

impl<C, A> StateMachine<C, A> {
    pub(crate) fn new(shared: Arc<Shared>, apply: A, states: Arc<States>, directory: Arc<Directory>) -> Self {
        Self { shared, apply: Arc::new(apply), states, directory, config: std::marker::PhantomData }
    }

    /// What reads the state, while openraft has the state machine.
    pub fn reader(&self) -> StateReader {
        StateReader::new(Arc::clone(&self.states))
    }
}

fn applied_at<C: RaftTypeConfig>(meta: &maplsm::Snapshot) -> Result<AppliedState<C>> {
    let applied: Option<Option<_>> = Shared::read_at(meta, Record::Applied)?;
    Ok((applied.flatten(), Shared::read_at(meta, Record::Membership)?.unwrap_or_default()))
}

fn apply_all<C, A>(shared: &Shared, apply: &A, states: &States, entries: Vec<C::Entry>) -> Result<Vec<C::R>>
where
    C: RaftTypeConfig,
    A: Apply<C>,
{
    let state = states.current();
    let mut transaction = shared.db.transaction_with(Isolation::Snapshot);
    let (mut applied, mut membership) = (None, None);
    let mut responses = Vec::with_capacity(entries.len());
    for entry in entries {
        let log_id = entry.get_log_id().clone();
        if let Some(changed) = entry.get_membership() {
            membership = Some(StoredMembership::new(Some(log_id.clone()), changed.clone()));
        }
        let mut view = StateTransaction::new(&mut transaction, &state.keyspace);
        let response = apply.apply(&mut view, entry);
        responses.push(response.map_err(|source| Error::Apply { index: log_id.index, source })?);
        applied = Some(log_id);
    }
    if applied.is_some() {
        transaction.insert_into(&shared.meta, Record::Applied.key(), Record::Applied.encode(&applied)?)?;
    }
    if let Some(membership) = membership {
        let encoded = Record::Membership.encode(&membership)?;
        transaction.insert_into(&shared.meta, Record::Membership.key(), encoded)?;
    }
    transaction.commit_with(shared.apply_durability)?;
    Ok(responses)
}

/// Loads a snapshot into a keyspace, and makes it the state and the current snapshot.
fn install<C: RaftTypeConfig>(
    shared: &Shared,
    states: &States,
    directory: &Directory,
    meta: &SnapshotMeta<C::NodeId, C::Node>,
    (mut file, unfinished): (File, Option<Unfinished>),
) -> Result<()> {
    let begun = states.begin()?;
    let loaded = file.rewind().map_err(Error::io("rewind", "a snapshot".as_ref()));
    let loaded = loaded.and_then(|()| begun.keyspace.try_ingest(Reader::new(BufReader::new(&file))));
    let number = match loaded.and_then(|_| directory.adopt(file, unfinished)) {
        Ok(number) => number,
        Err(e) => {
            // What cannot be dropped now is dropped before the next one is begun.
            let _ = states.abandon(&begun);
            return Err(e);
        }
    };
    let mut batch = WriteBatch::new();
    shared.put(&mut batch, Record::Generation, &states.record_of(&begun))?;
    shared.put(&mut batch, Record::Applied, &meta.last_log_id)?;
    shared.put(&mut batch, Record::Membership, &meta.last_membership)?;
    // If this fails, it may count all the same after a restart: nothing that it needs is removed.
    directory.lock().replace::<C>(&SnapshotRecord { number, meta: meta.clone() }, batch)?;
    states.switch(begun);
    states.sweep()
}

impl<C, A> RaftStateMachine<C> for StateMachine<C, A>
where
    C: RaftTypeConfig<SnapshotData = SnapshotFile>,
    A: Apply<C>,
{
    type SnapshotBuilder = SnapshotBuilder<C>;

    async fn applied_state(&mut self) -> Result<AppliedState<C>, StorageError<C::NodeId>> {
        applied_at::<C>(&self.shared.meta.snapshot()).map_err(failed(ErrorSubject::StateMachine, ErrorVerb::Read))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<C::R>, StorageError<C::NodeId>>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let last = entries.last().map(|entry| entry.get_log_id().clone());
        let (shared, apply, states) = (Arc::clone(&self.shared), Arc::clone(&self.apply), Arc::clone(&self.states));
        let responses = blocking(move || apply_all::<C, A>(&shared, &apply, &states, entries)).await;
        responses.map_err(failed(last.map_or(ErrorSubject::StateMachine, ErrorSubject::Apply), ErrorVerb::Write))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<C> {
        let generation = self.states.current();
        SnapshotBuilder {
            shared: Arc::clone(&self.shared),
            states: Arc::clone(&self.states),
            directory: Arc::clone(&self.directory),
            state: generation.keyspace.snapshot(),
            _generation: generation,
            config: std::marker::PhantomData,
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError<C::NodeId>> {
        let directory = Arc::clone(&self.directory);
        let file = blocking(move || directory.create()).await;
        let (file, unfinished, _) = file.map_err(failed(ErrorSubject::Snapshot(None), ErrorVerb::Write))?;
        Ok(Box::new(SnapshotFile::new(file, Some(unfinished))))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<C::NodeId, C::Node>,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError<C::NodeId>> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        let file = snapshot.into_std().await;
        let (shared, states) = (Arc::clone(&self.shared), Arc::clone(&self.states));
        let (directory, meta) = (Arc::clone(&self.directory), meta.clone());
        let installed = blocking(move || install::<C>(&shared, &states, &directory, &meta, file)).await;
        installed.map_err(failed(subject, ErrorVerb::Write))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<C>>, StorageError<C::NodeId>> {
        let directory = Arc::clone(&self.directory);
        let current = blocking(move || directory.lock().get::<C>()).await;
        let current = current.map_err(failed(ErrorSubject::Snapshot(None), ErrorVerb::Read))?;
        Ok(current.map(|(record, file)| Snapshot { meta: record.meta, snapshot: Box::new(file) }))
    }
}

/// Writes the state as it was when this was made into a snapshot: openraft's [`RaftSnapshotBuilder`].
pub struct SnapshotBuilder<C> {
    shared: Arc<Shared>,
    states: Arc<States>,
    directory: Arc<Directory>,
    state: maplsm::Snapshot,
    _generation: Arc<Generation>,
    config: std::marker::PhantomData<fn() -> C>,
}

impl<C> fmt::Debug for SnapshotBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotBuilder({:?})", self.state)
    }
}

fn build<C>(shared: &Shared, directory: &Directory, state: &maplsm::Snapshot) -> Result<Snapshot<C>>
where
    C: RaftTypeConfig<SnapshotData = SnapshotFile>,
{
    let (last_log_id, last_membership) = applied_at::<C>(&state.keyspace(&shared.meta))?;
    let (file, unfinished, number) = directory.create()?;
    let mut writer = Writer::new(BufWriter::new(file)).map_err(Error::io("write", unfinished.path()))?;
    for entry in state {
        let entry = entry?;
        writer.push(entry.key(), entry.value()).map_err(Error::io("write", unfinished.path()))?;
    }
    let file = writer.finish().and_then(|file| Ok(file.into_inner()?));
    let mut file = file.map_err(Error::io("write", unfinished.path()))?;
    file.rewind().map_err(Error::io("rewind", unfinished.path()))?;

    let index = last_log_id.as_ref().map_or(0, |id| id.index);
    let snapshot_id = format!("{index}-{}-{number}", state.sequence());
    let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id };
    let current = directory.lock();
    let newer = |record: SnapshotRecord<SnapshotMeta<_, _>>| record.meta.last_log_id > meta.last_log_id;
    // One may have been installed meanwhile.
    let unfinished = if current.record::<C>()?.is_some_and(newer) {
        Some(unfinished)
    } else {
        directory.complete(&file, unfinished, number)?;
        current.replace::<C>(&SnapshotRecord { number, meta: meta.clone() }, WriteBatch::new())?;
        None
    };
    Ok(Snapshot { meta, snapshot: Box::new(SnapshotFile::new(file, unfinished)) })
}

impl<C> RaftSnapshotBuilder<C> for SnapshotBuilder<C>
where
    C: RaftTypeConfig<SnapshotData = SnapshotFile>,
{
    async fn build_snapshot(&mut self) -> Result<Snapshot<C>, StorageError<C::NodeId>> {
        let (shared, states) = (Arc::clone(&self.shared), Arc::clone(&self.states));
        let (directory, state) = (Arc::clone(&self.directory), self.state.clone());
        let built = blocking(move || {
            states.sweep()?;
            build::<C>(&shared, &directory, &state)
        });
        let built = built.await;
        built.map_err(failed(ErrorSubject::Snapshot(None), ErrorVerb::Write))
    }
}
