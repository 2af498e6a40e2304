//! Where a database is, and what is in it.

use std::path::PathBuf;

use maplsm::operators::Append;
use maplsm::{Db, Iter, Keyspace, KeyspaceOptions, Options, SimFs};

use super::Map;
use super::history::State;

/// Where the database is on a simulated disk.
pub(super) const DIR: &str = "/db";

/// The keyspace with aligned values.
const ALIGNED: &str = "aligned";

/// The other keyspace.
pub(super) const SECOND: &str = "second";

/// Where the database is.
#[derive(Clone)]
pub(crate) enum Place {
    Memory(SimFs),
    Disk(PathBuf),
}

impl Place {
    pub(crate) fn open(&self, mut options: Options) -> maplsm::Result<Db> {
        match self {
            Self::Memory(fs) => options.file_system(fs.clone()).open(DIR),
            Self::Disk(path) => options.open(path),
        }
    }
}

/// The keyspace of a run: one of its own if values are aligned, made if it is not there.
pub(super) fn keyspace(db: &Db, alignment: usize) -> maplsm::Result<Keyspace> {
    if alignment == 1 {
        return db.keyspace("default");
    }
    if db.keyspaces().iter().any(|name| name == ALIGNED) {
        return db.keyspace(ALIGNED);
    }
    db.create_keyspace(ALIGNED, KeyspaceOptions::new().value_alignment(alignment).merge_operator(Append))
}

/// The second keyspace, if there is one.
pub(crate) fn second(db: &Db) -> maplsm::Result<Option<Keyspace>> {
    let there = db.keyspaces().iter().any(|name| name == SECOND);
    there.then(|| db.keyspace(SECOND)).transpose()
}

/// What an iterator has left.
pub(crate) fn read_all(iter: Iter) -> maplsm::Result<Map> {
    iter.map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec()))).collect()
}

/// What is in the keyspaces of the model.
pub(crate) fn read_state(db: &Db, alignment: usize) -> maplsm::Result<State> {
    let first = read_all(keyspace(db, alignment)?.iter())?;
    let second = second(db)?.map(|keyspace| read_all(keyspace.iter())).transpose()?;
    Ok(State { first, second })
}
