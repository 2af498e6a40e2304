//! One binary for all integration tests.
#![allow(clippy::unwrap_used)]

mod store;
mod support;
