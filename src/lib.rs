//! Embedded ordered key-value store.
#![allow(dead_code)]
mod error;
mod format;
mod sys;
pub use error::{Corruption, Damage, Error, ErrorKind, Feature, IoError, Result, Unsupported};
pub use sys::FileSystem;
