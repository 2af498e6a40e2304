//! The model: a map, and the commits that led to it.

use std::ops::RangeBounds;

use super::Map;
use super::operation::{Bytes, Change, Commit, Space};

/// What a database holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) first: Map,
    /// The second keyspace, if there is one.
    pub(crate) second: Option<Map>,
}

impl State {
    /// What a keyspace has; nothing, if it is not there.
    pub(crate) fn of(&self, space: Space) -> &Map {
        static NOTHING: Map = Map::new();
        match space {
            Space::First => &self.first,
            Space::Second => self.second.as_ref().unwrap_or(&NOTHING),
        }
    }

    /// Changes of a keyspace that is not there change nothing.
    fn apply(&mut self, commit: &Commit) {
        for (space, change) in commit {
            let Some(map) = self.space(*space) else { continue };
            match change {
                Change::Insert(key, value) => {
                    map.insert(key.clone(), value.clone());
                }
                Change::Remove(key) => {
                    map.remove(key);
                }
                Change::Merge(key, operand) => map.entry(key.clone()).or_default().extend(operand),
                Change::RemoveRange(range) => map.retain(|key, _| !range.contains(key)),
            }
        }
    }

    fn space(&mut self, space: Space) -> Option<&mut Map> {
        match space {
            Space::First => Some(&mut self.first),
            Space::Second => self.second.as_mut(),
        }
    }

    /// The same with another second keyspace, or without.
    fn with_second(&self, second: Option<Map>) -> Self {
        Self { first: self.first.clone(), second }
    }
}

/// Something that was answered by an error: it has happened or not.
#[derive(Debug, Clone)]
pub(super) enum Doubt {
    Commit(Commit),
    Created,
    Dropped,
}

/// What the database must hold, and what it may have lost after a power cut.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    pub(super) now: State,
    /// What no crash may take back.
    pub(super) durable: State,
    /// The commits from `durable` to `now`.
    pub(super) pending: Vec<Commit>,
    /// All commits so far; the last of them are pending.
    pub(super) made: u64,
    pub(super) doubtful: Option<Doubt>,
}

impl History {
    pub(crate) fn now(&self) -> &State {
        &self.now
    }

    pub(crate) fn committed(&mut self, commit: Commit, durable: bool) {
        // Whatever was left in doubt has not happened if something later was accepted.
        self.doubtful = None;
        self.now.apply(&commit);
        self.pending.push(commit);
        self.made += 1;
        if durable {
            self.synced();
        }
    }

    pub(super) fn failed(&mut self, doubt: Doubt) {
        self.doubtful.get_or_insert(doubt);
    }

    pub(crate) fn synced(&mut self) {
        for commit in self.pending.drain(..) {
            self.durable.apply(&commit);
        }
    }

    /// Everything up to the commit of this number is durable.
    pub(super) fn synced_through(&mut self, number: u64) {
        let before = self.made - self.pending.len() as u64;
        let synced = usize::try_from(number.saturating_sub(before)).expect("a few commits");
        for commit in self.pending.drain(..synced) {
            self.durable.apply(&commit);
        }
    }

    /// The second keyspace was made, which is durable, whatever happens to the commits before.
    pub(super) fn created(&mut self) {
        self.doubtful = None;
        self.now.second = Some(Map::new());
        self.durable.second = Some(Map::new());
    }

    /// It was dropped, and every commit before that is durable.
    pub(super) fn dropped(&mut self) {
        self.doubtful = None;
        self.synced();
        self.now.second = None;
        self.durable.second = None;
    }

    /// The database was opened again and holds this.
    pub(crate) fn reopened(&mut self, found: State) {
        *self = Self { now: found.clone(), durable: found, made: self.made, ..Self::default() };
    }

    /// Every state that a crash at this moment may leave, the last durable one first.
    pub(crate) fn states(&self) -> Vec<State> {
        let mut states = vec![self.durable.clone()];
        let doubtful = match &self.doubtful {
            Some(Doubt::Commit(commit)) => Some(commit),
            _ => None,
        };
        for commit in self.pending.iter().chain(doubtful) {
            let mut next = states.last().cloned().unwrap_or_default();
            next.apply(commit);
            states.push(next);
        }
        match &self.doubtful {
            Some(Doubt::Created) => {
                let with: Vec<State> = states.iter().map(|state| state.with_second(Some(Map::new()))).collect();
                states.extend(with);
            }
            Some(Doubt::Dropped) => states.push(self.now.with_second(None)),
            _ => {}
        }
        states
    }

    /// Every state of a database that has lost nothing.
    pub(crate) fn complete_states(&self) -> Vec<State> {
        let mut states = vec![self.now.clone()];
        states.extend(self.doubtful.as_ref().map(|doubt| match doubt {
            Doubt::Commit(commit) => {
                let mut with = self.now.clone();
                with.apply(commit);
                with
            }
            Doubt::Created => self.now.with_second(Some(Map::new())),
            Doubt::Dropped => self.now.with_second(None),
        }));
        states
    }

    /// Whether a database that has lost nothing can hold this.
    pub(crate) fn is_complete(&self, found: &State) -> bool {
        *found == self.now || self.complete_states().contains(found)
    }

    /// Whether this is the state after some commit, at least the last durable one.
    pub(crate) fn is_prefix(&self, found: &State) -> bool {
        *found == self.durable || self.states().contains(found)
    }
}

/// What two states differ in, for a message.
pub(crate) fn state_difference(found: &State, expected: &State) -> String {
    let first = difference(&found.first, &expected.first);
    match (&found.second, &expected.second) {
        (None, None) => first,
        (Some(found), Some(expected)) => format!("{first}; in the second keyspace, {}", difference(found, expected)),
        (Some(_), None) => format!("{first}; and there is a second keyspace"),
        (None, Some(_)) => format!("{first}; and there is no second keyspace"),
    }
}

/// What two maps differ in, for a message.
pub(crate) fn difference(found: &Map, expected: &Map) -> String {
    let missing = expected.iter().filter(|(key, value)| found.get(*key) != Some(value));
    let foreign = found.keys().filter(|key| !expected.contains_key(*key));
    let short = |key: &Vec<u8>| Bytes(key.clone());
    format!(
        "of {} entries missing or wrong: {:?}; foreign: {:?}",
        expected.len(),
        missing.map(|(key, _)| short(key)).take(5).collect::<Vec<_>>(),
        foreign.map(short).take(5).collect::<Vec<_>>(),
    )
}
