//! The merge operators of an open database, and what they have made.
//!
//! A chain of operands ends where a compaction has folded it, and until then a read would go through all of it. So what a read
//! has made of a long one is kept, in memory and with the sequence number at which it is the value: what is at or below a
//! sequence number never changes, so a later read begins there. Whoever has merged so many times into a key reads it, so that
//! this stays near: of 100,000 merges by one thread, no read goes through more than 128 operands.
//!
//! The other way would be a put of the folded value by the writer. That one is in the way of every merge that comes between its
//! read and its commit, so that it would be refused just where chains grow fastest, or would make merges wait for each other
//! and run the program's code under a lock; and it writes what nobody has asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::{Error, Result};
use crate::format::{KeyspaceId, Sequence};
use crate::operator::Operator;
use crate::options::Options;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::{LockRank, Mutex, OnceLock};
use crate::version::Keyspaces;

/// Places for values that were made, one for each hash.
const PLACES: usize = 1024;

/// A longer value is not kept: whoever reads it does as much to copy it as to make it.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Merges into a key after which it is read.
const MERGES_MAX: u32 = 64;

/// Operands of which it is worth while to keep what they make.
const LONG: usize = 32;

/// The operators of keyspaces that have one, as the options give them; an error if one is missing.
pub(super) fn operators_of(options: &Options, named: &Keyspaces) -> Result<BTreeMap<KeyspaceId, Operator>> {
    let given = &options.operators;
    let mut operators = BTreeMap::new();
    let others = named.iter().map(|meta| (meta.id, meta.name.as_str()));
    for (id, keyspace) in std::iter::once((KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME)).chain(others) {
        let of_default = given.default.as_ref().filter(|_| id == KeyspaceId::DEFAULT);
        let found = match (named.operator(id), of_default) {
            (None, None) => continue,
            // What has none yet gets it with the first change.
            (None, Some(operator)) => (!options.read_only).then(|| operator.clone()),
            (Some(name), Some(operator)) if operator.is_named(name) => Some(operator.clone()),
            (Some(name), other) => {
                let found = given.find(name).filter(|_| other.is_none());
                if found.is_none() && (other.is_some() || !given.may_be_missing) {
                    let option = if id == KeyspaceId::DEFAULT { "merge_operator" } else { "known_operator" };
                    return Err(Error::OtherOperator { keyspace: keyspace.into(), operator: name.into(), option });
                }
                found
            }
        };
        operators.extend(found.map(|operator| (id, operator)));
    }
    Ok(operators)
}

/// What a key had at a sequence number, at which an operand of it was merged.
#[derive(Debug, Clone)]
pub(crate) struct MadeValue {
    pub(crate) at: Sequence,
    pub(crate) value: Arc<[u8]>,
}

/// A key and what was made of its operands.
type Place = Option<(KeyspaceId, Box<[u8]>, MadeValue)>;

/// The operators by keyspace.
#[derive(Debug)]
pub(crate) struct Operators {
    by_keyspace: ArcSwap<BTreeMap<KeyspaceId, Operator>>,
    /// Whether nothing but a newer version changes the value of a key: a compaction filter would.
    keeps: bool,
    places: OnceLock<Box<[Mutex<Place>]>>,
    merges: OnceLock<Box<[AtomicU32]>>,
}

impl Operators {
    pub(super) fn new(by_keyspace: BTreeMap<KeyspaceId, Operator>, options: &Options) -> Self {
        let (places, merges) = (OnceLock::new(), OnceLock::new());
        let keeps = options.compaction_filter.is_none();
        Self { by_keyspace: ArcSwap::from_pointee(by_keyspace), keeps, places, merges }
    }

    /// The operator of a keyspace, if it has one and the program as well.
    pub(crate) fn of(&self, keyspace: KeyspaceId) -> Option<Operator> {
        self.by_keyspace.load().get(&keyspace).cloned()
    }

    /// Whether there is one.
    pub(crate) fn has(&self, keyspace: KeyspaceId) -> bool {
        self.by_keyspace.load().contains_key(&keyspace)
    }

    /// A keyspace has been created, and nobody reads it yet. Only whoever has the right to create one calls this.
    pub(super) fn add(&self, keyspace: KeyspaceId, operator: &Operator) {
        let mut changed = BTreeMap::clone(&self.by_keyspace.load());
        changed.insert(keyspace, operator.clone());
        self.by_keyspace.store(Arc::new(changed));
    }

    fn place(&self, hash: u64) -> Option<&Mutex<Place>> {
        let new = || (0..PLACES).map(|_| Mutex::new(LockRank::Made, None)).collect();
        self.places.get_or_init(new).get(place_of(hash))
    }

    /// What has been kept of a key. `hash` is that of keyspace and key.
    pub(super) fn made(&self, (keyspace, hash, key): (KeyspaceId, u64, &[u8])) -> Option<MadeValue> {
        let place = self.place(hash)?.lock();
        let (_, _, made) = place.as_ref().filter(|(of, its, _)| *of == keyspace && **its == *key)?;
        Some(made.clone())
    }

    /// Keeps what was made of so many operands, the newest of which has the sequence number `at`.
    pub(super) fn keep(
        &self,
        (keyspace, hash, key): (KeyspaceId, u64, &[u8]),
        operands: usize,
        at: Sequence,
        value: &[u8],
    ) {
        if !self.keeps || operands < LONG || value.len() > KEPT_BYTES_MAX {
            return;
        }
        let Some(place) = self.place(hash) else { return };
        let made = MadeValue { at, value: value.into() };
        let mut place = place.lock();
        match &mut *place {
            // Somebody at an old sequence number does not matter to those to come.
            Some((of, its, newer)) if *of == keyspace && **its == *key && newer.at >= at => {}
            other => *other = Some((keyspace, key.into(), made)),
        }
    }

    /// Counts a merge; returns whether its key should be read now.
    pub(super) fn note_merge(&self, hash: u64) -> bool {
        let new = || (0..PLACES).map(|_| AtomicU32::new(0)).collect::<Box<[AtomicU32]>>();
        let merges = self.merges.get_or_init(new).get(place_of(hash));
        merges.is_some_and(|merges| (merges.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(MERGES_MAX))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits")]
fn place_of(hash: u64) -> usize {
    hash as usize % PLACES
}
