//! The manifest: edits made durable, and the swap of `CURRENT`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::builder::VersionBuilder;
use super::{Handles, Version};
use crate::error::{Bug, Damage, Error, Result, bug, is_full, must};
use crate::format::checksum::Id;
use crate::format::current::Current;
use crate::format::edit::Edit;
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, GroupKind};
use crate::format::names::{self, FileKind};
use crate::format::prefix::Magic;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FileNumber, NUMBER_MAX, Position, Sequence};
use crate::log;
use crate::sys::{AppendError, AppendFile, Dir};

/// A manifest longer than this, and than four times its first edit, is replaced by a fresh one.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What the manifest knows besides tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) next_number: FileNumber,
    pub(crate) last_sequence: Sequence,
    pub(crate) first_segment: FileNumber,
    pub(crate) segment_ends: BTreeMap<FileNumber, u64>,
    /// The log is known to be whole up to this place, if it is in a segment that is needed.
    pub(crate) log_durable: Option<Position>,
}

impl State {
    fn apply(&mut self, edit: &Edit) {
        self.next_number = edit.next_number.unwrap_or(self.next_number).max(self.next_number);
        self.last_sequence = edit.last_sequence.unwrap_or(self.last_sequence).max(self.last_sequence);
        self.first_segment = edit.first_segment.unwrap_or(self.first_segment).max(self.first_segment);
        self.segment_ends.extend(edit.segment_ends.iter().copied());
        // From the front, so that an edit costs what it takes away and not what is there.
        while let Some(first) = self.segment_ends.first_entry().filter(|first| *first.key() < self.first_segment) {
            first.remove();
        }
        self.log_durable = self.log_durable.max(edit.log_durable).filter(|log| log.segment >= self.first_segment);
    }
}

/// The space that a manifest keeps behind its end for edits that make space on a full disk. They take some 300 bytes for each
/// table that they add or remove.
const ROOM_BYTES: u64 = 64 << 10;

/// Why an edit was not made durable.
#[derive(Debug)]
pub(crate) enum Unrecorded {
    /// Nothing that counts was written: the state is as it was, on disk as well, and other edits may follow.
    Refused(Error),
    /// The edit may be durable or not.
    Unknown(Error),
}

impl Unrecorded {
    /// For what goes wrong before anything counts. A bug ends the writing even so.
    fn refused(error: Error) -> Self {
        if let Error::Bug(bug) = error { bug.into() } else { Self::Refused(error) }
    }
}

impl From<Bug> for Unrecorded {
    fn from(bug: Bug) -> Self {
        Self::Unknown(bug.into())
    }
}

impl From<Unrecorded> for Error {
    fn from(unrecorded: Unrecorded) -> Self {
        match unrecorded {
            Unrecorded::Refused(e) | Unrecorded::Unknown(e) => e,
        }
    }
}

/// What was read from a manifest.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) number: FileNumber,
    pub(crate) state: State,
    pub(crate) version: Version,
    /// Whether the manifest ends with a close mark. If not, its last edits may be in the page cache only.
    pub(crate) clean: bool,
}

/// Reads `CURRENT`: the database id and the number of the manifest. `None` if there is no such file.
pub(crate) fn read_current(dir: &dyn Dir) -> Result<Option<(Id, FileNumber)>> {
    let path = dir.path().join(names::CURRENT);
    let file = match dir.open(names::CURRENT) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    let current = Current::parse(file.bytes()).map_err(|fault| fault.at(&path, 0))?;
    Ok(Some((current.database(), current.manifest())))
}

/// Replays a manifest.
pub(crate) fn read_manifest(
    dir: &dyn Dir,
    database: &Id,
    number: FileNumber,
    handles: &Handles<'_>,
) -> Result<Recovered> {
    let name = FileKind::Manifest.name(number);
    let path = dir.path().join(&name);
    let file = dir.open(&name).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::corrupt(&path, 0, Damage::Missing),
        _ => Error::io("read", &path, e),
    })?;
    let bytes = file.bytes();
    let input = log::Input { number, bytes, end: None };
    let scan = log::scan(Magic::MANIFEST, database, log::Known::nothing(number), &[input])
        .map_err(|error| error.fault.at(&path, error.offset))?;
    // `CURRENT` names a manifest only once its header and first edit are durable, so their damage is never a torn tail.
    let torn_at = scan.ends.first().map_or(0, |(_, end)| *end);
    if scan.groups == 0 {
        return Err(Error::corrupt(&path, torn_at, Damage::BadChecksum));
    }
    let seed = crate::format::checksum::Seed::of_file(database, number);
    let mut state = State::default();
    let mut builder = VersionBuilder::of(&Version::default());
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < torn_at {
        let at = |fault: crate::error::Fault| fault.at(&path, offset);
        let (group, body) = GroupHeader::parse(bytes, seed, number, offset).map_err(at)?;
        if matches!(group.kind, GroupKind::Plain | GroupKind::Skip) {
            return Err(at(Damage::BadField.into()));
        }
        if group.kind == GroupKind::Data {
            let edit = Edit::decode(body, group.count).map_err(at)?;
            state.apply(&edit);
            builder.apply(&edit, handles).map_err(|damage| at(damage.into()))?;
        }
        offset = offset.saturating_add(group.span());
    }
    let at_end = |damage| Error::corrupt(&path, torn_at, damage);
    let (version, _) = builder.finish().map_err(at_end)?;
    version.named().check_names().and_then(|()| version.check_ages()).map_err(at_end)?;
    Ok(Recovered { number, state, version, clean: scan.clean })
}

/// The writing end. Nothing is ever appended to a manifest of an earlier run: the first edit after an open goes into a fresh
/// one, for which everything may be [prepared](Self::prepare) before.
#[derive(Debug)]
pub(crate) struct Manifest {
    dir: Arc<dyn Dir>,
    database: Id,
    state: State,
    writer: Option<Writer>,
    /// The manifest that `CURRENT` names, if there is one.
    current: Option<FileNumber>,
}

#[derive(Debug)]
struct Writer {
    file: Box<dyn AppendFile>,
    number: FileNumber,
    end: u64,
    first_edit_bytes: u64,
    edits: u64,
    /// What is going to name it.
    unnamed: Option<NewCurrent>,
}

/// Whether an append changed `CURRENT`, after which files of earlier runs that it does not need may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    ToThisOne,
    Fresh { replaced: Option<FileNumber> },
}

impl Manifest {
    pub(crate) fn new(dir: Arc<dyn Dir>, database: Id, state: State, current: Option<FileNumber>) -> Self {
        Self { dir, database, state, writer: None, current }
    }

    /// The number of the manifest that `CURRENT` names, if there is one.
    pub(crate) fn current(&self) -> Option<FileNumber> {
        self.current
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether `CURRENT` names a manifest that was made since the open.
    pub(crate) fn is_fresh(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.unnamed.is_none())
    }

    /// Whether the next edit goes into another manifest, with everything else.
    pub(crate) fn is_full(&self) -> bool {
        self.writer.as_ref().is_none_or(Writer::is_full)
    }

    /// Makes an edit durable; `version` is the one that it leads to. `number` gives the number of a new file.
    pub(crate) fn append(
        &mut self,
        edit: &Edit,
        version: &Version,
        number: impl FnOnce() -> Result<FileNumber>,
    ) -> Result<Appended, Unrecorded> {
        let mut state = self.state.clone();
        state.apply(edit);
        if state.last_sequence.0 >= NUMBER_MAX || state.next_number.0 >= NUMBER_MAX {
            return Err(Unrecorded::Unknown(Error::NumbersExhausted));
        }
        let appended = if self.is_full() {
            let started = number().map_err(Unrecorded::Unknown).and_then(|number| {
                let writer = self.begin(&mut state, version, number)?;
                self.name(writer)
            });
            match (started, &mut self.writer) {
                // Where there is no space for another manifest, the old one serves on.
                (Err(Unrecorded::Refused(_)), Some(_)) => self.append_to_this_one(edit)?,
                (started, _) => started?,
            }
        } else {
            self.append_to_this_one(edit)?
        };
        self.state = state;
        Ok(appended)
    }

    fn append_to_this_one(&mut self, edit: &Edit) -> Result<Appended, Unrecorded> {
        let writer = self.writer.as_mut().ok_or_else(|| bug("an edit is written without a manifest"))?;
        let written = writer.write(&*self.dir, &self.database, GroupKind::Data, edit);
        let Some(unnamed) = self.writer.take_if(|writer| writer.unnamed.is_some()) else {
            written?;
            self.sync()?;
            return Ok(Appended::ToThisOne);
        };
        match written {
            Ok(()) => self.name(unnamed),
            Err(Unrecorded::Refused(e)) => {
                self.writer = Some(unnamed);
                Err(Unrecorded::Refused(e))
            }
            // Nobody knows what is in it, nor has to.
            Err(Unrecorded::Unknown(e)) => {
                self.remove(unnamed.number);
                Err(Unrecorded::refused(e))
            }
        }
    }

    /// Takes the space for an edit that must not be refused once something else has been written, so that it is refused now.
    pub(crate) fn make_room(&mut self, edit: &Edit) -> Result<()> {
        let writer = self.writer.as_mut().ok_or_else(|| bug("there is no manifest to make room in"))?;
        let (body, _) = edit.encode()?;
        let path = || self.dir.path().join(FileKind::Manifest.name(writer.number));
        let room = writer.file.make_room(body.len() as u64 + 2 * ROOM_BYTES);
        room.map_err(|e| Error::io("extend", &path(), e))
    }

    /// Makes the files for the first edit after an open, with the state that it finds, unless that has been done. Nothing of
    /// them counts before that edit, and for that they need no more space. `version` is the one that there is.
    pub(crate) fn prepare(
        &mut self,
        version: &Version,
        number: impl FnOnce() -> Result<FileNumber>,
    ) -> Result<(), Unrecorded> {
        if self.writer.is_none() {
            let number = number().map_err(Unrecorded::Unknown)?;
            self.writer = Some(self.begin(&mut self.state.clone(), version, number)?);
        }
        Ok(())
    }

    /// Writes a manifest with the whole state, and what is going to name it. Nothing that goes wrong with these files matters
    /// to the database.
    fn begin(&self, state: &mut State, version: &Version, number: FileNumber) -> Result<Writer, Unrecorded> {
        if number.0 + 1 >= NUMBER_MAX {
            // The manifest would name a number that no reader accepts.
            return Err(Unrecorded::Unknown(Error::NumbersExhausted));
        }
        state.next_number = state.next_number.max(FileNumber(number.0 + 1));
        let mut edit = version.to_edit();
        edit.next_number = Some(state.next_number);
        edit.last_sequence = Some(state.last_sequence);
        edit.first_segment = Some(state.first_segment);
        edit.log_durable = state.log_durable;
        edit.segment_ends = state.segment_ends.iter().map(|(number, end)| (*number, *end)).collect();
        let begun = self.write_first(number, &edit);
        begun.map_err(Unrecorded::refused).inspect_err(|_| self.remove(number))
    }

    /// Makes a manifest with one edit. Nothing is durable yet.
    fn write_first(&self, number: FileNumber, edit: &Edit) -> Result<Writer> {
        let name = FileKind::Manifest.name(number);
        let path = self.dir.path().join(&name);
        let mut file = self.dir.create(&name).map_err(|e| Error::io("create", &path, e))?;
        let predecessor = Position { segment: self.current.unwrap_or_default(), offset: 0 };
        let header = SegmentHeader::new(Magic::MANIFEST, self.database, number, predecessor, Sequence(0));
        file.append(header.as_bytes()).map_err(|e| Error::io("write", &path, e.into()))?;
        let end = SEGMENT_HEADER_BYTES;
        let mut writer = Writer { file, number, end, first_edit_bytes: 0, edits: 0, unnamed: None };
        writer.write(&*self.dir, &self.database, GroupKind::Data, edit)?;
        writer.first_edit_bytes = writer.end;
        writer.unnamed = Some(NewCurrent::write(&*self.dir, Current::new(self.database, number))?);
        Ok(writer)
    }

    /// Makes a manifest durable, and then the one of the database.
    fn name(&mut self, mut writer: Writer) -> Result<Appended, Unrecorded> {
        let number = writer.number;
        let path = || self.dir.path().join(FileKind::Manifest.name(number));
        // A file whose sync has failed is no part of the database: the next attempt makes another one.
        let synced = writer.file.sync().map_err(|e| Unrecorded::refused(Error::io("sync", &path(), e)));
        let named = synced.and_then(|()| {
            let current =
                writer.unnamed.take().ok_or_else(|| bug("a manifest has nothing that is going to name it"))?;
            current.take_its_place(&*self.dir)
        });
        if let Err(Unrecorded::Refused(_)) = named {
            self.remove(number);
        }
        named?;
        self.writer = Some(writer);
        Ok(Appended::Fresh { replaced: self.current.replace(number) })
    }

    /// Removes a manifest that has never been named, and what was going to name it. What cannot be removed, the next run
    /// removes.
    fn remove(&self, number: FileNumber) {
        let _ = self.dir.remove(&FileKind::Manifest.name(number));
        let _ = self.dir.remove(names::CURRENT_NEW);
    }

    fn sync(&mut self) -> Result<(), Unrecorded> {
        let writer = self.writer.as_mut().ok_or_else(|| bug("an edit is written without a manifest"))?;
        let path = || self.dir.path().join(FileKind::Manifest.name(writer.number));
        writer.file.sync().map_err(|e| Unrecorded::Unknown(Error::io("sync", &path(), e)))
    }

    /// Marks the end of a clean run, after a last edit, so that every damaged bit of the manifest is noticed later. Without
    /// an edit since the open, there is nothing to add.
    pub(crate) fn close(&mut self, last: &Edit) -> Result<()> {
        if let Some(unnamed) = self.writer.take_if(|writer| writer.unnamed.is_some()) {
            self.remove(unnamed.number);
        }
        if self.writer.is_none() {
            return Ok(());
        }
        if *last != Edit::default() {
            self.append_to_this_one(last)?;
        }
        if let Some(writer) = &mut self.writer {
            writer.write(&*self.dir, &self.database, GroupKind::Close, &Edit::default())?;
        }
        self.sync()?;
        self.writer = None;
        Ok(())
    }
}

impl Writer {
    fn is_full(&self) -> bool {
        self.end > MANIFEST_BYTES_MAX.max(4 * self.first_edit_bytes)
    }

    /// Appends a group. Space is taken ahead, and [`ROOM_BYTES`] more, so that the edits of a full disk, which take from those,
    /// have some left; the space itself comes back when there is some again.
    fn write(&mut self, dir: &dyn Dir, database: &Id, kind: GroupKind, edit: &Edit) -> Result<(), Unrecorded> {
        let path = || dir.path().join(FileKind::Manifest.name(self.number));
        let (body, count) = edit.encode()?;
        // Each edit is durable before the next one is written, or before the manifest is named. So of one that counts,
        // everything in front of this group is.
        let durable = (self.edits > 0).then_some(Position { segment: self.number, offset: self.end });
        let count = if kind == GroupKind::Data { count } else { 0 };
        must(Edit::decode(&body, count).as_ref() == Ok(edit), "an edit of the manifest reads as another one")?;
        let group = log::encode_group(database, self.number, self.end, kind, count, durable, &body)?;
        debug_assert!(group.len() as u64 >= GROUP_HEADER_BYTES);
        let refused = |e| Unrecorded::refused(Error::io("extend", &path(), e));
        let bytes = group.len() as u64;
        match self.file.make_room(bytes + ROOM_BYTES) {
            Err(e) if is_full(&e) && !edit.only_adds() => self.file.make_room(bytes).map_err(refused)?,
            other => other.map_err(refused)?,
        }
        self.file.append(&group).map_err(|e| match e {
            AppendError::Refused(e) => refused(e),
            AppendError::Failed(e) => Unrecorded::Unknown(Error::io("write", &path(), e)),
            AppendError::Bug(bug) => bug.into(),
        })?;
        self.end += group.len() as u64;
        self.edits += u64::from(count);
        Ok(())
    }
}

/// A new `CURRENT`, on its way.
#[derive(Debug)]
struct NewCurrent {
    file: Box<dyn AppendFile>,
    current: Current,
}

impl NewCurrent {
    fn write(dir: &dyn Dir, current: Current) -> Result<Self> {
        let path = dir.path().join(names::CURRENT_NEW);
        match dir.remove(names::CURRENT_NEW) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
            _ => {}
        }
        let mut file = dir.create(names::CURRENT_NEW).map_err(|e| Error::io("create", &path, e))?;
        file.append(current.as_bytes()).map_err(|e| Error::io("write", &path, e.into()))?;
        Ok(Self { file, current })
    }

    /// Replaces `CURRENT`: the new file is synced and renamed over the old one, and the directory synced.
    fn take_its_place(mut self, dir: &dyn Dir) -> Result<(), Unrecorded> {
        let path = dir.path().join(names::CURRENT_NEW);
        let mut sync = || -> Result<()> {
            self.file.sync().map_err(|e| Error::io("sync", &path, e))?;
            // There is no second copy of what it says.
            let written = dir.open(names::CURRENT_NEW).map_err(|e| Error::io("read", &path, e))?;
            if written.bytes() != self.current.as_bytes() {
                let other = io::Error::new(io::ErrorKind::InvalidData, "it does not hold what was written to it");
                return Err(Error::io("write", &path, other));
            }
            Ok(())
        };
        // A file whose sync has failed is no part of the database: the next attempt makes another one.
        sync().map_err(Unrecorded::refused)?;
        let swap = || -> io::Result<()> {
            // The manifest's own name must be durable before `CURRENT` names it.
            dir.sync()?;
            dir.rename(names::CURRENT_NEW, names::CURRENT)?;
            dir.sync()
        };
        swap().map_err(|e| Unrecorded::Unknown(Error::io("replace", &path, e)))
    }
}

/// Makes `CURRENT` name another manifest, which is durable but for its name.
pub(crate) fn swap_current(dir: &dyn Dir, current: Current) -> Result<(), Unrecorded> {
    NewCurrent::write(dir, current).map_err(Unrecorded::refused)?.take_its_place(dir)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apply, meta, named};
    use super::*;
    use crate::format::KeyspaceId;
    use crate::format::edit::TableMeta;
    use crate::options::TableOptions;
    use crate::sys::{Access, FileSystem, sim::SimFs};
    use crate::table::TableCache;

    const DATABASE: Id = [5; 16];

    fn dir(fs: &SimFs) -> Arc<dyn Dir> {
        FileSystem::from(fs.clone()).0.open_dir(std::path::Path::new("/db"), true, Access::Map).unwrap()
    }

    fn read(fs: &SimFs) -> Result<Recovered> {
        let dir = dir(fs);
        let (database, number) = read_current(&*dir)?.expect("CURRENT");
        read_manifest(
            &*dir,
            &database,
            number,
            &Handles::new(&TableCache::new(Arc::clone(&dir), TableOptions::default(), 0, None)),
        )
    }

    /// Three edits, each adding a table; returns the versions on the way.
    fn write(fs: &SimFs, close: bool) -> Vec<usize> {
        let dir = dir(fs);
        let mut manifest = Manifest::new(dir, DATABASE, State::default(), None);
        let mut version = Version::default();
        for i in 1..=3u64 {
            let edit = Edit {
                next_number: Some(FileNumber(10 + i)),
                last_sequence: Some(Sequence(i * 100)),
                add: vec![(0, TableMeta { file_bytes: 8192, ..meta(i, &[(0, "a", "b")], 4096) })],
                ..Edit::default()
            };
            version = apply(&version, &edit).unwrap();
            manifest.append(&edit, &version, || Ok(FileNumber(9))).unwrap();
        }
        if close {
            manifest.close(&Edit::default()).unwrap();
        }
        (1..=3).collect()
    }

    #[test]
    fn edits_are_replayed_and_torn_ones_dropped() {
        let fs = SimFs::new();
        write(&fs, false);
        let recovered = read(&fs).unwrap();
        assert_eq!(recovered.version.tables().count(), 3);
        assert_eq!((recovered.state.next_number, recovered.state.last_sequence), (FileNumber(13), Sequence(300)));

        let path = std::path::Path::new("/db/000009.manifest");
        let whole = fs.read(path).unwrap();
        let mut counts = Vec::new();
        for cut in 0..whole.len() {
            fs.write(path, &whole[..cut]);
            counts.push(read(&fs).map_or(0, |r| r.version.tables().count()));
        }
        assert!(counts.is_sorted() && counts.contains(&1) && counts.contains(&2) && !counts.contains(&3));
    }

    /// Manifests that take the longest, each step of which goes by the whole state if it is done without care, with some tables
    /// and with eight times as many, which are 3 MiB.
    #[test]
    fn a_replay_takes_time_by_the_length_of_the_manifest() {
        const TABLES: u64 = 16_000;
        // It is eight times, and some more for trees that are deeper; where each step goes by the whole state, 64 times.
        const RATIO: u32 = 30;
        let shapes = history_of(0).len();
        for shape in 0..shapes {
            let [(name, few), (_, many)] = [TABLES / 8, TABLES].map(|tables| {
                let (name, edits, left) = history_of(tables).swap_remove(shape);
                (name, (manifest_of(&edits), left))
            });
            let replay = |(fs, left): &(SimFs, u64)| {
                let begun = std::time::Instant::now();
                let recovered = read(fs).unwrap();
                let took = begun.elapsed();
                assert_eq!(recovered.version.tables().count() as u64, *left, "{name}");
                took
            };
            // Other work may come in between.
            let mut tries =
                (0..3).map(|_| (replay(&few), replay(&many))).inspect(|tried| println!("{name}: {tried:?}"));
            assert!(tries.any(|(few, many)| many < few * RATIO), "{name}");
        }
    }

    /// Edits of so many tables, and how many are there in the end.
    type History = (&'static str, Vec<Edit>, u64);

    fn history_of(tables: u64) -> Vec<History> {
        let key = |number: u64| format!("{number:020}");
        let add = |level: u8, number: u64| {
            let table = meta(number, &[(0, &key(2 * number), &key(2 * number + 1))], 4096);
            (level, TableMeta { file_bytes: 8192, ..table })
        };
        let adding = |level: u8, number| Edit { add: vec![add(level, number)], ..Edit::default() };
        let all = |level: u8| Edit { add: (1..=tables).map(|number| add(level, number)).collect(), ..Edit::default() };
        let removing = |number| Edit { remove: vec![FileNumber(number)], ..Edit::default() };
        let moving = |number| Edit { moves: vec![(FileNumber(number), 2)], ..Edit::default() };
        let consuming = |number| Edit { consume: vec![(FileNumber(number), KeyspaceId(0))], ..Edit::default() };
        let ending = |number| Edit { segment_ends: vec![(FileNumber(number), 64)], ..Edit::default() };
        let creating = |id: u64| {
            let id = u32::try_from(id).unwrap();
            Edit { create: vec![named(id, &format!("number {id}"))], ..Edit::default() }
        };
        let dropping = |id: u64| Edit { drop: vec![KeyspaceId(u32::try_from(id).unwrap())], ..Edit::default() };
        let each = |edit: &dyn Fn(u64) -> Edit| (1..=tables).map(edit).collect::<Vec<_>>();
        let after = |first: Edit, edits: Vec<Edit>| [vec![first], edits].concat();
        vec![
            ("one edit", vec![all(1)], tables),
            ("edit by edit", each(&|number| adding(1, number)), tables),
            ("level 0", each(&|number| adding(0, number)), tables),
            ("removed", after(all(1), each(&removing)), 0),
            ("moved", after(all(1), each(&moving)), tables),
            ("consumed", after(all(0), each(&consuming)), 0),
            ("segments", after(all(1), each(&ending)), tables),
            ("keyspaces", [each(&creating), vec![all(1)], each(&dropping)].concat(), tables),
        ]
    }

    /// A directory with a manifest of these edits.
    fn manifest_of(edits: &[Edit]) -> SimFs {
        let fs = SimFs::new();
        let header = SegmentHeader::new(Magic::MANIFEST, DATABASE, FileNumber(9), Position::default(), Sequence(0));
        let mut bytes = header.as_bytes().to_vec();
        for edit in edits {
            let (body, count) = edit.encode().unwrap();
            let at = bytes.len() as u64;
            bytes.extend(log::encode_group(&DATABASE, FileNumber(9), at, GroupKind::Data, count, None, &body).unwrap());
        }
        fs.write(std::path::Path::new("/db/000009.manifest"), &bytes);
        swap_current(&*dir(&fs), Current::new(DATABASE, FileNumber(9))).unwrap();
        fs
    }

    #[test]
    fn after_a_clean_close_every_flipped_bit_is_refused() {
        let fs = SimFs::new();
        write(&fs, true);
        let path = std::path::Path::new("/db/000009.manifest");
        let whole = fs.read(path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs.write(path, &bad);
            match read(&fs) {
                Err(_) => {}
                // The close mark itself: all edits are there.
                Ok(recovered) => assert_eq!(recovered.version.tables().count(), 3, "bit {bit}"),
            }
        }
    }
}
