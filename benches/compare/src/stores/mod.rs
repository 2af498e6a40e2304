//! One file per store.

mod fjall;
#[cfg(feature = "leveldb")]
mod leveldb;
mod lmdb;
mod maplsm;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "surrealkv")]
mod surrealkv;

use std::path::Path;

use clap::ValueEnum;

use crate::report::{self, Samples};
use crate::store::{Compression, Result, Settings};
use crate::workload::{self, Plan};

/// The stores, in the order of the table's columns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Kind {
    Maplsm,
    MaplsmRead,
    MaplsmBloom,
    Fjall,
    Redb,
    Lmdb,
    #[cfg(feature = "rocksdb")]
    RocksDb,
    #[cfg(feature = "leveldb")]
    LevelDb,
    #[cfg(feature = "surrealkv")]
    SurrealKv,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Maplsm => "maplsm",
            Self::MaplsmRead => "maplsm, read",
            Self::MaplsmBloom => "maplsm, bloom",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Lmdb => "LMDB",
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => "RocksDB",
            #[cfg(feature = "leveldb")]
            Self::LevelDb => "LevelDB",
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => "SurrealKV",
        }
    }

    /// The package or library in use, and its version.
    pub(crate) fn version(self) -> String {
        let package = match self {
            Self::Maplsm | Self::MaplsmRead | Self::MaplsmBloom => "maplsm",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Lmdb => "lmdb-master-sys",
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => "librocksdb-sys",
            #[cfg(feature = "leveldb")]
            Self::LevelDb => return format!("libleveldb {}", leveldb::version()),
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => "surrealkv",
        };
        format!("{package} {}", report::version(package))
    }

    /// Whether it has compression here.
    pub(crate) fn compresses(self) -> bool {
        match self {
            Self::Maplsm | Self::MaplsmRead | Self::MaplsmBloom => true,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => true,
            #[cfg(feature = "leveldb")]
            Self::LevelDb => false,
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => false,
            Self::Fjall | Self::Redb | Self::Lmdb => false,
        }
    }

    /// Whether it is this project's.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Maplsm | Self::MaplsmRead | Self::MaplsmBloom)
    }

    /// What the settings mean for this store.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Maplsm => maplsm::MEANING,
            Self::MaplsmRead => maplsm::READ_MEANING,
            Self::MaplsmBloom => maplsm::BLOOM_MEANING,
            Self::Fjall => fjall::MEANING,
            Self::Redb => redb::MEANING,
            Self::Lmdb => lmdb::MEANING,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => rocksdb::MEANING,
            #[cfg(feature = "leveldb")]
            Self::LevelDb => leveldb::MEANING,
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => surrealkv::MEANING,
        }
    }

    /// What is different with large values.
    pub(crate) fn large_meaning(self, settings: &Settings) -> &'static str {
        match self {
            Self::Maplsm | Self::MaplsmRead | Self::MaplsmBloom if settings.compression == Compression::None => {
                maplsm::LARGE_MEANING
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => rocksdb::LARGE_MEANING,
            #[cfg(feature = "leveldb")]
            Self::LevelDb => "",
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => surrealkv::LARGE_MEANING,
            Self::Fjall => fjall::LARGE_MEANING,
            Self::Maplsm | Self::MaplsmRead | Self::MaplsmBloom | Self::Redb | Self::Lmdb => "",
        }
    }

    /// Runs the workloads once, in an empty directory.
    pub(crate) fn run(self, directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
        match self {
            Self::Maplsm => workload::run::<maplsm::Maplsm<true, false>>(directory, plan, samples),
            Self::MaplsmRead => workload::run::<maplsm::Maplsm<false, false>>(directory, plan, samples),
            Self::MaplsmBloom => workload::run::<maplsm::Maplsm<true, true>>(directory, plan, samples),
            Self::Fjall => workload::run::<fjall::Fjall>(directory, plan, samples),
            Self::Redb => workload::run::<redb::Redb>(directory, plan, samples),
            Self::Lmdb => workload::run::<lmdb::Lmdb>(directory, plan, samples),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => workload::run::<rocksdb::RocksDb>(directory, plan, samples),
            #[cfg(feature = "leveldb")]
            Self::LevelDb => workload::run::<leveldb::LevelDb>(directory, plan, samples),
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => workload::run::<surrealkv::SurrealKv>(directory, plan, samples),
        }
    }
}
