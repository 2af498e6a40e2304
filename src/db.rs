//! The store's public face.

mod reading;
mod transacting;
mod updating;

use std::borrow::Borrow;
use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use crate::batch::WriteBatch;
use crate::commit::Commit;
use crate::engine::{BackupReport, Body, Engine, Ingested, RecoveryReport, Report};
use crate::error::{Error, Result};
use crate::format::KeyspaceId;
use crate::format::entry::Kind;
use crate::format::range::{Edge, edges};
use crate::handle::Handle;
use crate::iter::{Cursor, Entry, Iter, KeyRange};
use crate::keyspace::Keyspace;
use crate::options::{Durability, Isolation, KeyspaceOptions, Options};
use crate::slice::Slice;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::transaction::Transaction;

/// An open database. A clone is another handle on it; handles may be used from any number of threads at once.
///
/// The methods for keys and values work on the default keyspace; [`keyspace`](Self::keyspace) returns others.
///
/// Dropping the last handle closes the database as [`close`](Self::close) does, but cannot report an error.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::Db;
///
/// let db = Db::open(dir.path().join("db"))?;
/// db.insert("fjord", "a long, narrow sea inlet")?;
/// assert_eq!(db.get("fjord")?.as_deref(), Some(&b"a long, narrow sea inlet"[..]));
/// db.remove("fjord")?;
/// assert!(db.get("fjord")?.is_none());
/// db.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Db {
    handle: Handle,
}

impl Options {
    /// Opens the database in the directory `path`.
    ///
    /// After a clean close this replays what had not been flushed; after a crash it also restores the state up to the last
    /// intact commit, which [`Db::recovery_report`] tells. Takes time proportional to the unflushed log, which a crash leaves to
    /// be copied as well: that takes as much space for the moment, without which the open fails and changes nothing.
    ///
    /// A directory with tables, value files or a log and without `CURRENT` is damaged, whatever the options say, and neither
    /// empty nor no database: [`repair`](crate::repair()) makes `CURRENT` again. What a crash leaves of a database that was
    /// being made has none of these files.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Db> {
        self.check()?;
        Ok(Db { handle: Handle::new(Engine::open(self, path.as_ref())?) })
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl Db {
    /// Opens the database in the directory `path`, made if it is missing, with the default [`Options`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    /// The value of a key, read in place. Expected O(1) for each memtable and each level: a hash lookup in each that may have
    /// the key.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        Ok(self.engine().readers.get(KeyspaceId::DEFAULT, key.as_ref())?.map(Slice))
    }

    /// Whether the key has a value. Costs as much as [`get`](Self::get).
    #[inline]
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Sets the value of a key, with this durability. Otherwise like [`insert`](Self::insert).
    #[inline]
    pub fn insert_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.engine().committer.commit_one_with(
            self.engine().default_keyspace(),
            Kind::Put,
            key.as_ref(),
            value.as_ref(),
            durability,
        )
    }

    /// Removes a key, with this durability. Otherwise like [`remove`](Self::remove).
    #[inline]
    pub fn remove_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.engine().committer.commit_one_with(
            self.engine().default_keyspace(),
            Kind::Delete,
            key.as_ref(),
            &[],
            durability,
        )
    }

    /// Sets the value of a key, with the durability of [`Options::durability`]. After an I/O error the change may be there or
    /// not; nothing later is accepted then until the store is opened again.
    #[inline]
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.engine().committer.commit_one(self.engine().default_keyspace(), Kind::Put, key.as_ref(), value.as_ref())
    }

    /// Removes a key, whether it is there or not; durability and errors as for [`insert`](Self::insert).
    #[inline]
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.engine().committer.commit_one(self.engine().default_keyspace(), Kind::Delete, key.as_ref(), &[])
    }

    /// Removes all keys of a range; durability and errors as for [`insert`](Self::insert). Takes the time of one write,
    /// however many keys are in the range: what it writes is a range tombstone, which hides them, and their space is freed
    /// by compaction, tables that lie in the range as a whole first.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2").insert("c", "3"))?;
    /// db.remove_range("a".."c")?;
    /// assert!(db.get("b")?.is_none());
    /// assert_eq!(db.iter().count(), 1);
    /// # db.close()
    /// # }
    /// ```
    pub fn remove_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.engine().committer.remove_range(self.engine().default_keyspace(), edges(&range))
    }

    /// Commits a batch, whole or not at all, with the durability of [`Options::durability`].
    pub fn write(&self, batch: impl Borrow<WriteBatch>) -> Result<()> {
        self.write_with(batch, self.engine().options.durability)
    }

    /// Commits a batch, whole or not at all, with this durability. An empty batch with [`Durability::Sync`] does what
    /// [`sync`](Self::sync) does.
    pub fn write_with(&self, batch: impl Borrow<WriteBatch>, durability: Durability) -> Result<()> {
        self.engine().committer.commit(Body::Batch(batch.borrow()), durability)
    }

    /// Commits a batch, whole or not at all, without waiting for the disk, and returns what tells when it is durable: see
    /// [`Commit`]. It is visible when this returns. Costs what a [`Buffered`](Durability::Buffered) write costs; the sync
    /// begins at once, beside the caller, so one thread can have many commits on their way to the disk. Of an empty batch, the
    /// commit is durable when everything before it is.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), but for what a sync may fail with, and [`Error::Io`] if the threads that sync and call
    /// back could not be started. After any of them, nothing is going to be told.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let first = db.submit(maplsm::WriteBatch::new().insert("a", "1"))?;
    /// let second = db.submit(maplsm::WriteBatch::new().insert("a", "2"))?;
    /// assert_eq!(db.get("a")?.unwrap(), b"2");
    /// second.wait()?;
    /// assert!(first.is_durable());
    /// # db.close()
    /// # }
    /// ```
    pub fn submit(&self, batch: impl Borrow<WriteBatch>) -> Result<Commit> {
        let end = self.engine().submit(Body::Batch(batch.borrow()))?;
        Ok(Commit::new(&self.engine().teller, end))
    }

    /// Commits a batch like [`write`](Self::write), unless writers are being slowed down: then it returns
    /// [`Error::WouldBlock`] at once, and nothing is written. The sync of
    /// [`Durability::Sync`] is not a delay of this kind.
    pub fn try_write(&self, batch: impl Borrow<WriteBatch>) -> Result<()> {
        self.engine().committer.try_commit(Body::Batch(batch.borrow()), self.engine().options.durability)
    }

    /// Loads entries whose keys ascend, without duplicates, straight into tables: whole or not at all, and durable when this
    /// returns. Takes neither log nor memtable, so it runs as fast as tables can be written.
    ///
    /// The load takes its place in the history when all of it is written: it replaces what was committed before, and what is
    /// committed after replaces it. Snapshots from before see nothing of it. Everything committed before, in all keyspaces,
    /// is made durable as well, also by a load of nothing. Writers are held up for the few syncs of the installation. If
    /// memtables have keys between the first and the last one of a table of the load, or the load goes to level 0, they are
    /// flushed first.
    ///
    /// Tables are cut at [`Options::table_bytes`]. A load into a stretch of keys that has nothing yet goes to the deepest
    /// level that is in use and is rewritten by nothing; one over older data may have to go to level 0, from where compaction
    /// merges it.
    ///
    /// A key that does not ascend is refused: [`Error::NotAscending`]. After an error, nothing of the load is left.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let loaded = db.ingest((0..1000u32).map(|i| (i.to_be_bytes(), format!("value {i}"))))?;
    /// assert_eq!(loaded.entries, 1000);
    /// assert_eq!(db.get(7u32.to_be_bytes())?.as_deref(), Some(&b"value 7"[..]));
    ///
    /// let unsorted = db.ingest([("b", ""), ("c", ""), ("a", "")]);
    /// assert!(matches!(unsorted, Err(maplsm::Error::NotAscending { position: 2, duplicate: false })));
    /// assert!(db.get("b")?.is_none());
    /// # db.close()
    /// # }
    /// ```
    pub fn ingest<K, V>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<Ingested>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.try_ingest(entries.into_iter().map(Ok::<_, Error>))
    }

    /// Loads entries from a source that can fail, whose first error ends the load: see [`ingest`](Self::ingest).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// # db.insert("key", "value")?;
    /// let other = maplsm::Db::open(dir.path().join("other"))?;
    /// let entries = db.iter().map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec())));
    /// assert_eq!(other.try_ingest(entries)?.entries, 1);
    /// # other.close()?;
    /// # db.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_ingest<K, V, E>(&self, entries: impl IntoIterator<Item = Result<(K, V), E>>) -> Result<Ingested, E>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: From<Error>,
    {
        self.engine().loader.ingest(self.engine().default_keyspace(), entries)
    }

    /// Makes everything committed before the call durable.
    pub fn sync(&self) -> Result<()> {
        self.engine().teller.sync()
    }

    /// All entries, in order of key.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2").insert("c", "3"))?;
    /// let keys: Vec<_> = db.iter().rev().map(|entry| Ok(entry?.key().to_vec())).collect::<maplsm::Result<_>>()?;
    /// assert_eq!(keys, [b"c", b"b", b"a"]);
    /// # db.close()
    /// # }
    /// ```
    pub fn iter(&self) -> Iter {
        Iter::now(self.engine(), self.engine().default_keyspace(), KeyRange::all())
    }

    /// The entries of a range of keys, in order.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// use std::ops::Bound;
    ///
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2").insert("c", "3"))?;
    /// assert_eq!(db.range("b"..).count(), 2);
    /// // Where a range does not tell what its keys are, or could be read in two ways, the call names it.
    /// assert_eq!(db.range::<&str>(..).count(), 3);
    /// let (from, after) = ("b".to_owned(), (Bound::Excluded("a"), Bound::Unbounded));
    /// assert_eq!(db.range::<String>(&from..).count(), 2);
    /// assert_eq!(db.range::<&str>(after).count(), 2);
    /// # db.close()
    /// # }
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        Iter::now(self.engine(), self.engine().default_keyspace(), KeyRange::new(&range))
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::now(self.engine(), self.engine().default_keyspace(), KeyRange::prefix(prefix.as_ref()))
    }

    /// A cursor over the present state, at first nowhere.
    pub fn cursor(&self) -> Cursor {
        Cursor::now(self.engine(), self.engine().default_keyspace())
    }

    /// The store as it is now, to read from later.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.engine(), self.engine().default_keyspace())
    }

    /// Begins a transaction, which sees the store as it is now.
    pub fn transaction(&self) -> Transaction {
        self.transaction_with(Isolation::Serializable)
    }

    /// Begins a transaction that relies on less or more.
    pub fn transaction_with(&self, isolation: Isolation) -> Transaction {
        Transaction::new(self.engine(), isolation)
    }

    /// The keys that have a value in the memtables, that is, in the log only, in order.
    pub fn memtable_keys(&self) -> Result<Vec<Vec<u8>>> {
        self.engine().readers.memtable_keys(KeyspaceId::DEFAULT)
    }

    /// Writes everything that is in the log only into tables. The next open then has nothing to replay. Not needed for
    /// durability.
    pub fn flush(&self) -> Result<()> {
        self.engine().maintenance.flush()
    }

    /// Waits until no flush and no compaction is due. What has failed is tried again; an error if it keeps failing.
    pub fn wait_for_background(&self) -> Result<()> {
        self.engine().maintenance.wait_for_background()
    }

    /// Does all maintenance that is due on this thread: with [`Options::background_threads`] 0, the only time it is done
    /// apart from writes that would have to wait for it.
    pub fn maintain(&self) -> Result<()> {
        self.engine().maintenance.maintain()
    }

    /// Flushes, and merges all tables into one sorted level without old versions and tombstones. Needs free space for a copy
    /// of the data.
    pub fn compact(&self) -> Result<()> {
        self.engine().maintenance.compact_range(KeyspaceId::DEFAULT, (Edge::START, Edge::End))
    }

    /// Like [`compact`](Self::compact) for the tables with keys in a range, and those that they overlap.
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let (start, end) = edges(&range);
        self.engine().maintenance.compact_range(KeyspaceId::DEFAULT, (start.as_ref(), end.as_ref()))
    }

    /// The keyspace of this name, which is made with the database's options if there is none; see [`Keyspace`].
    ///
    /// A name has 1 to 255 bytes and no control characters. `default` is the name of the keyspace that the methods of `Db`
    /// itself read and write. A new keyspace is durable when this returns. Fails with
    /// [`KeyspaceNotFound`](crate::Error::KeyspaceNotFound) if there is none and the database is open read-only.
    pub fn keyspace(&self, name: impl AsRef<str>) -> Result<Keyspace> {
        Ok(Keyspace::new(&self.handle, self.engine().catalog.keyspace(name.as_ref())?))
    }

    /// Makes a keyspace with its own options; fails with [`KeyspaceExists`](crate::Error::KeyspaceExists) if there is one of
    /// this name.
    pub fn create_keyspace(&self, name: impl AsRef<str>, options: &KeyspaceOptions) -> Result<Keyspace> {
        Ok(Keyspace::new(&self.handle, self.engine().catalog.create_keyspace(name.as_ref(), options)?))
    }

    /// The names of all keyspaces but the default one, sorted.
    pub fn keyspaces(&self) -> Vec<String> {
        self.engine().catalog.names()
    }

    /// Drops a keyspace with all that is in it: durably, when this returns, and whole.
    ///
    /// Everything committed before is made durable first, in all keyspaces. Files that hold nothing else are removed at
    /// once, or when the last iterator that walks them is gone; what shares a file with other keyspaces goes when that is
    /// compacted. Handles and snapshots of it, and batches that name it, then answer
    /// [`KeyspaceDropped`](crate::Error::KeyspaceDropped); iterators, cursors and values got before stay valid. The name is
    /// free for a new keyspace, which has nothing to do with this one. The default keyspace cannot be dropped.
    pub fn drop_keyspace(&self, name: impl AsRef<str>) -> Result<()> {
        self.engine().catalog.drop_keyspace(name.as_ref())
    }

    /// Makes a copy of the store as it is now, as a database of its own, in the directory `path`, while everything goes on.
    ///
    /// The copy has what is committed when it begins, in all keyspaces, no matter how durable, and is complete and on disk
    /// when this returns. Tables are hard links where the file system can do that, which takes no space and hardly any time,
    /// and copies where it cannot, for example because `path` is on another one; copies are checked, links are not:
    /// [`verify`](Self::verify) the copy for that. What is in the log only is written as a table. The directory must not be
    /// there and is made with mode 0700; after an error, it is gone again. A crash may leave a part of the copy, without a
    /// `CURRENT`, which does not open: remove it.
    ///
    /// Store and copy have nothing to do with each other from then on: both can be written, and either can be removed.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("key", "before")?;
    /// db.checkpoint(dir.path().join("backup"))?;
    /// db.insert("key", "after")?;
    /// let backup = maplsm::Db::open(dir.path().join("backup"))?;
    /// assert_eq!(backup.get("key")?.as_deref(), Some(&b"before"[..]));
    /// # backup.close()?;
    /// # db.close()
    /// # }
    /// ```
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        self.engine().checkpoint(path.as_ref())
    }

    /// Makes a backup of what is committed now, in all keyspaces, in a directory of backups of this database, which is made if
    /// it is not there. Writers and readers go on meanwhile.
    ///
    /// Each backup is a database in a directory of its own, whose name is the number of the backup and the identity of the
    /// database that it is of, and which can be opened [read-only](Options::read_only), [verified](Db::verify), and
    /// [restored](crate::restore()) without the others. Tables and value files that the backup before has already are not
    /// copied but linked to, so a backup costs what has changed since. (A file system without hard links gets copies of
    /// everything.) What is copied is verified; what is linked to is not read again: [`verify`](Db::verify) reads it. Nothing
    /// is linked to the files of the database itself, which may be on another disk.
    ///
    /// Durable when this returns. What was interrupted is removed by the next backup, and earlier ones stay whole.
    /// [`backups`](crate::backups) lists them, [`prune_backups`](crate::prune_backups) removes old ones.
    ///
    /// # Errors
    /// [`Error::ForeignBackup`] if the directory has backups of another database, or other files; [`Error::Locked`] while
    /// somebody else uses it; [`Error::Corruption`] if a file to be copied is damaged. After an error, there is no new backup.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<BackupReport> {
        self.engine().backup(path.as_ref())
    }

    /// Reads every byte of every table and of the log, and checks checksums, order, counts and indexes. Tells as well what is
    /// in the directory and no part of the database. Beside a [`close`](Self::close), the last problem is [`Error::Closed`].
    pub fn verify(&self) -> Report {
        self.engine().verify()
    }

    /// What the open found in the log.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.engine().recovery
    }

    /// Numbers about the store: what it holds and has done, how long that took, and what it has cost. Asks the system for the
    /// length of every file; [`explain`](Self::explain) tells how one key is found, and a [listener](Options::listener) hears
    /// of what happens.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("key", "value")?;
    /// let stats = db.stats();
    /// assert_eq!(stats.written.by_users, 8);
    /// println!("a sync takes {:?}, one in a hundred more", stats.latencies.sync.quantile(0.99).unwrap());
    /// println!("{:.1} bytes written for each one", stats.write_amplification().unwrap());
    /// # db.close()
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// Ends the run: cancels background work, makes everything committed durable, marks the log as complete (from then on
    /// every damaged bit is noticed), and lets others open the directory, whatever fails. Does not flush. Other handles then
    /// answer [`Error::Closed`]; values stay valid, iterators and cursors until they come to a file that is gone. An error,
    /// also [`Error::Poisoned`], says that [`Durability::Buffered`] commits may be lost. Each call returns what the first one
    /// does.
    pub fn close(&self) -> Result<()> {
        self.engine().close()
    }
}

impl IntoIterator for &Db {
    type Item = Result<Entry>;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}
