//! The library through its public API.

mod basic;
mod model;
