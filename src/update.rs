//! Changes that depend on what is there, as handles offer them.

use std::fmt;
use std::sync::Arc;

use crate::engine::{Decision, Engine, KeyspaceEnd};
use crate::error::Result;
use crate::iter::Entry;
use crate::keyspace_state::KeyspaceState;
use crate::slice::Slice;
use crate::sys::Pinned;

/// Why [`Db::compare_and_swap`](crate::Db::compare_and_swap) has not changed anything: the value was another one than expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareError {
    /// The value that the key has; none if it has none.
    pub actual: Option<Slice>,
}

impl fmt::Display for CompareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.actual {
            Some(actual) => write!(f, "the key has another value, of {} bytes", actual.len()),
            None => f.write_str("the key has no value"),
        }
    }
}

impl std::error::Error for CompareError {}

/// Changes a key to what `new` makes of it; returns the value from before, and the new one.
pub(crate) fn update<V: AsRef<[u8]>>(
    engine: &Engine,
    keyspace: &KeyspaceState,
    key: &[u8],
    mut new: impl FnMut(Option<&[u8]>) -> Option<V>,
) -> Result<(Option<Slice>, Option<V>)> {
    let decide = |old: Option<&Pinned>| match new(old.map(|old| &**old)) {
        Some(value) => Decision::Put(value),
        None if old.is_some() => Decision::Remove,
        None => Decision::Keep,
    };
    let (old, decision) = engine.committer.update(keyspace, key, decide)?;
    let value = match decision {
        Decision::Put(value) => Some(value),
        Decision::Keep | Decision::Remove => None,
    };
    Ok((old.map(Slice), value))
}

/// Changes a key as is decided; `decide` may be called again, and what it has said last is done.
pub(crate) fn decide<V: AsRef<[u8]>>(
    engine: &Engine,
    keyspace: &KeyspaceState,
    key: &[u8],
    decide: impl FnMut(Option<&Pinned>) -> Decision<V>,
) -> Result<()> {
    engine.committer.update(keyspace, key, decide).map(drop)
}

pub(crate) fn compare_and_swap(
    engine: &Engine,
    keyspace: &KeyspaceState,
    key: &[u8],
    old: Option<&[u8]>,
    new: Option<&[u8]>,
) -> Result<Result<(), CompareError>> {
    let mut is_equal = false;
    let decide = |actual: Option<&Pinned>| {
        is_equal = actual.map(|actual| &**actual) == old;
        match new {
            Some(value) if is_equal => Decision::Put(value),
            None if is_equal && actual.is_some() => Decision::Remove,
            _ => Decision::Keep,
        }
    };
    let (actual, _) = engine.committer.update(keyspace, key, decide)?;
    Ok(if is_equal { Ok(()) } else { Err(CompareError { actual: actual.map(Slice) }) })
}

/// Returns the value that is there already.
pub(crate) fn insert_if_absent(
    engine: &Engine,
    keyspace: &KeyspaceState,
    key: &[u8],
    value: &[u8],
) -> Result<Option<Slice>> {
    let decide = |old: Option<&Pinned>| if old.is_some() { Decision::Keep } else { Decision::Put(value) };
    Ok(engine.committer.update(keyspace, key, decide)?.0.map(Slice))
}

pub(crate) fn pop(engine: &Engine, keyspace: &Arc<KeyspaceState>, end: KeyspaceEnd) -> Result<Option<Entry>> {
    Ok(engine.committer.pop(keyspace, end)?.map(Entry::of_pinned))
}
