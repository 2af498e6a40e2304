//! Acquiring a consistent pair of read state and sequence, and reading at it.

use std::sync::Arc;

use super::read_state::NOTHING_OPENED;
use super::{Engine, Find, Opened, ReadState, Registration};
use crate::error::{Result, bug};
use crate::format::range::{Edge, Range};
use crate::format::{KeyspaceId, key_hash};
use crate::keyspace_state::KeyspaceState;
use crate::merge::{Learned, Scan};
use crate::sys::Pinned;

/// A keyspace as a registered reader sees it: what a scan of it is made from, once there is a first move to make. Until then
/// no source has been looked at.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) at: Registration,
    keyspace: KeyspaceId,
    /// Until there is a scan, which has what it needs of it: a read state keeps all that a store had.
    read_state: Option<Arc<ReadState>>,
}

impl Reading {
    /// The scan, positioned nowhere, of what is between two edges. There is one, for others to be copied from.
    pub(crate) fn scan(&mut self, within: Range<'_>) -> Result<Box<Scan>> {
        let read_state = self.read_state.as_ref().ok_or_else(|| bug("a second scan is made for a reader"))?;
        let scan = Box::new(read_state.scan(self.keyspace, &self.at, within)?);
        self.read_state = None;
        Ok(scan)
    }
}

/// Attempts at an unregistered read before it registers.
const ATTEMPTS: usize = 3;

impl Engine {
    /// The newest value of a key. No lock, no allocation.
    #[inline]
    pub(crate) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Pinned>> {
        self.health.check_open()?;
        let hash = key_hash(keyspace, key);
        for _ in 0..ATTEMPTS {
            let Some((read_state, at)) = self.readers.acquire() else { continue };
            match read_state.find((&read_state.era, &NOTHING_OPENED), (keyspace, hash, key), at, false)? {
                Find::Value(value) => return self.mapped(Some(value.pin())),
                Find::Absent => return self.mapped(None),
                Find::Retry => {}
                Find::Closed(_) => break,
            }
        }
        let registration = self.readers.register();
        self.get_at(keyspace, key, &registration)
    }

    /// The value of a key at a registered sequence.
    pub(crate) fn get_at(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Option<Pinned>> {
        self.health.check_open()?;
        let hash = key_hash(keyspace, key);
        let mut opened = Opened::default();
        loop {
            let read_state = self.readers.load();
            let closed = match read_state.find((&read_state.era, &opened), (keyspace, hash, key), at.at, true)? {
                Find::Value(value) => return self.mapped(Some(value.pin())),
                Find::Absent | Find::Retry => return self.mapped(None),
                Find::Closed(closed) => closed,
            };
            // Who opens a table may have to wait for those who hold an era.
            drop(read_state);
            opened.open(&closed)?;
        }
    }

    /// What a lookup has found, if it can be believed.
    #[inline]
    fn mapped(&self, found: Option<Pinned>) -> Result<Option<Pinned>> {
        self.check_found(found.as_deref().unwrap_or_default())?;
        Ok(found)
    }

    /// To be called with what is about to be handed out.
    #[inline]
    pub(crate) fn check_found(&self, bytes: &[u8]) -> Result<()> {
        self.health.check_found(bytes)
    }

    /// A keyspace as a registered reader sees it.
    pub(crate) fn reading(&self, keyspace: &KeyspaceState, at: Registration) -> Result<Reading> {
        self.health.check_open()?;
        self.check_owner(keyspace)?;
        let read_state = Some(self.readers.read_state());
        // The read state first: without data it may be, but not unnoticed.
        keyspace.checked(Reading { at, keyspace: keyspace.id, read_state })
    }

    /// The live keys in the memtables, sorted: what has not been flushed.
    pub(crate) fn memtable_keys(&self, keyspace: KeyspaceId) -> Result<Vec<Vec<u8>>> {
        self.health.check_open()?;
        let registration = self.readers.register();
        // What is not there is no gap for those who see the tables.
        let learned = Arc::new(Learned::new(registration.at));
        let only_memtables =
            ReadState { version: Arc::default(), learned, ..ReadState::clone(&self.readers.read_state()) };
        let mut scan = only_memtables.scan(keyspace, &registration, (Edge::START, Edge::End))?;
        let mut keys = Vec::new();
        let mut more = scan.go(crate::merge::Place::First)?;
        while more {
            keys.push(scan.key().to_vec());
            more = scan.next()?;
        }
        Ok(keys)
    }
}
