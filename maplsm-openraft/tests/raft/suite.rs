//! Openraft's own tests of a storage, in several configurations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use maplsm::{Db, IoMode, KeyspaceOptions, Options, PointIndex, SimFs};
use maplsm_openraft::Group;
use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::support::{Log, Machine, Registers, Types, small, temp_dir};

struct Builder {
    options: Options,
    keyspace: KeyspaceOptions,
    /// Without a disk, which tests much the same and takes less time.
    simulated: bool,
    /// All groups in one database, or each in its own.
    shared: Option<(Db, Arc<TempDir>)>,
    built: AtomicU64,
}

impl Builder {
    fn new(options: &Options) -> Self {
        let (options, keyspace) = (options.clone(), KeyspaceOptions::new());
        Self { options, keyspace, simulated: true, shared: None, built: AtomicU64::new(0) }
    }
}

impl StoreBuilder<Types, Log, Machine, (Db, Arc<TempDir>)> for Builder {
    async fn build(&self) -> Result<((Db, Arc<TempDir>), Log, Machine), StorageError<u64>> {
        let number = self.built.fetch_add(1, Ordering::Relaxed);
        let (db, dir) = self.shared.clone().unwrap_or_else(|| {
            let dir = Arc::new(if self.simulated { temp_dir() } else { tempfile::tempdir().unwrap() });
            let mut options = self.options.clone();
            if self.simulated {
                options.file_system(SimFs::new());
            }
            (options.open(dir.path().join("db")).unwrap(), dir)
        });
        let mut group = Group::new(format!("group/{number}"), dir.path().join("snapshots"));
        group.log_options(&self.keyspace).state_options(&self.keyspace);
        let (log, machine) = group.open(&db, Registers).unwrap();
        Ok(((db, dir), log, machine))
    }
}

fn check(builder: Builder) {
    Suite::test_all(builder).unwrap();
}

#[test]
fn mapped() {
    let mut builder = Builder::new(Options::new().memtable_bytes(1 << 20));
    builder.simulated = false;
    check(builder);
}

#[test]
fn read_piece_by_piece() {
    check(Builder::new(small().memtable_entries(Some(8)).io_mode(IoMode::Read)));
}

#[test]
fn without_background_threads_and_with_tiny_memtables() {
    check(Builder::new(Options::new().background_threads(0).memtable_bytes(4 << 10).memtable_entries(Some(4))));
}

#[test]
fn bloom_filters() {
    let mut builder = Builder::new(small().memtable_entries(Some(8)));
    builder.keyspace.point_index(PointIndex::Bloom { error_rate: 0.01 });
    check(builder);
}

#[cfg(feature = "lz4")]
#[test]
fn compressed() {
    let mut builder = Builder::new(small().memtable_entries(Some(8)).io_mode(IoMode::Read));
    builder.keyspace.compression(maplsm::Compression::Lz4).compressed_from_level(0);
    check(builder);
}

#[test]
fn many_groups_in_one_database() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let db = small().open(dir.path().join("db")).unwrap();
    let mut builder = Builder::new(&Options::new());
    builder.shared = Some((db.clone(), Arc::clone(&dir)));
    check(builder);
    assert!(db.keyspaces().len() > 100);
    db.close().unwrap();
}
