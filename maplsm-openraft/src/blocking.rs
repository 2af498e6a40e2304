//! Work that waits for a disk, away from the threads of the runtime.

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};

/// Runs it on a thread that may block. A panic in it, which can only come from code of the caller, goes on in the task.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::RuntimeEnded),
        },
    }
}
