//! The engine: the parts in motion. Everything below it is a data structure or a file.
//!
//! [`LockRank`](crate::sys::LockRank) has the order of all locks; ARCHITECTURE.md says who holds which, and for how long.
//! Readers take none of them: they load the read state and the visible sequence.
//!
//! The durable state changes in exactly four places: a group committed to the log (`write`), an edit installed
//! ([`Engine::install`]), an obsolete file removed (`obsolete`), and, once for each segment, the manifest told that
//! something in it is durable (`sync`).

mod background;
mod between;
mod body;
mod callback;
mod checkpoint;
mod compact;
mod files;
mod flush;
mod health;
mod ingest;
mod job;
mod keyspaces;
mod log;
mod obsolete;
mod outputs;
mod present;
mod pressure;
mod read;
mod read_state;
mod readers;
mod recover;
mod registry;
mod repair;
mod reserve;
mod scheduler;
mod shrink;
mod stall;
mod sync;
mod validate;
mod verify;
mod write;

#[cfg(all(test, shuttle))]
mod models;

use std::sync::Arc;

pub(crate) use background::Background;
pub(crate) use body::Body;
pub use ingest::Ingested;
pub(crate) use pressure::Pressure;
pub(crate) use read::Reading;
pub(crate) use read_state::{Find, Opened, ReadState};
pub(crate) use readers::Readers;
pub use recover::{DroppedTail, RecoveryReport};
pub(crate) use registry::{Registration, Registry};
pub use repair::{Finding, LostKey, LostRange, Outcome, RepairReport};
pub(crate) use repair::{examine, repair};
pub(crate) use stall::Stalls;
pub(crate) use validate::{Moment, ReadSet};
pub use verify::Report;

use crate::error::{Error, Result};
use crate::format::FileNumber;
use crate::format::edit::Edit;
use crate::options::Options;
use crate::sys::Mutex;
use crate::sys::atomic::AtomicU64;
use crate::version::{Handles, Limits, Manifest};
use between::Between;
pub(crate) use files::Files;
use health::Health;
use keyspaces::Keyspaces;
use log::LogEnd;
use outputs::Outputs;
use reserve::Reserve;
use scheduler::Scheduler;

/// What a keyspace has in level 0 is worth no tables of its own below this share of `level_bytes_base`.
const SMALL_SHARE: u64 = 256;

/// The parts, which are wired here. Each has its own locks and does by itself what concerns nothing else; the engine does what
/// takes several of them.
pub(crate) struct Engine {
    pub(crate) options: Options,
    pub(crate) recovery: RecoveryReport,
    pub(crate) counters: Counters,
    health: Health,
    /// How the run has ended.
    ended: Mutex<Option<Result<()>>>,

    // What there is.
    pub(crate) readers: Readers,
    pub(crate) files: Files,
    log: LogEnd,
    manifest: Mutex<Manifest>,
    keyspaces: Keyspaces,

    // Who works on it, and who waits for that.
    pub(crate) background: Arc<Background>,
    pub(crate) scheduler: Scheduler,
    pub(crate) pressure: Pressure,
    pub(crate) stalls: Stalls,
    pub(crate) reserve: Reserve,
}

/// What has become of an edit that could be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installed {
    /// It is durable and visible.
    Done,
    /// Nothing has been done: it is about tables of a keyspace that has been dropped since it was planned.
    Superseded,
}

/// What has been done since the open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) log_syncs: AtomicU64,
    pub(crate) conflicts: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.files.path().display())
    }
}

impl Engine {
    pub(crate) fn path(&self) -> &std::path::Path {
        self.files.path()
    }

    pub(crate) fn limits(&self, calm: bool) -> Limits {
        Limits {
            level0_tables: self.options.l0_tables,
            level1_bytes: self.options.level_bytes_base,
            multiplier: self.options.level_multiplier,
            table_bytes: self.options.table_bytes,
            small_bytes: self.options.level_bytes_base / SMALL_SHARE,
            calm,
            paid: self.readers.learned.cost.paid(),
            seen_by_all: self.readers.retain().oldest(),
        }
    }

    /// Makes an edit durable and then visible: the one place where the state of the database changes.
    ///
    /// Order: manifest append and sync, new version, publication, and only then may files become obsolete. `outputs` has the
    /// handles of the files that the edit adds; `flushed` are the memtables that it replaces by them.
    fn install(&self, mut edit: Edit, outputs: &Outputs, flushed: &[FileNumber]) -> Result<Installed> {
        let mut manifest = self.manifest.lock();
        self.health.check_writable()?;
        self.files.check_lock(&self.health)?;
        self.health.check_mapped()?;
        edit.next_number = Some(self.files.next_number());
        let version = self.readers.version();
        if version.has_dropped(&edit) {
            return Ok(Installed::Superseded);
        }
        let dropped = version.dropped_sections(&edit);
        edit.consume.extend(dropped);
        let handles = Handles::new(&self.files.table_cache).with(&outputs.tables, &outputs.values);
        // Tables that someone has forged are refused here as well, so this is damage and no bug.
        let (next, gone) =
            version.replace(&edit, &handles).map_err(|damage| Error::corrupt(self.files.path(), 0, damage))?;
        let next = Arc::new(next);
        let appended =
            manifest.append(&edit, &next, || self.files.new_number()).map_err(|e| self.health.unrecorded(e))?;
        let between = Between::disk_and_memory(&self.health);
        self.keyspaces.set_dropped(&edit.drop, version.named());
        self.publish(|read_state| {
            read_state.memtables.retain(|memtable| !flushed.contains(&memtable.number()));
            read_state.version = Arc::clone(&next);
        });
        between.agree();
        let values_before = version.values().iter().map(|stored| &stored.file).chain(&outputs.values);
        let values_gone = values_before.filter(|file| !next.values().contains(file.number())).cloned().collect();
        drop(version);
        self.files.retire(Outputs { tables: gone, values: values_gone }, appended, &manifest, &self.readers);
        Ok(Installed::Done)
    }

    /// Installs an edit that adds no files.
    fn install_edit(&self, edit: Edit) -> Result<Installed> {
        self.install(edit, &Outputs::default(), &[])
    }

    /// Replaces the read state by a changed copy.
    fn publish(&self, change: impl FnOnce(&mut ReadState)) {
        self.readers.publish(|read_state| {
            change(read_state);
            self.note_debt(read_state);
        });
    }

    /// What writers will feel of a read state.
    fn note_debt(&self, read_state: &ReadState) {
        self.pressure.update(read_state, self.options.l0_tables);
        self.stalls.set_frozen(read_state.frozen().iter().map(|memtable| memtable.log_bytes()).sum());
    }
}
