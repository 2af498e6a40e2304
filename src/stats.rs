//! Numbers about a running store.

mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::engine::{Engine, ReadState, StallStats};
use crate::event::{CompactionReason, StallReason};
use crate::format::{FileNumber, KeyspaceId, LEVELS};
use crate::meter::{Latencies, LookupStats, ratio};
use crate::options::{Compression, PointIndex, SectionOptions};
use crate::sys::atomic::Ordering;
use crate::table::Stored;
use crate::version::{Keyspaces, Limits, Plan, due, scores};

pub use space::{FileBytes, WrittenBytes};
use space::{hidden_bytes, live_bytes};

/// What the store holds and has done, at one moment. Costs a look at every table's metadata.
///
/// For serializers (feature `serde`), durations are numbers of seconds, in fields whose names end in `seconds`, and histograms
/// are their quantiles and buckets in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Entries that are in the log only, all versions and tombstones counted.
    pub memtable_entries: u64,
    /// Bytes of log that they take.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub frozen_memtables: usize,
    /// Levels 0 to the deepest one with tables.
    pub levels: Vec<LevelStats>,
    /// Every table, level by level.
    pub tables: Vec<TableStats>,
    /// Every value file, in order of number.
    pub value_files: Vec<ValueFileStats>,
    /// Every keyspace: the default one, then the others by name.
    pub keyspaces: Vec<KeyspaceStats>,
    /// Log segments that are needed.
    pub log_segments: usize,
    /// The sequence number of the last entry.
    pub last_sequence: u64,
    /// Snapshots, iterators and cursors alive.
    pub snapshots: usize,
    /// The sequence number of the oldest of them; what it sees is kept.
    pub oldest_snapshot: Option<u64>,
    /// Bytes in tables of versions that a newer one hides, estimated from counts: those that snapshots keep, and those that no
    /// compaction has come to yet.
    pub hidden_bytes: u64,
    /// Bytes that are kept for a full disk; see [`Options::reserve_bytes`](crate::Options::reserve_bytes).
    pub reserve_bytes: u64,
    /// Bytes of obsolete tables and value files that iterators still use.
    pub obsolete_bytes: u64,
    /// How hard writers are slowed down by the debt of flushes and compactions: 0 not at all, 1 to 4 MB of log a second,
    /// and each quarter divides the rate by four. At most 2.
    pub write_pressure: f64,
    /// Bytes of log in frozen memtables; see [`Options::max_frozen_bytes`](crate::Options::max_frozen_bytes).
    pub frozen_bytes: u64,
    /// Commits since the open that had to wait until something was flushed.
    pub write_stalls: u64,
    /// How long they have waited together.
    #[cfg_attr(feature = "serde", serde(rename = "write_stall_seconds", serialize_with = "crate::serial::seconds"))]
    pub write_stall_time: Duration,
    /// Compactions under way.
    pub compactions_running: Vec<CompactionStats>,
    /// Compactions that are due, the most urgent first, as if none were under way; those for
    /// [`Calm`](crate::CompactionReason::Calm) and other reasons of space are once nobody has written for a second. Each is
    /// planned as if it were the only one, so two of them may be about the same tables.
    pub compactions_due: Vec<CompactionStats>,
    /// Flushes since the open.
    pub flushes: u64,
    /// Compactions since the open, moves not counted.
    pub compactions: u64,
    /// Bytes read by them.
    pub compacted_bytes: u64,
    /// Syncs of log segments since the open.
    pub log_syncs: u64,
    /// Transactions refused because of a conflict since the open.
    pub conflicts: u64,
    /// Tables and value files that are open; see [`Options::max_open_tables`](crate::Options::max_open_tables).
    pub open_tables: usize,
    /// How often one has been opened since the open of the database, those that it has written counted.
    pub table_openings: u64,
    /// Bytes of mapped indexes of open tables that are to stay in memory, at most
    /// [`index_memory_bytes`](Self::index_memory_bytes).
    pub kept_index_bytes: u64,
    /// What [`Options::index_memory_bytes`](crate::Options::index_memory_bytes) allows.
    pub index_memory_bytes: u64,
    /// Bytes that unpacked blocks take in the cache; see [`Options::cache_bytes`](crate::Options::cache_bytes).
    pub cache_bytes: u64,
    /// Blocks that reads found in the cache since the open.
    pub cache_hits: u64,
    /// Blocks that they had to unpack.
    pub cache_misses: u64,
    /// How long operations have taken; empty without [`Options::statistics`](crate::Options::statistics).
    pub latencies: Latencies,
    /// What gets have touched, by a sample of them; empty without [`Options::statistics`](crate::Options::statistics).
    pub lookups: LookupStats,
    /// Write stalls since the open, by reason, one entry for each: commits that were held up for half a millisecond or more,
    /// and all that had to wait until something was flushed, which are those of [`write_stalls`](Self::write_stalls).
    pub stalls: Vec<StallStats>,
    /// What has been written since the open.
    pub written: WrittenBytes,
    /// What the files in the directory take; zeros once the store is closed.
    pub file_bytes: FileBytes,
    /// What the newest versions of all keys take, by estimate, in bytes: of each keyspace, what its largest level has without
    /// tombstones and versions that newer ones of the same table hide. What stands in the other levels, and in the log, is
    /// taken for newer versions of that, so a store that only grows has up to a fifth more. Values in value files count
    /// as long as tables refer to them.
    pub live_bytes: u64,
    /// How many commits have come since the [oldest snapshot](Self::oldest_snapshot), in sequence numbers; 0 without one.
    pub oldest_snapshot_age: u64,
    /// Bytes of files that were removed and still take their space, since slices, iterators or cursors keep them mapped. The
    /// system gives it back with the last of these. [`obsolete_bytes`](Self::obsolete_bytes) are those of files that are to be
    /// removed.
    pub pinned_bytes: u64,
}

/// One value file: values that stand apart from their entries; see
/// [`Options::large_value_bytes`](crate::Options::large_value_bytes).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ValueFileStats {
    /// The number in its file name.
    pub number: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Values in it.
    pub values: u64,
    /// Those that tables refer to.
    pub live_values: u64,
    /// What these take, in bytes, with their keys.
    pub live_bytes: u64,
    /// What the others take, in bytes.
    pub garbage_bytes: u64,
}

impl ValueFileStats {
    fn new(stored: &Stored) -> Self {
        Self {
            number: stored.file.number().0,
            bytes: stored.file.meta.file_bytes,
            values: stored.file.meta.records,
            live_values: stored.live,
            live_bytes: stored.live_bytes,
            garbage_bytes: stored.garbage_bytes(),
        }
    }
}

/// One level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LevelStats {
    /// 0 is the youngest.
    pub level: u8,
    /// Tables on it.
    pub tables: usize,
    /// Their size in bytes, indexes not counted.
    pub bytes: u64,
    /// Their entries, tombstones included.
    pub entries: u64,
    /// Their tombstones.
    pub tombstones: u64,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TableStats {
    /// The number in its file names.
    pub number: u64,
    /// The level it is on.
    pub level: u8,
    /// Length of the `.sst` in bytes.
    pub bytes: u64,
    /// Length of the `.idx` in bytes.
    pub index_bytes: u64,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// One compaction, under way or due.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CompactionStats {
    /// Why it is done.
    pub reason: CompactionReason,
    /// How many times what it is about is over its limit; 1 where there is no such number.
    pub score: f64,
    /// The names of the keyspaces that it is about.
    pub keyspaces: Vec<String>,
    /// The youngest level that it takes tables from.
    pub level: u8,
    /// The level that its tables go to.
    pub output_level: u8,
    /// The tables that it takes.
    pub tables: usize,
    /// What they have of these keyspaces, and what moves to other value files, in bytes.
    pub bytes: u64,
}

impl CompactionStats {
    fn new(plan: &Plan, named: &Keyspaces) -> Self {
        // One that has been dropped meanwhile has none any more.
        let name = |keyspace: KeyspaceId| match keyspace {
            KeyspaceId::DEFAULT => Some(KeyspaceId::DEFAULT_NAME.to_owned()),
            _ => named.get(keyspace).map(|meta| meta.name.clone()),
        };
        let tables: BTreeSet<FileNumber> = plan.inputs().map(|(_, table, _)| table.number()).collect();
        Self {
            reason: plan.urgency.reason,
            score: plan.urgency.score,
            keyspaces: plan.shares.iter().filter_map(|share| name(share.keyspace)).collect(),
            level: plan.inputs().map(|(level, ..)| level).min().unwrap_or(plan.output),
            output_level: plan.output,
            tables: tables.len(),
            bytes: plan.input_bytes(),
        }
    }
}

/// One keyspace.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Its name; `default` for the one of [`Db`](crate::Db) itself.
    pub name: String,
    /// Its share of [`Stats::memtable_entries`].
    pub memtable_entries: u64,
    /// Its entries in tables, tombstones included.
    pub entries: u64,
    /// Its tombstones in tables.
    pub tombstones: u64,
    /// The size of its entries in tables, in bytes, without checksums and indexes.
    pub bytes: u64,
    /// The size of its values in value files, in bytes, with their keys.
    pub value_bytes: u64,
    /// The tables that have entries of it.
    pub tables: usize,
    /// How many times each of its levels is over its limit, from level 0 to its deepest one: level 0 in tables, the others in
    /// bytes, and the deepest one against what it may have before all of it moves a level down. A compaction is due from 1 on.
    pub level_scores: Vec<f64>,
    /// Its [`index_interval`](crate::KeyspaceOptions::index_interval).
    pub index_interval: u16,
    /// Its [`point_index`](crate::KeyspaceOptions::point_index).
    pub point_index: PointIndex,
    /// Its [`compression`](crate::KeyspaceOptions::compression).
    pub compression: Compression,
    /// Its [`large_value_bytes`](crate::KeyspaceOptions::large_value_bytes).
    pub large_value_bytes: Option<u32>,
}

impl KeyspaceStats {
    fn new(read_state: &ReadState, id: KeyspaceId, name: &str, options: SectionOptions) -> Self {
        Self {
            name: name.to_owned(),
            memtable_entries: read_state.memtables.iter().map(|memtable| memtable.entries_of(id)).sum(),
            index_interval: options.interval,
            point_index: options.point_index,
            compression: options.compression,
            large_value_bytes: options.large_value_bytes(),
            ..Self::default()
        }
    }

    fn all(read_state: &ReadState, default: SectionOptions, limits: &Limits) -> Vec<Self> {
        let mut all = BTreeMap::new();
        all.insert(KeyspaceId::DEFAULT, Self::new(read_state, KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME, default));
        for meta in read_state.version.named().iter() {
            all.insert(meta.id, Self::new(read_state, meta.id, &meta.name, meta.options));
        }
        for section in read_state.version.sections() {
            let Some(sum) = all.get_mut(&section.keyspace) else { continue };
            sum.entries += section.entries;
            sum.tombstones += section.tombstones;
            sum.bytes += section.end - section.start;
            sum.value_bytes += section.value_files.iter().map(|share| share.bytes).sum::<u64>();
            sum.tables += 1;
        }
        for (id, keyspace) in &mut all {
            keyspace.level_scores = scores(&read_state.version, *id, limits);
        }
        let first = all.remove(&KeyspaceId::DEFAULT);
        let mut others: Vec<Self> = all.into_values().collect();
        others.sort_by(|a, b| a.name.cmp(&b.name));
        first.into_iter().chain(others).collect()
    }
}

impl Stats {
    /// Bytes written into log, tables, indexes and value files for each byte of keys and values, since the open. What has been
    /// committed and is not flushed or compacted yet is to be written again, so this is too low until there is much more.
    /// `None` if nothing was committed.
    pub fn write_amplification(&self) -> Option<f64> {
        let WrittenBytes { by_users, log, loads, flushes, compactions } = self.written;
        ratio([log, loads, flushes, compactions].into_iter().fold(0, u64::saturating_add), by_users)
    }

    /// Bytes that the files take for each byte of [`live_bytes`](Self::live_bytes), what is reserved not counted; `None` if
    /// there are none. Of a small store, most is the space that the log has taken ahead.
    pub fn space_amplification(&self) -> Option<f64> {
        ratio(self.file_bytes.total().saturating_sub(self.reserve_bytes), self.live_bytes)
    }
}

impl Engine {
    pub(crate) fn stats(&self) -> Stats {
        let read_state = self.readers.read_state();
        let mut levels: Vec<LevelStats> =
            (0..LEVELS).map(|level| LevelStats { level, ..LevelStats::default() }).collect();
        let mut tables = Vec::new();
        for (level, table) in read_state.version.tables() {
            let of_table = TableStats {
                number: table.number().0,
                level,
                bytes: table.meta.file_bytes,
                index_bytes: table.index_bytes(),
                entries: table.meta.sections.iter().map(|section| section.entries).sum(),
                tombstones: table.meta.sections.iter().map(|section| section.tombstones).sum(),
            };
            if let Some(sum) = levels.get_mut(usize::from(level)) {
                sum.tables += 1;
                sum.bytes += of_table.bytes;
                sum.entries += of_table.entries;
                sum.tombstones += of_table.tombstones;
            }
            tables.push(of_table);
        }
        let used = levels.iter().rposition(|level| level.tables > 0).map_or(0, |deepest| deepest + 1);
        levels.truncate(used);
        let counters = &self.counters;
        let limits = self.compactor.limits(true);
        let of_plan = |plan: &Plan| CompactionStats::new(plan, read_state.version.named());
        let (cache_hits, cache_misses) = self.files.table_cache.cache_hits_and_misses();
        let memtable_bytes = read_state.memtables.iter().map(|memtable| memtable.log_bytes()).sum();
        let value_files: Vec<_> = read_state.version.values().iter().map(ValueFileStats::new).collect();
        let stalls = self.stalls.stats();
        let waited = stalls.iter().find(|stall| stall.reason == StallReason::FrozenBytes);
        let (last, oldest) = (self.readers.visible().0, self.readers.registry().oldest());
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            memtable_entries: read_state.memtables.iter().map(|memtable| memtable.entries()).sum(),
            memtable_bytes,
            frozen_memtables: read_state.frozen().len(),
            levels,
            tables,
            live_bytes: live_bytes(&read_state, memtable_bytes, value_files.iter().map(|file| file.live_bytes).sum()),
            value_files,
            keyspaces: KeyspaceStats::all(&read_state, self.options.table.section, &limits),
            log_segments: read_state.memtables.len(),
            last_sequence: last,
            snapshots: self.readers.registry().len(),
            oldest_snapshot: oldest.map(|sequence| sequence.0),
            oldest_snapshot_age: oldest.map_or(0, |oldest| last.saturating_sub(oldest.0)),
            pinned_bytes: self.files.kept_bytes(),
            latencies: self.readers.meters.latencies(),
            lookups: self.readers.meters.lookups(),
            written: WrittenBytes {
                by_users: read(&counters.written.by_users),
                log: read(&counters.written.in_log),
                loads: read(&counters.written.loaded),
                flushes: read(&counters.written.by_flushes),
                compactions: read(&counters.written.by_compactions),
            },
            file_bytes: self.file_bytes(),
            hidden_bytes: read_state.version.sections().map(hidden_bytes).sum(),
            reserve_bytes: self.reserve.bytes(),
            obsolete_bytes: self.files.obsolete_bytes(),
            write_pressure: self.stalls.debt(),
            frozen_bytes: self.stalls.frozen(),
            write_stalls: waited.map_or(0, |stall| stall.count),
            write_stall_time: waited.map_or(Duration::ZERO, |stall| stall.time),
            stalls: stalls.to_vec(),
            compactions_running: self.scheduler.plans().iter().map(|plan| of_plan(plan)).collect(),
            compactions_due: due(&read_state.version, &limits).iter().map(of_plan).collect(),
            flushes: counters.flushes.load(Ordering::Relaxed),
            compactions: counters.compactions.load(Ordering::Relaxed),
            compacted_bytes: counters.compacted_bytes.load(Ordering::Relaxed),
            log_syncs: counters.log_syncs.load(Ordering::Relaxed),
            conflicts: counters.conflicts.load(Ordering::Relaxed),
            open_tables: self.files.table_cache.open.len(),
            table_openings: self.files.table_cache.open.openings(),
            kept_index_bytes: self.files.table_cache.index_memory.taken(),
            index_memory_bytes: self.files.table_cache.index_memory.most(),
            cache_bytes: self.files.table_cache.cache_bytes(),
            cache_hits,
            cache_misses,
        }
    }
}
