//! One binary for all integration tests.
#![allow(clippy::unwrap_used)]

mod architecture;
mod store;
mod support;
