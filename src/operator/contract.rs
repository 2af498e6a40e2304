//! What a program's own operator is.

use std::fmt;

/// What makes the value of a key of its older value and of the operands that have been [merged](crate::Db::merge) into it.
///
/// A merge writes its operand and reads nothing. The operator runs when the value is read, and in compactions, so that what
/// it returns must follow from what it is given alone: not from the time, from chance, from how often it has been asked, or
/// from a version of the program. Several operands may be given at once or one after another. One that is associative in the
/// stricter sense, where two operands can be put together to one, is easier written as an
/// [`Associative`](crate::operators::Associative); [`operators`](crate::operators) has the most frequent ones.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::{KeyspaceOptions, MergeError, MergeOperator};
///
/// /// A value is a list of lines; an operand of the form `-line` takes one out, any other one is added.
/// struct Lines;
///
/// impl MergeOperator for Lines {
///     fn name(&self) -> &str {
///         "example.lines"
///     }
///
///     fn merge(&self, _: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
///         let old = value.unwrap_or_default();
///         let mut lines: Vec<&[u8]> = old.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
///         for operand in operands {
///             match operand.strip_prefix(b"-") {
///                 Some(removed) => lines.retain(|line| *line != removed),
///                 None => lines.push(operand),
///             }
///         }
///         Ok(lines.join(&b'\n'))
///     }
/// }
///
/// let db = maplsm::Options::new().known_operator(Lines).open(dir.path().join("db"))?;
/// let lists = db.create_keyspace("lists", KeyspaceOptions::new().merge_operator(Lines))?;
/// lists.merge("todo", "milk")?;
/// lists.merge("todo", "bread")?;
/// lists.merge("todo", "-milk")?;
/// assert_eq!(lists.get("todo")?.unwrap(), b"bread");
/// # db.close()
/// # }
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// Its name, which is kept in the database and must stay: 1 to 255 bytes without control characters. An operator that
    /// means something else by the same operands needs another one. Those that begin with `maplsm.` belong to this crate.
    fn name(&self) -> &str;

    /// The value of `key` that `operands`, oldest first and at least one, make of `value`; `None` is an absent one.
    ///
    /// # Errors
    /// Who reads the key gets [`Error::MergeFailed`](crate::Error::MergeFailed) with what it says, and the operands stay as
    /// they are. So it is if this panics.
    fn merge(&self, key: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError>;

    /// One operand that does to any value what `operands`, oldest first and at least two, do, if there is one. It keeps short
    /// what has no value to be merged into yet. The default is that there is none.
    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        let _ = (key, operands);
        None
    }
}

/// Why a [`MergeOperator`] makes no value of what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeError(pub(super) String);

impl MergeError {
    /// An error that says this.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MergeError {}
