//! Compares what a database answers with its history.

use std::path::Path;

use maplsm::{Error, Explanation, LookupAnswer, SimFs};

use super::Map;
use super::driver::Driver;
use super::history::{State, difference, state_difference};
use super::operation::{Bytes, Move, Op};
use super::place::{DIR, Place, read_state};
use super::setup::Setup;

/// Of the checks of a fuzzer's run, one in so many is a thorough one.
const QUICK: u64 = 8;

/// Whether an explanation says what a get does: the last of its steps settles it, and no other one would. Operands go on to
/// what they work on, which is older and, since they are appended to it, no longer than the value.
fn explained(explanation: &Explanation, expected: Option<&Bytes>) {
    let bytes = expected.map(|value| value.0.len() as u64);
    assert_eq!(explanation.value_bytes, bytes, "{explanation}");
    let (last, before) = match explanation.steps.split_last() {
        Some((last, before)) => (Some(last.answer), before),
        None => (None, &[][..]),
    };
    let mut above = None;
    for step in before {
        match step.answer {
            LookupAnswer::Missing | LookupAnswer::OutOfRange | LookupAnswer::RuledOut if above.is_none() => {}
            LookupAnswer::Operands { sequence, count } => {
                assert!(count > 0 && above.is_none_or(|above| sequence < above), "{explanation}");
                above = Some(sequence);
            }
            LookupAnswer::Elsewhere { sequence } => {
                assert!(matches!(last, Some(LookupAnswer::Stored { .. })), "{explanation}");
                assert!(above.is_none_or(|above| sequence < above), "{explanation}");
            }
            _ => panic!("{explanation}"),
        }
    }
    let fits = |found: u64| if above.is_some() { Some(found) <= bytes } else { Some(found) == bytes };
    match last {
        Some(LookupAnswer::Value { bytes: found, sequence }) => {
            assert!(fits(found) && sequence <= above.unwrap_or(explanation.sequence), "{explanation}");
        }
        Some(LookupAnswer::Stored { bytes: found, .. }) => assert!(fits(found), "{explanation}"),
        Some(LookupAnswer::Operands { sequence, count }) => {
            assert!(bytes.is_some() && count > 0, "{explanation}");
            assert!(above.map_or(sequence <= explanation.sequence, |above| sequence < above), "{explanation}");
        }
        Some(LookupAnswer::Tombstone { .. } | LookupAnswer::RangeTombstone) if above.is_some() => {}
        _ => assert_eq!(bytes, None, "{explanation}"),
    }
}

impl Driver {
    pub(super) fn get(&self, key: &[u8]) {
        let found = self.keyspace().get(key).expect("a value is read");
        let found = found.map(|value| {
            self.aligned.check(&value);
            Bytes(value.to_vec())
        });
        let expected = self.history.now.first.get(key).cloned().map(Bytes);
        assert_eq!(found, expected, "the value of {:?}", Bytes(key.to_vec()));
        assert_eq!(self.keyspace().contains_key(key).expect("a key is looked up"), expected.is_some());
        let explanation = self.keyspace().explain(key).expect("a lookup is explained");
        explained(&explanation, expected.as_ref());
    }

    pub(super) fn look(&self, slot: usize, key: &[u8]) {
        let Some((snapshot, state)) = self.snapshots.get(slot) else { return };
        let expected = state.get(key).cloned().map(Bytes);
        let of = Bytes(key.to_vec());
        let read = |value: &[u8]| {
            self.aligned.check(value);
            Bytes(value.to_vec())
        };
        let found = snapshot.get(key).expect("a snapshot is read").map(|value| read(&value));
        assert_eq!(found, expected, "the value of {of:?} in a snapshot");
        explained(&snapshot.explain(key).expect("a lookup is explained"), expected.as_ref());
        if self.stamp.is_multiple_of(2) {
            let found = snapshot.get_ref(key).expect("a snapshot is read").map(|value| read(&value));
            assert_eq!(found, expected, "the borrowed value of {of:?} in a snapshot");
            assert_eq!(snapshot.contains_key(key).expect("a snapshot is read"), expected.is_some());
        }
        let mut cursor = snapshot.cursor();
        let found = cursor.seek(key).expect("a snapshot is read");
        let behind = state.range(key.to_vec()..).next();
        assert_eq!(found, behind.is_some());
        assert_eq!(Bytes(cursor.key().to_vec()), Bytes(behind.map(|(key, _)| key.clone()).unwrap_or_default()));
    }

    /// Compares everything.
    pub(super) fn check(&self) {
        let (db, keyspace) = (self.db(), self.keyspace());
        let now = &self.history.now.first;
        let found = read_state(db, self.aligned.0).expect("everything is read");
        let expected = &self.history.now;
        assert!(found == *expected, "forwards: {}", state_difference(&found, expected));
        if self.quick && !self.step.is_multiple_of(QUICK) {
            return;
        }
        let found: Map = keyspace
            .iter()
            .rev()
            .map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec())))
            .collect::<maplsm::Result<_>>()
            .expect("everything is read");
        assert!(found == *now, "backwards: {}", difference(&found, now));
        for key in now.keys() {
            self.get(key);
        }
        self.check_at_once();
        for i in 0..150 {
            self.get(format!("k{i:03}").as_bytes());
        }
        if let (Some(second), Some(expected)) = (&self.second, &expected.second) {
            for (key, value) in expected {
                let found = second.get(key).expect("a value is read");
                assert!(found.as_deref() == Some(&value[..]), "the value of {:?}", Bytes(key.clone()));
            }
        }
        let report = db.verify();
        assert!(report.is_ok(), "verify: {:?}", report.problems);
        for (slice, expected) in &self.held {
            assert!(*slice == *expected, "a slice that was kept");
        }
        let stats = db.stats();
        assert_eq!(stats.tables.len(), stats.levels.iter().map(|level| level.tables).sum::<usize>());
    }

    /// What looks at more than one key.
    fn check_at_once(&self) {
        let (keyspace, now) = (self.keyspace(), &self.history.now.first);
        let (first, last) = (keyspace.first().expect("it is read"), keyspace.last().expect("it is read"));
        assert_eq!(
            first.map(|entry| Bytes(entry.key().to_vec())),
            now.keys().next().cloned().map(Bytes),
            "the first key"
        );
        assert_eq!(
            last.map(|entry| Bytes(entry.key().to_vec())),
            now.keys().next_back().cloned().map(Bytes),
            "the last key"
        );
        assert_eq!(keyspace.is_empty().expect("it is read"), now.is_empty());
        let wanted: Vec<Vec<u8>> =
            now.keys().cloned().chain((0..150).map(|i| format!("k{i:03}").into_bytes())).collect();
        let values = keyspace.multi_get(&wanted).expect("values are read");
        assert_eq!(values.len(), wanted.len());
        for (key, value) in wanted.iter().zip(values) {
            let expected = now.get(key);
            assert_eq!(value.map(|value| Bytes(value.to_vec())), expected.cloned().map(Bytes), "one of many values");
            let size = keyspace.size_of(key).expect("a size is read");
            assert_eq!(size, expected.map(|value| value.len() as u64), "the size of {:?}", Bytes(key.clone()));
        }
        let about = keyspace.approximate_len::<&[u8]>(..).expect("entries are counted");
        assert!(about >= now.len() as u64, "{about} entries hold {} keys", now.len());
    }

    /// What a read-only open of this disk shows; it changes nothing.
    pub(super) fn look_read_only(&self, setup: Setup) -> Option<State> {
        let fs = self.sim()?;
        let files = |fs: &SimFs| -> Vec<_> {
            let files = fs.files(Path::new(DIR));
            files.into_iter().map(|(name, _)| (fs.read(&Path::new(DIR).join(&name)), name)).collect()
        };
        let (before, operations) = (files(fs), fs.operations());
        let db = self.place.open(setup.options().read_only(true).clone()).expect("the database opens read-only");
        let shown = read_state(&db, self.aligned.0).expect("everything is read");
        assert!(db.verify().is_ok(), "verify: {:?}", db.verify().problems);
        assert!(matches!(db.insert(b"a", b"b"), Err(Error::ReadOnly)));
        drop(db);
        assert!(files(fs) == before, "a read-only open changes files");
        assert_eq!(fs.operations(), operations, "a read-only open changes the disk");
        Some(shown)
    }

    pub(super) fn read_only(&mut self) {
        let opened = self.place.open(self.setup.options().read_only(true).clone());
        assert!(matches!(opened, Err(Error::Locked(_))), "a read-only open beside a writer: {opened:?}");
        let Some(fs) = self.sim() else { return };
        let beside = Place::Memory(fs.kill());
        let live = std::mem::replace(&mut self.place, beside);
        let shown = self.look_read_only(self.setup).unwrap_or_default();
        self.place = live;
        assert!(shown == self.history.now, "a read-only open: {}", state_difference(&shown, &self.history.now));
    }

    /// The end of a run: what is still alive is compared, then the database once more, and once more after a close.
    pub(crate) fn finish(&mut self) {
        for walk in self.walks.drain(..) {
            walk.run(&[]);
        }
        for position in &mut self.positions {
            let mut more = position.step(Move::First, b"");
            for _ in 0..position.over.len() {
                more = more && position.step(Move::Next, b"");
            }
        }
        for slot in 0..self.snapshots.len() {
            self.apply(Op::LookAll(slot));
        }
        self.check();
        self.reopen(self.setup);
        self.snapshots.clear();
        self.db().close().expect("the database closes");
    }
}
