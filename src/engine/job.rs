//! A compaction under way: its plan, the pieces that it is cut into, and how far it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outputs::Outputs;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::format::range::Edge;
use crate::meter::Started;
use crate::sys::{LockRank, Mutex, OnceLock};
use crate::version::Plan;

/// The keys of one piece of a compaction: from `start` to in front of `end`.
#[derive(Debug, Clone, Default)]
pub(super) struct Subcompaction {
    pub(super) start: Option<Vec<u8>>,
    pub(super) end: Option<Vec<u8>>,
}

impl Subcompaction {
    pub(super) fn start(&self) -> Edge {
        self.start.clone().map_or(Edge::START.to_owned(), Edge::Before)
    }

    pub(super) fn end(&self) -> Edge {
        self.end.clone().map_or(Edge::End, Edge::Before)
    }

    /// All keys that a plan may have to do with.
    pub(super) fn of(plan: &Plan) -> Self {
        // The shortest key behind another one ends with a zero.
        let place = |edge: Edge<&[u8]>| match edge {
            Edge::Before(key) => Some(key.to_vec()),
            Edge::After(key) => Some([key, &[0]].concat()),
            Edge::End => None,
        };
        let [share] = &plan.shares[..] else { return Self::default() };
        let (start, end) = share.range();
        Self { start: place(start), end: place(end) }
    }

    /// All keys, cut at `keys`, which are in order.
    pub(super) fn between(keys: Vec<Vec<u8>>) -> Vec<Self> {
        let mut subcompactions = vec![Self::default()];
        for key in keys {
            if let Some(last) = subcompactions.last_mut() {
                last.end = Some(key.clone());
            }
            subcompactions.push(Self { start: Some(key), end: None });
        }
        subcompactions
    }
}

/// A plan that is being carried out, and its number among those.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) number: u64,
    pub(super) plan: Arc<Plan>,
}

impl Begun {
    pub(super) fn to_event(&self) -> Event {
        let inputs: BTreeSet<(u8, u64)> =
            self.plan.inputs().map(|(level, table, _)| (level, table.number().0)).collect();
        Event::CompactionBegan {
            number: self.number,
            reason: self.plan.urgency.reason,
            inputs: inputs.into_iter().collect(),
            bytes: self.plan.input_bytes(),
            output_level: self.plan.output,
        }
    }
}

/// A compaction whose subcompactions are merged one by one, by whoever has time; the last one to finish installs all outputs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) begun: Begun,
    pub(super) subcompactions: Vec<Subcompaction>,
    pub(super) started: Started,
    progress: Mutex<Progress>,
    pub(super) outcome: Arc<OnceLock<Result<()>>>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The next subcompaction to begin.
    next: usize,
    under_way: usize,
    outputs: Outputs,
    failure: Option<Error>,
}

/// What all subcompactions of a job have come to.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) outputs: Outputs,
    /// Of the first one that has failed.
    pub(super) failure: Option<Error>,
}

impl Job {
    pub(super) fn new(begun: Begun, subcompactions: Vec<Subcompaction>) -> Arc<Self> {
        let progress = Mutex::new(LockRank::Job, Progress::default());
        Arc::new(Self { begun, subcompactions, started: Started::now(), progress, outcome: Arc::default() })
    }

    /// What has become of it: it has made these tables, or has failed.
    pub(super) fn to_event(&self, tables: Vec<u64>, bytes: u64, error: Option<&Error>) -> Event {
        let (outputs, bytes) = if error.is_some() { (Vec::new(), 0) } else { (tables, bytes) };
        Event::CompactionEnded {
            number: self.begun.number,
            reason: self.begun.plan.urgency.reason,
            outputs,
            bytes,
            took: self.started.elapsed(),
            error: error.cloned(),
        }
    }

    /// Whether some of its subcompactions are still to be taken.
    pub(super) fn has_some_left(&self) -> bool {
        self.progress.lock().next < self.subcompactions.len()
    }

    /// A subcompaction to be done, which counts as under way then.
    pub(super) fn take(&self) -> Option<&Subcompaction> {
        let mut progress = self.progress.lock();
        let subcompaction = self.subcompactions.get(progress.next)?;
        progress.next += 1;
        progress.under_way += 1;
        Some(subcompaction)
    }

    /// Notes how a subcompaction ended; returns what all of them have come to if it was the last one.
    pub(super) fn finish(&self, outputs: Result<Outputs>) -> Option<Merged> {
        let mut progress = self.progress.lock();
        debug_assert!(
            progress.under_way > 0 && progress.next <= self.subcompactions.len(),
            "a subcompaction that ends has begun"
        );
        progress.under_way -= 1;
        match outputs {
            Ok(outputs) => progress.outputs.extend(outputs),
            Err(e) => {
                progress.next = self.subcompactions.len();
                progress.failure.get_or_insert(e);
            }
        }
        let last = progress.under_way == 0 && progress.next == self.subcompactions.len();
        last.then(|| Merged { outputs: std::mem::take(&mut progress.outputs), failure: progress.failure.take() })
    }
}
