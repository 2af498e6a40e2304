//! The library through its public API.

mod basic;
mod crash;
mod damage;
mod extremes;
mod locks;
mod model;
