//! The library through its public API.

mod background;
mod basic;
mod checkpoint;
mod compression;
mod crash;
mod damage;
mod errors;
mod explore;
mod extremes;
mod format_example;
mod golden;
mod hostile;
mod ingest;
mod inspect;
mod keyspaces;
mod layout;
mod locks;
mod model;
mod reader;
mod remove_range;
mod repair;
mod security;
mod stress;
mod table_reader;
mod transactions;
mod values;
