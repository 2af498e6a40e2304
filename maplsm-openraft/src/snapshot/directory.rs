//! The directory of a group's snapshots: one that is current, and those that are being written.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use maplsm::{Durability, WriteBatch};
use openraft::{RaftTypeConfig, SnapshotMeta};
use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{SnapshotFile, Unfinished};
use crate::error::{Error, Result};
use crate::group::Shared;
use crate::record::Record;

const COMPLETE: &str = "snapshot";
const UNFINISHED: &str = "incoming";

/// The current snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "M: Serialize + DeserializeOwned")]
pub(crate) struct SnapshotRecord<M> {
    pub(crate) number: u64,
    pub(crate) meta: M,
}

pub(crate) type RecordOf<C> = SnapshotRecord<SnapshotMeta<<C as RaftTypeConfig>::NodeId, <C as RaftTypeConfig>::Node>>;

/// Numbers of files are given once in a run, so no two writers have the same.
pub(crate) struct Directory {
    shared: Arc<Shared>,
    path: PathBuf,
    next: AtomicU64,
    /// Held by who changes the record of the current snapshot, or opens the file that it names.
    current: Mutex<()>,
}

/// The right to change which snapshot is the current one.
pub(crate) struct Current<'d> {
    directory: &'d Directory,
    _guard: MutexGuard<'d, ()>,
}

impl Directory {
    /// Makes the directory if need be, and removes what is there of other snapshots than the current one.
    pub(crate) fn open<C: RaftTypeConfig>(shared: Arc<Shared>, path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let current = shared.read::<RecordOf<C>>(Record::Snapshot)?.map(|record| record.number);
        let mut last = current.unwrap_or(0);
        for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
            let found = entry.map_err(Error::io("list", path))?.path();
            let Some((number, complete)) = parse(&found) else { continue };
            last = last.max(number);
            if !(complete && Some(number) == current) {
                fs::remove_file(&found).map_err(Error::io("remove", &found))?;
            }
        }
        let next = AtomicU64::new(last.saturating_add(1));
        Ok(Self { shared, path: path.to_owned(), next, current: Mutex::new(()) })
    }

    fn name(&self, number: u64, extension: &str) -> PathBuf {
        self.path.join(format!("{number:020}.{extension}"))
    }

    /// A new, empty file, and its number.
    pub(crate) fn create(&self) -> Result<(File, Unfinished, u64)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.name(number, UNFINISHED);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        Ok((file, Unfinished::new(path), number))
    }

    /// Makes what was received a file of this directory under its final name, durably: by renaming where it is one, and else
    /// by copying.
    pub(crate) fn adopt(&self, mut file: File, unfinished: Option<Unfinished>) -> Result<u64> {
        let ours = unfinished.filter(|unfinished| unfinished.path().parent() == Some(&self.path));
        let number = ours.as_ref().and_then(|unfinished| parse(unfinished.path())).map(|(number, _)| number);
        if let Some((ours, number)) = ours.zip(number) {
            self.complete(&file, ours, number)?;
            return Ok(number);
        }
        let (mut copy, unfinished, number) = self.create()?;
        let copied = file.rewind().and_then(|()| io::copy(&mut file, &mut copy));
        copied.map_err(Error::io("copy a snapshot to", unfinished.path()))?;
        self.complete(&copy, unfinished, number)?;
        Ok(number)
    }

    /// Gives a file that has been written its final name, durably.
    pub(crate) fn complete(&self, file: &File, unfinished: Unfinished, number: u64) -> Result<()> {
        file.sync_all().map_err(Error::io("sync", unfinished.path()))?;
        unfinished.keep_as(&self.name(number, COMPLETE))?;
        // Elsewhere, directories cannot be opened.
        if cfg!(unix) {
            File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", &self.path))?;
        }
        Ok(())
    }

    pub(crate) fn lock(&self) -> Current<'_> {
        Current { directory: self, _guard: self.current.lock() }
    }
}

impl Current<'_> {
    pub(crate) fn record<C: RaftTypeConfig>(&self) -> Result<Option<RecordOf<C>>> {
        self.directory.shared.read(Record::Snapshot)
    }

    /// The current snapshot, unless there is none or somebody has removed its file.
    pub(crate) fn get<C: RaftTypeConfig>(&self) -> Result<Option<(RecordOf<C>, SnapshotFile)>> {
        let Some(record) = self.record::<C>()? else { return Ok(None) };
        let path = self.directory.name(record.number, COMPLETE);
        match File::open(&path) {
            Ok(file) => Ok(Some((record, SnapshotFile::new(file, None)))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }

    /// Makes a complete file the current snapshot, by a batch that may change more, and removes the one before it.
    pub(crate) fn replace<C: RaftTypeConfig>(&self, record: &RecordOf<C>, mut batch: WriteBatch) -> Result<()> {
        let shared = &self.directory.shared;
        let before = self.record::<C>()?;
        shared.put(&mut batch, Record::Snapshot, record)?;
        shared.db.write_with(&batch, Durability::Sync)?;
        if let Some(before) = before.filter(|before| before.number != record.number) {
            // One that cannot be removed now, as it is being read where that matters, goes with the next open.
            let _ = fs::remove_file(self.directory.name(before.number, COMPLETE));
        }
        Ok(())
    }
}

/// The number in the name of a file, and whether it is complete; nothing for files of others.
fn parse(path: &Path) -> Option<(u64, bool)> {
    let (digits, extension) = path.file_name()?.to_str()?.split_once('.')?;
    let complete = match extension {
        COMPLETE => true,
        UNFINISHED => false,
        _ => return None,
    };
    let number = digits.parse().ok()?;
    (format!("{number:020}") == digits).then_some((number, complete))
}
