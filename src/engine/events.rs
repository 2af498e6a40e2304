//! What happens in the store, on its way to the listener.
//!
//! Most of it happens while locks are held, and none of it must wait for code of the caller. So an event goes into a queue, and
//! one thread tells the listener of one after the other. The queue is bounded: a listener that does not keep up misses events,
//! and is told how many. Without a listener, and a subscriber of `tracing`, there is
//! neither a thread nor an event.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

#[cfg(feature = "tracing")]
use super::tracer::Tracer;
use crate::error::{Error, Result};
use crate::event::{Event, Listener};
use crate::sys::{Condvar, LockRank, Mutex};

/// Events that may wait.
const WAITING_MAX: usize = 1 << 14;

/// Places of damage that are known to have been told.
const PLACES_MAX: usize = 1 << 10;

pub(crate) struct Events {
    pub(super) listener: Option<Listener>,
    #[cfg(feature = "tracing")]
    pub(super) tracer: Option<Tracer>,
    queue: Mutex<Queue>,
    /// There is something in it, or nothing more will come.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Event>,
    missed: u64,
    ended: bool,
    thread: Option<JoinHandle<()>>,
    damaged: BTreeSet<(PathBuf, u64)>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({:?})", self.listener)
    }
}

impl Events {
    pub(super) fn new(listener: Option<&Listener>) -> Arc<Self> {
        let queue = Mutex::new(LockRank::Events, Queue::default());
        Arc::new(Self {
            listener: listener.cloned(),
            #[cfg(feature = "tracing")]
            tracer: Tracer::of_this_thread(),
            queue,
            changed: Condvar::default(),
        })
    }

    /// Whether anybody hears of what happens.
    #[inline]
    pub(super) fn are_heard(&self) -> bool {
        #[cfg(feature = "tracing")]
        if self.tracer.is_some() {
            return true;
        }
        self.listener.is_some()
    }

    /// Something has happened.
    #[inline]
    pub(super) fn raise(&self, event: impl FnOnce() -> Event) {
        if self.are_heard() {
            let event = event();
            self.push(&mut self.queue.lock(), event);
        }
    }

    #[cold]
    fn push(&self, queue: &mut Queue, event: Event) {
        if queue.ended {
            return;
        }
        if queue.waiting.len() >= WAITING_MAX {
            queue.missed += 1;
            return;
        }
        // Where they are missing, and not behind what was missed.
        if queue.missed > 0 {
            queue.waiting.push_back(Event::Missed(mem::take(&mut queue.missed)));
        }
        queue.waiting.push_back(event);
        self.changed.notify_all();
    }

    /// A call has failed: if it is damage that it has come upon, that is told, once for each place.
    #[cold]
    pub(super) fn note_error(&self, error: &Error) {
        let (Error::Corruption(found), true) = (error, self.are_heard()) else { return };
        let mut queue = self.queue.lock();
        if queue.damaged.len() < PLACES_MAX && queue.damaged.insert((found.path.clone(), found.offset)) {
            self.push(&mut queue, Event::CorruptionFound(Arc::clone(found)));
        }
    }

    /// What a call returns, which may be damage that it has come upon.
    #[inline]
    pub(super) fn noted<T>(&self, returned: Result<T>) -> Result<T> {
        returned.inspect_err(|e| self.note_error(e))
    }

    /// A thread tells of what happens, for [`end`](Self::end) to wait for.
    pub(super) fn set_thread(&self, thread: JoinHandle<()>) {
        self.queue.lock().thread = Some(thread);
    }

    /// Takes no more events, and waits until the listener has been told of all that there are, unless it is the listener that
    /// calls this.
    pub(super) fn end(&self) {
        if !self.are_heard() {
            return;
        }
        let thread = {
            let mut queue = self.queue.lock();
            queue.ended = true;
            self.changed.notify_all();
            queue.thread.take()
        };
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// Waits for an event; `None` when there will be no more.
    pub(super) fn next(&self) -> Option<Event> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(event) = queue.waiting.pop_front() {
                return Some(event);
            }
            if queue.missed > 0 {
                return Some(Event::Missed(mem::take(&mut queue.missed)));
            }
            if queue.ended {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_nobody_takes_are_counted_and_told_where_they_are_missing() {
        const MORE: u64 = 100;
        let events = Events::new(Some(&Listener(Arc::new(|_| {}))));
        let raise = |number: u64| events.raise(|| Event::FlushBegan { bytes: number });
        (0..WAITING_MAX as u64 + MORE).for_each(raise);
        let taken = |number: u64| matches!(events.next(), Some(Event::FlushBegan { bytes }) if bytes == number);
        assert!((0..10).all(taken));
        // There is room again.
        raise(0);
        assert!((10..WAITING_MAX as u64).all(taken));
        assert!(matches!(events.next(), Some(Event::Missed(MORE))));
        assert!(taken(0));
        (0..=WAITING_MAX as u64).for_each(raise);
        events.end();
        raise(0);
        assert!((0..WAITING_MAX as u64).all(taken));
        assert!(matches!(events.next(), Some(Event::Missed(1))));
        assert!(events.next().is_none());
    }
}
