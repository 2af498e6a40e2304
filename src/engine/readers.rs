//! What readers read, which of them are registered, and what has been learned for those to come; and reading, without a lock.

use std::sync::Arc;

use arc_swap::Guard;

use super::health::Health;
use super::onlooker::Onlooker;
use super::operators::Operators;
use super::present::Present;
use super::published::{Published, Shown};
use super::read_state::{Find, NOTHING_OPENED, Opened, ReadState, ValueAt};
use super::registry::{Registration, Registry};
use crate::error::{Error, Result, bug};
use crate::format::range::{Edge, Range};
use crate::format::{KeyspaceId, Position, Sequence, key_hash};
use crate::keyspace_state::KeyspaceState;
use crate::merge::{Learned, Place, Scan};
use crate::meter::{Meters, Sampled, Started, Tally};
use crate::operator::{KeptValues, Operator};
use crate::options::SectionOptions;
use crate::sys::Pinned;
use crate::table::{Nobody, TableCache};
use crate::version::Version;
use crate::visibility::Visibility;

/// Attempts at an unregistered read before it registers.
const ATTEMPTS: usize = 3;

pub(crate) struct Readers {
    published: Arc<Published>,
    present: Present,
    registry: Arc<Registry>,
    pub(super) learned: Arc<Learned>,
    pub(super) operators: Arc<Operators>,
    pub(super) health: Arc<Health>,
    pub(crate) meters: Arc<Meters>,
}

/// How much of the history has been compared with a read set: everything up to a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValidatedUpTo {
    pub(super) sequence: Sequence,
    /// No later entry of this segment is in front of the offset. Saves the way to it.
    pub(super) hint: Option<Position>,
}

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

impl Readers {
    /// Of a read state in which entries up to a sequence number are visible.
    pub(super) fn new(
        read_state: ReadState,
        visible: Sequence,
        table_cache: &Arc<TableCache>,
        health: &Arc<Health>,
        meters: &Arc<Meters>,
    ) -> Self {
        let (learned, operators) = (Arc::clone(&read_state.learned), Arc::clone(&read_state.operators));
        Self {
            published: Published::new(read_state, table_cache),
            present: Present::new(visible),
            registry: Arc::new(Registry::new(meters, &health.events)),
            learned,
            operators,
            health: Arc::clone(health),
            meters: Arc::clone(meters),
        }
    }

    /// The current read state. While the result lives, nothing that is let go is closed, so it is not to be kept.
    #[inline]
    pub(super) fn load(&self) -> Guard<Arc<Shown>> {
        self.published.load()
    }

    /// The current read state, for those who keep it.
    pub(crate) fn read_state(&self) -> Arc<ReadState> {
        Arc::clone(&self.load().read_state)
    }

    /// The tables of the current read state, for those who keep them.
    pub(super) fn version(&self) -> Arc<Version> {
        Arc::clone(&self.load().version)
    }

    /// The sequence up to which entries are visible now.
    #[inline]
    pub(crate) fn visible(&self) -> Sequence {
        self.present.visible()
    }

    /// The current read state and a sequence that belong together; `None` if the read state has just been replaced.
    #[inline]
    pub(super) fn acquire(&self) -> Option<(Guard<Arc<Shown>>, Sequence)> {
        self.present.acquire(|| self.published.load())
    }

    /// Those that are registered.
    #[inline]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Registers a reader at the sequence that is visible now. A read state loaded later has every entry that it sees.
    pub(crate) fn register(&self) -> Registration {
        self.registry.register(&self.present)
    }

    /// Registers a reader, and returns from where a commit on its behalf has to look.
    pub(crate) fn begin(&self) -> (Registration, ValidatedUpTo) {
        // The hint comes first: what is in front of it is visible to whoever registers later.
        let hint = self.load().memtables.first().map(|memtable| memtable.shown());
        let at = self.register();
        let validated = ValidatedUpTo { sequence: at.at, hint };
        (at, validated)
    }

    /// What a rewrite that begins now must keep.
    pub(super) fn retain(&self) -> Visibility {
        self.registry.retain(self.visible())
    }

    /// Makes entries up to `upto` visible. The current read state has them.
    #[inline]
    pub(super) fn show(&self, upto: Sequence) {
        self.present.show(upto);
    }

    /// Replaces the read state by a changed copy.
    pub(super) fn publish(&self, change: impl FnOnce(&mut ReadState)) {
        let alone = self.published.publishing();
        let mut read_state = ReadState::clone(&self.load());
        change(&mut read_state);
        debug_assert!(
            read_state.memtables.is_sorted_by(|a, b| a.number() > b.number()),
            "memtables stand newest first"
        );
        debug_assert!(!read_state.growing || !read_state.memtables.is_empty(), "what grows is there");
        self.present.publish(|| self.published.show(&alone, Arc::new(read_state)));
    }

    /// The options for sections of a keyspace, which may have none of its own.
    pub(super) fn section_options(&self, keyspace: KeyspaceId, default: SectionOptions) -> SectionOptions {
        self.load().version.named().section_options(keyspace, default)
    }

    /// The newest value of a key. No lock, no allocation.
    #[inline]
    pub(crate) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Pinned>> {
        if self.meters.is_due(Sampled::Get) {
            return self.get_measured(keyspace, key);
        }
        self.get_before(keyspace, key, &mut Nobody, |_| self.get_registered(keyspace, key))
    }

    /// The newest value of a key, while `look` looks on, or what `otherwise` returns, if only a registered reader can have it.
    #[inline]
    fn get_before<O: Onlooker>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        look: &mut O,
        otherwise: impl FnOnce(&mut O) -> Result<Option<Pinned>>,
    ) -> Result<Option<Pinned>> {
        self.health.check_open()?;
        let hash = key_hash(keyspace, key);
        for _ in 0..ATTEMPTS {
            let Some((read_state, at)) = self.acquire() else { continue };
            let open = (&read_state.era, &NOTHING_OPENED);
            match read_state.look_up(open, (keyspace, hash, key), at, false, look) {
                Ok(Find::Value(value)) => return self.mapped(Some(ValueAt::pin(value))),
                Ok(Find::Absent) => return self.mapped(None),
                Ok(Find::Retry) => {}
                Ok(Find::Closed(_) | Find::Operand) => break,
                Err(e) => return Err(self.noted(e)),
            }
        }
        otherwise(look)
    }

    #[cold]
    fn get_registered(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Pinned>> {
        self.get_at_before(keyspace, key, &self.register(), &mut Nobody)
    }

    /// A get that is looked at. This and what else most gets have nothing to do with is compiled once: copies of it beside
    /// every caller of a get would keep the compiler from inlining the rest, for a third more instructions in each.
    #[cold]
    fn get_measured(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Pinned>> {
        let (started, mut tally) = (Started::now(), Tally::default());
        let otherwise = |look: &mut Tally| self.get_at_before(keyspace, key, &self.register(), look);
        let found = self.get_before(keyspace, key, &mut tally, otherwise)?;
        self.note_get(started, &tally, found.as_ref());
        Ok(found)
    }

    fn note_get(&self, started: Started, tally: &Tally, found: Option<&Pinned>) {
        self.meters.end(Sampled::Get, started);
        self.meters.note_lookup(tally, found.map(|value| value.len()));
    }

    /// The error of a read: whoever listens hears of damage.
    #[cold]
    pub(super) fn noted(&self, error: Error) -> Error {
        self.health.events.note_error(&error);
        error
    }

    /// The value of a key at a registered sequence.
    pub(crate) fn get_at(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Option<Pinned>> {
        let Some(started) = self.meters.begin(Sampled::Get) else {
            return self.get_at_before(keyspace, key, at, &mut Nobody);
        };
        let mut tally = Tally::default();
        let found = self.get_at_before(keyspace, key, at, &mut tally)?;
        self.note_get(started, &tally, found.as_ref());
        Ok(found)
    }

    /// The same, while `look` looks on.
    pub(super) fn get_at_before(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &Registration,
        look: &mut impl Onlooker,
    ) -> Result<Option<Pinned>> {
        self.health.check_open()?;
        let hash = key_hash(keyspace, key);
        let mut opened = Opened::default();
        loop {
            let read_state = self.load();
            let open = (&read_state.era, &opened);
            let closed = match read_state.look_up(open, (keyspace, hash, key), at.at, true, look) {
                Ok(Find::Value(value)) => return self.mapped(Some(ValueAt::pin(value))),
                Ok(Find::Absent | Find::Retry) => return self.mapped(None),
                Ok(Find::Operand) => {
                    drop(read_state);
                    return self.made(keyspace, key, at, look).map(Some);
                }
                Ok(Find::Closed(closed)) => closed,
                Err(e) => return Err(self.noted(e)),
            };
            // Who opens a table may have to wait for those who hold an era.
            drop(read_state);
            opened.open(&closed).map_err(|e| self.noted(e))?;
        }
    }

    /// The length of the value of a key at a registered sequence. A value that stands apart from its entry is not looked at.
    pub(crate) fn size_at(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Option<u64>> {
        self.health.events.noted(self.find_size(keyspace, key, at))
    }

    fn find_size(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Option<u64>> {
        self.health.check_open()?;
        let hash = key_hash(keyspace, key);
        let mut opened = Opened::default();
        loop {
            let read_state = self.load();
            let closed = match read_state.locate((&read_state.era, &opened), (keyspace, hash, key), at.at, true)? {
                Find::Value(place) => {
                    let length = place.length();
                    self.health.check_found(&[])?;
                    return Ok(Some(length));
                }
                Find::Absent | Find::Retry => return self.health.check_found(&[]).map(|()| None),
                Find::Operand => {
                    drop(read_state);
                    return self.made(keyspace, key, at, &mut Nobody).map(|made| Some(made.len() as u64));
                }
                Find::Closed(closed) => closed,
            };
            drop(read_state);
            opened.open(&closed)?;
        }
    }

    /// What a lookup has found, if it can be believed.
    #[inline]
    pub(super) fn mapped(&self, found: Option<Pinned>) -> Result<Option<Pinned>> {
        self.health.check_found(found.as_deref().unwrap_or_default())?;
        Ok(found)
    }

    /// A keyspace as a registered reader sees it.
    pub(crate) fn reading(&self, keyspace: &KeyspaceState, at: Registration) -> Result<Reading> {
        let read_state = Some(self.read_state());
        // The read state first: without data it may be, but not unnoticed.
        keyspace.checked(Reading { at, keyspace: keyspace.id, read_state })
    }

    /// The live keys in the memtables, sorted: what has not been flushed.
    pub(crate) fn memtable_keys(&self, keyspace: KeyspaceId) -> Result<Vec<Vec<u8>>> {
        self.health.check_open()?;
        let registration = self.register();
        // What is not there is no gap for those who see the tables.
        let learned = Arc::new(Learned::new(registration.at));
        // Nor is what operands work on, so that nobody can tell their value.
        let operators = Arc::new(Operators::new([(keyspace, Operator::of_keys())].into()));
        let (version, kept) = (Arc::default(), KeptValues::default());
        let only_memtables = ReadState { version, learned, operators, kept, ..ReadState::clone(&self.read_state()) };
        let mut scan = only_memtables.scan(keyspace, &registration, (Edge::START, Edge::End))?;
        let mut keys = Vec::new();
        let mut more = scan.go(Place::First)?;
        while more {
            keys.push(scan.key().to_vec());
            more = scan.next()?;
        }
        Ok(keys)
    }
}
