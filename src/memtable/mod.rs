//! The memtable: an index over a log segment. The entries stay where the log put them.
//!
//! Point lookups go through a hash index, scans through sorted runs made on demand. One writer (the commit leader), readers
//! without locks. The only state of its own is memory; a replay rebuilds it from the segment.

mod cursor;
mod hash;
mod ranges;
mod run;
mod sorted;
mod space;
mod spaces;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use cursor::RunCursor;
use hash::Found;
pub(crate) use ranges::Removals;
pub(crate) use run::Run;
use sorted::{Entries, Pending};
use space::Space;
use spaces::Spaces;

use crate::error::{Bug, Damage, Fault, bug};
use crate::format::alignment::Alignment;
use crate::format::checksum::Id;
use crate::format::entry::{Entry, Kind, key_at, kind_at, sequence_at};
use crate::format::entry_ref::EntryRef;
use crate::format::range::{self as key, Edge};
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::{FileNumber, KeyspaceId, Position, Sequence};
use crate::log;
use crate::sys::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::{LockRank, Mapping, Mutex, prefetch};
use crate::visibility::{Fragments, Visibility};

/// Where a lookup in a memtable ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The newest version that the reader sees; it may be a tombstone.
    Entry(Entry),
    /// The reader sees a range tombstone over the key and nothing newer.
    Removed,
    Missing,
    /// The version that an unregistered reader sees may have been left out; it must begin again with a fresh sequence.
    Retry,
}

/// Which entries of a keyspace a replay indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None: the keyspace is gone.
    None,
    /// All, and others than those with this alignment are refused.
    Aligned(Alignment),
    /// All, as they are.
    Any,
}

pub(crate) struct Memtable {
    // Set when the memtable is made.
    log: Mapping,
    database: Id,
    number: FileNumber,
    base: Sequence,
    default: Space,
    // Written by the one writer, read by everyone.
    others: Spaces,
    entries: AtomicU64,
    max_sequence: AtomicU64,
    /// Every entry of the segment in front of this offset is visible to readers.
    shown: AtomicU64,
    /// All groups below this offset of the segment are indexed.
    indexed: AtomicU64,
    /// Whether an index has reached its cap.
    full: AtomicBool,
    // Own synchronization.
    /// The entries below this offset have been handed to the sorted view of their space.
    distributed: Mutex<u64>,
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memtable({}, {} entries)", self.number, self.entries())
    }
}

impl Memtable {
    /// An empty index over segment `number`, with room for about `expected` keys to begin with.
    pub(crate) fn new(log: Mapping, database: Id, number: FileNumber, base: Sequence, expected: usize) -> Self {
        let default = Space::new(KeyspaceId::DEFAULT, expected);
        Self {
            log,
            database,
            number,
            base,
            full: AtomicBool::new(default.index.is_full()),
            default,
            others: Spaces::default(),
            entries: AtomicU64::new(0),
            max_sequence: AtomicU64::new(base.0.saturating_sub(1)),
            shown: AtomicU64::new(SEGMENT_HEADER_BYTES),
            indexed: AtomicU64::new(SEGMENT_HEADER_BYTES),
            distributed: Mutex::new(LockRank::Distributed, SEGMENT_HEADER_BYTES),
        }
    }

    /// Indexes the groups of `range`, which a scan has verified, as far as `find` wants the entries of their keyspace, which
    /// may be gone; it refuses those that have never been. Nothing is copied. Returns false if there is no memory for it.
    pub(crate) fn replay(
        &self,
        range: Range<u64>,
        find: impl Fn(KeyspaceId) -> Result<Wanted, Damage>,
    ) -> Result<bool, (u64, Fault)> {
        let mut indexed = true;
        let mut refused = None;
        let mut removals = Removals::default();
        let mut current = (KeyspaceId::DEFAULT, Ok(Wanted::Aligned(Alignment::None)));
        let end = range.end;
        // Where the replay begins, the sorted view does as well: what is in front need not make sense.
        *self.distributed.lock() = range.start;
        log::visit_entries(self.bytes(), self.number, &self.database, self.base, range, |keyspace, entry| {
            if current.0 != keyspace {
                current = (keyspace, find(keyspace));
            }
            let inserted = match current.1 {
                Ok(Wanted::Aligned(alignment)) if alignment != entry.alignment() => Err(Damage::BadField),
                Ok(Wanted::Aligned(_) | Wanted::Any) => self.insert(keyspace, entry, |_, _| true, &mut removals),
                Ok(Wanted::None) => {
                    self.max_sequence.store(entry.sequence.0, Ordering::Relaxed);
                    Ok(true)
                }
                Err(damage) => Err(damage),
            };
            match inserted {
                Ok(inserted) => indexed &= inserted,
                Err(damage) => _ = refused.get_or_insert((entry.start as u64, damage.into())),
            }
        })?;
        // Nobody reads yet, so only the newest version of anything matters.
        self.remove_ranges(removals, &mut Visibility::retain(Vec::new(), self.max_sequence()));
        self.set_indexed(end);
        refused.map_or(Ok(indexed), Err)
    }

    /// Says that all groups below `end` are indexed, which lets scans see them. Only the one writer calls this, before it
    /// makes the entries visible.
    #[inline]
    pub(crate) fn set_indexed(&self, end: u64) {
        debug_assert!(
            self.indexed.load(Ordering::Relaxed) <= end && end <= self.log_bytes(),
            "the index grows with the log"
        );
        self.indexed.store(end, Ordering::Release);
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }

    pub(crate) fn base(&self) -> Sequence {
        self.base
    }

    /// Entries, all versions counted.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Different keys of the default keyspace.
    pub(crate) fn keys(&self) -> usize {
        self.default.index.len()
    }

    /// Bytes of the log segment that have been written.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }

    pub(crate) fn max_sequence(&self) -> Sequence {
        Sequence(self.max_sequence.load(Ordering::Relaxed))
    }

    /// A place that all entries in front of are visible to readers.
    pub(crate) fn shown(&self) -> Position {
        Position { segment: self.number, offset: self.shown.load(Ordering::Acquire) }
    }

    /// The entries in front of `offset` have been made visible. Only the writer calls this.
    #[inline]
    pub(crate) fn note_shown(&self, offset: u64) {
        debug_assert!(
            self.shown.load(Ordering::Relaxed) <= offset && offset <= self.log_bytes(),
            "what is shown stays so"
        );
        self.shown.store(offset, Ordering::Release);
    }

    /// Shows every entry from `offset` to the end of `bytes`, which are those of this memtable.
    pub(crate) fn visit(
        &self,
        offset: u64,
        bytes: &[u8],
        visit: impl FnMut(KeyspaceId, &Entry),
    ) -> Result<(), (u64, Fault)> {
        let range = offset.max(SEGMENT_HEADER_BYTES)..bytes.len() as u64;
        log::visit_entries(bytes, self.number, &self.database, self.base, range, visit)
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.log.bytes()
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.log
    }

    /// Whether an index has reached its cap, so that the segment must be frozen.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// The entry at a locator that this memtable has handed out.
    #[inline]
    fn entry(&self, locator: u32) -> Option<Entry> {
        let bytes = self.bytes();
        Entry::parse(bytes, locator as usize * 8, bytes.len(), self.base).ok()
    }

    /// The sequence number of the entry at a locator that this memtable has handed out.
    #[inline]
    fn sequence(&self, locator: u32) -> Option<Sequence> {
        sequence_at(self.bytes(), locator as usize * 8, self.base)
    }

    /// Whether a locator's entry has this key. The bytes are those published now: a reader meets locators that are younger
    /// than its lookup, and a key that lies behind the end it knew would look like another one.
    #[inline]
    fn is_of(&self, locator: u32, key: &[u8]) -> bool {
        key_at(self.bytes(), locator as usize * 8) == Some(key)
    }

    #[inline]
    fn space(&self, keyspace: KeyspaceId) -> Option<&Space> {
        if keyspace == KeyspaceId::DEFAULT { Some(&self.default) } else { self.others.get(keyspace) }
    }

    /// Different keys of a keyspace, apart from those of range tombstones.
    pub(crate) fn keys_of(&self, keyspace: KeyspaceId) -> u64 {
        self.space(keyspace).map_or(0, |space| space.index.len() as u64)
    }

    /// Entries of a keyspace, all versions counted.
    pub(crate) fn entries_of(&self, keyspace: KeyspaceId) -> u64 {
        self.space(keyspace).map_or(0, |space| space.entries.load(Ordering::Relaxed))
    }

    /// The newest version of a key at or below `at`. `hash` is [`key_hash`](crate::format::key_hash) of keyspace and key;
    /// `registered` says that `at` is in the snapshot registry. Expected O(1).
    #[inline]
    pub(crate) fn get(&self, keyspace: KeyspaceId, hash: u64, key: &[u8], at: Sequence, registered: bool) -> Lookup {
        let is_key = |locator| self.is_of(locator, key);
        let visible = |locator| self.sequence(locator).is_some_and(|sequence| sequence <= at);
        let Some(space) = self.space(keyspace) else { return Lookup::Missing };
        let found = space.index.find(tag(hash), registered, is_key, visible);
        let entry = match found {
            Found::Pruned => return Lookup::Retry,
            Found::Entry(locator) => match self.entry(locator) {
                Some(entry) => Some(entry),
                None => return Lookup::Removed,
            },
            Found::Missing => None,
        };
        let version = entry.map_or(Sequence(0), |entry| entry.sequence);
        match (space.ranges.newest(key, at, version, registered), entry) {
            (Err(()), _) => Lookup::Retry,
            (Ok(Some(_)), _) => Lookup::Removed,
            (Ok(None), Some(entry)) => Lookup::Entry(entry),
            (Ok(None), None) => Lookup::Missing,
        }
    }

    /// Shows the versions of a key, newest first, from the newest one at or below `at` on, until `show` returns false. `at` is
    /// in the registry. Range tombstones are not looked at. Expected O(1) for each.
    pub(crate) fn visit_versions(
        &self,
        (keyspace, hash, key): (KeyspaceId, u64, &[u8]),
        at: Sequence,
        mut show: impl FnMut(EntryRef<'_>) -> bool,
    ) {
        let Some(space) = self.space(keyspace) else { return };
        let visible = |locator| self.sequence(locator).is_some_and(|sequence| sequence <= at);
        let show = |locator| self.entry(locator).is_none_or(|entry| show(entry.in_bytes(self.bytes())));
        space.index.visit(tag(hash), |locator| self.is_of(locator, key), visible, show);
    }

    /// The newest sequence number at which a key has been written or removed here; 0 if it was not.
    pub(crate) fn newest(&self, keyspace: KeyspaceId, hash: u64, key: &[u8]) -> Sequence {
        let Some(space) = self.space(keyspace) else { return Sequence(0) };
        let version = match space.index.find(tag(hash), true, |locator| self.is_of(locator, key), |_| true) {
            Found::Entry(locator) => self.sequence(locator).unwrap_or(self.max_sequence()),
            Found::Missing | Found::Pruned => Sequence(0),
        };
        let removed = space.ranges.newest(key, Sequence(u64::MAX), version, true);
        removed.ok().flatten().unwrap_or(version)
    }

    /// Starts to bring what [`insert`](Self::insert) will need of a key into the cache: the copy into the log hides the miss.
    #[inline]
    pub(crate) fn prefetch(&self, keyspace: KeyspaceId, key: &[u8]) {
        if let Some(space) = self.space(keyspace) {
            space.index.prefetch(tag(crate::format::key_hash(keyspace, key)));
        }
    }

    /// The same for a lookup that follows. `hash` is that of keyspace and key.
    #[inline]
    pub(crate) fn prefetch_slot(&self, keyspace: KeyspaceId, hash: u64) {
        if let Some(space) = self.space(keyspace) {
            space.index.prefetch(tag(hash));
        }
    }

    /// Starts to bring the entry that [`get`](Self::get) would look at into the cache.
    pub(crate) fn prefetch_entry(&self, keyspace: KeyspaceId, hash: u64) {
        let Some(space) = self.space(keyspace) else { return };
        let bytes = self.bytes();
        let look = |locator| {
            if let Some(first) = bytes.get(locator as usize * 8) {
                prefetch(first);
            }
            false
        };
        space.index.find(tag(hash), true, look, |_| true);
    }

    /// Indexes an entry that has been committed to the log. Only the one writer calls this. `droppable(older, newer)` says
    /// that no reader can need the version `older`, which is right behind the version `newer`. A range tombstone goes to
    /// `removals`. Returns false if there is no memory to index it, and an error if it makes no sense.
    #[inline]
    pub(crate) fn insert(
        &self,
        keyspace: KeyspaceId,
        entry: &Entry,
        mut droppable: impl FnMut(Sequence, Sequence) -> bool,
        removals: &mut Removals,
    ) -> Result<bool, Damage> {
        let key = entry.key(self.bytes());
        let hash = crate::format::key_hash(keyspace, key);
        let is_key = |locator| self.is_of(locator, key);
        // An operand needs what is behind it.
        let is_operand = |locator| kind_at(self.bytes(), locator as usize * 8) == Some(Kind::Merge);
        let droppable = |older, newer| match (self.sequence(older), self.sequence(newer)) {
            (Some(of_older), Some(of_newer)) => droppable(of_older, of_newer) && !is_operand(newer),
            _ => false,
        };
        let locator = u32::try_from(entry.start / 8).map_err(|_| Damage::OutOfBounds)?;
        let default = keyspace == KeyspaceId::DEFAULT;
        let space = if default { Some(&self.default) } else { self.others.get_or_add(keyspace) };
        let Some(space) = space else { return Ok(false) };
        self.entries.store(self.entries() + 1, Ordering::Relaxed);
        self.max_sequence.store(entry.sequence.0, Ordering::Relaxed);
        space.entries.store(space.entries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if entry.kind() == Kind::RangeDelete {
            return removals.add(keyspace, entry.in_bytes(self.bytes())).map(|()| true);
        }
        let indexed = space.index.insert(tag(hash), locator, is_key, droppable);
        if space.index.is_full() {
            self.full.store(true, Ordering::Relaxed);
        }
        Ok(indexed)
    }

    /// Indexes range tombstones that [`insert`](Self::insert) has put aside, all of them newer than those that are there and
    /// before any of them is visible. Leaves out those that nobody in `rule` sees. Only the one writer calls this.
    pub(crate) fn remove_ranges(&self, removals: Removals, rule: &mut Visibility) {
        for (keyspace, ranges) in removals.into_lists() {
            if let Some(space) = self.space(keyspace) {
                space.ranges.push(ranges, rule);
            }
        }
    }

    /// The range tombstones of a keyspace, if there are any.
    pub(crate) fn ranges(&self, keyspace: KeyspaceId) -> Option<Arc<Vec<Arc<Fragments>>>> {
        self.space(keyspace).filter(|space| space.ranges.any()).map(|space| space.ranges.all())
    }

    /// The keyspaces that have entries here, in order.
    pub(crate) fn keyspaces(&self) -> Vec<KeyspaceId> {
        let used = self.default.index.len() > 0 || self.default.ranges.any();
        let default = used.then_some(KeyspaceId::DEFAULT);
        default.into_iter().chain(self.others.sorted().iter().map(|space| space.keyspace)).collect()
    }

    /// Sorted runs that together hold every published entry of the keyspace that someone in `rule` sees, oldest run first.
    /// Sorts what has been written since the last call, O(n log n) for n new entries, and asks for the rule only if there is
    /// any, since that takes time by the number of snapshots.
    pub(crate) fn runs(&self, keyspace: KeyspaceId, rule: impl FnOnce() -> Visibility) -> Result<Vec<Arc<Run>>, Bug> {
        // Whoever sees an entry sees its space, and that it is counted there.
        let written = self.space(keyspace).filter(|space| space.entries.load(Ordering::Relaxed) > 0);
        let Some(space) = written else { return Ok(Vec::new()) };
        self.distribute()?;
        Ok(space.sorted.runs(|| self.published(), rule))
    }

    /// How many entries of a keyspace lie between two edges, of those that someone in `rule` sees, as the sorted runs have
    /// them. Takes as long as [`runs`](Self::runs), and O(log n) for each of them.
    pub(crate) fn count_between(
        &self,
        keyspace: KeyspaceId,
        (start, end): key::Range<'_>,
        rule: impl FnOnce() -> Visibility,
    ) -> Result<u64, Bug> {
        let runs = self.runs(keyspace, rule)?;
        let bytes = self.bytes();
        let rank = |run: &Run, edge: Edge<&[u8]>| match edge {
            Edge::Before(key) => run.rank(key, false, |item| item.key(bytes)),
            Edge::After(key) => run.rank(key, true, |item| item.key(bytes)),
            Edge::End => run.len(),
        };
        let between = runs.iter().map(|run| rank(run, end).saturating_sub(rank(run, start)));
        Ok(between.sum::<usize>() as u64)
    }

    /// Access to the entries that are published now.
    fn published(&self) -> Entries<'_> {
        Entries { bytes: self.bytes(), base: self.base }
    }

    /// Hands the entries that have been written since the last call to the sorted views of their spaces: one walk for all
    /// keyspaces, so that a flush of many is linear.
    fn distribute(&self) -> Result<(), Bug> {
        // Not the end of what has been written: the space of a new keyspace might not be there yet.
        let upto = self.indexed.load(Ordering::Acquire);
        let mut distributed = self.distributed.lock();
        if *distributed >= upto {
            return Ok(());
        }
        // Only now: bytes taken before `upto` may end in front of it.
        let entries = self.published();
        let mut current: Option<(KeyspaceId, Pending<'_>)> = None;
        let visited = log::visit_entries(
            entries.bytes,
            self.number,
            &self.database,
            self.base,
            *distributed..upto,
            |of, entry| {
                if current.as_ref().is_none_or(|(keyspace, _)| *keyspace != of) {
                    current = None;
                    // None for a keyspace that was gone when the segment was replayed.
                    current = self.space(of).map(|space| (of, space.sorted.pending()));
                }
                if let Some((_, pending)) = &mut current
                    && entry.kind() != Kind::RangeDelete
                {
                    pending.push(entry, entry.key(entries.bytes));
                }
            },
        );
        // The replay has visited the groups before, or this process has written and indexed them.
        visited.map_err(|_| bug("what has been indexed is no log"))?;
        *distributed = upto;
        Ok(())
    }
}

/// The upper half of the hash; the lower one belongs to the fingerprints of tables.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::entry::{push_entry, stamp};
    use crate::format::group::{Group, GroupKind, RUN_HEADER_BYTES, RunHeader};
    use crate::log::{SegmentWriter, Space};
    use crate::sys::{Access, Ahead, Dir, Fs, disk::DiskFs};
    use std::sync::Arc;
    use zerocopy::IntoBytes;

    /// A segment and its memtable in a temporary directory.
    pub(crate) struct Fixture {
        pub(crate) memtable: Arc<Memtable>,
        writer: SegmentWriter,
        pub(crate) dir: Arc<dyn Dir>,
        _temp: tempfile::TempDir,
    }

    impl Fixture {
        pub(crate) fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let dir = DiskFs.open_dir(temp.path(), false, Access::Map).unwrap();
            let first = Sequence(1);
            let space = Space { payload: 1 << 20, kept: 0, ahead: Ahead::Doubling };
            let writer =
                SegmentWriter::create(&*dir, &[1; 16], FileNumber(1), space, Position::default(), first).unwrap();
            let memtable = Memtable::new(writer.mapping().clone(), [1; 16], FileNumber(1), first, 0);
            Self { memtable: Arc::new(memtable), writer, dir, _temp: temp }
        }

        pub(crate) fn write(&mut self, keyspace: u32, kind: Kind, key: &[u8], value: &[u8]) -> Sequence {
            let sequence = Sequence(self.memtable.max_sequence().0 + 1);
            let mut body = vec![0; size_of::<RunHeader>()];
            push_entry(&mut body, kind, Sequence(0), key, value, Alignment::None);
            let run = RunHeader::new(KeyspaceId(keyspace), body.len() as u64 - RUN_HEADER_BYTES);
            body[..8].copy_from_slice(run.as_bytes());
            stamp(&mut body[8..], sequence).unwrap();
            let group = Group { kind: GroupKind::Data, body_bytes: body.len() as u64, count: 1, durable: None };
            let fill = |out: &mut [u8]| {
                out.copy_from_slice(&body);
                Ok(())
            };
            let range = self.writer.append(group, fill).unwrap();
            let bytes = self.memtable.bytes();
            let [start, end] = [range.start + RUN_HEADER_BYTES, range.end].map(|at| usize::try_from(at).unwrap());
            let entry = Entry::parse(bytes, start, end, Sequence(1)).unwrap();
            let mut removals = Removals::default();
            self.memtable.insert(KeyspaceId(keyspace), &entry, |_, _| false, &mut removals).unwrap();
            if !removals.is_empty() {
                let mut keep_all = Visibility::retain((0..sequence.0).map(Sequence).collect(), sequence);
                self.memtable.remove_ranges(removals, &mut keep_all);
            }
            self.memtable.set_indexed(range.end);
            sequence
        }

        fn get(&self, keyspace: u32, key: &[u8], at: u64) -> Option<Vec<u8>> {
            let keyspace = KeyspaceId(keyspace);
            let hash = crate::format::key_hash(keyspace, key);
            match self.memtable.get(keyspace, hash, key, Sequence(at), true) {
                Lookup::Entry(entry) if entry.kind() == Kind::Put => Some(entry.value(self.memtable.bytes()).to_vec()),
                _ => None,
            }
        }
    }

    #[test]
    fn versions_tombstones_and_keyspaces() {
        let mut fixture = Fixture::new();
        fixture.write(0, Kind::Put, b"a", b"1");
        fixture.write(7, Kind::Put, b"a", b"other");
        fixture.write(0, Kind::Put, b"a", b"2");
        fixture.write(0, Kind::Delete, b"a", b"");
        let values = [(0, None), (1, Some("1")), (2, Some("1")), (3, Some("2")), (4, None)];
        for (at, expected) in values {
            assert_eq!(fixture.get(0, b"a", at).as_deref(), expected.map(str::as_bytes), "at {at}");
        }
        assert_eq!(fixture.get(7, b"a", 9).as_deref(), Some(&b"other"[..]));
        assert_eq!(fixture.get(8, b"a", 9), None);
        assert_eq!(fixture.memtable.keyspaces(), [KeyspaceId(0), KeyspaceId(7)]);
        assert_eq!(fixture.memtable.entries(), 4);
    }

    #[test]
    fn readers_find_a_key_that_is_being_overwritten() {
        for _ in 0..20 {
            overwrite_beside_readers();
        }
    }

    fn overwrite_beside_readers() {
        let mut fixture = Fixture::new();
        let hash = crate::format::key_hash(KeyspaceId(0), b"a");
        let first = fixture.write(0, Kind::Put, b"a", b"");
        let memtable = Arc::clone(&fixture.memtable);
        let (started, done) = (std::sync::Barrier::new(3), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let read = || {
                started.wait();
                while !done.load(Ordering::Relaxed) {
                    let found = memtable.get(KeyspaceId(0), hash, b"a", first, true);
                    assert!(matches!(found, Lookup::Entry(entry) if entry.sequence == first), "{found:?}");
                }
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            started.wait();
            for _ in 0..10_000 {
                fixture.write(0, Kind::Put, b"a", b"");
            }
            done.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }

    #[test]
    fn replay_finds_what_was_written() {
        let mut fixture = Fixture::new();
        for i in 0..500u32 {
            fixture.write(i % 2, Kind::Put, &(i % 50).to_be_bytes(), &i.to_le_bytes());
        }
        let old = &fixture.memtable;
        let again = Memtable::new(old.mapping().clone(), [1; 16], FileNumber(1), Sequence(1), 0);
        assert_eq!(again.replay(SEGMENT_HEADER_BYTES..old.log_bytes(), |_| Ok(Wanted::Any)), Ok(true));
        assert_eq!((again.entries(), again.max_sequence()), (500, Sequence(500)));
        for i in 450..500u32 {
            let keyspace = KeyspaceId(i % 2);
            let key = (i % 50).to_be_bytes();
            let hash = crate::format::key_hash(keyspace, &key);
            let Lookup::Entry(entry) = again.get(keyspace, hash, &key, Sequence(500), false) else { panic!("{i}") };
            assert_eq!(entry.value(again.bytes()), i.to_le_bytes());
        }
    }

    #[test]
    fn runs_are_merged_once_readers_have_paid_for_it() {
        let mut fixture = Fixture::new();
        let key = |at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes();
        let runs = |fixture: &Fixture| {
            let rule = || Visibility::retain(vec![], fixture.memtable.max_sequence());
            fixture.memtable.runs(KeyspaceId(0), rule).unwrap()
        };
        for (at, count) in [(0, 1000), (1000, 100), (1100, 10)] {
            for at in at..at + count {
                fixture.write(0, Kind::Put, &key(at), b"value");
            }
            runs(&fixture);
        }
        // Ten items for each run but one: those who have made the second and the third run have paid ten already.
        let lengths = |fixture: &Fixture| -> Vec<usize> { runs(fixture).iter().map(|run| run.len()).collect() };
        let merged_after = |fixture: &Fixture, expected: &[usize]| {
            let before = lengths(fixture);
            let reads = (2..1000).find(|_| lengths(fixture) != before).unwrap();
            assert_eq!(lengths(fixture), expected);
            reads
        };
        assert_eq!(merged_after(&fixture, &[1000, 110]), 5);
        assert_eq!(merged_after(&fixture, &[1110]), 110);
        for _ in 0..1000 {
            runs(&fixture);
        }
        fixture.write(0, Kind::Put, &key(1110), b"value");
        assert_eq!(lengths(&fixture), [1110, 1], "nobody has paid for this one");
    }

    #[test]
    fn runs_are_sorted_complete_and_without_unseen_versions() {
        let mut fixture = Fixture::new();
        let mut pick = 1u64;
        for step in 0..3000u64 {
            pick = pick.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            fixture.write(0, Kind::Put, &((pick >> 40) % 200).to_be_bytes(), &step.to_le_bytes());
            if step % 37 == 0 {
                let rule = || Visibility::retain(vec![], fixture.memtable.max_sequence());
                let runs = fixture.memtable.runs(KeyspaceId(0), rule).unwrap();
                assert!(runs.len() < 12);
            }
        }
        let rule = || Visibility::retain(vec![], fixture.memtable.max_sequence());
        let runs = fixture.memtable.runs(KeyspaceId(0), rule).unwrap();
        let entries = Entries { bytes: fixture.memtable.bytes(), base: Sequence(1) };
        let key = |item: run::RunItem| {
            Entry::parse(entries.bytes, item.locator as usize * 8, entries.bytes.len(), Sequence(1))
                .unwrap()
                .key(entries.bytes)
        };
        let mut all = Vec::new();
        for run in &runs {
            let keys: Vec<&[u8]> = run.items_behind(run.prefix()).map(key).collect();
            assert!(keys.is_sorted_by(|a, b| a < b), "one version of each key in a run");
            all.extend(keys);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
    }
}
