//! An operator at work.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::contract::{MergeError, MergeOperator};
use super::operators::{Append, Associative, Counter, Max};
use crate::error::{Error, Result};
use crate::format::VALUE_BYTES_MAX;
use crate::sys::check_none_held;

/// An operator, as all who use it share it.
#[derive(Clone)]
pub(crate) struct Operator(Arc<dyn MergeOperator>);

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operator")
    }
}

impl Operator {
    pub(crate) fn new(operator: impl MergeOperator) -> Self {
        Self(Arc::new(operator))
    }

    /// That of this crate that has a name, if there is one.
    pub(crate) fn built_in(name: &str) -> Option<Self> {
        let all = [Self::new(Counter), Self::new(Append), Self::new(Max)];
        all.into_iter().find(|operator| operator.is_named(name))
    }

    /// For who wants to know which keys have a value, and not which: it asks nobody.
    pub(crate) fn of_keys() -> Self {
        Self::new(Associative::new("", |_: &[u8], _: &[u8]| Ok(Vec::new())))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name() == name
    }

    /// What operands, oldest first, make of a value. Without any, that is the value itself, and nobody is asked.
    pub(crate) fn merge(&self, key: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>> {
        if let ([], Some(value)) = (operands, value) {
            return Ok(value.to_vec());
        }
        check_none_held();
        let failed = |problem: &str| Error::MergeFailed {
            operator: self.name().into(),
            key: key.into(),
            problem: problem.into(),
        };
        match catch_unwind(AssertUnwindSafe(|| self.0.merge(key, value, operands))) {
            Ok(Ok(made)) if made.len() <= VALUE_BYTES_MAX => Ok(made),
            Ok(Ok(_)) => Err(failed("the value is longer than 4 GiB - 1")),
            Ok(Err(MergeError(problem))) => Err(failed(&problem)),
            Err(_) => Err(failed("it has panicked")),
        }
    }

    /// One operand for several, oldest first, if the operator has one.
    pub(crate) fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        check_none_held();
        let combined = catch_unwind(AssertUnwindSafe(|| self.0.combine(key, operands)));
        combined.ok().flatten().filter(|operand| operand.len() <= VALUE_BYTES_MAX)
    }
}
