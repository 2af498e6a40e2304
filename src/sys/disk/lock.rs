//! Who has a directory: two locks, of the directory itself, which nobody can remove while it is open, and of the file `LOCK`
//! in it, which is what builds before this one lock.
//!
//! Where a directory cannot be locked (some network file systems, systems other than Unix), `LOCK` is all there is. It may be
//! removed or replaced by somebody who does not know what it is for, and the next open then locks another file of this name.
//! So the one who holds the lock [looks](HeldLock::stands) from time to time whether the name still leads to his file.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::Arc;

use super::held;
use super::how::{How, not_regular};
#[cfg(not(unix))]
use super::portable::Handle;
#[cfg(unix)]
use super::unix::Handle;
use crate::sys::flag::Flag;
use crate::sys::seam::{HeldLock, Lock, LockMode};

/// A lock file that has gone when it is locked is made or opened again, but somebody who keeps removing it is not worth
/// a loop without end.
const ATTEMPTS: usize = 16;

/// Tries to take the directory and the lock file `name` in it. Neither is held after any other answer than `Held`.
pub(super) fn take(dir: &Arc<Handle>, name: &str, mode: LockMode) -> io::Result<Lock> {
    // First of all, since what is held must be known to be ours from then on.
    let ours = Flag::raised()?;
    let Some(directory) = Directory::lock(dir, mode)? else { return Ok(held::busy(dir)) };
    let refused = match lock_file(dir, name, mode) {
        Ok(Ok(file)) => {
            let (noted, dir) = (held::note(dir), Arc::clone(dir));
            return Ok(Lock::Held(Box::new(Held { file, directory, dir, name: name.to_owned(), noted, ours })));
        }
        Ok(Err(Lock::Busy)) => Ok(held::busy(dir)),
        Ok(Err(refused)) => Ok(refused),
        Err(e) => Err(e),
    };
    // Closing it is not enough: a child that was forked just now has it as well.
    directory.unlock();
    refused
}

/// The lock file, locked, or the answer of [`take`].
fn lock_file(dir: &Handle, name: &str, mode: LockMode) -> io::Result<Result<File, Lock>> {
    let how = match mode {
        LockMode::Exclusive { create } => How::Write { create },
        LockMode::Shared => How::Read,
    };
    for _ in 0..ATTEMPTS {
        let file = match dir.open_file(name, how) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Err(Lock::Absent)),
            Err(e) => return Err(e),
        };
        if !file.metadata()?.is_file() {
            return Err(not_regular());
        }
        if !try_lock(&file, mode)? {
            return Ok(Err(Lock::Busy));
        }
        if dir.leads_to(name, &file)? {
            return Ok(Ok(file));
        }
    }
    Ok(Err(Lock::Busy))
}

/// A lock that is held.
#[derive(Debug)]
struct Held {
    file: File,
    directory: Directory,
    dir: Arc<Handle>,
    name: String,
    noted: Option<held::Place>,
    /// Down in a forked child, which shares both locks with us.
    ours: Flag,
}

impl HeldLock for Held {
    fn stands(&self) -> io::Result<bool> {
        self.dir.leads_to(&self.name, &self.file)
    }
}

impl Drop for Held {
    /// The locks are given up here and not with the last of the forked children that share them, and not by a child that
    /// closes its copies. The directory comes last: whoever wants both asks for it first.
    fn drop(&mut self) {
        if self.ours.lower() {
            let _ = self.file.unlock();
            self.directory.unlock();
            if let Some(place) = self.noted {
                held::forget(place);
            }
        }
    }
}

/// Returns whether it was free.
fn try_lock(file: &File, mode: LockMode) -> io::Result<bool> {
    loop {
        let tried = match mode {
            LockMode::Exclusive { .. } => file.try_lock(),
            LockMode::Shared => file.try_lock_shared(),
        };
        return match tried {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(e)) => Err(e),
        };
    }
}

/// An open description of the directory of its own, since the one that files are opened through lives on with iterators.
#[cfg(unix)]
#[derive(Debug)]
struct Directory(File);

#[cfg(unix)]
impl Directory {
    /// None if somebody else has it.
    fn lock(dir: &Handle, mode: LockMode) -> io::Result<Option<Self>> {
        let directory = dir.again()?.into_file();
        match try_lock(&directory, mode) {
            Ok(true) => Ok(Some(Self(directory))),
            Ok(false) => Ok(None),
            Err(e) if super::unix::has_no_lock(&e) => Ok(Some(Self(directory))),
            Err(e) => Err(e),
        }
    }

    fn unlock(&self) {
        let _ = self.0.unlock();
    }
}

/// A directory that cannot be locked.
#[cfg(not(unix))]
#[derive(Debug)]
struct Directory;

#[cfg(not(unix))]
impl Directory {
    #[expect(clippy::unnecessary_wraps, reason = "where it can be locked, that can fail")]
    fn lock(_: &Handle, _: LockMode) -> io::Result<Option<Self>> {
        Ok(Some(Self))
    }

    #[expect(clippy::unused_self, reason = "there is nothing to do")]
    fn unlock(&self) {}
}
