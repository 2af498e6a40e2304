//! A directory where none can be held open: its absolute path, taken when it is opened. A new working directory does not
//! lead us astray; whoever moves the directory, or one on the way to it, does.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::how::{How, not_regular};

#[derive(Debug)]
pub(super) struct Handle(PathBuf);

impl Handle {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self(path))
    }

    /// A directory in this one, never through a symbolic link.
    pub(super) fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.0.join(name);
        if !fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self(path))
    }

    pub(super) fn make_dir(&self, name: &OsStr) -> io::Result<()> {
        fs::create_dir(self.0.join(name))
    }

    pub(super) fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_dir(self.0.join(name))
    }

    /// All names that are Unicode.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    pub(super) fn open_file(&self, name: &str, how: How) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            How::Read => {}
            How::Write { create } => {
                options.write(true).create(create);
                // Read and write: nobody removes or renames it while it is open.
                #[cfg(windows)]
                std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 0x1 | 0x2);
            }
            How::New => {
                options.write(true).create_new(true);
            }
        }
        options.open(self.0.join(name))
    }

    /// The length of a regular file.
    pub(super) fn length(&self, name: &str) -> io::Result<u64> {
        let metadata = fs::symlink_metadata(self.0.join(name))?;
        if metadata.is_file() { Ok(metadata.len()) } else { Err(not_regular()) }
    }

    /// Whether there is such a file; a lock file cannot be another one, since it cannot be removed while it is open.
    pub(super) fn leads_to(&self, name: &str, _: &File) -> io::Result<bool> {
        fs::exists(self.0.join(name))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    pub(super) fn link(&self, name: &str, to: &Self) -> io::Result<()> {
        fs::hard_link(self.0.join(name), to.0.join(name))
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Windows journals names and has no such call.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "other systems have something to do here")]
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
