//! Options for merge operators.

use super::Options;
use crate::operator::{MergeOperator, Operator};

impl Options {
    /// What [`Db::merge`](crate::Db::merge) does in the default keyspace. Its name is kept in the database from the first open
    /// with it on, and cannot be changed; from then on, it need be given again only if it is not one of those that
    /// [come with the crate](crate::operators). Other keyspaces have
    /// [their own](crate::KeyspaceOptions::merge_operator) or none. Default: none.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use maplsm::{Options, operators::Counter};
    ///
    /// let db = Options::new().merge_operator(Counter).open(dir.path().join("db"))?;
    /// db.merge("visits", 1u64.to_le_bytes())?;
    /// db.merge("visits", 1u64.to_le_bytes())?;
    /// assert_eq!(db.get("visits")?.unwrap(), 2u64.to_le_bytes());
    /// # db.close()
    /// # }
    /// ```
    pub fn merge_operator(&mut self, operator: impl MergeOperator) -> &mut Self {
        self.operators.default = Some(Operator::new(operator));
        self
    }

    /// An operator that keyspaces of the database have been created with. An open needs all those of its keyspaces, by name,
    /// but the ones that [come with the crate](crate::operators): without one, it returns
    /// [`Error::OtherOperator`](crate::Error::OtherOperator), and has changed nothing. May be given for several operators.
    pub fn known_operator(&mut self, operator: impl MergeOperator) -> &mut Self {
        self.operators.known.push(Operator::new(operator));
        self
    }

    /// Opens a database also without the operators of its keyspaces, as tools do. A value that needs one is refused with
    /// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat) then, and a merge with
    /// [`Error::NoOperator`](crate::Error::NoOperator); everything else works, and compactions keep all operands as they are.
    /// Default: false.
    pub fn allow_missing_operators(&mut self, allow: bool) -> &mut Self {
        self.operators.may_be_missing = allow;
        self
    }
}
