//! Merge operators: what the values of keys are made by that are changed without being read.

mod contract;
mod held;
mod kept;
pub mod operators;

pub use contract::{MergeError, MergeOperator};
pub(crate) use held::Operator;
pub(crate) use kept::{HashedKey, KeptValue, KeptValues};
