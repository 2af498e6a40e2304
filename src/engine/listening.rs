//! The thread that tells the listener of events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::callback::Callback;
use super::events::Events;
use super::health::Health;

impl Events {
    /// Begins to tell the listener, if there is one.
    pub(super) fn start(self: &Arc<Self>, health: &Arc<Health>) -> std::io::Result<()> {
        if !self.are_heard() {
            return Ok(());
        }
        let (events, health) = (Arc::clone(self), Arc::clone(health));
        let thread = std::thread::Builder::new().name("maplsm-events".to_owned());
        let thread = thread.spawn(move || events.tell(&health))?;
        self.set_thread(thread);
        Ok(())
    }

    /// The life of the thread that tells. A panic of the listener ends that call of it and nothing else.
    fn tell(&self, health: &Health) {
        #[cfg(feature = "tracing")]
        let mut spans = super::tracer::Spans::default();
        while let Some(event) = self.next() {
            let _within = health.enter(Callback::Listener);
            #[cfg(feature = "tracing")]
            if let Some(tracer) = &self.tracer {
                let _ = catch_unwind(AssertUnwindSafe(|| tracer.trace(&event, &mut spans)));
            }
            if let Some(listener) = &self.listener {
                let _ = catch_unwind(AssertUnwindSafe(|| (listener.0)(&event)));
            }
        }
    }
}
