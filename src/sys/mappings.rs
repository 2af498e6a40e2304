//! Whether what was read from mappings is what was written.

use std::path::PathBuf;
use std::sync::Arc;

use super::access::PAGE_BYTES;
use super::guard;
use super::seam::Dir;
use crate::error::{Error, Result};

/// The mappings of a directory, as far as they are what was written.
#[derive(Debug, Clone)]
pub(crate) struct Mappings(Arc<dyn Dir>);

impl Mappings {
    pub(crate) fn of(dir: &Arc<dyn Dir>) -> Self {
        Self(Arc::clone(dir))
    }

    /// Whether the guard is installed; if not, there is nothing to check.
    #[inline]
    pub(crate) fn are_guarded() -> bool {
        guard::is_installed()
    }

    /// To be called behind whatever has read from mappings, before anyone gets to see it: an error if some of it may have
    /// been zeros in place of a file. `found` is what will be handed out; with the guard, its pages are made present now.
    #[inline]
    pub(crate) fn check(&self, found: &[u8]) -> Result<()> {
        if Self::are_guarded() { self.check_now(found) } else { Ok(()) }
    }

    #[cold]
    fn check_now(&self, found: &[u8]) -> Result<()> {
        for byte in found.iter().step_by(PAGE_BYTES).chain(found.last()) {
            std::hint::black_box(*byte);
        }
        if !guard::has_lost() {
            return Ok(());
        }
        let path = |name| Error::MappingLost(Arc::new(self.0.path().join::<PathBuf>(String::into(name))));
        self.0.lost().map_or(Ok(()), |name| Err(path(name)))
    }
}
