//! Running the body of a transaction until it commits.

use super::Db;
use crate::error::{Error, Result};
use crate::options::{Durability, Isolation};
use crate::transaction::{Attempts, Transaction};

impl Db {
    /// Runs `body` in a transaction and commits it; on a conflict, runs it again on the new state. An error of `body` ends it,
    /// and nothing is written.
    ///
    /// The first attempts pause in between, for up to 10 ms. After eight of them, it runs alone among transactions: other calls
    /// of this method wait for it before their next attempt, as it does for others that run alone, for a second at the most. So
    /// it comes to its end beside any number of them. Writes past transactions, and commits of those begun by
    /// [`transaction`](Self::transaction), do not wait; if they come between 64 times, the result is [`Error::Conflict`]. A
    /// body may write past its transaction and run others inside; nobody waits for ever for that.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let visits = db.transact(|tx| {
    ///     let visits = tx.get("visits")?.map_or(0, |value| value[0]) + 1;
    ///     tx.insert("visits", [visits])?;
    ///     Ok(visits)
    /// })?;
    /// assert_eq!(visits, 1);
    /// # db.close()
    /// # }
    /// ```
    pub fn transact<T>(&self, body: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        let durability = self.engine().options.durability;
        let is_conflict = |error: &Error| matches!(error, Error::Conflict);
        self.attempt(Isolation::Serializable, durability, body, is_conflict)
    }

    /// Runs a body with an error of its own, like [`transact`](Self::transact). The error of `body` ends it, whatever it is.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// let refused = db.try_transact(|tx| -> Result<(), Box<dyn std::error::Error>> {
    ///     tx.insert("amount", "12")?;
    ///     let amount: u32 = "twelve".parse()?;
    ///     Ok(tx.insert("amount", amount.to_string())?)
    /// });
    /// assert!(refused.is_err() && !db.contains_key("amount")?);
    /// # db.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_transact<T, E>(&self, body: impl FnMut(&mut Transaction) -> Result<T, E>) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.transact_with(Isolation::Serializable, self.engine().options.durability, body)
    }

    /// Runs a body in transactions that rely on less or more, and commits with this durability; like
    /// [`try_transact`](Self::try_transact) otherwise.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = maplsm::Db::open(dir.path().join("db"))?;
    /// use maplsm::{Durability, Error, Isolation};
    ///
    /// db.transact_with(Isolation::Snapshot, Durability::Buffered, |tx| {
    ///     tx.insert("seen", "")?;
    ///     Ok::<_, Error>(())
    /// })?;
    /// # db.close()
    /// # }
    /// ```
    pub fn transact_with<T, E>(
        &self,
        isolation: Isolation,
        durability: Durability,
        body: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.attempt(isolation, durability, body, |_| false)
    }

    /// `is_conflict` says which errors of the body are no reason to end.
    fn attempt<T, E: From<Error>>(
        &self,
        isolation: Isolation,
        durability: Durability,
        mut body: impl FnMut(&mut Transaction) -> Result<T, E>,
        is_conflict: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut attempts = Attempts::new(self.engine().turnstiles.transactions());
        loop {
            attempts.begin();
            let mut transaction = self.transaction_with(isolation);
            match body(&mut transaction) {
                Err(e) if is_conflict(&e) => {}
                Err(e) => return Err(e),
                Ok(value) => match transaction.commit_with(durability) {
                    Ok(()) => return Ok(value),
                    Err(Error::Conflict) => {}
                    Err(e) => return Err(e.into()),
                },
            }
            if !attempts.go_on() {
                return Err(Error::Conflict.into());
            }
        }
    }
}
