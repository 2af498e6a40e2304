//! A flag that forked children do not inherit.

use std::fmt;
use std::io;

use super::ZeroedArray;
use super::atomic::{AtomicU8, Ordering};

/// A flag that is up until someone lowers it. A forked child finds it neither up nor lowered but wiped (on Linux), however it
/// came to be forked: the kernel wipes the page, so that asking costs a load and no system call.
pub(crate) struct Flag {
    state: ZeroedArray<AtomicU8>,
    /// Who has raised it, for where the kernel wipes nothing. On its own it would not do: in another PID namespace a child may
    /// have its parent's number.
    process: u32,
}

const UP: u8 = 1;
const LOWERED: u8 = 2;

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flag({})", self.is_up())
    }
}

impl Flag {
    pub(crate) fn raised() -> io::Result<Self> {
        let flag = ZeroedArray::wiped_by_fork(1)?;
        flag.iter().for_each(|state: &AtomicU8| state.store(UP, Ordering::SeqCst));
        Ok(Self { state: flag, process: std::process::id() })
    }

    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.state.first().is_some_and(|state| state.load(Ordering::Relaxed) == UP)
    }

    /// Whether this process is a forked child of the one that raised it.
    pub(crate) fn is_wiped(&self) -> bool {
        self.state.first().is_none_or(|state| ![UP, LOWERED].contains(&state.load(Ordering::Relaxed)))
    }

    /// Lowers it, unless it has been wiped; returns whether it was up, and is the caller's.
    pub(crate) fn lower(&self) -> bool {
        let lowered =
            |state: &AtomicU8| state.compare_exchange(UP, LOWERED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        self.state.first().is_some_and(lowered) && std::process::id() == self.process
    }
}
