//! Sorting more entries than fit into memory: sorted runs in files, merged (Knuth, The Art of Computer Programming, vol. 3,
//! 5.4). Of several entries with one key, the last one stays.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::interrupt;

/// Runs that are merged at a time; each has a buffer.
const FAN_IN: usize = 128;
const BUFFER_BYTES: usize = 64 << 10;

/// A run has the entry's lengths in front of key and value.
const HEADER_BYTES: usize = 8;

/// A directory for runs, gone when dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    files: u64,
}

impl Scratch {
    /// Makes the directory, which belongs to this process alone: what an earlier one has left there is removed.
    pub(crate) fn new(path: PathBuf) -> Result<Self, Failure> {
        let made = match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => fs::create_dir(&path),
        };
        made.map_err(|e| Failure::file("make the directory", &path, &e))?;
        Ok(Self { path, files: 0 })
    }

    fn file(&mut self) -> PathBuf {
        self.files += 1;
        self.path.join(self.files.to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Entries on their way into runs.
pub(crate) struct Sorter {
    scratch: Scratch,
    memory: usize,
    bytes: Vec<u8>,
    /// Where key and value begin and end in `bytes`, in the order of the input.
    entries: Vec<(usize, usize, usize)>,
    /// Oldest first.
    runs: Vec<PathBuf>,
}

impl Sorter {
    /// A sorter that takes about so many bytes of memory.
    pub(crate) fn new(scratch: Scratch, memory: usize) -> Self {
        Self { scratch, memory, bytes: Vec::new(), entries: Vec::new(), runs: Vec::new() }
    }

    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let entry = size_of::<(usize, usize, usize)>() + key.len() + value.len();
        let taken = self.bytes.len() + self.entries.len() * size_of::<(usize, usize, usize)>();
        // Half of it, because growing doubles.
        if !self.entries.is_empty() && taken + entry > self.memory / 2 {
            self.write_run()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.entries.push((start, start + key.len(), self.bytes.len()));
        Ok(())
    }

    fn write_run(&mut self) -> Result<(), Failure> {
        let (bytes, path) = (&self.bytes, self.scratch.file());
        let key = |entry: &(usize, usize, usize)| &bytes[entry.0..entry.1];
        self.entries.sort_by(|a, b| key(a).cmp(key(b)));
        let write = || -> io::Result<()> {
            let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&path)?);
            for (at, entry) in self.entries.iter().enumerate() {
                if self.entries.get(at + 1).is_none_or(|next| key(next) != key(entry)) {
                    write_entry(&mut out, key(entry), &bytes[entry.1..entry.2])?;
                }
            }
            out.flush()
        };
        write().map_err(|e| Failure::file("write", &path, &e))?;
        self.runs.push(path);
        self.bytes.clear();
        self.entries.clear();
        Ok(())
    }

    /// All entries in order.
    pub(crate) fn finish(mut self) -> Result<Sorted, Failure> {
        if !self.entries.is_empty() {
            self.write_run()?;
        }
        (self.bytes, self.entries) = (Vec::new(), Vec::new());
        while self.runs.len() > FAN_IN {
            // Neighbours, so that the order of the runs stays that of the input.
            let merged: Vec<PathBuf> = self.runs.drain(..FAN_IN).collect();
            let path = self.scratch.file();
            let mut merge = Merge::open(&merged)?;
            let mut out = BufWriter::with_capacity(1 << 20, create(&path)?);
            while let Some((key, value)) = merge.next_entry()? {
                write_entry(&mut out, &key, &value).map_err(|e| Failure::file("write", &path, &e))?;
            }
            out.flush().map_err(|e| Failure::file("write", &path, &e))?;
            for old in merged {
                let _ = fs::remove_file(old);
            }
            self.runs.insert(0, path);
        }
        Ok(Sorted { merge: Merge::open(&self.runs)?, _scratch: self.scratch })
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create_new(path).map_err(|e| Failure::file("create", path, &e))
}

fn write_entry(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    for length in [key.len(), value.len()] {
        let length = u32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        out.write_all(&length.to_le_bytes())?;
    }
    out.write_all(key)?;
    out.write_all(value)
}

type Entry = (Vec<u8>, Vec<u8>);

/// A run being read.
struct Run {
    path: PathBuf,
    input: BufReader<File>,
}

impl Run {
    fn next(&mut self) -> Result<Option<Entry>, Failure> {
        let mut read = || -> io::Result<Option<Entry>> {
            let mut header = [0; HEADER_BYTES];
            match self.input.read_exact(&mut header) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            let length = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
            let (mut key, mut value) = (vec![0; length(&header)], vec![0; length(&header[4..])]);
            self.input.read_exact(&mut key)?;
            self.input.read_exact(&mut value)?;
            Ok(Some((key, value)))
        };
        read().map_err(|e| Failure::file("read", &self.path, &e))
    }
}

/// Key, run and value.
type Head = (Vec<u8>, Reverse<usize>, Vec<u8>);

struct Merge {
    runs: Vec<Run>,
    /// The next entry of each run: smallest key first, of equal ones that of the youngest run.
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merge {
    fn open(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut merge = Self { runs: Vec::new(), heads: BinaryHeap::new() };
        for path in paths {
            let file = File::open(path).map_err(|e| Failure::file("read", path, &e))?;
            merge.runs.push(Run { path: path.clone(), input: BufReader::with_capacity(BUFFER_BYTES, file) });
            merge.refill(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, run: usize) -> Result<(), Failure> {
        if let Some((key, value)) = self.runs[run].next()? {
            self.heads.push(Reverse((key, Reverse(run), value)));
        }
        Ok(())
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Failure> {
        interrupt::check()?;
        let Some(Reverse((key, Reverse(run), value))) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        while let Some(Reverse((next, Reverse(older), _))) = self.heads.peek() {
            if *next != key {
                break;
            }
            let older = *older;
            self.heads.pop();
            self.refill(older)?;
        }
        Ok(Some((key, value)))
    }
}

/// Entries in order of key, without duplicates.
pub(crate) struct Sorted {
    merge: Merge,
    _scratch: Scratch,
}

impl Iterator for Sorted {
    type Item = Result<Entry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.merge.next_entry().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::escape::tests::Chance;

    #[test]
    fn entries_come_out_in_order_and_the_last_of_a_key_wins() {
        let dir = tempfile::tempdir().unwrap();
        for (count, memory) in [(0, 1000), (1, 1000), (500, 1 << 20), (5000, 4000), (20_000, 2500)] {
            let path = dir.path().join("runs");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("1"), "left by somebody").unwrap();
            let mut sorter = Sorter::new(Scratch::new(path.clone()).unwrap(), memory);
            let mut chance = Chance::new(7);
            let mut expected = BTreeMap::new();
            for _ in 0..count {
                let (key, value) = (chance.bytes(3), chance.bytes(40));
                sorter.add(&key, &value).unwrap();
                expected.insert(key, value);
            }
            let found: Vec<Entry> = sorter.finish().unwrap().map(Result::unwrap).collect();
            assert!(found.is_sorted_by(|a, b| a.0 < b.0));
            assert!(found.into_iter().eq(expected), "{count} entries with {memory} bytes");
            assert!(!path.exists());
        }
    }
}
