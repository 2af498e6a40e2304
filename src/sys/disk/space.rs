//! Space: taking it ahead, and writing into it.

use std::fs::File;
use std::io;
use std::ops::Range;

/// What becomes of the length of a file when space is taken behind its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// The file is longer, by zeros.
    Extended,
    Kept,
}

/// The least that is allocated at once where signals keep interrupting.
#[cfg(target_os = "linux")]
const PIECE_BYTES_MIN: u64 = 4 << 10;

/// Takes the space of these bytes of a file; returns whether the file system can do that. After an error, a part of it may
/// have been taken.
///
/// A signal interrupts it, and tmpfs then gives back all that the call has allocated so far: made again as it was, it would
/// never end under a timer that is faster. So it goes on in halves, each of which stays.
#[cfg(target_os = "linux")]
pub(super) fn allocate(file: &File, range: Range<u64>, length: Length) -> io::Result<bool> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    let flags = if length == Length::Kept { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
    let (mut at, mut piece) = (range.start, range.end.saturating_sub(range.start));
    while at < range.end {
        let bytes = piece.min(range.end - at);
        match rustix::fs::fallocate(file, flags, at, bytes) {
            Ok(()) => at += bytes,
            Err(Errno::INTR) => piece = (piece / 2).max(PIECE_BYTES_MIN),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn allocate(_: &File, _: Range<u64>, _: Length) -> io::Result<bool> {
    Ok(false)
}

/// Writes all of `bytes`; with an error comes how many of them have been written.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        #[cfg(unix)]
        let result = std::os::unix::fs::FileExt::write_at(file, rest, offset + written as u64);
        #[cfg(windows)]
        let result = std::os::windows::fs::FileExt::seek_write(file, rest, offset + written as u64);
        match result {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((written, e)),
        }
    }
    Ok(())
}
