//! What one file of the format holds, without opening a database.
//!
//! Items come in the order in which a reader needs them. A log segment or manifest is shown from front to back: its header,
//! each group with the runs and entries, or the records, in it, and an `end`. A table, index or value file shows header,
//! footer and directory before what they describe. Every checksum is verified before the bytes under it are shown, so
//! whatever reaches the sink is as it was written; the first damage ends the inspection.
//!
//! ```
//! # fn main() -> maplsm::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("db");
//! let db = maplsm::Db::open(&path)?;
//! db.insert("fjord", "a long, narrow sea inlet")?;
//! db.close()?;
//! let mut kinds = Vec::new();
//! maplsm::inspect::file(&path.join("CURRENT"), &mut |item| {
//!     kinds.push(item.kind);
//!     Ok(())
//! })?;
//! assert_eq!(kinds, ["current"]);
//! # Ok(())
//! # }
//! ```

mod frame;
mod index;
mod item;
mod log;
mod table;
mod values;

use std::io;
use std::path::Path;

pub use item::{Item, Value};
use item::{Sink, version};

use crate::error::{Damage, Error, Result};
use crate::format::bytes::all_zero;
use crate::format::current::Current;
use crate::format::names::{self, FileKind};
use crate::format::prefix::Magic;
use crate::sys::{Access, Fs as _, disk::DiskFs};

/// Shows the file at `path`, which may belong to an open database. It is read into memory as a whole.
///
/// An error of `sink` ends the inspection and comes back as [`Error::Io`].
pub fn file(path: &Path, sink: &mut dyn FnMut(Item<'_>) -> io::Result<()>) -> Result<()> {
    let contents = read(path).map_err(|e| Error::io("read", path, e))?;
    bytes(path, contents.bytes(), sink)
}

fn read(path: &Path) -> io::Result<crate::sys::Mapping> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "this names no file of the format"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DiskFs.open_dir(parent, false, Access::Read)?.open(name)
}

/// Shows a file whose contents are `bytes`; `path` names it in errors. See [`file()`].
///
/// The magic number says what kind of file it is. If there are only zeros, as in a log segment that a crash has left without a
/// header, the name does.
pub fn bytes(path: &Path, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>) -> io::Result<()>) -> Result<()> {
    let mut sink = Sink { path, show: sink };
    match bytes.first_chunk().map(|magic| Magic(*magic)) {
        Some(Magic::CURRENT) => current(&mut sink, bytes),
        Some(magic @ (Magic::SEGMENT | Magic::MANIFEST)) => log::show(&mut sink, bytes, magic),
        Some(Magic::TABLE) => table::show(&mut sink, bytes),
        Some(Magic::INDEX) => index::show(&mut sink, bytes),
        Some(Magic::VALUES) => values::show(&mut sink, bytes),
        _ if is_log(path) && all_zero(bytes) => log::show_unwritten(&mut sink),
        _ => Err(sink.damaged(0, Damage::BadMagic)),
    }
}

/// Whether this is the name of a file of the format: `CURRENT`, or a number and one of five endings. `LOCK` has no format.
///
/// ```
/// assert!(maplsm::inspect::is_name("000007.sst"));
/// assert!(!maplsm::inspect::is_name("7.sst") && !maplsm::inspect::is_name("notes.txt"));
/// ```
pub fn is_name(name: &str) -> bool {
    name == names::CURRENT || FileKind::parse(name).is_some()
}

fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name.and_then(FileKind::parse), Some((FileKind::Segment | FileKind::Manifest, _)))
}

fn current(sink: &mut Sink<'_>, bytes: &[u8]) -> Result<()> {
    let current = Current::parse(bytes).map_err(|fault| sink.damaged(0, fault))?;
    let fields = vec![
        ("version", version()),
        ("database", Value::Id(current.database())),
        ("manifest", Value::Number(current.manifest().0)),
    ];
    sink.item(0, "current", fields)
}
