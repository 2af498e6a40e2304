//! The list of everything that is lost, as text; see [`RepairReport::lost_list`](super::RepairReport::lost_list).

use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use super::findings::LostRange;
use crate::error::{Error, Result};
use crate::sys::{AppendFile, Dir, write_file};

/// Its name while it is written.
const NAME: &str = "keys";

/// It is written in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// Without a directory, nothing is written down.
#[derive(Debug, Default)]
pub(super) struct LostList {
    dir: Option<Arc<dyn Dir>>,
    file: Option<Box<dyn AppendFile>>,
    text: String,
}

impl LostList {
    pub(super) fn new(dir: &Arc<dyn Dir>) -> Self {
        Self { dir: Some(Arc::clone(dir)), ..Self::default() }
    }

    pub(super) fn add_key(&mut self, keyspace: &str, key: &[u8]) -> Result<()> {
        self.add(&["key", &plain(keyspace.as_bytes()), &plain(key)])
    }

    pub(super) fn add_range(&mut self, range: &LostRange) -> Result<()> {
        let start = match &range.start {
            Bound::Included(key) => format!("[{}", plain(key)),
            Bound::Excluded(key) => format!("({}", plain(key)),
            Bound::Unbounded => String::new(),
        };
        let end = match &range.end {
            Bound::Included(key) => format!("{}]", plain(key)),
            Bound::Excluded(key) => format!("{})", plain(key)),
            Bound::Unbounded => String::new(),
        };
        self.add(&["range", &plain(range.keyspace.as_bytes()), &start, &end])
    }

    fn add(&mut self, fields: &[&str]) -> Result<()> {
        if self.dir.is_some() {
            self.text.push_str(&fields.join("\t"));
            self.text.push('\n');
            if self.text.len() >= PIECE_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let Some(dir) = self.dir.as_ref().filter(|_| !self.text.is_empty()) else { return Ok(()) };
        let path = dir.path().join(NAME);
        let file = match self.file.take() {
            Some(file) => file,
            None => dir.create(NAME).map_err(|e| Error::io("create", &path, e))?,
        };
        let file = self.file.insert(file);
        file.append(self.text.as_bytes()).map_err(|e| Error::io("write", &path, e.into()))?;
        self.text.clear();
        Ok(())
    }

    /// Completes the list.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.write()
    }

    /// Puts a durable copy of it where it stays, and returns whether there is anything in it.
    pub(super) fn copy(&self, from: &Arc<dyn Dir>, to: &Arc<dyn Dir>, name: &str) -> Result<bool> {
        if self.file.is_none() {
            return Ok(false);
        }
        let text = from.open(NAME).map_err(|e| Error::io("read", &from.path().join(NAME), e))?;
        write_file(&**to, name, [text.bytes()])?;
        Ok(true)
    }
}

/// Printable ASCII as it is, everything else as `\xHH`.
fn plain(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_line_and_no_tab() {
        assert_eq!(plain(b"a b\t\\\n\xff"), "a b\\x09\\x5c\\x0a\\xff");
    }
}
