//! Where input comes from: files and the standard input, unpacked if they are compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::failure::{Failure, Interrupt};
use crate::interrupt::{self, LOOK_AGAIN};
use crate::progress;

const BUFFER_BYTES: usize = 1 << 16;

/// The standard input, whose reads end when an interrupt comes. A thread of its own waits for it: a read that sleeps in the
/// system cannot be ended everywhere.
pub(crate) struct Stdin {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    /// Bytes of the chunk that have been taken.
    taken: usize,
    ended: bool,
    /// Found before anyone has read so far.
    error: Option<io::Error>,
}

impl Stdin {
    pub(crate) fn new() -> Self {
        let (sender, chunks) = sync_channel(4);
        thread::spawn(move || {
            let mut input = io::stdin().lock();
            loop {
                let mut chunk = vec![0; BUFFER_BYTES];
                let outcome = match input.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    outcome => outcome,
                };
                let is_last = !matches!(outcome, Ok(1..));
                let outcome = outcome.map(|length| {
                    chunk.truncate(length);
                    chunk
                });
                if sender.send(outcome).is_err() || is_last {
                    return;
                }
            }
        });
        Self { chunks, chunk: Vec::new(), taken: 0, ended: false, error: None }
    }

    /// Whether the next read may have to wait.
    pub(crate) fn is_drained(&mut self) -> bool {
        if self.taken < self.chunk.len() || self.ended {
            return false;
        }
        match self.chunks.try_recv() {
            Ok(Ok(chunk)) => {
                self.accept(chunk);
                false
            }
            Ok(Err(error)) => {
                self.error = Some(error);
                false
            }
            Err(TryRecvError::Disconnected) => false,
            Err(TryRecvError::Empty) => true,
        }
    }

    fn accept(&mut self, chunk: Vec<u8>) {
        self.ended = chunk.is_empty();
        (self.chunk, self.taken) = (chunk, 0);
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Stdin {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while self.taken == self.chunk.len() && !self.ended {
            match self.chunks.recv_timeout(LOOK_AGAIN) {
                Ok(chunk) => self.accept(chunk?),
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
                Err(RecvTimeoutError::Timeout) if interrupt::is_requested() => return Err(io::Error::other(Interrupt)),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(&self.chunk[self.taken..])
    }

    fn consume(&mut self, length: usize) {
        self.taken += length;
    }
}

/// A file, or the standard input for `-`.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn BufRead>, ProgressBar), Failure> {
    if path == Path::new("-") {
        return Ok((unpacked(Stdin::new(), path)?, progress::of_bytes(None)));
    }
    let open = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata.is_file().then_some(metadata.len())))
    };
    let (file, length) = open().map_err(|error| Failure::file("read", path, &error))?;
    let bar = progress::of_bytes(length);
    let input = BufReader::with_capacity(BUFFER_BYTES, bar.wrap_read(file));
    Ok((unpacked(input, path)?, bar))
}

/// Unpacks what begins as compressed data does. No text of entries does: neither as UTF-8, nor with a tab before it ends.
fn unpacked(mut input: impl BufRead + 'static, path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    // An error is reported by the read that follows, with the line.
    let Ok(start) = input.fill_buf() else { return Ok(Box::new(input)) };
    if start.starts_with(b"\x1f\x8b\x08") {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input))));
    }
    if start.starts_with(b"\x28\xb5\x2f\xfd") {
        return zstd(input, path);
    }
    Ok(Box::new(input))
}

#[cfg(feature = "zstd")]
fn zstd(input: impl BufRead + 'static, path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    let decoder = zstd::Decoder::with_buffer(input).map_err(|error| Failure::file("read", path, &error))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: impl BufRead + 'static, path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    Err(Failure::new(format_args!(
        "cannot read {}: this build has no Zstandard: it needs feature `zstd`",
        path.display()
    )))
}
