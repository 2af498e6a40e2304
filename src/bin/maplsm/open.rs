//! Ways to open the database.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use maplsm::{Db, Durability, Error, Keyspace, Options, inspect};

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

/// To change what is there many times and call `sync` before anyone is told.
pub(crate) fn to_change_buffered(target: &Target) -> Result<Db, Failure> {
    open(target, Options::new().create_if_missing(false).durability(Durability::Buffered))
}

/// To write, perhaps as the first one.
pub(crate) fn to_write(target: &Target) -> Result<Db, Failure> {
    look_before_making(target)?;
    open(target, Options::new().create_if_missing(true))
}

/// To write many times, perhaps as the first one, and call `sync` before anyone is told.
pub(crate) fn to_write_buffered(target: &Target) -> Result<Db, Failure> {
    look_before_making(target)?;
    open(target, Options::new().create_if_missing(true).durability(Durability::Buffered))
}

/// What is in the place of a database.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nothing, or an empty directory.
    Vacant,
    /// A directory with files, none of which is of a database.
    Foreign,
    /// Files of a database, or no directory; the library says what is wrong, if something is.
    Taken,
}

fn place(path: &Path) -> Result<Place, Failure> {
    let files = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Vacant),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Place::Taken),
        Err(error) => return Err(Failure::file("read", path, &error)),
        Ok(files) => files,
    };
    let mut place = Place::Vacant;
    for file in files {
        let name = file.map_err(|error| Failure::file("read", path, &error))?.file_name();
        if name.to_str().is_some_and(|name| matches!(name, "LOCK" | "CURRENT") || inspect::is_name(name)) {
            return Ok(Place::Taken);
        }
        place = Place::Foreign;
    }
    Ok(place)
}

/// Whether a database would be made, and not opened.
pub(crate) fn is_vacant(target: &Target) -> Result<bool, Failure> {
    Ok(place(&target.db)? != Place::Taken)
}

/// Refuses to make a database among the files of somebody else.
fn look_before_making(target: &Target) -> Result<(), Failure> {
    if !target.options.force && place(&target.db)? == Place::Foreign {
        return Err(Failure::new(format_args!(
            "{} has files in it and no database; --force makes one beside them",
            target.db.display()
        )));
    }
    Ok(())
}

/// The keyspace that is to be written, made if it is missing.
pub(crate) fn keyspace(db: &Db, target: &Target) -> maplsm::Result<Keyspace> {
    db.keyspace(target.keyspace.as_deref().unwrap_or(DEFAULT))
}

/// The keyspace that is to be read or changed, which has to be there.
pub(crate) fn existing_keyspace(db: &Db, name: Option<&str>) -> maplsm::Result<Keyspace> {
    let name = name.unwrap_or(DEFAULT);
    if name == DEFAULT || db.keyspaces().iter().any(|there| there == name) {
        db.keyspace(name)
    } else {
        Err(Error::KeyspaceNotFound { name: name.into() })
    }
}

/// The keyspace that the command line names, which has to be there.
pub(crate) fn existing(db: &Db, target: &Target) -> maplsm::Result<Keyspace> {
    existing_keyspace(db, target.keyspace.as_deref())
}

fn open(target: &Target, options: &mut Options) -> Result<Db, Failure> {
    target.options.apply(options);
    options.allow_missing_operators(true);
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
