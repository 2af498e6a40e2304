//! Batches: many changes, one commit.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::format::alignment::Alignment;
use crate::format::entry::{Kind, push_entry};
use crate::format::group::RunHeader;
use crate::format::range::{Edge, edges, range_value};
use crate::format::{KEY_BYTES_MAX, KeyspaceId, Sequence, VALUE_BYTES_MAX};
use crate::keyspace_state::{Committing, KeyspaceState, Owner};

const RUN_HEADER: usize = size_of::<RunHeader>();

/// Changes that are committed together: after any crash, either all of them are there or none.
///
/// They take effect in the order in which they were added; of two changes to one key, the later one wins. A batch may be
/// committed more than once, and cleared and filled again without new allocations. It holds the entries as they will stand in
/// the log.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = maplsm::Db::open(dir.path().join("db"))?;
/// let mut batch = maplsm::WriteBatch::new();
/// batch.insert("alice", "90").insert("bob", "110").remove("carol");
/// db.write(&batch)?;
/// # db.close()
/// # }
/// ```
#[derive(Clone, Default)]
pub struct WriteBatch {
    /// Runs: a header with the keyspace, and entries without sequence numbers.
    body: Vec<u8>,
    count: usize,
    /// Changes that are no removals.
    additions: usize,
    /// Changes that merge, and those of them into the default keyspace.
    merges: [usize; 2],
    /// Runs whose entries must begin at a multiple of 16 in the log.
    wide_runs: usize,
    run: Option<(KeyspaceId, usize)>,
    /// The keyspaces named by a handle. All of one open database.
    keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceState>>,
    /// The first key or value that is too long, or keyspace of another database; reported by the commit.
    refused: Option<Error>,
}

/// Without the keys and values.
impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBatch({} changes, {} bytes)", self.count, self.body.len())
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a key. A key or value beyond the limits is reported by the commit.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(KeyspaceId::DEFAULT, Alignment::None, Kind::Put, key.as_ref(), value.as_ref())
    }

    /// The work behind `insert_into` and `remove_from`, which stand with [`Keyspace`](crate::Keyspace).
    pub(crate) fn push_into(
        &mut self,
        keyspace: &Arc<KeyspaceState>,
        kind: Kind,
        key: &[u8],
        value: &[u8],
    ) -> &mut Self {
        if kind == Kind::Merge
            && let Err(refused) = keyspace.check_operator()
        {
            self.refused.get_or_insert(refused);
            return self;
        }
        // Each open database has one state for each id, so another one is foreign.
        if self.keyspaces.get(&keyspace.id).is_none_or(|known| !Arc::ptr_eq(known, keyspace)) {
            if let Some(other) = self.keyspaces.values().next()
                && let Err(foreign) = keyspace.belongs_with(other)
            {
                self.refused.get_or_insert(foreign);
                return self;
            }
            self.keyspaces.insert(keyspace.id, Arc::clone(keyspace));
        }
        self.push(keyspace.id, keyspace.alignment, kind, key, value)
    }

    /// Merges an operand into the value of a key: see [`Db::merge`](crate::Db::merge). Without an operator, the commit is
    /// refused.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Options::new().merge_operator(maplsm::operators::Counter).open(dir.path().join("db"))?;
    /// let one = 1u64.to_le_bytes();
    /// db.write(maplsm::WriteBatch::new().insert("page", "text").merge("pages", one).merge("edits", one))?;
    /// assert_eq!(db.get("pages")?.unwrap(), one);
    /// # db.close()
    /// # }
    /// ```
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.push(KeyspaceId::DEFAULT, Alignment::None, Kind::Merge, key.as_ref(), operand.as_ref())
    }

    /// Removes a key, whether it is there or not.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(KeyspaceId::DEFAULT, Alignment::None, Kind::Delete, key.as_ref(), &[])
    }

    /// Removes all keys of a range, those that this batch has set before included; see
    /// [`Db::remove_range`](crate::Db::remove_range).
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> &mut Self {
        let (start, end) = edges(&range);
        if start >= end {
            return self;
        }
        let range = range_value(&start, &end);
        self.push(KeyspaceId::DEFAULT, Alignment::None, Kind::RangeDelete, start.key(), &range)
    }

    /// Adds a range delete, which is no change if the range is empty.
    pub(crate) fn remove_between(&mut self, keyspace: &Arc<KeyspaceState>, start: &Edge, end: &Edge) -> &mut Self {
        if start >= end {
            return self;
        }
        self.push_into(keyspace, Kind::RangeDelete, start.key(), &range_value(start, end))
    }

    /// Changes in the batch.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the batch has no changes.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the batch takes in the log, apart from the header of its group and from padding.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.keyspaces.clear();
        (self.count, self.additions, self.wide_runs, self.merges) = (0, 0, 0, [0; 2]);
        (self.run, self.refused) = (None, None);
    }

    fn push(&mut self, keyspace: KeyspaceId, alignment: Alignment, kind: Kind, key: &[u8], value: &[u8]) -> &mut Self {
        if let Err(refused) = check_lengths(key, value) {
            self.refused.get_or_insert(refused);
            return self;
        }
        let start = match self.run {
            Some((current, start)) if current == keyspace => start,
            _ => {
                let start = self.body.len();
                self.body.resize(start + RUN_HEADER, 0);
                self.run = Some((keyspace, start));
                self.wide_runs += usize::from(alignment == Alignment::Sixteen);
                start
            }
        };
        push_entry(&mut self.body, kind, Sequence(0), key, value, alignment);
        let entries = self.body.len() - start - RUN_HEADER;
        let header = RunHeader::new(keyspace, entries as u64);
        self.body[start..start + RUN_HEADER].copy_from_slice(header.as_bytes());
        self.count += 1;
        self.additions += usize::from(!kind.removes());
        if kind == Kind::Merge {
            self.merges[0] += 1;
            self.merges[1] += usize::from(keyspace == KeyspaceId::DEFAULT);
        }
        self
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether it removes and does nothing else.
    pub(crate) fn only_removes(&self) -> bool {
        self.additions == 0
    }

    pub(crate) fn wide_runs(&self) -> usize {
        self.wide_runs
    }

    /// Changes that merge.
    pub(crate) fn merges(&self) -> usize {
        self.merges[0]
    }

    /// `default` is the default keyspace.
    pub(crate) fn check(&self, owner: &Owner, default: &KeyspaceState) -> Result<()> {
        if self.merges[1] > 0 {
            default.check_operator()?;
        }
        if let Some(state) = self.keyspaces.values().next() {
            state.belongs_to(owner)?;
        }
        self.refused.clone().map_or(Ok(()), Err)
    }

    /// Whether a commit may name all its keyspaces.
    pub(crate) fn check_keyspaces(&self, committing: &Committing) -> Result<()> {
        self.keyspaces.values().try_for_each(|state| state.check_open(committing))
    }
}

/// Keys and values that the format can hold.
pub(crate) fn check_lengths(key: &[u8], value: &[u8]) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::KeyTooLong { bytes: key.len() });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::ValueTooLong { bytes: value.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tests::found_by;
    use crate::sys::{FileSystem, sim::SimFs};
    use crate::{Db, ErrorKind, Options};

    fn open(fs: &SimFs) -> Db {
        let files = FileSystem::from(fs.clone());
        Options::new().create_if_missing(true).file_system(files).background_threads(0).open("/db").unwrap()
    }

    /// After a bug: nothing is written, everything is read, and every later write says why.
    fn is_stopped(db: &Db) {
        for refused in [db.insert("c", ""), db.flush(), db.sync(), db.ingest([("d", "")]).map(|_| ())] {
            assert!(matches!(&refused, Err(Error::Poisoned(cause)) if cause.kind() == ErrorKind::Bug), "{refused:?}");
        }
        assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(db.iter().count(), 1);
    }

    #[test]
    fn a_batch_that_is_not_what_it_says_gets_nowhere_near_the_log() {
        let lies: [fn(&mut WriteBatch); 5] = [
            |batch| batch.count += 1,
            |batch| batch.count -= 1,
            |batch| batch.body.truncate(batch.body.len() - 8),
            |batch| batch.body[RUN_HEADER + 6] += 9,
            |batch| batch.body.extend_from_slice(&[0; 8]),
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            let fs = SimFs::new();
            let db = open(&fs);
            db.insert("a", "1").unwrap();
            let mut batch = WriteBatch::new();
            batch.insert("b", "2").insert("a", "2").insert("c", "");
            lie(&mut batch);
            let found = found_by(|| db.write(&batch));
            assert!(found.contains("report it"), "{number}: {found}");
            if !cfg!(debug_assertions) {
                is_stopped(&db);
            }
            drop(db);
            let db = open(&fs);
            assert_eq!(db.iter().count(), 1, "{number}: nothing of it was written");
            db.insert("b", "3").unwrap();
        }
    }

    #[test]
    fn a_group_that_is_in_the_log_and_cannot_be_indexed_is_the_last_one() {
        let db = open(&SimFs::new());
        db.insert("a", "1").unwrap();
        let mut batch = WriteBatch::new();
        // A kind that the log does not have.
        batch.push(KeyspaceId::DEFAULT, Alignment::None, Kind::Pointer, b"b", b"2");
        let found = found_by(|| db.write(&batch));
        assert!(found.contains("what was written into the log is no entry"), "{found}");
        is_stopped(&db);
    }
}
