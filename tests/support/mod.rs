//! What several test modules share; the fuzz targets include `damage`, `model` and `reseal` by their paths.

mod damage;
pub(crate) mod model;
pub(crate) mod reseal;

use std::path::{Path, PathBuf};

use maplsm::{Db, Durability, Options, SimFs, WriteBatch};

/// The directory of the database in a simulated file system.
pub(crate) const DIR: &str = "/db";

/// The path of a file of that database.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Options for a simulated disk: no threads, buffered commits.
pub(crate) fn sim_options(fs: &SimFs) -> Options {
    let mut options = Options::new();
    options.file_system(fs.clone()).background_threads(0).durability(Durability::Buffered);
    options
}

/// Every file of the database with its contents, but for the reserve, whose bytes mean nothing.
pub(crate) fn image(fs: &SimFs) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(DIR);
    let files = fs.files(dir).into_iter().filter(|(name, _)| name != "RESERVE");
    files.map(|(name, _)| (name.clone(), fs.read(&dir.join(&name)).unwrap_or_default())).collect()
}

/// The names of a database's files that end like this, in order.
pub(crate) fn names(fs: &SimFs, ending: &str) -> Vec<String> {
    fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name).filter(|name| name.ends_with(ending)).collect()
}

/// Changes the bytes of a file of the database.
pub(crate) fn change(fs: &SimFs, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = path(name);
    let mut bytes = fs.read(&path).unwrap();
    change(&mut bytes);
    fs.write(&path, &bytes);
}

/// All entries.
pub(crate) fn contents(db: &Db) -> model::Map {
    model::read_all(db.iter()).unwrap()
}

/// Commits the entries in batches of at most `per_batch`.
pub(crate) fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    db: &Db,
    entries: impl IntoIterator<Item = (K, V)>,
    per_batch: usize,
) {
    let mut batch = WriteBatch::new();
    for (key, value) in entries {
        batch.insert(key, value);
        if batch.len() >= per_batch {
            db.write_with(&batch, Durability::Buffered).unwrap();
            batch.clear();
        }
    }
    db.write_with(&batch, Durability::Buffered).unwrap();
}
