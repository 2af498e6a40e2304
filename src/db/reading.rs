//! Reading beyond one value and one walk.

use std::ops::RangeBounds;
use std::path::Path;

use super::Db;
use crate::engine::Explanation;
use crate::error::Result;
use crate::format::KeyspaceId;
use crate::format::range::edges;
use crate::iter::{Entry, KeyIter, ValueIter};
use crate::slice::Slice;

impl Db {
    /// Looks a key up as [`get`](Self::get) does, and returns what it has asked in which order, and what each has said:
    /// memtables, then tables, newest data first, with the entries that indexes and filters have led to. For people who want to
    /// know why a key is there, or is not, or takes long; [`Explanation`] has a `Display` of some lines.
    ///
    /// Errors are those of a get, without what came before them.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// use maplsm::LookupAnswer;
    ///
    /// db.insert("key", "value")?;
    /// db.flush()?;
    /// db.remove("key")?;
    /// let explanation = db.explain("key")?;
    /// assert_eq!(explanation.value_bytes, None);
    /// // The memtable has settled it: the table, which has the value, was not asked.
    /// assert_eq!(explanation.steps.len(), 1);
    /// assert!(matches!(explanation.steps[0].answer, LookupAnswer::Tombstone { .. }));
    /// println!("{explanation}");
    /// # db.close()
    /// # }
    /// ```
    pub fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation> {
        let readers = &self.engine().readers;
        readers.explain(KeyspaceId::DEFAULT, key.as_ref(), &readers.register())
    }

    /// The directory of the database, as the opener named it.
    pub fn path(&self) -> &Path {
        self.engine().path()
    }

    /// The entry with the smallest key, if there is one. O(log n), and more where many removed keys are in front of it.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// assert!(db.first()?.is_none() && db.is_empty()?);
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2"))?;
    /// assert_eq!(db.first()?.expect("there are two").key(), b"a");
    /// assert_eq!(db.last()?.expect("there are two").value(), b"2");
    /// # db.close()
    /// # }
    /// ```
    pub fn first(&self) -> Result<Option<Entry>> {
        self.iter().first()
    }

    /// The entry with the greatest key, if there is one; costs as much as [`first`](Self::first).
    pub fn last(&self) -> Result<Option<Entry>> {
        self.iter().last_entry()
    }

    /// Whether there is no entry; costs as much as [`first`](Self::first).
    pub fn is_empty(&self) -> Result<bool> {
        self.iter().has_none()
    }

    /// All keys, in order, as they are now.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2"))?;
    /// let keys: Vec<maplsm::Slice> = db.keys().collect::<maplsm::Result<_>>()?;
    /// assert_eq!(keys, ["a", "b"]);
    /// let values: Vec<maplsm::Slice> = db.values().rev().collect::<maplsm::Result<_>>()?;
    /// assert_eq!(values, ["2", "1"]);
    /// # db.close()
    /// # }
    /// ```
    pub fn keys(&self) -> KeyIter {
        KeyIter::new(self.iter())
    }

    /// All values, in the order of their keys, as they are now.
    pub fn values(&self) -> ValueIter {
        ValueIter::new(self.iter())
    }

    /// The length of the value of a key in bytes, if it has one. Costs as much as [`get`](Self::get) without reading the
    /// value: one that stands apart from its entry ([`Options::large_value_bytes`](crate::Options::large_value_bytes)) is not
    /// looked at, so damage in it is not noticed. Others are in the chunk of their entry, which is verified at its first use.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.insert("key", "value")?;
    /// assert_eq!((db.size_of("key")?, db.size_of("other")?), (Some(5), None));
    /// # db.close()
    /// # }
    /// ```
    pub fn size_of(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>> {
        self.snapshot().size_of(key)
    }

    /// The values of several keys at one moment, in the order of the keys: no commit comes between them. An error with one of
    /// them is the result.
    ///
    /// The lookups overlap: for some tens of keys at a time, everything that they look at first is asked for, from memory and
    /// from the disk, then everything that they look at next. That is faster than one [`get`](Self::get) after another where
    /// the data is larger than the caches of the processor, and more so where it is larger than memory.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.write(maplsm::WriteBatch::new().insert("a", "1").insert("b", "2"))?;
    /// let values = db.multi_get(["b", "x", "a"])?;
    /// assert_eq!(values, [db.get("b")?, None, db.get("a")?]);
    /// # db.close()
    /// # }
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        self.snapshot().multi_get(keys)
    }

    /// About how many entries a range has, by what indexes and the manifest say, without a walk over them.
    ///
    /// Counted is what is stored: each version of a key, and each removal of one, wherever it is kept. So it is no less than
    /// the number of keys in the range, but for the error below, and more by what is overwritten or removed and not yet
    /// compacted away; after [`compact`](Self::compact), with no snapshots, it is that number.
    ///
    /// Memtables count exactly, and so do tables that lie in the range as a whole. Each table in which the range begins or
    /// ends, of which each level has two at most, adds an error of at most 30 entries, or twice
    /// [`Options::index_interval`](crate::Options::index_interval) where it has a [bloom
    /// filter](crate::PointIndex::Bloom). That holds for tables whose entries take less than 16 KiB each and have one version
    /// for each key; in others, the error is less than the entries that the table has. Removed ranges count as what they hide.
    ///
    /// O(log n) for each such table, and where entries have been written since somebody last asked for order, the sort of
    /// those.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// db.ingest((0..1000u32).map(|i| (i.to_be_bytes(), format!("value {i}"))))?;
    /// let half = db.approximate_len(..500u32.to_be_bytes())?;
    /// assert!(half.abs_diff(500) <= 30);
    /// # db.close()
    /// # }
    /// ```
    pub fn approximate_len<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        let (start, end) = edges(&range);
        Ok(self.engine().amount(self.engine().default_keyspace(), (start.as_ref(), end.as_ref()))?.entries)
    }

    /// About how many bytes the entries of a range take, by what indexes and the manifest say, without a walk over them: in
    /// tables as they stand there, compressed or not, with their values where those stand apart, and in the log, where they
    /// wait to be flushed. What indexes take is not counted.
    ///
    /// Tables that lie in the range as a whole count exactly. A table in which the range begins or ends is wrong by at most a
    /// block at each end where it is compressed, and by the entries of an
    /// [`index_interval`](crate::Options::index_interval) where it has a [bloom filter](crate::PointIndex::Bloom); values
    /// that stand apart are taken to be of one size there, and so are entries in memtables. Costs as much as
    /// [`approximate_len`](Self::approximate_len), which says what is counted.
    pub fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        let (start, end) = edges(&range);
        Ok(self.engine().amount(self.engine().default_keyspace(), (start.as_ref(), end.as_ref()))?.bytes)
    }
}
