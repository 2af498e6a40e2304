//! Ends of a process, and what the next one finds.

use maplsm::{Error, ErrorKind, Fault, SimFs};

use super::driver::Driver;
use super::history::state_difference;
use super::operation::{Crash, Op};
use super::place::{Place, keyspace, read_state, second};
use super::setup::Setup;
use super::submitted::Submitted;

impl Driver {
    /// Opens the database again and compares. All handles on the old one are gone, except iterators, cursors and slices.
    pub(super) fn open(&mut self, setup: Setup) {
        self.setup = setup;
        self.submitted = Submitted::default();
        self.walks.iter_mut().for_each(|walk| walk.outlives = true);
        self.positions.iter_mut().for_each(|position| position.outlives = true);
        let opened = self.place.open(setup.options());
        let db = self.db.insert(opened.unwrap_or_else(|e| panic!("the database does not open: {e}")));
        self.keyspace = Some(keyspace(db, self.aligned.0).expect("the keyspace opens"));
        self.second = second(db).expect("the keyspace opens");
    }

    pub(super) fn reopen(&mut self, setup: Setup) {
        (self.keyspace, self.second) = (None, None);
        let db = self.db.take().expect("the database is open");
        if self.stamp.is_multiple_of(3) {
            // The last handle closes as well.
            self.snapshots.clear();
            drop(db);
        } else {
            db.close().expect("the database closes");
            db.close().expect("a second close answers what the first one did");
            assert!(matches!(db.get(b"a"), Err(Error::Closed)));
            assert!(matches!(db.iter().next(), Some(Err(Error::Closed))));
            for (snapshot, _) in self.snapshots.drain(..) {
                assert!(matches!(snapshot.get(b"a"), Err(Error::Closed)));
            }
        }
        self.submitted.hear(&mut self.history);
        self.submitted.check_all_heard();
        self.open(setup);
        assert!(self.db().recovery_report().clean, "{:?}", self.db().recovery_report());
        self.check();
        self.history.synced();
    }

    /// Goes on with a copy of the disk as a crash leaves it.
    pub(super) fn move_to(&mut self, fs: SimFs) {
        self.snapshots.clear();
        (self.keyspace, self.second, self.db) = (None, None, None);
        self.place = Place::Memory(fs);
    }

    pub(super) fn kill(&mut self, setup: Setup) {
        let Some(fs) = self.sim() else { return self.reopen(setup) };
        let after = fs.kill();
        self.move_to(after);
        self.recover(setup, true);
    }

    pub(super) fn power_cut(&mut self, seed: u64, setup: Setup) {
        let Some(fs) = self.sim() else { return self.reopen(setup) };
        let after = fs.power_cut(seed);
        self.move_to(after);
        self.recover(setup, false);
    }

    /// Opens after a crash and compares with what may be there.
    pub(super) fn recover(&mut self, setup: Setup, complete: bool) {
        let shown = self.look_read_only(setup);
        self.open(setup);
        let found = read_state(self.db(), self.aligned.0).expect("everything is read");
        if let Some(shown) = shown {
            assert!(shown == found, "a read-only open shows something else: {}", state_difference(&shown, &found));
        }
        if complete {
            assert!(self.history.is_complete(&found), "killed: {}", state_difference(&found, &self.history.now));
        } else {
            assert!(
                self.history.is_prefix(&found),
                "no prefix of the history; durable: {}; all: {}",
                state_difference(&found, &self.history.durable),
                state_difference(&found, &self.history.now),
            );
        }
        self.history.reopened(found);
        self.check();
    }

    pub(super) fn crash(&mut self, crash: &Crash) {
        let Some(fs) = self.sim().cloned() else { return };
        let halts = matches!(crash.fault, Fault::Halt { .. });
        fs.inject(crash.fault);
        let mut failed = false;
        for op in &crash.work {
            match self.attempt(op) {
                Ok(()) => {}
                Err(e) => {
                    failed = true;
                    let kinds = [ErrorKind::Io, ErrorKind::State, ErrorKind::Background];
                    assert!(kinds.contains(&e.kind()), "{op:?} fails: {e}");
                }
            }
            let changes = matches!(op, Op::Ingest(..) | Op::CreateSecond | Op::DropSecond)
                || matches!(op, Op::Write(commit, _) if !commit.is_empty());
            if failed && halts && changes {
                break;
            }
        }
        // Reading goes on whatever has failed.
        let found = read_state(self.db(), self.aligned.0).expect("everything is read");
        assert!(self.history.is_complete(&found), "after a fault: {}", state_difference(&found, &self.history.now));
        let mut after = match crash.power_cut {
            Some(seed) => fs.power_cut(seed),
            None => fs.kill(),
        };
        let mut complete = crash.power_cut.is_none();
        if let Some((operation, seed)) = crash.again {
            after.inject(Fault::Halt { after: operation });
            let opened = Place::Memory(after.clone()).open(crash.setup.options());
            let found = opened.and_then(|db| read_state(&db, self.aligned.0));
            after = after.power_cut(seed);
            // What an open has shown is there to stay.
            if let Ok(found) = found {
                let fine = if complete { self.history.is_complete(&found) } else { self.history.is_prefix(&found) };
                assert!(fine, "the first recovery: {}", state_difference(&found, &self.history.now));
                self.history.reopened(found);
            }
            complete = false;
        }
        self.move_to(after);
        self.recover(crash.setup, complete);
    }
}
