//! A flag that forked children do not inherit.

use std::fmt;
use std::io;

use super::ZeroedArray;
use super::atomic::{AtomicBool, Ordering};

/// A flag that is up until someone lowers it. A forked child finds it down (on Linux), however it came to be forked: the
/// kernel wipes the page, so that asking costs a load and no system call.
pub(crate) struct Flag {
    up: ZeroedArray<AtomicBool>,
    /// Who has raised it, for where the kernel wipes nothing. On its own it would not do: in another PID namespace a child may
    /// have its parent's number.
    process: u32,
}

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flag({})", self.is_up())
    }
}

impl Flag {
    pub(crate) fn raised() -> io::Result<Self> {
        let flag = ZeroedArray::wiped_by_fork(1)?;
        flag.iter().for_each(|up: &AtomicBool| up.store(true, Ordering::SeqCst));
        Ok(Self { up: flag, process: std::process::id() })
    }

    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.up.first().is_some_and(|up| up.load(Ordering::Relaxed))
    }

    /// Lowers it; answers whether it was up, and is the caller's.
    pub(crate) fn lower(&self) -> bool {
        self.up.first().is_some_and(|up| up.swap(false, Ordering::SeqCst)) && std::process::id() == self.process
    }
}
