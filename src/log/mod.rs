//! The log: segments of groups, written through an arena and read in place. Manifests have the same framing.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

#[cfg(test)]
mod chains;
mod copy;
mod reader;
mod writer;

pub(crate) use copy::copy_segment;
pub(crate) use reader::{Input, Known, LogScan, runs, scan, visit_entries};
pub(crate) use writer::{SegmentWriter, Space, Use, encode_group};
