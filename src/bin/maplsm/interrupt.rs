//! Ctrl-C, and other ways in which an interrupt comes.
//!
//! Loops over entries and lines look whether one has come, and end as after any other failure: what is half made is taken
//! away, what is stored is told. A call of the library that takes long does not look; while it runs, the interrupt itself ends
//! the program. A second interrupt does so in any case.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::failure::{Failure, INTERRUPTED, Status, say};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static DEAF: Mutex<Deaf> = Mutex::new(Deaf::No);

/// What the program is in that does not look for interrupts.
enum Deaf {
    No,
    /// Nothing need be taken back.
    Call,
    /// A call that makes this directory.
    Making(PathBuf),
}

/// How often whoever waits for something else looks whether there was an interrupt.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Catches interrupts from here on. Where that is not possible, they end the program as they would without it.
pub(crate) fn listen() {
    let _ = ctrlc::set_handler(|| {
        let again = REQUESTED.swap(true, Ordering::SeqCst);
        // Held until the program ends, so that the call which returns meanwhile does not go on.
        let deaf = deaf();
        match &*deaf {
            Deaf::No if !again => return,
            Deaf::No | Deaf::Call => {}
            Deaf::Making(directory) => remove(directory),
        }
        say(format_args!("{INTERRUPTED}"));
        process::exit(Status::Interrupted.code().into());
    });
}

/// Forgets an interrupt that has been heeded.
pub(crate) fn forget() {
    REQUESTED.store(false, Ordering::SeqCst);
}

pub(crate) fn is_requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// An error if an interrupt has come.
pub(crate) fn check() -> Result<(), Failure> {
    if is_requested() { Err(Failure::interrupted()) } else { Ok(()) }
}

/// Calls what takes long and changes nothing, or nothing that does not survive the end of the program anywhere.
pub(crate) fn during<T>(call: impl FnOnce() -> T) -> Result<T, Failure> {
    deafened(Deaf::Call, call)
}

/// Calls what makes `directory`, which an interrupt takes away again; not if it was there before.
pub(crate) fn making<T>(directory: &Path, call: impl FnOnce() -> T) -> Result<T, Failure> {
    let is_new = matches!(fs::symlink_metadata(directory), Err(error) if error.kind() == io::ErrorKind::NotFound);
    deafened(if is_new { Deaf::Making(directory.to_owned()) } else { Deaf::Call }, call)
}

fn deafened<T>(state: Deaf, call: impl FnOnce() -> T) -> Result<T, Failure> {
    *deaf() = state;
    // One that came before would wait for the end of the call.
    let outcome = check().map(|()| call());
    *deaf() = Deaf::No;
    outcome
}

fn deaf() -> MutexGuard<'static, Deaf> {
    DEAF.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a directory into which files are still being written: again and again, until the writer finds it gone.
fn remove(directory: &Path) {
    for _ in 0..100 {
        if fs::remove_dir_all(directory).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
