//! The real file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, OpenFile, OpenFiles};
use super::guard::Owner;
use super::region::ArenaWriter;
use super::{Access, AppendFile, Contents, Dir, Fs, Lock, LockMode, LogFile, Mapping, RandomFile, SyncFile};
use crate::error::bug;

/// A log file starts with this much space and doubles it ahead of the writer.
const LOG_BYTES_MIN: usize = 1 << 20;

/// Log pages are made present in steps of this size.
const POPULATE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct DiskFs;

impl Fs for DiskFs {
    fn open_dir(&self, path: &Path, create: bool, access: Access) -> io::Result<Arc<dyn Dir>> {
        if create && !path.exists() {
            create_dir(path)?;
        }
        if !fs::metadata(path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Arc::new(DiskDir::new(path, access)))
    }

    fn create_dir(&self, path: &Path, access: Access) -> io::Result<Arc<dyn Dir>> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.exists() {
            create_dir(parent)?;
        }
        dir_builder().create(path)?;
        sync_dir(parent)?;
        Ok(Arc::new(DiskDir::new(path, access)))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::from)
    }
}

/// Makes the directory and every missing parent, each durable in its own parent.
fn create_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        create_dir(parent)?;
    }
    match dir_builder().create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_dir(parent)
}

fn dir_builder() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Directory entries are made durable by syncing the directory; Windows has no such call and journals them.
fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Options that open regular files only: never through a symbolic link, never waiting for a fifo's other end.
fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    options
}

#[derive(Debug)]
struct DiskDir {
    path: PathBuf,
    access: Access,
    mappings: Owner,
    open_files: OpenFiles,
}

impl DiskDir {
    fn new(path: &Path, access: Access) -> Self {
        Self { path: path.to_owned(), access, mappings: Owner::new(), open_files: files::of_process(access) }
    }

    fn open_regular(&self, name: &str, options: &OpenOptions) -> io::Result<(File, u64)> {
        let file = options.open(self.path.join(name))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((file, metadata.len()))
    }

    /// A file as the access asks for it: mapped, with nothing of it present yet, or read.
    fn load(&self, name: &str) -> io::Result<Mapping> {
        let (mut file, length) = self.open_regular(name, open_options().read(true))?;
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        match self.access {
            Access::Map => Mapping::file(&file, length, &self.mappings.file(name), self.open_files.count()),
            Access::Read => {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(length)?;
                file.read_to_end(&mut bytes)?;
                Ok(Mapping::heap(bytes))
            }
        }
    }
}

impl Dir for DiskDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn lock(&self, name: &str, mode: LockMode) -> io::Result<Lock> {
        let mut options = open_options();
        options.read(true);
        if let LockMode::Exclusive { create } = mode {
            options.write(true).create(create);
        }
        let file = match self.open_regular(name, &options) {
            Ok((file, _)) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lock::Absent),
            Err(e) => return Err(e),
        };
        let taken = match mode {
            LockMode::Exclusive { .. } => file.try_lock(),
            LockMode::Shared => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => Ok(Lock::Held(Box::new(Held { file, process: std::process::id() }))),
            Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let file = open_options().write(true).create_new(true).open(self.path.join(name))?;
        Ok(Box::new(DiskFile { file }))
    }

    fn create_log(&self, name: &str, capacity: usize) -> io::Result<Box<dyn LogFile>> {
        let file = Arc::new(open_options().read(true).write(true).create_new(true).open(self.path.join(name))?);
        let capacity = capacity.next_multiple_of(POPULATE_BYTES);
        let mapped = self.access == Access::Map && may_be_mapped(&file) && grow(&file, 0, LOG_BYTES_MIN.min(capacity))?;
        let arena = if mapped {
            Mapping::log_file(&file, capacity, &self.mappings.file(name))?
        } else {
            Mapping::anonymous(capacity)?
        };
        let allocated = if mapped { LOG_BYTES_MIN.min(capacity) } else { 0 };
        Ok(Box::new(DiskLog { file, arena, capacity, mapped, allocated, present: 0 }))
    }

    fn open(&self, name: &str) -> io::Result<Mapping> {
        let mapping = self.load(name)?;
        mapping.touch(0..mapping.bytes().len())?;
        Ok(mapping)
    }

    fn contents(&self, name: &str) -> io::Result<Contents> {
        if self.access == Access::Map {
            return self.load(name).map(Contents::Mapped);
        }
        let (file, length) = self.open_regular(name, open_options().read(true))?;
        Ok(Contents::Random(Box::new(DiskRandom { file, _counted: self.open_files.count() }), length))
    }

    fn open_files(&self) -> &OpenFiles {
        &self.open_files
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let metadata = fs::symlink_metadata(self.path.join(name))?;
        if metadata.is_file() { Ok(metadata.len()) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn link(&self, name: &str, to: &dyn Dir) -> io::Result<()> {
        fs::hard_link(self.path.join(name), to.path().join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_dir(&self.path)
    }

    fn lost(&self) -> Option<String> {
        self.mappings.lost()
    }
}

/// A lock that is held.
#[derive(Debug)]
struct Held {
    file: File,
    process: u32,
}

impl Drop for Held {
    /// Forked children share the lock. It is given up here and not with the last of them, and not by a child that closes its
    /// copy.
    fn drop(&mut self) {
        if std::process::id() == self.process {
            let _ = self.file.unlock();
        }
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
}

impl AppendFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether stores through a mapping of this file are sound: a preallocated block cannot be refused at writeback. Known for
/// ext4, XFS and tmpfs.
#[cfg(target_os = "linux")]
fn may_be_mapped(file: &File) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    let Ok(found) = rustix::fs::fstatfs(file) else { return false };
    u64::try_from(found.f_type).is_ok_and(|kind| [EXT4, XFS, TMPFS].contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn may_be_mapped(_: &File) -> bool {
    false
}

/// Allocates the bytes from `from` to `to`; answers whether the file system can do that.
#[cfg(target_os = "linux")]
fn grow(file: &File, from: usize, to: usize) -> io::Result<bool> {
    let (offset, length) = (from as u64, (to - from) as u64);
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), offset, length) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn grow(_: &File, _: usize, _: usize) -> io::Result<bool> {
    Ok(false)
}

/// A log file. Mapped, its arena is the file; otherwise the arena is anonymous memory and each commit writes it to the file.
#[derive(Debug)]
struct DiskLog {
    file: Arc<File>,
    arena: ArenaWriter,
    capacity: usize,
    mapped: bool,
    /// Bytes of the file that exist, if it is mapped.
    allocated: usize,
    /// Bytes from the start that have been made present.
    present: usize,
}

impl LogFile for DiskLog {
    fn mapping(&self) -> &Mapping {
        self.arena.mapping()
    }

    fn reserve(&mut self, length: usize) -> io::Result<&mut [u8]> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the log segment is full");
        let end = self.arena.end().checked_add(length).filter(|end| *end <= self.capacity).ok_or_else(full)?;
        if self.mapped && end > self.allocated {
            let target = end.next_power_of_two().min(self.capacity).max(end);
            grow(&self.file, self.allocated, target)?;
            self.allocated = target;
        }
        if self.mapped && end > self.present {
            let target = (end + POPULATE_BYTES).next_multiple_of(POPULATE_BYTES).min(self.allocated);
            self.arena.populate(self.present, target - self.present);
            self.present = target;
        }
        self.arena.reserve(length).ok_or_else(full)
    }

    fn commit(&mut self, length: usize) -> io::Result<()> {
        if !self.mapped {
            let offset = self.arena.end() as u64;
            let bytes = self.arena.reserve(length).ok_or_else(|| bug("what is to be published is not in the log"))?;
            write_all_at(&self.file, bytes, offset)?;
        }
        Ok(self.arena.publish(length)?)
    }

    fn syncer(&self) -> Arc<dyn SyncFile> {
        Arc::new(DiskSync { file: Arc::clone(&self.file) })
    }
}

#[derive(Debug)]
struct DiskRandom {
    file: File,
    _counted: OpenFile,
}

impl RandomFile for DiskRandom {
    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    out = &mut out[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct DiskSync {
    file: Arc<File>,
}

impl SyncFile for DiskSync {
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(access: Access) -> (tempfile::TempDir, Arc<dyn Dir>) {
        let temp = tempfile::tempdir().unwrap();
        let dir = DiskFs.open_dir(&temp.path().join("a/b"), true, access).unwrap();
        (temp, dir)
    }

    #[test]
    fn log_contents_are_in_the_file_after_each_commit() {
        for access in [Access::Map, Access::Read] {
            let (_temp, dir) = dir(access);
            let mut log = dir.create_log("000001.wal", 3 << 20).unwrap();
            let mut expected = Vec::new();
            for i in 0..200u8 {
                let length = 20_000 + usize::from(i);
                if expected.len() + length > 3 << 20 {
                    assert!(log.reserve(1 << 20).is_err(), "a full segment is an error");
                    break;
                }
                log.reserve(length).unwrap().fill(i);
                log.commit(length).unwrap();
                expected.extend(std::iter::repeat_n(i, length));
                assert_eq!(log.mapping().bytes().len(), expected.len());
            }
            log.syncer().sync().unwrap();
            assert!(log.mapping().bytes() == expected);
            assert!(dir.open("000001.wal").unwrap().bytes().starts_with(&expected));
            assert!(dir.create_log("000001.wal", 1 << 20).is_err(), "files are never created twice");
        }
    }

    #[test]
    fn locks_exclude_each_other() {
        let (_temp, dir) = dir(Access::Map);
        assert!(matches!(dir.lock("LOCK", LockMode::Shared), Ok(Lock::Absent)));
        let exclusive = dir.lock("LOCK", LockMode::Exclusive { create: true }).unwrap();
        assert!(matches!(exclusive, Lock::Held(_)));
        assert!(matches!(dir.lock("LOCK", LockMode::Shared), Ok(Lock::Busy)));
        assert!(matches!(dir.lock("LOCK", LockMode::Exclusive { create: false }), Ok(Lock::Busy)));
        drop(exclusive);
        let shared = dir.lock("LOCK", LockMode::Shared).unwrap();
        assert!(matches!(dir.lock("LOCK", LockMode::Shared), Ok(Lock::Held(_))));
        assert!(matches!(dir.lock("LOCK", LockMode::Exclusive { create: false }), Ok(Lock::Busy)));
        drop(shared);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_directories_are_not_opened_and_modes_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_temp, dir) = dir(Access::Map);
        dir.create("000001.sst").unwrap().append(b"x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("000001.sst"), dir.path().join("000002.sst")).unwrap();
        fs::create_dir(dir.path().join("000003.sst")).unwrap();
        assert!(dir.open("000002.sst").is_err() && dir.open("000003.sst").is_err());
        assert!(dir.length("000002.sst").is_err() && dir.length("000003.sst").is_err());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&dir.path().join("000001.sst"))), (0o700, 0o600));
    }
}
