//! The library through its public API.

mod basic;
mod crash;
mod damage;
mod extremes;
mod inspect;
mod locks;
mod model;
