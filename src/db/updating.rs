//! Changes that depend on what is there, and removals of many keys.

use super::Db;
use crate::engine::KeyspaceEnd;
use crate::error::Result;
use crate::format::entry::Kind;
use crate::iter::{Entry, KeyRange};
use crate::options::Durability;
use crate::slice::Slice;
use crate::update::{CompareError, compare_and_swap, insert_if_absent, pop, update};

impl Db {
    /// Removes all keys that begin with `prefix`, in the time of one write: see [`remove_range`](Self::remove_range).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("user/1", "").insert("user/2", "").insert("visits", "2"))?;
    /// db.remove_prefix("user/")?;
    /// assert_eq!(db.iter().count(), 1);
    /// # db.close()
    /// # }
    /// ```
    pub fn remove_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<()> {
        let KeyRange { start, end } = KeyRange::prefix(prefix.as_ref());
        self.engine().committer.remove_range(self.engine().default_keyspace(), (start, end))
    }

    /// Merges an operand into the value of a key: from then on, the value is what the
    /// [operator](crate::MergeOperator) of the default keyspace makes of the older one, or of none, and the operand. Nothing
    /// is read, so that any number of threads may merge into one key and none has to wait for another; the order of their
    /// operands is that of their commits.
    ///
    /// Durability is that of [`insert`](Self::insert), and so is the cost. (After every 64th merge or so into a key, the caller
    /// also reads it, and what is made of it is kept in memory if it is not longer than 1 MiB, so that a later read has less to
    /// do.) The operands stay until a compaction has made one entry of them; until then, a read takes time by the number of
    /// those that have come since one was kept. Snapshots, iterators, cursors and transactions see the value of their moment.
    ///
    /// # Errors
    /// [`Error::NoOperator`](crate::Error::NoOperator) without one; others as of `insert`. An operator that refuses what it is
    /// given, or panics, is an error of each read of the key, [`Error::MergeFailed`](crate::Error::MergeFailed), not of the
    /// merge: it does not run then.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use maplsm::{Options, operators::Counter};
    ///
    /// let db = Options::new().merge_operator(Counter).open(dir.path().join("db"))?;
    /// std::thread::scope(|scope| {
    ///     for _ in 0..4 {
    ///         scope.spawn(|| (0..10).try_for_each(|_| db.merge("visits", 1u64.to_le_bytes())));
    ///     }
    /// });
    /// assert_eq!(db.get("visits")?.unwrap(), 40u64.to_le_bytes());
    /// # db.close()
    /// # }
    /// ```
    #[inline]
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = self.engine().default_keyspace();
        self.engine().committer.commit_one(keyspace, Kind::Merge, key.as_ref(), operand.as_ref())
    }

    /// [`merge`](Self::merge) with this durability.
    #[inline]
    pub fn merge_with(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        let keyspace = self.engine().default_keyspace();
        self.engine().committer.commit_one_with(keyspace, Kind::Merge, key.as_ref(), operand.as_ref(), durability)
    }

    /// Changes the value of a key to what `new` makes of it, or removes the key if that is nothing; returns the new value. It
    /// happens at one moment: no other write, of whatever kind, comes between the value that `new` has got and its result, and
    /// the caller sees no conflict.
    ///
    /// Nothing is locked while `new` runs, and it may call whatever it likes. If somebody else writes the key meanwhile, it is
    /// called again, with the value that is there then; so it should do nothing that counts. Updates of one key go one after
    /// another (one that takes longer than a second is overtaken), and those of different keys beside each other. If `new`
    /// removes what is not there, nothing is written.
    ///
    /// Durability and errors are those of [`insert`](Self::insert). Costs as much as a [`get`](Self::get), an `insert`, and a
    /// lookup in the memtables.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let add_one = |old: Option<&[u8]>| {
    ///     let old = old.and_then(|old| Some(u64::from_be_bytes(old.try_into().ok()?)));
    ///     Some((old.unwrap_or(0) + 1).to_be_bytes())
    /// };
    /// db.update("visits", add_one)?;
    /// assert_eq!(db.update("visits", add_one)?, Some(2u64.to_be_bytes()));
    /// # db.close()
    /// # }
    /// ```
    pub fn update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        new: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<V>> {
        Ok(update(self.engine(), self.engine().default_keyspace(), key.as_ref(), new)?.1)
    }

    /// Changes the value of a key like [`update`](Self::update), and returns the value from before.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("log", "a")?;
    /// let before = db.fetch_update("log", |old| Some([old.unwrap_or_default(), b"b"].concat()))?;
    /// assert_eq!(before.as_deref(), Some(&b"a"[..]));
    /// assert_eq!(db.get("log")?.as_deref(), Some(&b"ab"[..]));
    /// # db.close()
    /// # }
    /// ```
    pub fn fetch_update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        new: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<Slice>> {
        Ok(update(self.engine(), self.engine().default_keyspace(), key.as_ref(), new)?.0)
    }

    /// Sets the value of a key to `new` if it is `old`, at one moment; no value stands for an absent key. If it is not, nothing
    /// is written, and [`CompareError`] has the value that is there. Durability, errors and costs are those of
    /// [`update`](Self::update).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// assert!(db.compare_and_swap("leader", None, Some(b"ada"))?.is_ok());
    /// let refused = db.compare_and_swap("leader", None, Some(b"eve"))?.unwrap_err();
    /// assert_eq!(refused.actual.as_deref(), Some(&b"ada"[..]));
    /// assert!(db.compare_and_swap("leader", Some(b"ada"), None)?.is_ok());
    /// assert!(db.get("leader")?.is_none());
    /// # db.close()
    /// # }
    /// ```
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CompareError>> {
        compare_and_swap(self.engine(), self.engine().default_keyspace(), key.as_ref(), old, new)
    }

    /// Sets the value of a key that has none, at one moment, and returns nothing; or returns the value that it has, and writes
    /// nothing. Durability, errors and costs are those of [`update`](Self::update).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// assert!(db.insert_if_absent("id", "1")?.is_none());
    /// assert_eq!(db.insert_if_absent("id", "2")?.as_deref(), Some(&b"1"[..]));
    /// # db.close()
    /// # }
    /// ```
    pub fn insert_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        insert_if_absent(self.engine(), self.engine().default_keyspace(), key.as_ref(), value.as_ref())
    }

    /// Removes a key and returns the value that it had: of several callers, one gets it. Writes nothing if there is none.
    /// Durability, errors and costs are those of [`update`](Self::update).
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("token", "7")?;
    /// assert_eq!(db.take("token")?.as_deref(), Some(&b"7"[..]));
    /// assert!(db.take("token")?.is_none());
    /// # db.close()
    /// # }
    /// ```
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.fetch_update(key, |_| None::<&[u8]>)
    }

    /// Removes the entry with the smallest key and returns it, at one moment: of several callers, each gets another one, and
    /// no smaller key is there when it is removed. Writes nothing if there is none. Durability and errors are those of
    /// [`insert`](Self::insert); costs as much as [`first`](Self::first), a write, and a look at what others have committed in
    /// between. Callers go one after another.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2").insert("c", "3"))?;
    /// assert_eq!(db.pop_first()?.expect("there are three").key(), b"a");
    /// assert_eq!(db.pop_last()?.expect("there are two").key(), b"c");
    /// assert_eq!(db.iter().count(), 1);
    /// # db.close()
    /// # }
    /// ```
    pub fn pop_first(&self) -> Result<Option<Entry>> {
        pop(self.engine(), self.engine().default_keyspace(), KeyspaceEnd::First)
    }

    /// Removes the entry with the greatest key and returns it; like [`pop_first`](Self::pop_first).
    pub fn pop_last(&self) -> Result<Option<Entry>> {
        pop(self.engine(), self.engine().default_keyspace(), KeyspaceEnd::Last)
    }
}
