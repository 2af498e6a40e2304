//! The engine: the parts in motion. Everything below it is a data structure or a file.
//!
//! [`LockRank`] has the order of all locks; ARCHITECTURE.md says who holds which, and for how long.
//! Readers take none of them: they load the read state and the visible sequence.
//!
//! The durable state changes in exactly four places: a group committed to the log (`append`), an edit installed
//! ([`Store::install`]), an obsolete file removed (`obsolete`), and, once for each segment, the manifest told that
//! something in it is durable ([`SharedManifest::record_durable`](manifest::SharedManifest::record_durable)).

mod amount;
mod append;
mod background;
mod backup;
mod between;
mod body;
mod callback;
mod catalog;
mod checkpoint;
mod commits;
mod compact;
mod compactor;
mod counters;
mod events;
mod explain;
mod files;
mod flush;
mod fold;
mod health;
mod ingest;
mod job;
mod keyspaces;
mod listening;
mod listing;
mod log;
mod log_copies;
mod maintenance;
mod manifest;
mod many;
mod obsolete;
mod onlooker;
mod operands;
mod operators;
mod outputs;
mod present;
mod published;
mod read_state;
mod readers;
mod recover;
mod registry;
mod repair;
mod reserve;
mod scheduler;
mod shrink;
mod stall_log;
mod store;
mod sync;
mod teller;
mod threads;
mod told_dir;
#[cfg(feature = "tracing")]
mod tracer;
mod turnstile;
mod update;
mod validate;
mod value_sink;
mod verify;
mod wiring;
mod write;
mod write_stalls;

#[cfg(all(test, shuttle))]
mod models;

use std::path::Path;
use std::sync::Arc;

pub use backup::{Backup, BackupReport};
pub(crate) use backup::{backups, prune_backups};
pub(crate) use body::Body;
pub(crate) use commits::Registered;
pub use explain::{EntryLookedAt, Explanation, LookupAnswer, LookupPlace, LookupStep};
pub use ingest::Ingested;
pub use listing::{Checkpoint, CheckpointFile};
pub(crate) use read_state::ReadState;
pub(crate) use readers::{Reading, ValidatedUpTo};
pub use recover::{DroppedTail, RecoveryReport};
pub(crate) use registry::Registration;
pub use repair::{Finding, LostKey, LostRange, Outcome, RepairReport};
pub(crate) use repair::{examine, repair};
pub use stall_log::StallStats;
pub(crate) use teller::Teller;
pub(crate) use turnstile::{Passage, Turnstile, Turnstiles};
pub(crate) use update::{Decision, KeyspaceEnd};
pub(crate) use validate::ReadSet;
pub use verify::Report;

use crate::error::{Error, Result};
use crate::format::edit::Edit;
use crate::format::names;
use crate::format::range::Range;
use crate::format::{KeyspaceId, Position};
use crate::keyspace_state::KeyspaceState;
use crate::operator::Operator;
use crate::options::Options;
use crate::sys::{Dir, Flag, LockRank, Mutex};
use crate::table::{Amount, TableCache};
use crate::version::read_current;
use background::Background;
use catalog::Catalog;
use checkpoint::{Copier, Links};
use commits::Commits;
use compactor::Compactor;
use counters::Counters;
use events::Events;
use files::Files;
use health::Health;
use ingest::Loader;
use keyspaces::KeyspaceNames;
use log::LogEnd;
use log_copies::LogCopies;
use maintenance::Maintenance;
use readers::Readers;
use recover::{FoundLog, Replayed};
use reserve::Reserve;
use scheduler::Scheduler;
use store::Store;
use sync::Syncer;
use told_dir::ToldDir;
use wiring::{Opening, Parts};
use write::Committer;
use write_stalls::WriteStalls;

/// The parts, which are wired here. Some have a piece of the state, with its locks; the others do the work, each with the
/// parts that are its fields.
pub(crate) struct Engine {
    pub(crate) options: Arc<Options>,
    pub(crate) recovery: RecoveryReport,
    pub(crate) counters: Arc<Counters>,
    health: Arc<Health>,
    /// How the run has ended.
    ended: Mutex<Option<Result<()>>>,

    // What there is.
    pub(crate) readers: Arc<Readers>,
    pub(crate) files: Arc<Files>,
    keyspaces: Arc<KeyspaceNames>,
    store: Arc<Store>,
    log: Arc<LogEnd>,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) stalls: Arc<WriteStalls>,
    pub(crate) scheduler: Arc<Scheduler>,
    background: Arc<Background>,
    commits: Arc<Commits>,
    pub(crate) turnstiles: Arc<Turnstiles>,

    // Who works on it.
    pub(crate) committer: Committer,
    pub(crate) syncer: Arc<Syncer>,
    pub(crate) teller: Arc<Teller>,
    pub(crate) compactor: Arc<Compactor>,
    pub(crate) maintenance: Arc<Maintenance>,
    pub(crate) catalog: Catalog,
    pub(crate) loader: Loader,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.files.path().display())
    }
}

impl Engine {
    /// Opens the database in a directory.
    pub(crate) fn open(options: &Options, path: &Path) -> Result<Arc<Self>> {
        let create = options.create_if_missing && !options.read_only;
        Self::open_in(options, &recover::open_dir(options, path, create)?)
    }

    /// Opens the database in a directory that is open already.
    fn open_in(options: &Options, dir: &Arc<dyn Dir>) -> Result<Arc<Self>> {
        let fs = &*options.file_system.0;
        let path = dir.path();
        let create = options.create_if_missing && !options.read_only;
        let lock = recover::take_lock(&**dir, options.read_only, create)?;
        let events = Events::new(options.listener.as_ref());
        let dir = &if events.are_heard() { ToldDir::over(dir, &events) } else { Arc::clone(dir) };
        let table_cache = TableCache::new(Arc::clone(dir), options.table, options.cache_bytes, options.max_open_tables);
        let names = dir.list().map_err(|e| Error::io("list", path, e))?;
        let found = match read_current(&**dir)? {
            Some((database, manifest)) => recover::read_state(&table_cache, database, manifest)?,
            None => recover::no_state(fs, &**dir, create, &names)?,
        };
        let operators = operators::operators_of(options, found.version.named())?;
        let new_operator = options
            .operators
            .default
            .as_ref()
            .filter(|_| found.version.named().operator(KeyspaceId::DEFAULT).is_none());
        let new_operator = new_operator.map(|operator| operator.name().to_owned());
        let mut next_number = recover::number_after(&names, found.state.next_number)?;
        let log = FoundLog::of(&**dir, &found, &names)?;
        let mut copies = None;
        let replayed = if log.is_of_crash() && !options.read_only {
            let written = copies.insert(LogCopies::write(dir, &found, &log, next_number)?);
            next_number = written.next_number();
            written.read_back(&found, &log)?.index(&**dir, &found, &log)?
        } else {
            log.index(&**dir, &found, &log)?
        };
        drop(log);
        let manifest_durable = found.manifest_durable;
        let open = Flag::raised().map_err(|e| Error::io("open", path, e))?;
        events.raise(|| replayed.report.to_event());
        let opening = Opening { table_cache, lock, open, next_number, found, events, operators };
        let engine = Arc::new(Self::new(options, opening, &replayed));
        // From here on the engine has the lock, and goes after the copies, which may still have to be removed.
        let copies = copies;
        engine.health.check_mapped()?;
        if let Some(copies) = copies {
            copies.install(&engine.store, &engine.reserve, engine.readers.visible())?;
        } else if !options.read_only && !manifest_durable {
            // Whatever the manifest says beyond its last sync must not be shown before it is on disk.
            engine.reserve.with_reserve(|| engine.store.install_edit(Edit::default()))?;
        }
        if !options.read_only && new_operator.is_some() {
            // Before there is an operand.
            engine.store.install_edit(Edit { default_operator: new_operator, ..Edit::default() })?;
        }
        if !options.read_only && options.reserve_bytes == 0 {
            // Kept by an earlier run that had other options.
            let _ = engine.files.dir.remove(names::RESERVE);
        }
        let told = engine.health.events.start(&engine.health);
        told.map_err(|e| Error::io("start a thread for", path, e)).inspect_err(|_| drop(engine.close()))?;
        // Those that have been started hold parts of the engine, and with them the directory.
        engine.maintenance.start_threads().inspect_err(|_| drop(engine.close()))?;
        Ok(engine)
    }

    /// Makes the parts.
    fn new(options: &Options, opening: Opening, replayed: &Replayed) -> Self {
        let parts = Parts::new(options, opening, replayed);
        let syncer = parts.syncer();
        let teller = parts.teller(&syncer);
        let appender = parts.appender(&syncer);
        let flusher = parts.flusher();
        let compactor = parts.compactor(&flusher);
        let maintenance = parts.maintenance((&syncer, &teller), &flusher, &compactor);
        Self {
            committer: parts.committer(&appender, &syncer, &flusher, &maintenance),
            catalog: parts.catalog(&appender, &syncer, &maintenance),
            loader: parts.loader(&appender, &syncer, &flusher),
            recovery: replayed.report.clone(),
            ended: Mutex::new(LockRank::Close, None),
            syncer,
            teller,
            compactor,
            maintenance,
            options: parts.options,
            counters: parts.counters,
            health: parts.health,
            readers: parts.readers,
            files: parts.files,
            keyspaces: parts.keyspaces,
            store: parts.store,
            log: parts.log,
            reserve: parts.reserve,
            stalls: parts.stalls,
            scheduler: parts.scheduler,
            background: parts.background,
            commits: parts.commits,
            turnstiles: parts.turnstiles,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.health.check_open().is_ok()
    }

    pub(crate) fn path(&self) -> &Path {
        self.files.path()
    }

    pub(crate) fn default_keyspace(&self) -> &Arc<KeyspaceState> {
        &self.keyspaces.default
    }

    #[inline]
    pub(crate) fn check_owner(&self, keyspace: &KeyspaceState) -> Result<()> {
        keyspace.belongs_to(&self.keyspaces.owner)
    }

    /// The operator of a keyspace, if it has one and the program as well.
    pub(crate) fn operator(&self, keyspace: &KeyspaceState) -> Result<Operator> {
        let found = self.readers.operators.of(keyspace.id);
        found.ok_or_else(|| Error::NoOperator { keyspace: Arc::clone(&keyspace.name) })
    }

    /// A keyspace as a registered reader sees it.
    pub(crate) fn reading(&self, keyspace: &KeyspaceState, at: Registration) -> Result<Reading> {
        self.health.check_open()?;
        self.check_owner(keyspace)?;
        self.readers.reading(keyspace, at)
    }

    /// What a keyspace has between two edges, by what indexes and metadata say.
    pub(crate) fn amount(&self, keyspace: &KeyspaceState, within: Range<'_>) -> Result<Amount> {
        self.health.check_open()?;
        self.check_owner(keyspace)?;
        self.readers.amount(keyspace, within)
    }

    /// Makes a copy of what is committed now in the directory `path`; see [`Db::checkpoint`](crate::Db::checkpoint).
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<()> {
        self.health.events.noted(self.copier().copy_to(path, Links::Source)).map(|_| ())
    }

    /// Makes a backup in a directory of backups; see [`Db::backup`](crate::Db::backup).
    pub(crate) fn backup(&self, path: &Path) -> Result<BackupReport> {
        self.health.events.noted(self.copier().backup(path))
    }

    fn copier(&self) -> Copier<'_> {
        let Self { options, health, files, readers, scheduler, .. } = self;
        Copier { options, health, files, readers, scheduler }
    }

    /// Commits one group, which is visible when this returns, and has it synced soon; returns where it ends in the log.
    pub(crate) fn submit(&self, body: Body<'_>) -> Result<Position> {
        self.teller.start()?;
        let end = self.committer.commit_upto(body)?;
        self.teller.want(end);
        Ok(end)
    }

    /// Reads and checks everything; see [`Db::verify`](crate::Db::verify).
    pub(crate) fn verify(&self) -> Report {
        verify::verify(&self.health, &self.files, &self.readers, &self.store.manifest)
    }

    /// Ends the run, once: whoever calls this later or meanwhile gets the same answer, when the directory is free.
    pub(crate) fn close(&self) -> Result<()> {
        // Before the lock, which the parent of a forked child may have held.
        if self.health.is_forked() {
            return Err(Error::Closed);
        }
        // And a callback that whoever has the lock is waiting for.
        self.health.check_not_within("close")?;
        let ended = self.ended.lock().get_or_insert_with(|| self.end_run()).clone();
        // Callbacks run here, or are waited for: not under a lock.
        self.teller.end();
        self.health.events.end();
        ended
    }

    /// Background work is cancelled, the log synced and marked as complete, the manifest as well, and the directory unlocked,
    /// whatever fails before. Does not flush. Of a poisoned store nothing is synced or marked, and the answer says so: what
    /// was committed since the last good sync may be lost.
    fn end_run(&self) -> Result<()> {
        self.health.cancel();
        self.commits.close();
        self.background.stop();
        self.scheduler.wait_until_done();
        let _no_flush = self.scheduler.flushing();
        let syncing = self.log.syncing();
        {
            let _writer = self.log.writer();
            self.health.close();
            self.files.table_cache.give_up();
        }
        let ended = if self.options.read_only { Ok(()) } else { self.syncer.mark_end(&syncing) };
        self.commits.end(&ended);
        self.files.purge(&self.readers);
        self.files.unlock();
        ended
    }

    /// Closes the store because its last handle goes. A callback may be the one that had it: then the work that it is part of
    /// has to end first, and a thread of its own waits for that.
    pub(crate) fn close_unasked(self: &Arc<Self>) {
        if self.health.within().is_none() {
            // Whoever wants to know calls `close`.
            let _ = self.close();
            return;
        }
        self.health.cancel();
        let engine = Arc::clone(self);
        let closing = std::thread::Builder::new().name("maplsm-close".to_owned()).spawn(move || engine.close());
        if closing.is_err() {
            // Without a thread, the last one that works here unlocks the directory as it drops the engine; the next open finds
            // the store as after the end of a process.
            self.commits.end(&Err(Error::Closed));
            self.background.ask_to_stop();
        }
    }
}

/// Makes a database of a backup (the newest one, of a directory of backups), a checkpoint or any database that nobody writes.
pub(crate) fn restore(options: &Options, from: &Path, to: &Path) -> Result<()> {
    let newest = backup::newest(options, from)?;
    let mut reading = options.clone();
    // What is copied is not read.
    reading.read_only(true).allow_missing_operators(true);
    // Whatever else it is, the open says it best.
    let engine = Engine::open(&reading, newest.as_deref().unwrap_or(from))?;
    let restored = engine.copier().copy_to(to, Links::None);
    engine.close()?;
    restored.map(|_| ())
}
