//! The merge operators that a program has.

use crate::error::{Error, Result};
use crate::format::edit::check_keyspace_name;
use crate::operator::Operator;

/// The operators that a program has.
#[derive(Debug, Clone, Default)]
pub(crate) struct MergeOptions {
    /// That of the default keyspace.
    pub(crate) default: Option<Operator>,
    pub(crate) known: Vec<Operator>,
    pub(crate) may_be_missing: bool,
}

impl MergeOptions {
    pub(super) fn check(&self) -> Result<()> {
        let all = self.default.iter().map(|operator| ("merge_operator", operator));
        let known = self.known.iter().map(|operator| ("known_operator", operator));
        all.chain(known).try_for_each(|(option, operator)| check_name(option, operator))
    }

    /// The operator of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Operator> {
        let given = self.known.iter().chain(&self.default).find(|operator| operator.is_named(name));
        given.cloned().or_else(|| Operator::built_in(name))
    }
}

/// Refuses an operator whose name cannot be kept.
pub(super) fn check_name(option: &'static str, operator: &Operator) -> Result<()> {
    let problem = "the name of an operator has 1 to 255 bytes and no control characters";
    check_keyspace_name(operator.name()).map_err(|_| Error::InvalidOptions { option, problem })
}
