//! The stretch in which the disk and the memory say different things.

use super::health::Health;
use crate::error::Bug;

/// Something is on its way: it is in the log or the manifest, and not shown to readers yet. Whatever ends this stretch
/// early, an error or a panic, leaves the two at odds for good: the next commit would use the same numbers again, and no
/// open would accept such a log; the next edit would change a state that the manifest does not have. So nothing more is
/// written then.
#[must_use]
pub(super) struct Between<'e> {
    health: &'e Health,
    agree: bool,
}

impl<'e> Between<'e> {
    pub(super) fn disk_and_memory(health: &'e Health) -> Self {
        Self { health, agree: false }
    }

    /// What is on disk has been shown.
    pub(super) fn agree(mut self) {
        self.agree = true;
    }
}

impl Drop for Between<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.agree {
            // Whoever knows more of the cause has said so before.
            self.health.poison(Bug::here("what is in the log or the manifest has not been shown").into());
        }
    }
}
