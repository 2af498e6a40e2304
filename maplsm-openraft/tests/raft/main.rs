//! The storage through its public API and openraft's. A random test prints the seed that replays it.

#![allow(clippy::unwrap_used)]

mod cluster;
mod crash;
mod damage;
mod groups;
mod history;
mod network;
mod suite;
mod support;
