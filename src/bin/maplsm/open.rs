//! Ways to open the database.

use std::num::NonZeroUsize;

use maplsm::{Db, Durability, Options, Result};

use crate::args::Target;
use crate::failure::say;

/// To read: changes nothing on disk, and the database has to be there.
pub(crate) fn to_read(target: &Target) -> Result<Db> {
    open(target, Options::new().create_if_missing(false).read_only(true))
}

/// To change what is there.
pub(crate) fn to_change(target: &Target) -> Result<Db> {
    open(target, Options::new().create_if_missing(false))
}

/// To write, perhaps as the first one.
pub(crate) fn to_write(target: &Target) -> Result<Db> {
    open(target, Options::new().create_if_missing(true))
}

/// To write many times and call `sync` before anyone is told.
pub(crate) fn to_write_buffered(target: &Target) -> Result<Db> {
    open(target, Options::new().create_if_missing(true).durability(Durability::Buffered))
}

fn open(target: &Target, options: &mut Options) -> Result<Db> {
    let db = options.memtable_entries(target.capacity.map(NonZeroUsize::get)).open(&target.db)?;
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
