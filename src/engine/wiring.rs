//! Which part of the engine uses which.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::append::Appender;
use super::background::Background;
use super::catalog::Catalog;
use super::commits::Commits;
use super::compact::Merger;
use super::compactor::Compactor;
use super::counters::Counters;
use super::events::Events;
use super::files::Files;
use super::flush::Flusher;
use super::health::Health;
use super::ingest::Loader;
use super::keyspaces::KeyspaceNames;
use super::log::{LogEnd, Writer};
use super::maintenance::Maintenance;
use super::manifest::SharedManifest;
use super::operators::Operators;
use super::read_state::ReadState;
use super::readers::Readers;
use super::recover::{Found, Replayed};
use super::reserve::Reserve;
use super::scheduler::Scheduler;
use super::store::Store;
use super::sync::Syncer;
use super::teller::Teller;
use super::turnstile::Turnstiles;
use super::write::Committer;
use super::write_stalls::WriteStalls;
use crate::format::{KeyspaceId, Position, Sequence};
use crate::merge::Learned;
use crate::meter::Meters;
use crate::operator::{KeptValues, Operator};
use crate::options::Options;
use crate::sys::{Flag, HeldLock, Mappings};
use crate::table::TableCache;
use crate::version::Manifest;

/// The parts that have the state of the engine; and how those that do its work are made of them.
pub(super) struct Parts {
    pub(super) options: Arc<Options>,
    pub(super) counters: Arc<Counters>,
    pub(super) health: Arc<Health>,
    pub(super) readers: Arc<Readers>,
    pub(super) files: Arc<Files>,
    pub(super) keyspaces: Arc<KeyspaceNames>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LogEnd>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) stalls: Arc<WriteStalls>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) background: Arc<Background>,
    pub(super) commits: Arc<Commits>,
    pub(super) turnstiles: Arc<Turnstiles>,
}

/// What an open has in hand when nothing is left to be refused.
pub(super) struct Opening {
    pub(super) table_cache: Arc<TableCache>,
    pub(super) lock: Box<dyn HeldLock>,
    /// Up as long as the store is open.
    pub(super) open: Flag,
    /// The number after every one that a file in the directory has.
    pub(super) next_number: u64,
    pub(super) found: Found,
    pub(super) events: Arc<Events>,
    pub(super) operators: BTreeMap<KeyspaceId, Operator>,
}

impl Parts {
    pub(super) fn new(options: &Options, opening: Opening, replayed: &Replayed) -> Self {
        let Opening { table_cache, lock, open, next_number, found, events, operators } = opening;
        let options = Arc::new(options.clone());
        let dir = Arc::clone(&table_cache.dir);
        let mut state = found.state;
        if replayed.report.clean {
            // Only then is all of it known to be on disk, which is what a recorded end says.
            state.segment_ends = replayed.ends.iter().copied().collect();
        }
        let next_sequence = replayed.next_sequence.max(Sequence(state.last_sequence.0 + 1));
        let visible = Sequence(next_sequence.0 - 1);
        let mappings = Mappings::of(&dir);
        let operators = Arc::new(Operators::new(operators));
        let keyspaces = Arc::new(KeyspaceNames::new(&found.version, &operators));
        let read_state = ReadState {
            memtables: replayed.memtables.clone(),
            growing: false,
            version: Arc::new(found.version),
            learned: Arc::new(Learned::new(visible)),
            operators,
            kept: KeptValues::default(),
            mappings: mappings.clone(),
        };
        let last_end = replayed.ends.last().map(|(segment, offset)| Position { segment: *segment, offset: *offset });
        let manifest = Manifest::new(Arc::clone(&dir), found.database, state, found.manifest);
        let counters = Arc::<Counters>::default();
        let background = Arc::<Background>::default();
        let commits = Arc::<Commits>::default();
        let scheduler = Arc::<Scheduler>::default();
        let stalls = Arc::new(WriteStalls::new(options.most_frozen_bytes(), options.reserve_bytes, &events));
        stalls.update(&read_state, options.l0_tables);
        let waiting = (background.clone(), commits.clone(), events);
        let health = Health::new(dir.path().to_owned(), options.read_only, open, mappings, waiting);
        let health = Arc::new(health);
        let meters = Arc::new(Meters::new(options.statistics));
        let readers = Arc::new(Readers::new(read_state, visible, &table_cache, &health, &meters));
        let fs = Arc::clone(&options.file_system.0);
        let cancelled = Arc::clone(health.cancelled());
        let files = Arc::new(Files::new(fs, table_cache, found.database, lock, next_number, cancelled));
        let log = Arc::new(LogEnd::new(Writer::new(next_sequence, last_end.unwrap_or_default())));
        let reserve = Arc::new(Reserve::new(options.reserve_bytes, &files, &readers, &health, &background));
        let store = Arc::new(Store {
            health: health.clone(),
            files: files.clone(),
            readers: readers.clone(),
            keyspaces: keyspaces.clone(),
            stalls: stalls.clone(),
            manifest: SharedManifest::new(manifest, &health, &files, &readers),
            l0_tables: options.l0_tables,
            filters: options.compaction_filter.is_some(),
        });
        Self {
            options,
            counters,
            health,
            readers,
            files,
            keyspaces,
            store,
            log,
            reserve,
            stalls,
            scheduler,
            background,
            commits,
            turnstiles: Arc::default(),
        }
    }

    pub(super) fn syncer(&self) -> Arc<Syncer> {
        Arc::new(Syncer {
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            commits: self.commits.clone(),
            counters: self.counters.clone(),
        })
    }

    pub(super) fn teller(&self, syncer: &Arc<Syncer>) -> Arc<Teller> {
        Arc::new(Teller {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            log: self.log.clone(),
            commits: self.commits.clone(),
            syncer: syncer.clone(),
        })
    }

    pub(super) fn appender(&self, syncer: &Arc<Syncer>) -> Arc<Appender> {
        Arc::new(Appender {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            store: self.store.clone(),
            reserve: self.reserve.clone(),
            syncer: syncer.clone(),
            background: self.background.clone(),
            counters: self.counters.clone(),
        })
    }

    pub(super) fn flusher(&self) -> Arc<Flusher> {
        Arc::new(Flusher {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            reserve: self.reserve.clone(),
            stalls: self.stalls.clone(),
            scheduler: self.scheduler.clone(),
            background: self.background.clone(),
            counters: self.counters.clone(),
        })
    }

    pub(super) fn compactor(&self, flusher: &Arc<Flusher>) -> Arc<Compactor> {
        Arc::new(Compactor {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            store: self.store.clone(),
            reserve: self.reserve.clone(),
            merger: Merger {
                options: self.options.clone(),
                health: self.health.clone(),
                files: self.files.clone(),
                readers: self.readers.clone(),
                log: self.log.clone(),
                flusher: flusher.clone(),
            },
            scheduler: self.scheduler.clone(),
            background: self.background.clone(),
            counters: self.counters.clone(),
        })
    }

    pub(super) fn maintenance(
        &self,
        (syncer, teller): (&Arc<Syncer>, &Arc<Teller>),
        flusher: &Arc<Flusher>,
        compactor: &Arc<Compactor>,
    ) -> Arc<Maintenance> {
        Arc::new(Maintenance {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            reserve: self.reserve.clone(),
            syncer: syncer.clone(),
            teller: teller.clone(),
            flusher: flusher.clone(),
            compactor: compactor.clone(),
            scheduler: self.scheduler.clone(),
            background: self.background.clone(),
        })
    }

    pub(super) fn committer(
        &self,
        appender: &Arc<Appender>,
        syncer: &Arc<Syncer>,
        flusher: &Arc<Flusher>,
        maintenance: &Arc<Maintenance>,
    ) -> Committer {
        Committer {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            keyspaces: self.keyspaces.clone(),
            log: self.log.clone(),
            reserve: self.reserve.clone(),
            stalls: self.stalls.clone(),
            turnstiles: self.turnstiles.clone(),
            appender: appender.clone(),
            syncer: syncer.clone(),
            flusher: flusher.clone(),
            maintenance: maintenance.clone(),
            background: self.background.clone(),
            counters: self.counters.clone(),
        }
    }

    pub(super) fn catalog(
        &self,
        appender: &Arc<Appender>,
        syncer: &Arc<Syncer>,
        maintenance: &Arc<Maintenance>,
    ) -> Catalog {
        Catalog {
            default_options: self.options.table.section,
            health: self.health.clone(),
            readers: self.readers.clone(),
            keyspaces: self.keyspaces.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            syncer: syncer.clone(),
            appender: appender.clone(),
            maintenance: maintenance.clone(),
        }
    }

    pub(super) fn loader(&self, appender: &Arc<Appender>, syncer: &Arc<Syncer>, flusher: &Arc<Flusher>) -> Loader {
        Loader {
            options: self.options.clone(),
            health: self.health.clone(),
            files: self.files.clone(),
            readers: self.readers.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            appender: appender.clone(),
            syncer: syncer.clone(),
            flusher: flusher.clone(),
            scheduler: self.scheduler.clone(),
            counters: self.counters.clone(),
        }
    }
}
