//! Changes that depend on what is there: read, decide, and commit if nobody has come between.
//!
//! The caller's code decides, and may do what it likes meanwhile, so nothing is locked. What it has seen is checked under the
//! writer's lock, against everyone: a key is untouched if no memtable has a newer version of it, the tables are those that they
//! were, and no load has come since. That is one lookup. If it is not, or might not be, the caller's code decides again.
//! Updates of one key go [one after another](super::turnstile), so that they do not wear each other out.

use std::sync::Arc;

use super::body::Body;
use super::log::Writer;
use super::read_state::{Find, NOTHING_OPENED, Opened};
use super::registry::Registration;
use super::turnstile::Turnstile;
use super::validate::ReadSet;
use super::write::{Check, Committed, Committer};
use crate::batch::{WriteBatch, check_lengths};
use crate::error::{Error, Result};
use crate::format::entry::Kind;
use crate::format::range::Edge;
use crate::format::{KeyspaceId, Sequence, key_hash};
use crate::keyspace_state::KeyspaceState;
use crate::merge::{PinnedEntry, Place};
use crate::options::Durability;
use crate::sys::{Pinned, check_none_held};
use crate::table::Nobody;
use crate::version::Version;
use crate::visibility::RangeSet;

/// What is to become of a key.
#[derive(Debug)]
pub(crate) enum Decision<V> {
    Keep,
    Put(V),
    Remove,
}

/// One end of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyspaceEnd {
    First,
    Last,
}

/// What a key has been looked up in.
struct Seen {
    at: Sequence,
    /// All that its tables have was visible at `at`, but for what is loaded at the time.
    version: Arc<Version>,
}

impl Committer {
    /// Changes a key to what `decide` makes of its value; returns the value that was there, and the last decision, which has
    /// been carried out. `decide` may be called again.
    pub(crate) fn update<V: AsRef<[u8]>>(
        &self,
        keyspace: &KeyspaceState,
        key: &[u8],
        mut decide: impl FnMut(Option<&Pinned>) -> Decision<V>,
    ) -> Result<(Option<Pinned>, Decision<V>)> {
        self.health.check_writable()?;
        check_lengths(key, &[])?;
        let hash = key_hash(keyspace.id, key);
        let turn = self.turnstiles.of_key(hash).map(Turnstile::enter);
        loop {
            let (found, seen) = self.health.events.noted(self.get_seen(keyspace.id, hash, key))?;
            let found = keyspace.checked(found)?;
            check_none_held();
            let decision = decide(found.as_ref());
            let (kind, value) = match &decision {
                Decision::Keep => return Ok((found, decision)),
                Decision::Put(value) => (Kind::Put, value.as_ref()),
                Decision::Remove => (Kind::Delete, &[][..]),
            };
            let body = Body::One { keyspace, kind, key, value };
            let check = |writer: &Writer| Ok(self.check(&seen, writer, (keyspace.id, hash, key)));
            // The sync is for those behind as well, so they need not wait for it.
            if let Committed::UpTo(_) = self.commit_checked(body, Durability::Buffered, check)? {
                drop(turn);
                self.sync_if(self.options.durability)?;
                return Ok((found, decision));
            }
        }
    }

    /// Removes the entry at one end of a keyspace, and returns it.
    pub(crate) fn pop(&self, keyspace: &Arc<KeyspaceState>, end: KeyspaceEnd) -> Result<Option<PinnedEntry>> {
        self.health.check_writable()?;
        let turn = self.turnstiles.of_key(key_hash(keyspace.id, &[])).map(Turnstile::enter);
        loop {
            let (at, began) = self.readers.begin();
            let Some((key, entry)) = self.health.events.noted(self.entry_at(keyspace, end, at))? else {
                return Ok(None);
            };
            let mut batch = WriteBatch::new();
            batch.push_into(keyspace, Kind::Delete, &key, &[]);
            // Nobody may have come between the key and the end either.
            let mut read = RangeSet::default();
            match end {
                KeyspaceEnd::First => read.insert(Edge::START.to_owned(), Edge::After(key)),
                KeyspaceEnd::Last => read.insert(Edge::Before(key), Edge::End),
            };
            let read_set = ReadSet::from([(keyspace.id, read)]);
            let keyspaces = [Arc::clone(keyspace)];
            match self.commit_if_untouched(&batch, &read_set, began, &keyspaces, Durability::Buffered) {
                Ok(_) => {
                    drop(turn);
                    self.sync_if(self.options.durability)?;
                    return Ok(Some(entry));
                }
                Err(Error::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The entry at one end of a keyspace, with its key.
    fn entry_at(
        &self,
        keyspace: &KeyspaceState,
        end: KeyspaceEnd,
        at: Registration,
    ) -> Result<Option<(Vec<u8>, PinnedEntry)>> {
        let mut scan = self.readers.reading(keyspace, at)?.scan((Edge::START, Edge::End))?;
        let place = if end == KeyspaceEnd::First { Place::First } else { Place::Last };
        let entry = if scan.go(place)? { scan.pin() } else { None };
        Ok(entry.map(|entry| (scan.key().to_vec(), entry)))
    }

    /// Makes durable what has been committed, if that is wanted.
    fn sync_if(&self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Sync => self.syncer.sync(),
            Durability::Buffered => Ok(()),
        }
    }

    /// The newest value of a key, and what [`check`](Self::check) has to know of where it was looked for.
    fn get_seen(&self, keyspace: KeyspaceId, hash: u64, key: &[u8]) -> Result<(Option<Pinned>, Seen)> {
        if let Some((read_state, at)) = self.readers.acquire() {
            let found = read_state.find((&read_state.era, &NOTHING_OPENED), (keyspace, hash, key), at, false)?;
            let found = match found {
                Find::Value(value) => Some(Some(value.pin())),
                Find::Absent => Some(None),
                Find::Retry | Find::Closed(_) | Find::Operand => None,
            };
            if let Some(found) = found {
                let seen = Seen { at, version: Arc::clone(&read_state.version) };
                return Ok((self.readers.mapped(found)?, seen));
            }
        }
        // The tables first: what they have is visible to whoever registers later.
        let version = self.readers.version();
        let at = self.readers.register();
        let mut opened = Opened::default();
        loop {
            let read_state = self.readers.load();
            let found = read_state.find((&read_state.era, &opened), (keyspace, hash, key), at.at, true)?;
            let closed = match found {
                Find::Value(value) => {
                    return Ok((self.readers.mapped(Some(value.pin()))?, Seen { at: at.at, version }));
                }
                Find::Absent | Find::Retry => return Ok((self.readers.mapped(None)?, Seen { at: at.at, version })),
                Find::Operand => {
                    drop(read_state);
                    let made = self.readers.made(keyspace, key, &at, &mut Nobody)?;
                    return Ok((Some(made), Seen { at: at.at, version }));
                }
                Find::Closed(closed) => closed,
            };
            // Who opens a table may have to wait for those who hold an era.
            drop(read_state);
            opened.open(&closed)?;
        }
    }

    /// Whether a key has not been written since it was seen, or might have been. Whoever has the writer keeps it so.
    fn check(&self, seen: &Seen, writer: &Writer, (keyspace, hash, key): (KeyspaceId, u64, &[u8])) -> Check {
        let read_state = self.readers.load();
        // What a load adds is in the tables before it is visible, and what a flush takes from the memtables is in others.
        if writer.beside_log > seen.at || !Arc::ptr_eq(&read_state.version, &seen.version) {
            return Check::Outdated;
        }
        let newer = read_state.memtables.iter().filter(|memtable| memtable.max_sequence() > seen.at);
        let is_untouched = newer.into_iter().all(|memtable| memtable.newest(keyspace, hash, key) <= seen.at);
        if is_untouched { Check::Passed } else { Check::Outdated }
    }
}
