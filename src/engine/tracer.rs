//! What happens in the store as spans and events of `tracing`: for the subscriber that the thread which opens it has.
//!
//! Code of the subscriber runs where that of a listener does, on the thread that tells, and never under a lock of the store.
//! So a span begins and ends a little later than the work that it stands for; how long that has taken is one of its fields.

use std::collections::BTreeMap;

use tracing::field::Empty;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Span, debug, dispatcher, error, info, info_span, warn};

use crate::error::Error;
use crate::event::{Event, StallReason};

/// Who is told.
#[derive(Debug)]
pub(super) struct Tracer(Dispatch);

/// The spans of what has begun and is not over.
#[derive(Debug, Default)]
pub(super) struct Spans {
    flush: Option<Span>,
    compactions: BTreeMap<u64, Span>,
    /// Commits may be delayed and wait at one time, each for a reason of its own.
    stalls: Vec<(StallReason, Span)>,
}

impl Tracer {
    /// The subscriber of this thread, or of the process; `None` if there is none.
    pub(super) fn of_this_thread() -> Option<Self> {
        dispatcher::get_default(|dispatch| (!dispatch.is::<NoSubscriber>()).then(|| Self(dispatch.clone())))
    }

    pub(super) fn trace(&self, event: &Event, spans: &mut Spans) {
        dispatcher::with_default(&self.0, || spans.trace(event));
    }
}

impl Spans {
    fn trace(&mut self, event: &Event) {
        match event {
            Event::Recovered { clean, groups, entries, dropped_bytes } => {
                info!(clean, groups, entries, dropped_bytes, "recovered");
            }
            Event::FlushBegan { bytes } => {
                let span = info_span!(
                    parent: None, "flush", bytes, tables = Empty, bytes_made = Empty, took_seconds = Empty
                );
                self.flush = Some(span);
            }
            Event::FlushEnded { tables, bytes, took, error } => {
                let span = self.flush.take().unwrap_or_else(Span::none);
                span.record("tables", tables.len()).record("bytes_made", bytes);
                span.record("took_seconds", took.as_secs_f64());
                span.in_scope(|| ended("flush", error.as_ref()));
            }
            Event::CompactionBegan { number, reason, inputs, bytes, output_level } => {
                let span = info_span!(
                    parent: None, "compaction", number, ?reason, inputs = inputs.len(), bytes, output_level, tables = Empty,
                    bytes_made = Empty, took_seconds = Empty
                );
                self.compactions.insert(*number, span);
            }
            Event::CompactionEnded { number, outputs, bytes, took, error, .. } => {
                let span = self.compactions.remove(number).unwrap_or_else(Span::none);
                span.record("tables", outputs.len()).record("bytes_made", bytes);
                span.record("took_seconds", took.as_secs_f64());
                span.in_scope(|| ended("compaction", error.as_ref()));
            }
            Event::StallBegan { reason } => {
                let span = info_span!(parent: None, "stall", ?reason, took_seconds = Empty);
                span.in_scope(|| warn!(?reason, "commits are held up"));
                self.stalls.push((*reason, span));
            }
            Event::StallEnded { reason, took } => {
                let began = self.stalls.iter().position(|(of, _)| of == reason);
                let span = began.map_or_else(Span::none, |began| self.stalls.remove(began).1);
                span.record("took_seconds", took.as_secs_f64());
                span.in_scope(|| info!(?reason, "commits are not held up any more"));
            }
            Event::CorruptionFound(found) => {
                error!(path = %found.path.display(), offset = found.offset, what = %found.what, "damage found");
            }
            Event::BackgroundError(e) => warn!(error = %e, "background work has failed and will be tried again"),
            Event::Poisoned(e) => error!(error = %e, "no more writes until the next open"),
            Event::FileMade(name) => debug!(name, "file made"),
            Event::FileRemoved(name) => debug!(name, "file removed"),
            Event::ManifestReplaced => debug!("manifest replaced"),
            Event::Missed(missed) => warn!(missed, "events were missed"),
        }
    }
}

/// The event at the end of a span.
fn ended(what: &str, failure: Option<&Error>) {
    match failure {
        None => info!(what, "done"),
        Some(e) => warn!(what, error = %e, "failed"),
    }
}
