//! What openraft streams a snapshot from and to.

use std::fs;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use crate::error::{Error, Result};

/// The data of a snapshot, for `SnapshotData` of the type configuration: a file, so that neither the sender nor the receiver
/// has it in memory.
///
/// One that is being received, or is newer than all others by the time that it is complete, becomes the current snapshot of the
/// group; any other one goes when this is dropped. Writing goes through a buffer: flush it, as openraft's own transport does.
#[derive(Debug)]
pub struct SnapshotFile {
    file: File,
    unfinished: Option<Unfinished>,
}

/// A file that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the file a name under which it stays.
    pub(crate) fn keep_as(self, path: &Path) -> Result<()> {
        // The name that the drop removes is gone then, and never given again.
        fs::rename(&self.0, path).map_err(Error::io("rename", &self.0))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is removed when the group is opened.
        let _ = fs::remove_file(&self.0);
    }
}

impl SnapshotFile {
    pub(crate) fn new(file: fs::File, unfinished: Option<Unfinished>) -> Self {
        Self { file: File::from_std(file), unfinished }
    }

    /// The file, once all that was written into it has reached the operating system.
    pub(crate) async fn into_std(self) -> (fs::File, Option<Unfinished>) {
        (self.file.into_std().await, self.unfinished)
    }
}

impl AsyncRead for SnapshotFile {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, to)
    }
}

impl AsyncWrite for SnapshotFile {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.file).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}

impl AsyncSeek for SnapshotFile {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(to)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}
