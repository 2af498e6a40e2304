//! One binary for all integration tests.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "cli")]
mod cli;
mod store;
mod support;
