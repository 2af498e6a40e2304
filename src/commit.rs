//! A commit that has not waited for the disk.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::{Registered, Teller};
use crate::error::Result;
use crate::format::Position;

/// A commit that is visible and becomes durable soon: what [`Db::submit`](crate::Db::submit) returns.
///
/// It is ordered among all other commits like any other. Whoever wants to know when it is durable [waits](Self::wait), is
/// [called back](Self::on_durable), or awaits it: it is a future without a runtime of its own, and can be polled anywhere. All
/// three end with an error if the log cannot be synced: then nobody knows whether the commit will be there after the next open.
/// A drop cancels nothing.
///
/// # Who syncs
/// A thread of the database, which begins with the first submitted commit, syncs whenever there is something to sync; one sync
/// serves all commits that were made before it began. Another thread calls back, and wakes tasks. With
/// [`background_threads(0)`](crate::Options::background_threads) there are no threads: then [`wait`](Self::wait),
/// [`Db::sync`](crate::Db::sync), [`Db::maintain`](crate::Db::maintain) and [`Db::close`](crate::Db::close) sync and call back,
/// before they return, and a future that nobody drives like this does not end.
///
/// The end of the database is the end of all of them: a close, and the drop of the last handle, syncs what has been committed,
/// and returns after the last callback.
///
/// # Example
/// Sixty-four commits in one thread, of which most share a sync with others:
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use maplsm::{Db, WriteBatch};
///
/// let db = Db::open(dir.path().join("db"))?;
/// let mut commits = Vec::new();
/// for number in 0..64_u64 {
///     commits.push(db.submit(WriteBatch::new().insert(number.to_be_bytes(), "event"))?);
///     assert!(db.contains_key(number.to_be_bytes())?);
/// }
/// let (sender, receiver) = std::sync::mpsc::channel();
/// commits[63].on_durable(move |outcome| sender.send(outcome).unwrap());
/// receiver.recv().unwrap()?;
/// assert!(commits.iter().all(|commit| commit.is_durable()));
/// # db.close()
/// # }
/// ```
pub struct Commit {
    teller: Arc<Teller>,
    /// Where it ends in the log.
    end: Position,
    /// Where the task is registered that has polled it last.
    task: Option<Registered>,
}

impl Commit {
    pub(crate) fn new(teller: &Arc<Teller>, end: Position) -> Self {
        Self { teller: Arc::clone(teller), end, task: None }
    }

    /// Waits until the commit is durable. If no sync is under way, this begins one, which serves all commits made before it.
    ///
    /// # Errors
    /// What has kept the log from being synced ([`Error::Poisoned`](crate::Error::Poisoned) from then on);
    /// [`Error::Reentrant`](crate::Error::Reentrant) in a callback of a commit, which has to return first.
    pub fn wait(&self) -> Result<()> {
        self.teller.wait_until_durable(self.end)
    }

    /// Whether the commit is known to be durable: from the end of the sync that made it so.
    pub fn is_durable(&self) -> bool {
        matches!(self.teller.outcome_of(self.end), Some(Ok(())))
    }

    /// Whether threads of the database sync it and call back. If not, which is so with
    /// [`background_threads(0)`](crate::Options::background_threads), somebody has to [wait](Self::wait), or to sync.
    pub fn is_driven(&self) -> bool {
        self.teller.has_threads()
    }

    /// Calls `callback` once: with `Ok` when the commit is durable, with the error when it is clear that it will not be known
    /// to be, at once if either is so already.
    ///
    /// Callbacks are called one after another: those of earlier commits first, those of one commit in the order in which they
    /// were registered, and one registered after the fact behind those that are about to be called. They are called without
    /// any lock, by a thread that does nothing else; without background threads, see [`Commit`]. One that panics has ended, and
    /// that is all. In a callback, everything may be called that the documentation of the [crate](crate#callbacks) lists; a
    /// callback that waits keeps the next ones waiting, but no writer and no sync.
    pub fn on_durable(&self, callback: impl FnOnce(Result<()>) + Send + 'static) {
        self.teller.call_back(self.end, Box::new(callback));
    }
}

/// Ends when the commit is durable, or will not be known to be. May be polled again after that.
impl Future for Commit {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let commit = self.get_mut();
        commit.teller.poll_outcome(commit.end, context.waker(), &mut commit.task)
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.teller.forget_task(task);
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("end", &self.end).field("is_durable", &self.is_durable()).finish_non_exhaustive()
    }
}
