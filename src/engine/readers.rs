//! What readers read, which of them are registered, and what has been learned for those to come.

use std::sync::Arc;

use arc_swap::Guard;

use super::present::Present;
use super::read_state::{Shown, Stage};
use super::{Moment, ReadState, Registration, Registry};
use crate::format::Sequence;
use crate::merge::Learned;
use crate::table::TableCache;
use crate::version::Version;
use crate::visibility::Visibility;

pub(crate) struct Readers {
    stage: Arc<Stage>,
    present: Present,
    registry: Arc<Registry>,
    pub(super) learned: Arc<Learned>,
}

impl Readers {
    /// Of a read state in which entries up to a sequence number are visible.
    pub(super) fn new(read_state: ReadState, visible: Sequence, table_cache: &Arc<TableCache>) -> Self {
        let learned = Arc::clone(&read_state.learned);
        Self {
            stage: Stage::new(read_state, table_cache),
            present: Present::new(visible),
            registry: Arc::default(),
            learned,
        }
    }

    /// The current read state. While the result lives, nothing that is let go is closed, so it is not to be kept.
    #[inline]
    pub(super) fn load(&self) -> Guard<Arc<Shown>> {
        self.stage.load()
    }

    /// The current read state, for those who keep it.
    pub(crate) fn read_state(&self) -> Arc<ReadState> {
        Arc::clone(&self.load().read_state)
    }

    /// The tables of the current read state, for those who keep them.
    pub(super) fn version(&self) -> Arc<Version> {
        Arc::clone(&self.load().version)
    }

    /// The sequence up to which entries are visible now.
    #[inline]
    pub(crate) fn visible(&self) -> Sequence {
        self.present.visible()
    }

    /// The current read state and a sequence that belong together; `None` if the read state has just been replaced.
    #[inline]
    pub(super) fn acquire(&self) -> Option<(Guard<Arc<Shown>>, Sequence)> {
        self.present.acquire(|| self.stage.load())
    }

    /// Those that are registered.
    #[inline]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Registers a reader at the sequence that is visible now. A read state loaded later has every entry that it sees.
    pub(crate) fn register(&self) -> Registration {
        self.registry.register(&self.present)
    }

    /// Registers a reader, and returns the moment from which a commit on its behalf has to look.
    pub(crate) fn begin(&self) -> (Registration, Moment) {
        // The hint comes first: what is in front of it is visible to whoever registers later.
        let hint = self.load().memtables.first().map(|memtable| memtable.shown());
        let at = self.register();
        let moment = Moment { upto: at.at, hint };
        (at, moment)
    }

    /// What a rewrite that begins now must keep.
    pub(super) fn retain(&self) -> Visibility {
        self.registry.retain(self.visible())
    }

    /// Makes entries up to `upto` visible. The current read state has them.
    #[inline]
    pub(super) fn show(&self, upto: Sequence) {
        self.present.show(upto);
    }

    /// Replaces the read state by a changed copy.
    pub(super) fn publish(&self, change: impl FnOnce(&mut ReadState)) {
        let alone = self.stage.publishing();
        let mut read_state = ReadState::clone(&self.load());
        change(&mut read_state);
        debug_assert!(
            read_state.memtables.is_sorted_by(|a, b| a.number() > b.number()),
            "memtables stand newest first"
        );
        debug_assert!(!read_state.growing || !read_state.memtables.is_empty(), "what grows is there");
        self.present.publish(|| self.stage.show(&alone, Arc::new(read_state)));
    }
}
