//! One binary for all integration tests.
#![allow(clippy::unwrap_used)]

mod architecture;
#[cfg(feature = "cli")]
mod cli;
mod store;
mod support;
#[cfg(target_os = "linux")]
mod system;
