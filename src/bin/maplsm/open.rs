//! Ways to open the database.

use std::num::NonZeroUsize;

use maplsm::{Db, Durability, Error, Keyspace, Options, Result};

use crate::args::Target;
use crate::failure::{Failure, say};

/// The name of the keyspace that every database has.
pub(crate) const DEFAULT: &str = "default";

/// To read: changes nothing on disk, and the database has to be there.
pub(crate) fn to_read(target: &Target) -> Result<Db, Failure> {
    open(target, Options::new().create_if_missing(false).read_only(true))
}

/// To change what is there.
pub(crate) fn to_change(target: &Target) -> Result<Db, Failure> {
    open(target, Options::new().create_if_missing(false))
}

/// To write, perhaps as the first one.
pub(crate) fn to_write(target: &Target) -> Result<Db, Failure> {
    open(target, Options::new().create_if_missing(true))
}

/// To write many times and call `sync` before anyone is told.
pub(crate) fn to_write_buffered(target: &Target) -> Result<Db, Failure> {
    open(target, Options::new().create_if_missing(true).durability(Durability::Buffered))
}

/// The keyspace that is to be written, made if it is missing.
pub(crate) fn keyspace(db: &Db, target: &Target) -> Result<Keyspace> {
    db.keyspace(target.keyspace.as_deref().unwrap_or(DEFAULT))
}

/// The keyspace that is to be read or changed, which has to be there.
pub(crate) fn existing_keyspace(db: &Db, name: Option<&str>) -> Result<Keyspace> {
    let name = name.unwrap_or(DEFAULT);
    if name == DEFAULT || db.keyspaces().iter().any(|there| there == name) {
        db.keyspace(name)
    } else {
        Err(Error::KeyspaceNotFound { name: name.into() })
    }
}

fn open(target: &Target, options: &mut Options) -> Result<Db, Failure> {
    let opened = options.memtable_entries(target.capacity.map(NonZeroUsize::get)).open(&target.db);
    let db = opened.map_err(|error| {
        let damaged = error.is_corruption();
        let failure = Failure::from(error);
        if damaged {
            failure
                .with_note("`maplsm verify --deep` tells all that is damaged, `maplsm repair` saves what can be read")
        } else {
            failure
        }
    })?;
    if let Some(tail) = &db.recovery_report().dropped {
        say(format_args!(
            "note: {} ends in a write that was cut short; its {} bytes from offset {} on are left out",
            tail.path.display(),
            tail.bytes,
            tail.offset
        ));
    }
    Ok(db)
}
