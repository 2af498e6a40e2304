//! Watching a store at work.

use std::sync::Arc;

use super::Options;
use crate::event::{Event, Listener};

impl Options {
    /// Whether the store measures how long its operations take and what lookups touch, for
    /// [`Stats::latencies`](crate::Stats::latencies) and [`Stats::lookups`](crate::Stats::lookups). True by default: one in 256
    /// of the gets, puts and seeks is measured, and the others pay for a counter of their thread and a branch, which they do
    /// with false as well; that saves the measuring, and the 31 KiB in which it is counted.
    pub fn statistics(&mut self, measure: bool) -> &mut Self {
        self.statistics = measure;
        self
    }

    /// Has `listener` called for what the store does by itself, and for what goes wrong with it: see [`Event`]. Default:
    /// nobody is.
    ///
    /// A thread of its own calls it, for one event after the other, in the order in which they have happened, soon after they
    /// have; so nothing waits for it, and by the time that it hears of something, more may have happened. Events of one
    /// thread, and those of one flush, compaction or file, are in their order; of those that happen at one moment, any is
    /// first. Of a listener that does not keep up, 16,384 events wait, and what comes then is dropped, counted, and told as
    /// [`Event::Missed`]. [`Db::close`](crate::Db::close) waits until it has heard of everything. If it panics, that call is
    /// over, and the next event comes. What it may call of the same database is listed [here](crate#callbacks): all but what
    /// would have to wait for it, or drives the work of which it is told.
    ///
    /// With the feature `tracing`, the subscriber that the thread which opens the store has, or the process, is told of the same
    /// in the same way, with a listener or without: flushes, compactions and stalls are spans, with what has come of them, and
    /// the rest are events, all of the target `maplsm::engine::tracer`. A store that was opened before there was one tells none.
    ///
    /// ```
    /// # fn main() -> maplsm::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("db");
    /// use maplsm::{Event, Options};
    /// use std::sync::mpsc::channel;
    ///
    /// let (sender, events) = channel();
    /// let db = Options::new().listener(move |event| drop(sender.send(event.clone()))).open(path)?;
    /// db.insert("key", "value")?;
    /// db.flush()?;
    /// db.close()?;
    /// let flushed = events.iter().find_map(|event| match event {
    ///     Event::FlushEnded { tables, error: None, .. } => Some(tables),
    ///     _ => None,
    /// });
    /// assert_eq!(flushed.expect("there was one").len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listener(&mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> &mut Self {
        self.listener = Some(Listener(Arc::new(listener)));
        self
    }
}
