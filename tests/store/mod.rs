//! The library through its public API.

mod basic;
mod inspect;
mod model;
