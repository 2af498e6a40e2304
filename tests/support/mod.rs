//! What several test modules share; the fuzz targets include `damage`, `keys`, `model` and `reseal` by their paths.

mod damage;
pub(crate) mod keys;
pub(crate) mod model;
pub(crate) mod reseal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// Waits for what must come.
pub(crate) fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(60), "never {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Holds up the caller's code inside of the engine, such as a filter, until a test lets it go on.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<[AtomicBool; 2]>);

impl Gate {
    fn reached(&self) -> &AtomicBool {
        &self.0[0]
    }

    fn opened(&self) -> &AtomicBool {
        &self.0[1]
    }

    /// For the code that is held up: waits until it is open, once and for all. What hangs goes on after half a minute.
    pub(crate) fn pass(&self) {
        self.reached().store(true, Ordering::SeqCst);
        let start = Instant::now();
        while !self.opened().load(Ordering::SeqCst) && start.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until somebody is held up.
    pub(crate) fn wait(&self) {
        until("at the gate", || self.reached().load(Ordering::SeqCst));
    }

    pub(crate) fn open(&self) {
        self.opened().store(true, Ordering::SeqCst);
    }
}
