//! What all handles of an open database have.

use std::fmt;
use std::sync::Arc;

use crate::engine::Engine;

/// Keeps a database open. A clone is another one.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Inner>);

/// Closes the engine with the last handle; background threads have the engine alone.
struct Inner {
    engine: Arc<Engine>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.engine.close_unasked();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.engine().path().display())
    }
}

impl Handle {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(Arc::new(Inner { engine }))
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }
}
