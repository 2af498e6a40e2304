//! The merge operators that come with the crate. A database that uses them needs no option to be opened again.

use std::fmt;

use super::contract::{MergeError, MergeOperator};

/// Adds numbers: values and operands are `u64` or `i64` in little-endian bytes, which are added in the same way, and an absent
/// value is 0. A sum that is too large or too small wraps around. Anything that has not 8 bytes is an error.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::operators::Counter;
///
/// let db = maplsm::Options::new().merge_operator(Counter).open(dir.path().join("db"))?;
/// db.merge("visits", 3u64.to_le_bytes())?;
/// db.merge("visits", (-1i64).to_le_bytes())?;
/// assert_eq!(db.get("visits")?.unwrap(), 2u64.to_le_bytes());
/// # db.close()
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter;

impl Counter {
    fn sum(value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        let mut sum = 0u64;
        for number in value.iter().chain(operands) {
            let number: [u8; 8] = (*number).try_into().map_err(|_| MergeError::new("a number has not 8 bytes"))?;
            sum = sum.wrapping_add(u64::from_le_bytes(number));
        }
        Ok(sum.to_le_bytes().to_vec())
    }
}

impl MergeOperator for Counter {
    fn name(&self) -> &'static str {
        "maplsm.counter"
    }

    fn merge(&self, _: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        Self::sum(value, operands)
    }

    fn combine(&self, _: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        Self::sum(None, operands).ok()
    }
}

/// Puts each operand behind the value; an absent one is empty.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::{KeyspaceOptions, operators::Append};
///
/// let db = maplsm::Db::open(dir.path().join("db"))?;
/// let logs = db.create_keyspace("logs", KeyspaceOptions::new().merge_operator(Append))?;
/// logs.insert("ada", "in;")?;
/// logs.merge("ada", "out;")?;
/// assert_eq!(logs.get("ada")?.unwrap(), b"in;out;");
/// # db.close()
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append;

impl MergeOperator for Append {
    fn name(&self) -> &'static str {
        "maplsm.append"
    }

    fn merge(&self, _: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        Ok([value.unwrap_or_default(), &operands.concat()].concat())
    }

    fn combine(&self, _: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        Some(operands.concat())
    }
}

/// Keeps the greatest of the value and the operands, in the order of keys: of two byte strings, the one that differs by a
/// greater byte first, or goes on. Numbers have that order in big-endian bytes.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::{KeyspaceOptions, operators::Max};
///
/// let db = maplsm::Db::open(dir.path().join("db"))?;
/// let highest = db.create_keyspace("highest", KeyspaceOptions::new().merge_operator(Max))?;
/// for score in [120u32, 700, 90] {
///     highest.merge("ada", score.to_be_bytes())?;
/// }
/// assert_eq!(highest.get("ada")?.unwrap(), 700u32.to_be_bytes());
/// # db.close()
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Max;

impl MergeOperator for Max {
    fn name(&self) -> &'static str {
        "maplsm.max"
    }

    fn merge(&self, _: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        Ok(value.iter().chain(operands).max().copied().unwrap_or_default().to_vec())
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}

/// An operator whose values are operands as well: of two it makes one. What the function is given is older first; the value of
/// a key that is absent is its oldest operand.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::operators::Associative;
///
/// let or = Associative::new("example.or", |a: &[u8], b: &[u8]| match (a, b) {
///     ([a], [b]) => Ok(vec![a | b]),
///     _ => Err(maplsm::MergeError::new("flags have one byte")),
/// });
/// let db = maplsm::Options::new().merge_operator(or).open(dir.path().join("db"))?;
/// db.merge("flags", [1])?;
/// db.merge("flags", [4])?;
/// assert_eq!(db.get("flags")?.unwrap(), [5]);
/// # db.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Associative<F> {
    name: String,
    of_two: F,
}

impl<F> Associative<F>
where
    F: Fn(&[u8], &[u8]) -> Result<Vec<u8>, MergeError> + Send + Sync + 'static,
{
    /// The operator of this [name](MergeOperator::name) that makes of two what `of_two` does.
    pub fn new(name: impl Into<String>, of_two: F) -> Self {
        Self { name: name.into(), of_two }
    }
}

impl<F> fmt::Debug for Associative<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Associative({})", self.name)
    }
}

impl<F> MergeOperator for Associative<F>
where
    F: Fn(&[u8], &[u8]) -> Result<Vec<u8>, MergeError> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn merge(&self, _: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
        let mut all = value.iter().chain(operands);
        let mut made = all.next().map(|oldest| oldest.to_vec()).unwrap_or_default();
        for next in all {
            made = (self.of_two)(&made, next)?;
        }
        Ok(made)
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}
