//! The library through its public API.

mod basic;
mod crash;
mod model;
