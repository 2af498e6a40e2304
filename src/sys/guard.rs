//! What happens when the file under a mapping goes away: by default the kernel's `SIGBUS`, with the guard an error.
//!
//! The guard is a handler of that signal for the whole process. It looks the address up in a table of our mappings; if it is
//! in one, it notes the mapping as lost, puts zero pages in place of the rest of it, and lets the program go on. Whoever was
//! reading then sees zeros, which is why everything that is read from a mapping is followed by
//! [`Mappings::check`](super::Mappings::check) before it is handed out, and why nothing is acknowledged or installed without
//! it. A signal for any other address goes to the handler that was there before.
//!
//! The table is never locked, since a signal may come at any instruction. A slot changes under its sequence number: odd
//! while it does. The handler skips a slot that changes: the mapping that it looks for is in use by the thread that it
//! interrupts, so its slot stands still.
//!
//! This file has `unsafe` code: installing a handler, and replacing pages.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering, compiler_fence};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Whether the guard is installed, and whether it has had anything to do.
static STATE: AtomicU8 = AtomicU8::new(OFF);

const OFF: u8 = 0;
const ON: u8 = 1;
const LOST: u8 = 2;

/// Bytes of the smallest page there is.
const PAGE: usize = 4096;

/// Slots that are allocated, and never freed, at a time.
const SLOTS: usize = 128;

struct Slot {
    taken: AtomicBool,
    sequence: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    owner: AtomicUsize,
    lost: AtomicBool,
    /// For messages; the handler does not touch it.
    name: Mutex<String>,
}

struct Slots {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Slots>,
}

impl Slots {
    const fn new() -> Self {
        Self {
            slots: [const {
                Slot {
                    taken: AtomicBool::new(false),
                    sequence: AtomicUsize::new(0),
                    start: AtomicUsize::new(0),
                    end: AtomicUsize::new(0),
                    owner: AtomicUsize::new(0),
                    lost: AtomicBool::new(false),
                    name: Mutex::new(String::new()),
                }
            }; SLOTS],
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: the pointer is null or comes from `Box::leak`, so it is valid for ever.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

static TABLE: Slots = Slots::new();

/// What was lost in mappings that are gone: owner and name.
static GONE: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());

fn slots() -> impl Iterator<Item = &'static Slot> {
    std::iter::successors(Some(&TABLE), |slots| slots.next()).flat_map(|slots| &slots.slots)
}

impl Slot {
    fn set(&self, start: usize, end: usize) {
        self.sequence.fetch_add(1, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        self.end.store(end, Ordering::SeqCst);
        self.sequence.fetch_add(1, Ordering::SeqCst);
    }

    /// The end of the mapping if it has this address.
    fn end_of(&self, address: usize) -> Option<usize> {
        let before = self.sequence.load(Ordering::SeqCst);
        let (start, end) = (self.start.load(Ordering::SeqCst), self.end.load(Ordering::SeqCst));
        let stands = before.is_multiple_of(2) && before == self.sequence.load(Ordering::SeqCst);
        (stands && (start..end).contains(&address)).then_some(end)
    }
}

/// Whose mappings they are: a directory.
#[derive(Debug)]
pub(super) struct Owner(usize);

impl Owner {
    pub(super) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn file<'a>(&self, name: &'a str) -> Place<'a> {
        Place { owner: self.0, name }
    }

    /// The file of a mapping that was lost, if there is one.
    pub(super) fn lost(&self) -> Option<String> {
        let name = |slot: &Slot| slot.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_lost = |slot: &&Slot| slot.lost.load(Ordering::SeqCst) && slot.owner.load(Ordering::SeqCst) == self.0;
        let gone = || {
            let gone = GONE.lock().unwrap_or_else(PoisonError::into_inner);
            gone.iter().find(|(owner, _)| *owner == self.0).map(|(_, name)| name.clone())
        };
        slots().find(is_lost).map(name).or_else(gone)
    }
}

/// A file that is being mapped.
pub(super) struct Place<'a> {
    owner: usize,
    name: &'a str,
}

/// A mapping in the table, until this is dropped, which must come before it is unmapped.
pub(super) struct Watched(&'static Slot);

impl Place<'_> {
    /// Puts a mapping into the table, if the guard is installed.
    pub(super) fn watch(&self, start: *const u8, length: usize) -> Option<Watched> {
        if STATE.load(Ordering::Relaxed) == OFF || length == 0 {
            return None;
        }
        let slot = free_slot();
        slot.owner.store(self.owner, Ordering::SeqCst);
        self.name.clone_into(&mut slot.name.lock().unwrap_or_else(PoisonError::into_inner));
        slot.set(start.addr(), start.addr().saturating_add(length));
        Some(Watched(slot))
    }
}

/// A slot that is the caller's from now on.
fn free_slot() -> &'static Slot {
    loop {
        let mut last = &TABLE;
        for slots in std::iter::successors(Some(&TABLE), |slots| slots.next()) {
            last = slots;
            if let Some(slot) = slots.slots.iter().find(|slot| !slot.taken.swap(true, Ordering::SeqCst)) {
                return slot;
            }
        }
        let more = Box::leak(Box::new(Slots::new()));
        let null = std::ptr::null_mut();
        // If another thread was faster, these few kilobytes stay unused.
        let _ = last.next.compare_exchange(null, more, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let slot = self.0;
        slot.set(0, 0);
        if slot.lost.swap(false, Ordering::SeqCst) {
            let name = std::mem::take(&mut *slot.name.lock().unwrap_or_else(PoisonError::into_inner));
            let mut gone = GONE.lock().unwrap_or_else(PoisonError::into_inner);
            gone.push((slot.owner.load(Ordering::SeqCst), name));
        }
        slot.taken.store(false, Ordering::SeqCst);
    }
}

/// Whether the guard is installed; if not, there is nothing to check.
#[inline]
pub(super) fn is_installed() -> bool {
    STATE.load(Ordering::Relaxed) != OFF
}

/// Whether a mapping has been lost. To be asked behind a load from one.
pub(super) fn has_lost() -> bool {
    // A signal comes at the load that faults, so the handler is done when the loads before this are.
    compiler_fence(Ordering::SeqCst);
    STATE.load(Ordering::SeqCst) == LOST
}

/// Makes the loss of a mapped file an error in place of the end of the process.
///
/// Files are mapped, and if another program truncates one or the disk fails to read a part of it, the kernel answers an
/// access with `SIGBUS`, which kills the process. After this call, it does not: reads and writes of the database that the file
/// belongs to answer [`Error::MappingLost`] from then on, and its commits are refused; open it again when the file is as it
/// should be. Other databases go on.
///
/// A [`Slice`](crate::Slice) that was handed out before the loss may read as zeros afterwards. [`IoMode::Read`] maps nothing
/// and has no such limits. Mappings made before the call are not guarded, so call it before the first open.
///
/// This installs a handler for `SIGBUS` in the whole process, and cannot be undone. Signals for addresses that are not ours go
/// to the handler that was there before, or end the process as they would have. Calling it again does nothing. It costs a
/// touch of the bytes that a read hands out.
///
/// ```
/// # fn main() -> maplsm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// maplsm::guard_mappings()?;
/// let db = maplsm::Db::open(path)?;
/// # db.close()
/// # }
/// ```
///
/// # Errors
/// [`Error::Io`] where there is no such signal: it is for Linux.
///
/// [`IoMode::Read`]: crate::IoMode::Read
pub fn guard_mappings() -> Result<()> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        handler::install().map_err(|e| Error::io("handle signals in", std::path::Path::new("this process"), e))?;
        *installed = true;
        let _ = STATE.compare_exchange(OFF, ON, Ordering::SeqCst, Ordering::SeqCst);
    }
    Ok(())
}

static INSTALLED: Mutex<bool> = Mutex::new(false);

#[cfg(target_os = "linux")]
mod handler {
    use std::ffi::{c_int, c_void};
    use std::mem::MaybeUninit;
    use std::sync::OnceLock;

    use super::{LOST, Ordering, PAGE, STATE, io, slots};

    /// What was there before.
    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

    type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    type Plain = extern "C" fn(c_int);

    pub(super) fn install() -> io::Result<()> {
        let mut previous = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action this only fills in the one that there is.
        if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), previous.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has filled it in.
        let previous = unsafe { previous.assume_init() };
        let _ = PREVIOUS.set(previous);
        let own: WithInfo = on_bus_error;
        let mut action = previous;
        action.sa_sigaction = own as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the mask is a valid one of this function's own.
        unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
        // SAFETY: the handler has the type that SA_SIGINFO calls for, lives for ever, and does nothing but atomic loads and
        // stores, system calls, and calls of the handler before it.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel calls this with the information that SA_SIGINFO asks for.
        let about = unsafe { &*info };
        // SAFETY: for a SIGBUS the union holds an address; for one that a process has sent it is not looked at.
        let address = unsafe { about.si_addr() };
        if about.si_code <= 0 || !replace(address.addr()) {
            forward(signal, about.si_code, info, context);
        }
    }

    /// Puts zero pages in place of the mapping from this address on; returns whether it is one of ours.
    fn replace(address: usize) -> bool {
        let found = slots().find_map(|slot| slot.end_of(address).map(|end| (slot, end)));
        let Some((slot, end)) = found else { return false };
        // Noted first: another thread may read the new pages before this one gets any further.
        slot.lost.store(true, Ordering::SeqCst);
        STATE.store(LOST, Ordering::SeqCst);
        let page = address - address % PAGE;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let start = std::ptr::without_provenance_mut::<c_void>(page);
        let length = end.next_multiple_of(PAGE) - page;
        // SAFETY: the pages from the one that faulted to the last one of the mapping belong to a mapping of ours, which the
        // interrupted thread keeps alive; nothing can be read from the first of them, and the slot says that the rest is not
        // to be believed. The bytes that references cover stay readable and initialised.
        let mapped =
            unsafe { libc::mmap(start, length, protection, flags | libc::MAP_FIXED | libc::MAP_NORESERVE, -1, 0) };
        mapped != libc::MAP_FAILED
    }

    /// Does what would have been done without us.
    fn forward(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let (handler, flags) = PREVIOUS.get().map_or((libc::SIG_DFL, 0), |p| (p.sa_sigaction, p.sa_flags));
        match handler {
            libc::SIG_IGN if code <= 0 => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                // SAFETY: the default action; the access that faulted is tried again and ends the process.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
                if code <= 0 {
                    // SAFETY: a signal for this process.
                    unsafe { libc::raise(signal) };
                }
            }
            _ if flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: it was installed as a handler of this type.
                let handler = unsafe { std::mem::transmute::<libc::sighandler_t, WithInfo>(handler) };
                handler(signal, info, context);
            }
            _ => {
                // SAFETY: it was installed as a handler of this type.
                let handler = unsafe { std::mem::transmute::<libc::sighandler_t, Plain>(handler) };
                handler(signal);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod handler {
    pub(super) fn install() -> super::io::Result<()> {
        Err(super::io::ErrorKind::Unsupported.into())
    }
}
