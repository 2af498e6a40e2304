//! The names of one simulated directory, and the disk that directories and files make up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chance::{Chance, Random};
use super::image::Image;
use crate::sys::LockMode;

/// Files go by number, so that a copy of the disk is a copy of two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

type Names = BTreeMap<Arc<str>, FileId>;

#[derive(Clone)]
enum Change {
    Link(Arc<str>, FileId),
    Rename { from: Arc<str>, to: Arc<str>, file: FileId },
    Unlink(Arc<str>),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(name, file) => {
                names.insert(Arc::clone(name), *file);
            }
            Self::Rename { from, to, file } => {
                // After a power cut the file may still be under a name from before an earlier rename that was lost.
                names.retain(|name, other| name != from && other != file);
                names.insert(Arc::clone(to), *file);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

/// Whether a change of a directory waits for its sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasting {
    AfterSync,
    AtOnce,
}

#[derive(Clone, Default)]
struct Folder {
    live: Names,
    durable: Names,
    /// What leads from `durable` to `live`.
    pending: Vec<(Change, Lasting)>,
}

impl Folder {
    fn change(&mut self, change: Change, lasting: Lasting) {
        change.apply(&mut self.live);
        if lasting == Lasting::AtOnce && self.pending.is_empty() {
            change.apply(&mut self.durable);
        } else {
            self.pending.push((change, lasting));
        }
    }

    fn sync(&mut self) {
        if !self.pending.is_empty() {
            self.durable = self.live.clone();
            self.pending.clear();
        }
    }

    fn after_power_cut(&self, chance: &mut Chance) -> Names {
        let mut names = self.durable.clone();
        chance.next_subject();
        for (change, lasting) in &self.pending {
            if *lasting == Lasting::AtOnce || chance.pick(2) == 1 {
                change.apply(&mut names);
            }
        }
        names
    }

    fn files(&self) -> impl Iterator<Item = FileId> {
        let pending = self.pending.iter().filter_map(|(change, _)| match change {
            Change::Link(_, file) | Change::Rename { file, .. } => Some(*file),
            Change::Unlink(_) => None,
        });
        self.live.values().chain(self.durable.values()).copied().chain(pending)
    }
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
    folders: BTreeMap<PathBuf, Folder>,
    /// Everything that has a name in some image of a directory. A handle may outlive its file's last name.
    files: BTreeMap<FileId, Image>,
    next_file: u64,
    // What follows belongs to the running process or to the test, and is not copied.
    locks: BTreeMap<FileId, Holders>,
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
            folders: BTreeMap::new(),
            files: BTreeMap::new(),
            next_file: 0,
            locks: BTreeMap::new(),
            faults: Faults::default(),
            watch: None,
            operations: 0,
            looks: 0,
            writes: 0,
            bytes_written: 0,
        }
    }

    fn copy(&self, folders: BTreeMap<PathBuf, Folder>, files: BTreeMap<FileId, Image>) -> Self {
        let (entropy, next_file) = (self.entropy.clone(), self.next_file);
        Self { entropy, folders, files, next_file, ..Self::new(self.seed) }
    }

    pub(super) fn after_kill(&self) -> Self {
        self.copy(self.folders.clone(), self.files.clone())
    }

    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        let mut chance = Chance::new(Random::new(self.seed.rotate_left(32) ^ seed));
        let (mut folders, mut files) = (BTreeMap::new(), BTreeMap::new());
        for (path, folder) in &self.folders {
            let names = folder.after_power_cut(&mut chance);
            for file in names.values() {
                files.insert(*file, self.files[file].after_power_cut(&mut chance));
            }
            folders.insert(path.clone(), Folder { live: names.clone(), durable: names, pending: Vec::new() });
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
            watch(self.after_kill());
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

    fn folder(&self, dir: &Path) -> io::Result<&Folder> {
        self.folders.get(dir).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change(&mut self, dir: &Path, change: Change, lasting: Lasting) {
        if let Some(folder) = self.folders.get_mut(dir) {
            folder.change(change, lasting);
        }
    }

    /// Makes a directory and its parents.
    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        self.make_dir_with(path, &mut Self::step)
    }

    fn make_dir_with(&mut self, path: &Path, step: &mut dyn FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.folders.contains_key(path) {
            return Ok(());
        }
        if let Some((parent, name)) = split(path) {
            if self.folders.get(parent).is_some_and(|folder| folder.live.contains_key(name)) {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            if !parent.as_os_str().is_empty() {
                self.make_dir_with(parent, step)?;
            }
        }
        step(self)?;
        self.folders.insert(path.to_owned(), Folder::default());
        Ok(())
    }

    /// Whether nothing has this name.
    pub(super) fn check_free(&self, path: &Path) -> io::Result<()> {
        let file = split(path).and_then(|(parent, name)| self.folders.get(parent)?.live.get(name));
        if file.is_some() || self.folders.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        Ok(())
    }

    /// Removes a directory without files and directories, durably at once.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        let inside = |other: &PathBuf| other.parent() == Some(path);
        if !self.folder(path)?.live.is_empty() || self.folders.keys().any(inside) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        self.folders.remove(path);
        self.forget_nameless_files();
        Ok(())
    }

    pub(super) fn check_dir(&self, path: &Path) -> io::Result<()> {
        match split(path) {
            Some((parent, name)) if self.folders.get(parent).is_some_and(|folder| folder.live.contains_key(name)) => {
                Err(io::Error::from(io::ErrorKind::NotADirectory))
            }
            _ => self.folder(path).map(drop),
        }
    }

    /// The names of files and directories in a directory.
    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.folder(dir)?.live.keys().map(|name| (**name).to_owned());
        let dirs = self.folders.keys().filter_map(|path| split(path).filter(|(parent, _)| *parent == dir));
        Ok(files.chain(dirs.map(|(_, name)| name.to_owned())).collect())
    }

    pub(super) fn files(&self, dir: &Path) -> Vec<(String, u64)> {
        let names = self.folders.get(dir).into_iter().flat_map(|folder| &folder.live);
        names.map(|(name, file)| ((**name).to_owned(), self.files[file].length() as u64)).collect()
    }

    fn find(&self, dir: &Path, name: &str) -> io::Result<FileId> {
        match self.folder(dir)?.live.get(name) {
            Some(file) => Ok(*file),
            None if self.folders.contains_key(&dir.join(name)) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
            }
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub(super) fn image(&self, dir: &Path, name: &str) -> io::Result<&Image> {
        Ok(&self.files[&self.find(dir, name)?])
    }

    pub(super) fn create(&mut self, dir: &Path, name: &str, length: usize) -> io::Result<FileId> {
        self.step()?;
        if !matches!(self.find(dir, name), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        self.folder(dir)?;
        let mut image = Image::default();
        image.grow(length);
        Ok(self.link(dir, name, image, Lasting::AfterSync))
    }

    fn link(&mut self, dir: &Path, name: &str, image: Image, lasting: Lasting) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(file, image);
        self.change(dir, Change::Link(name.into(), file), lasting);
        file
    }

    /// Gives a file the same name in another directory as well.
    pub(super) fn link_into(&mut self, dir: &Path, name: &str, to: &Path) -> io::Result<()> {
        self.step()?;
        let file = self.find(dir, name)?;
        self.folder(to)?;
        self.check_free(&to.join(name))?;
        self.change(to, Change::Link(name.into(), file), Lasting::AfterSync);
        Ok(())
    }

    pub(super) fn rename(&mut self, dir: &Path, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let file = self.find(dir, from)?;
        if self.folders.contains_key(&dir.join(to)) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        self.change(dir, Change::Rename { from: from.into(), to: to.into(), file }, Lasting::AfterSync);
        Ok(())
    }

    pub(super) fn remove(&mut self, dir: &Path, name: &str) -> io::Result<()> {
        self.step()?;
        self.find(dir, name)?;
        self.change(dir, Change::Unlink(name.into()), Lasting::AfterSync);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.step()?;
        self.folder(dir)?;
        if let Some(folder) = self.folders.get_mut(dir) {
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
    pub(super) fn plant(&mut self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.make_dir_with(dir, &mut |_| Ok(()))?;
        if self.folders.contains_key(&dir.join(name)) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        self.link(dir, name, Image::durable(bytes), Lasting::AtOnce);
        self.forget_nameless_files();
        Ok(())
    }

    pub(super) fn uproot(&mut self, dir: &Path, name: &str) {
        self.change(dir, Change::Unlink(name.into()), Lasting::AtOnce);
        self.forget_nameless_files();
    }

    pub(super) fn append(&mut self, file: FileId, bytes: &[u8]) -> io::Result<()> {
        self.writes += 1;
        let short = self.faults.shorts.remove(&self.writes);
        self.step()?;
        let kept = if short { Random::new(self.seed ^ self.writes).below(bytes.len()) } else { bytes.len() };
        self.bytes_written += kept as u64;
        if let Some(image) = self.files.get_mut(&file) {
            image.append(&bytes[..kept]);
        }
        if short { Err(io::Error::new(io::ErrorKind::StorageFull, "a simulated short write")) } else { Ok(()) }
    }

    pub(super) fn grow(&mut self, file: FileId, length: usize) -> io::Result<()> {
        self.step()?;
        if let Some(image) = self.files.get_mut(&file) {
            image.grow(length);
        }
        Ok(())
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
    pub(super) fn lock_file(&mut self, dir: &Path, name: &str, create: bool) -> io::Result<Option<FileId>> {
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

    pub(super) fn acquire(&mut self, file: FileId, mode: LockMode) -> bool {
        match (self.locks.get_mut(&file), mode) {
            (None, LockMode::Exclusive { .. }) => drop(self.locks.insert(file, Holders::Writer)),
            (None, LockMode::Shared) => drop(self.locks.insert(file, Holders::Readers(1))),
            (Some(Holders::Readers(count)), LockMode::Shared) => *count += 1,
            _ => return false,
        }
        true
    }

    pub(super) fn release(&mut self, file: FileId) {
        match self.locks.get_mut(&file) {
            Some(Holders::Readers(count)) if *count > 1 => *count -= 1,
            _ => drop(self.locks.remove(&file)),
        }
    }
}

/// The directory and the name of a path, if it has both.
pub(super) fn split(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}
