//! Acquiring a consistent pair of view and sequence, and reading at it.

use std::sync::Arc;

use super::view::NOTHING_OPENED;
use super::{Engine, Find, Opened, Registration, View};
use crate::error::Result;
use crate::format::{KeyspaceId, key_hash};
use crate::merge::Scan;
use crate::sys::Pinned;

/// Attempts at an unregistered read before it registers.
const ATTEMPTS: usize = 3;

impl Engine {
    /// The newest value of a key. No lock, no allocation.
    #[inline]
    pub(crate) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Pinned>> {
        self.check_open()?;
        let hash = key_hash(keyspace, key);
        for _ in 0..ATTEMPTS {
            let Some((view, at)) = self.present.acquire(|| self.view.load()) else { continue };
            match view.find((&view.era, &NOTHING_OPENED), (keyspace, hash, key), at, false)? {
                Find::Value(value) => return self.mapped(Some(value.pin())),
                Find::Absent => return self.mapped(None),
                Find::Retry => {}
                Find::Closed(_) => break,
            }
        }
        let registration = self.register();
        self.get_at(keyspace, key, &registration)
    }

    /// The value of a key at a registered sequence.
    pub(crate) fn get_at(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Option<Pinned>> {
        self.check_open()?;
        let hash = key_hash(keyspace, key);
        let mut opened = Opened::default();
        loop {
            let view = self.view.load();
            let closed = match view.find((&view.era, &opened), (keyspace, hash, key), at.at, true)? {
                Find::Value(value) => return self.mapped(Some(value.pin())),
                Find::Absent | Find::Retry => return self.mapped(None),
                Find::Closed(closed) => closed,
            };
            // Who opens a table may have to wait for those who hold an era.
            drop(view);
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
        self.mappings.check(bytes)
    }

    /// Registers a reader at the sequence that is visible now. A view loaded later has every entry that it sees.
    pub(crate) fn register(&self) -> Registration {
        self.registry.register(&self.present)
    }

    /// A scan of a keyspace at a registered sequence, positioned nowhere. It owns what it needs.
    pub(crate) fn scan(&self, keyspace: KeyspaceId, at: &Registration) -> Result<Scan> {
        self.check_open()?;
        let view = self.view();
        let (sources, cover) = view.sources(keyspace, || self.registry.retain(self.visible()))?;
        Ok(Scan::new(sources, cover, Arc::clone(view.version.values()), at.at).of(&self.mappings))
    }

    /// The live keys in the memtables, sorted: what has not been flushed.
    pub(crate) fn memtable_keys(&self, keyspace: KeyspaceId) -> Result<Vec<Vec<u8>>> {
        self.check_open()?;
        let registration = self.register();
        let view: Arc<View> = self.view();
        let only_memtables = View { version: Arc::default(), ..View::clone(&view) };
        let (sources, cover) = only_memtables.sources(keyspace, || self.registry.retain(self.visible()))?;
        let mut scan = Scan::new(sources, cover, Arc::default(), registration.at).of(&self.mappings);
        let mut keys = Vec::new();
        let mut more = scan.go(crate::merge::Place::First)?;
        while more {
            keys.push(scan.key().to_vec());
            more = scan.next()?;
        }
        Ok(keys)
    }
}
