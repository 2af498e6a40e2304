//! Bringing what is mapped into memory before it is used.

use std::io;
use std::ops::Range;

use super::{ArenaWriter, Mapping, Memory};
use crate::sys::access::{Advice, PAGE_BYTES};

/// The system is asked for this much at a time: of more than its own readahead is set to, which is 128 KiB by default, Linux
/// leaves out the rest.
#[cfg(unix)]
const ASK_BYTES: usize = 128 << 10;

impl Mapping {
    /// Whether all of a range of a mapped file is known to be in memory.
    pub(crate) fn is_present(&self, range: Range<usize>) -> bool {
        #[cfg(target_os = "linux")]
        if let Memory::File(map, true) = &self.region.memory {
            let mut pages = [0; 128];
            let first = range.start - range.start % PAGE_BYTES;
            return (first..range.end).step_by(pages.len() * PAGE_BYTES).all(|start| {
                let count = (range.end - start).div_ceil(PAGE_BYTES).min(pages.len());
                let pages = &mut pages[..count];
                super::ask_for_pages(map, start, pages) && pages.iter().all(|page| page & 1 == 1)
            });
        }
        let _ = range;
        false
    }

    /// Asks the system to begin to read a range of a mapped file, and does not wait for it; a hint. It takes no notice of
    /// [`Advice::Random`].
    pub(crate) fn read_ahead(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Memory::File(map, _) = &self.region.memory {
            let end = range.end.min(map.len());
            for start in (range.start..end).step_by(ASK_BYTES) {
                let _ = map.advise_range(memmap2::Advice::WillNeed, start, ASK_BYTES.min(end - start));
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Tells the system how all of a mapped file is read from now on. Of the whole mapping: that of a part would make two of
    /// it, which are counted.
    pub(crate) fn advise(&self, advice: Advice) {
        #[cfg(unix)]
        if let Memory::File(map, _) = &self.region.memory {
            let _ = map.advise(match advice {
                Advice::Normal => memmap2::Advice::Normal,
                Advice::Random => memmap2::Advice::Random,
            });
        }
        #[cfg(not(unix))]
        let _ = advice;
    }

    /// Brings a range of a mapped file into memory and [into the page tables](Self::touch).
    pub(crate) fn fetch(&self, range: Range<usize>) -> io::Result<()> {
        // What is advised to be read at random would come in page by page.
        if range.len() > PAGE_BYTES {
            self.read_ahead(range.clone());
        }
        self.touch(range)
    }

    /// Tells the system that a range of a mapped file will not be needed soon: its pages are the next to go; a hint.
    pub(crate) fn leave(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Memory::File(map, _) = &self.region.memory {
            let (start, end) = (range.start.next_multiple_of(PAGE_BYTES), range.end.min(map.len()));
            if let Some(pages) = map.get(start..end) {
                super::give_back_first(pages);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Brings all of a mapped file into memory. What is there by now comes into the page tables when it is used: an index of
    /// 500,000 keys takes 0.4 ms for it at once, most of an open with its first get.
    pub(crate) fn bring_in(&self) -> io::Result<()> {
        let all = 0..self.bytes().len();
        if self.is_present(all.clone()) { Ok(()) } else { self.fetch(all) }
    }

    /// Brings a range of a mapped file into the page tables, so that a page that cannot be read is an error here and not a
    /// signal at its first access.
    pub(crate) fn touch(&self, range: Range<usize>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Memory::File(map, _) = &self.region.memory {
            let length = range.end.min(map.len()).saturating_sub(range.start);
            loop {
                match map.advise_range(memmap2::Advice::PopulateRead, range.start, length) {
                    // What is present by now stays so.
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // Kernels before 5.14 do not know this.
                    Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(()),
                    other => return other,
                }
            }
        }
        let _ = range;
        Ok(())
    }
}

impl ArenaWriter {
    /// Makes `length` bytes from `offset` present and writable, so that the stores that follow do not fault one page at a
    /// time; a hint.
    pub(crate) fn populate(&self, offset: usize, length: usize) {
        #[cfg(target_os = "linux")]
        if let Memory::Arena(map) = &self.mapping.region.memory {
            let _ = map.advise_range(memmap2::Advice::PopulateWrite, offset, length);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, length);
    }
}
