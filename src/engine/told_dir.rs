//! A directory that tells which files are made and removed in it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::events::Events;
use crate::event::Event;
use crate::sys::{Advice, Ahead, AppendFile, Contents, Dir, Lock, LockMode, LogFile, Mapping, OpenFiles};

/// The directory of a store that has a listener. All that it does is done by the directory in it.
#[derive(Debug)]
pub(super) struct ToldDir {
    inner: Arc<dyn Dir>,
    events: Arc<Events>,
}

impl ToldDir {
    pub(super) fn over(inner: &Arc<dyn Dir>, events: &Arc<Events>) -> Arc<dyn Dir> {
        Arc::new(Self { inner: Arc::clone(inner), events: Arc::clone(events) })
    }

    fn made<T>(&self, name: &str, made: io::Result<T>) -> io::Result<T> {
        made.inspect(|_| self.events.raise(|| Event::FileMade(name.to_owned())))
    }
}

impl Dir for ToldDir {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        self.inner.open_dir(name)
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        self.inner.create_dir(name)
    }

    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        self.inner.remove_dir(name)
    }

    fn lock(&self, name: &str, mode: LockMode) -> io::Result<Lock> {
        self.inner.lock(name, mode)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        self.made(name, self.inner.create(name))
    }

    fn create_log(&self, name: &str, capacity: usize, ahead: Ahead) -> io::Result<Box<dyn LogFile>> {
        self.made(name, self.inner.create_log(name, capacity, ahead))
    }

    fn open(&self, name: &str) -> io::Result<Mapping> {
        self.inner.open(name)
    }

    fn contents(&self, name: &str, advice: Advice) -> io::Result<Contents> {
        self.inner.contents(name, advice)
    }

    fn open_files(&self) -> &OpenFiles {
        self.inner.open_files()
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.inner.length(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.made(to, self.inner.rename(from, to))?;
        self.events.raise(|| Event::FileRemoved(from.to_owned()));
        Ok(())
    }

    fn link(&self, name: &str, to: &dyn Dir) -> io::Result<()> {
        self.inner.link(name, to)
    }

    fn hold_space(&self, name: &str, bytes: u64) -> io::Result<u64> {
        self.inner.hold_space(name, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name).inspect(|()| self.events.raise(|| Event::FileRemoved(name.to_owned())))
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn lost(&self) -> Option<String> {
        self.inner.lost()
    }
}
