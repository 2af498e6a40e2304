//! The names in simulated directories, and the disk that directories and files make up.

mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::chance::{Chance, Random};
use super::image::Image;
use super::names::{Change, FileId, Folder, Lasting};
use crate::sys::LockMode;
use crate::sys::ranked::apart;

/// Directories go by number as well: whoever has one open keeps it, whatever path leads to it by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FolderId(u64);

/// What can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lockable {
    File(FileId),
    Folder(FolderId),
}

/// Injected faults, by the number of the operation or write they hit.
#[derive(Default)]
struct Faults {
    errors: BTreeMap<u64, io::ErrorKind>,
    shorts: BTreeSet<u64>,
    looks: BTreeMap<u64, io::ErrorKind>,
    halt: Option<u64>,
}

enum Holders {
    Writer,
    Readers(usize),
}

pub(super) struct Disk {
    seed: u64,
    pub(super) entropy: Random,
    /// Which directory is where. Those who have removed a directory may still have it open, but nothing is left of it.
    paths: BTreeMap<PathBuf, FolderId>,
    folders: BTreeMap<FolderId, Folder>,
    next_folder: u64,
    /// Everything that has a name in some image of a directory. A handle may outlive its file's last name.
    files: BTreeMap<FileId, Image>,
    next_file: u64,
    /// The bytes that files may take together.
    pub(super) capacity: Option<u64>,
    // What follows belongs to the running process or to the test, and is not copied.
    locks: BTreeMap<Lockable, Holders>,
    /// How many handles there are on each file.
    pub(super) handles: BTreeMap<FileId, usize>,
    faults: Faults,
    /// Gets a copy of the disk before each operation.
    pub(super) watch: Option<Box<dyn FnMut(Disk) + Send>>,
    pub(super) operations: u64,
    pub(super) looks: u64,
    writes: u64,
    pub(super) bytes_written: u64,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            entropy: Random::new(seed),
            paths: BTreeMap::new(),
            folders: BTreeMap::new(),
            next_folder: 0,
            files: BTreeMap::new(),
            next_file: 0,
            capacity: None,
            locks: BTreeMap::new(),
            handles: BTreeMap::new(),
            faults: Faults::default(),
            watch: None,
            operations: 0,
            looks: 0,
            writes: 0,
            bytes_written: 0,
        }
    }

    fn copy(&self, folders: BTreeMap<FolderId, Folder>, files: BTreeMap<FileId, Image>) -> Self {
        let (entropy, paths, capacity) = (self.entropy.clone(), self.paths.clone(), self.capacity);
        let (next_folder, next_file) = (self.next_folder, self.next_file);
        Self { entropy, paths, folders, next_folder, files, next_file, capacity, ..Self::new(self.seed) }
    }

    pub(super) fn after_kill(&self) -> Self {
        self.copy(self.folders.clone(), self.files.clone())
    }

    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        let mut chance = Chance::new(Random::new(self.seed.rotate_left(32) ^ seed));
        let (mut folders, mut files) = (BTreeMap::new(), BTreeMap::new());
        for (id, folder) in self.paths.values().filter_map(|id| self.folders.get_key_value(id)) {
            let names = folder.after_power_cut(&mut chance);
            for file in names.values() {
                files.insert(*file, self.files[file].after_power_cut(&mut chance));
            }
            folders.insert(*id, Folder::durable(names));
        }
        self.copy(folders, files)
    }

    pub(super) fn fail(&mut self, after: u64, kind: io::ErrorKind) {
        self.faults.errors.insert(self.operations + after.max(1), kind);
    }

    pub(super) fn fail_look(&mut self, after: u64, kind: io::ErrorKind) {
        self.faults.looks.insert(self.looks + after.max(1), kind);
    }

    pub(super) fn halt(&mut self, after: u64) {
        let at = self.operations + after.max(1);
        self.faults.halt = Some(self.faults.halt.map_or(at, |other| other.min(at)));
    }

    pub(super) fn cut_short(&mut self, after: u64) {
        self.faults.shorts.insert(self.writes + after.max(1));
    }

    fn halted(&self) -> bool {
        self.faults.halt.is_some_and(|at| at <= self.operations)
    }

    /// Counts an operation that is about to be done, and refuses it if it is to fail.
    fn step(&mut self) -> io::Result<()> {
        if let Some(mut watch) = self.watch.take() {
            // On another disk.
            apart(|| watch(self.after_kill()));
            self.watch = Some(watch);
        }
        self.operations += 1;
        if self.halted() {
            return Err(io::Error::other("the simulated disk is halted"));
        }
        match self.faults.errors.remove(&self.operations) {
            Some(kind) => Err(io::Error::from(kind)),
            None => Ok(()),
        }
    }

    /// Counts a look that is about to be had, and refuses it if it is to fail.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.looks += 1;
        self.faults.looks.remove(&self.looks).map_or(Ok(()), |kind| Err(io::Error::from(kind)))
    }

    fn folder(&self, dir: FolderId) -> io::Result<&Folder> {
        self.folders.get(&dir).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn folder_at(&self, path: &Path) -> Option<&Folder> {
        self.folders.get(self.paths.get(path)?)
    }

    /// Where a directory is by now.
    fn path_of(&self, dir: FolderId) -> io::Result<&Path> {
        let found = self.paths.iter().find(|(_, id)| **id == dir);
        found.map(|(path, _)| &**path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Whether a directory has this name in another one.
    fn is_dir_in(&self, dir: FolderId, name: &str) -> bool {
        self.path_of(dir).is_ok_and(|path| self.paths.contains_key(&path.join(name)))
    }

    fn change(&mut self, dir: FolderId, change: Change, lasting: Lasting) {
        if let Some(folder) = self.folders.get_mut(&dir) {
            folder.change(change, lasting);
        }
    }

    /// Makes a directory and its parents, if they are not there.
    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        self.make_dir_with(path, &mut Self::step)
    }

    fn make_dir_with(&mut self, path: &Path, step: &mut dyn FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.paths.contains_key(path) {
            return Ok(());
        }
        if let Some((parent, name)) = split(path) {
            if self.folder_at(parent).is_some_and(|folder| folder.live.contains_key(name)) {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            if !parent.as_os_str().is_empty() {
                self.make_dir_with(parent, step)?;
            }
        }
        step(self)?;
        self.add_folder(path.to_owned());
        Ok(())
    }

    fn add_folder(&mut self, path: PathBuf) -> FolderId {
        let id = FolderId(self.next_folder);
        self.next_folder += 1;
        self.folders.insert(id, Folder::default());
        self.paths.insert(path, id);
        id
    }

    /// Makes a directory in another one.
    pub(super) fn create_dir(&mut self, dir: FolderId, name: &OsStr) -> io::Result<FolderId> {
        let path = self.path_of(dir)?.join(name);
        self.check_free(&path)?;
        self.step()?;
        Ok(self.add_folder(path))
    }

    /// Whether nothing has this name.
    fn check_free(&self, path: &Path) -> io::Result<()> {
        let file = split(path).and_then(|(parent, name)| self.folder_at(parent)?.live.get(name));
        if file.is_some() || self.paths.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        Ok(())
    }

    /// Removes a directory without files and directories from another one, durably at once.
    pub(super) fn remove_dir(&mut self, dir: FolderId, name: &OsStr) -> io::Result<()> {
        self.step()?;
        let path = self.path_of(dir)?.join(name);
        let id = self.find_dir(&path)?;
        let inside = |other: &PathBuf| other.parent() == Some(&path);
        if !self.folder(id)?.live.is_empty() || self.paths.keys().any(inside) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        self.paths.remove(&path);
        self.folders.remove(&id);
        self.forget_nameless_files();
        Ok(())
    }

    /// The directory at a path.
    pub(super) fn find_dir(&self, path: &Path) -> io::Result<FolderId> {
        match split(path) {
            Some((parent, name)) if self.folder_at(parent).is_some_and(|folder| folder.live.contains_key(name)) => {
                Err(io::Error::from(io::ErrorKind::NotADirectory))
            }
            _ => self.paths.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// The directory of a name in another one.
    pub(super) fn find_dir_in(&self, dir: FolderId, name: &OsStr) -> io::Result<FolderId> {
        self.find_dir(&self.path_of(dir)?.join(name))
    }

    /// Gives a directory, with all that is in it, another path, durably at once.
    pub(super) fn move_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.find_dir(from)?;
        self.check_free(to)?;
        if to.starts_with(from) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        if let Some(parent) = to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_dir_with(parent, &mut |_| Ok(()))?;
        }
        let moved = |path: &PathBuf| match path.strip_prefix(from) {
            Ok(inside) if inside.as_os_str().is_empty() => to.to_owned(),
            Ok(inside) => to.join(inside),
            Err(_) => path.clone(),
        };
        self.paths = self.paths.iter().map(|(path, id)| (moved(path), *id)).collect();
        Ok(())
    }

    /// The names of files and directories in a directory.
    pub(super) fn list(&self, dir: FolderId) -> io::Result<Vec<String>> {
        let files = self.folder(dir)?.live.keys().map(|name| (**name).to_owned());
        let own = self.path_of(dir)?;
        let dirs = self.paths.keys().filter_map(|path| split(path)).filter(|(parent, _)| *parent == own);
        Ok(files.chain(dirs.map(|(_, name)| name.to_owned())).collect())
    }

    pub(super) fn files(&self, dir: &Path) -> Vec<(String, u64)> {
        let names = self.folder_at(dir).into_iter().flat_map(|folder| &folder.live);
        names.map(|(name, file)| ((**name).to_owned(), self.files[file].length() as u64)).collect()
    }

    fn find(&self, dir: FolderId, name: &str) -> io::Result<FileId> {
        match self.folder(dir)?.live.get(name) {
            Some(file) => Ok(*file),
            None if self.is_dir_in(dir, name) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub(super) fn image(&self, dir: FolderId, name: &str) -> io::Result<&Image> {
        Ok(&self.files[&self.find(dir, name)?])
    }

    pub(super) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let (dir, name) = split(path)?;
        self.image(*self.paths.get(dir)?, name).ok().map(Image::contents)
    }

    /// Whether a name leads to this file.
    pub(super) fn leads_to(&self, dir: FolderId, name: &str, file: FileId) -> bool {
        self.find(dir, name).is_ok_and(|found| found == file)
    }

    pub(super) fn create(&mut self, dir: FolderId, name: &str) -> io::Result<FileId> {
        self.step()?;
        if !matches!(self.find(dir, name), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        self.folder(dir)?;
        Ok(self.link(dir, name, Image::default(), Lasting::AfterSync))
    }

    fn link(&mut self, dir: FolderId, name: &str, image: Image, lasting: Lasting) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(file, image);
        self.change(dir, Change::Link(name.into(), file), lasting);
        file
    }

    /// Gives a file the same name in another directory as well.
    pub(super) fn link_into(&mut self, dir: FolderId, name: &str, to: FolderId) -> io::Result<()> {
        self.step()?;
        let file = self.find(dir, name)?;
        if self.folder(to)?.live.contains_key(name) || self.is_dir_in(to, name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        self.change(to, Change::Link(name.into(), file), Lasting::AfterSync);
        Ok(())
    }

    pub(super) fn rename(&mut self, dir: FolderId, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let file = self.find(dir, from)?;
        if self.is_dir_in(dir, to) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        self.change(dir, Change::Rename { from: from.into(), to: to.into(), file }, Lasting::AfterSync);
        Ok(())
    }

    pub(super) fn remove(&mut self, dir: FolderId, name: &str) -> io::Result<()> {
        self.step()?;
        self.find(dir, name)?;
        self.change(dir, Change::Unlink(name.into()), Lasting::AfterSync);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: FolderId) -> io::Result<()> {
        self.step()?;
        self.folder(dir)?;
        if let Some(folder) = self.folders.get_mut(&dir) {
            folder.sync();
        }
        self.forget_nameless_files();
        Ok(())
    }

    fn forget_nameless_files(&mut self) {
        let named: BTreeSet<FileId> = self.folders.values().flat_map(Folder::files).collect();
        self.files.retain(|file, _| named.contains(file));
    }

    /// Puts a file in place as if it had been there for long.
    pub(super) fn plant(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (parent, name) = split(path).ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dir_with(parent, &mut |_| Ok(()))?;
        if self.paths.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let dir = self.find_dir(parent)?;
        self.link(dir, name, Image::durable(bytes), Lasting::AtOnce);
        self.forget_nameless_files();
        Ok(())
    }

    pub(super) fn uproot(&mut self, path: &Path) {
        let found = split(path).and_then(|(parent, name)| Some((*self.paths.get(parent)?, name)));
        if let Some((dir, name)) = found {
            self.change(dir, Change::Unlink(name.into()), Lasting::AtOnce);
            self.forget_nameless_files();
        }
    }

    pub(super) fn sync(&mut self, file: FileId) -> io::Result<()> {
        let result = self.step();
        // A halt is the moment of the crash; what was dirty may still have been written before it.
        let halted = self.halted();
        match (&result, self.files.get_mut(&file)) {
            (Ok(()), Some(image)) => image.sync(),
            (Err(_), Some(image)) if !halted => image.fail_sync(),
            _ => {}
        }
        result
    }

    /// The lock file, which is made if need be.
    pub(super) fn lock_file(&mut self, dir: FolderId, name: &str, create: bool) -> io::Result<Option<FileId>> {
        match self.find(dir, name) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Err(_) if !create => Ok(None),
            Err(_) => {
                self.step()?;
                self.folder(dir)?;
                Ok(Some(self.link(dir, name, Image::default(), Lasting::AtOnce)))
            }
        }
    }

    pub(super) fn acquire(&mut self, what: Lockable, mode: LockMode) -> bool {
        match (self.locks.get_mut(&what), mode) {
            (None, LockMode::Exclusive { .. }) => drop(self.locks.insert(what, Holders::Writer)),
            (None, LockMode::Shared) => drop(self.locks.insert(what, Holders::Readers(1))),
            (Some(Holders::Readers(count)), LockMode::Shared) => *count += 1,
            _ => return false,
        }
        true
    }

    pub(super) fn release(&mut self, what: Lockable) {
        match self.locks.get_mut(&what) {
            Some(Holders::Readers(count)) if *count > 1 => *count -= 1,
            _ => drop(self.locks.remove(&what)),
        }
    }
}

/// The directory and the name of a path, if it has both.
pub(super) fn split(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}
