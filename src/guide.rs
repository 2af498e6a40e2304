//! A guide to the crate, chapter by chapter. There is nothing in these modules but text; every example in it is a test.

/// The first program.
pub mod quick_start {
    #![doc = include_str!("guide/quick_start.md")]
}

/// What there is, and what a build has to ask for.
pub mod features {
    #![doc = include_str!("guide/features.md")]
}

/// When a write is safe, and from what.
pub mod durability {
    #![doc = include_str!("guide/durability.md")]
}

/// Reading one moment, and walking in both directions.
pub mod snapshots {
    #![doc = include_str!("guide/snapshots.md")]
}

/// Several ordered maps in one store.
pub mod keyspaces {
    #![doc = include_str!("guide/keyspaces.md")]
}

/// Reading and writing as one.
pub mod transactions {
    #![doc = include_str!("guide/transactions.md")]
}

/// Changing values without reading them.
pub mod merge_operators {
    #![doc = include_str!("guide/merge_operators.md")]
}

/// What to measure, and what to change then.
pub mod tuning {
    #![doc = include_str!("guide/tuning.md")]
}

/// Memory, and containers.
pub mod memory {
    #![doc = include_str!("guide/memory.md")]
}

/// What it means that files are mapped.
pub mod mapped_files {
    #![doc = include_str!("guide/mapped_files.md")]
}

/// In tokio, and in other runtimes.
pub mod asynchronous {
    #![doc = include_str!("guide/asynchronous.md")]
}

/// What calls of fjall, redb, RocksDB, LMDB and sled are called here.
pub mod coming_from {
    #![doc = include_str!("guide/coming_from.md")]
}
