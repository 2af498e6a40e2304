//! FORMAT.md, sections 3, 4 and 10.
//!
//! Headers, footers, directories and checksums made good, where what is intact proves what they were.
//!
//! Header and footer of a frame say much of the same, a manifest knows what a footer says, and all of them are sealed. So what
//! was lost is put together again from the rest and compared with a checksum that was not. Without such a proof nothing is
//! accepted; and what is intact and names another file is never overruled. That the chunks of a file match is no proof of its
//! id: behind a header, which ends with its own checksum, the checksum of the first chunk is the same under every id.

use zerocopy::IntoBytes;

use super::bytes::{self, Part};
use super::checksum::{Id, Seed};
use super::edit::TableMeta;
use super::group::{Group, GroupHeader, may_start_group};
use super::prefix::Magic;
use super::section::Section;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::table::{
    CHUNK_LOG2, FOOTER_BYTES, Footer, Frame, TABLE_HEADER_BYTES, TableHeader, Totals, directory_offset,
};
use super::values::ValuesMeta;
use super::{FileNumber, NUMBER_MAX, Sequence, UNIT};
use crate::error::{Damage, Fault};

/// What is known of a file with a frame from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected<'k> {
    Nothing,
    Table(&'k TableMeta),
    Values(&'k ValuesMeta),
    /// An index, by the id of its table.
    Index(&'k Id),
}

impl Expected<'_> {
    fn id(&self) -> Option<Id> {
        match self {
            Self::Nothing => None,
            Self::Table(meta) => Some(meta.id),
            Self::Values(meta) => Some(meta.id),
            Self::Index(id) => Some(**id),
        }
    }

    /// The length of the file, where its body ends, and the checksum of its footer.
    fn places(&self) -> Option<(u64, u64, u32)> {
        match self {
            Self::Nothing | Self::Index(_) => None,
            Self::Table(meta) => Some((meta.file_bytes, meta.sections.last()?.parts_end(), meta.footer_checksum)),
            Self::Values(meta) => {
                Some((meta.file_bytes, TABLE_HEADER_BYTES.checked_add(meta.record_bytes)?, meta.footer_checksum))
            }
        }
    }

    /// The directory. That of a table that was loaded has other sequence numbers than the manifest; all are the same one.
    fn directory(&self, loaded_behind: Option<Sequence>) -> Option<Vec<u8>> {
        let mut directory = Vec::new();
        if let Self::Table(meta) = self {
            for section in &meta.sections {
                let mut section = section.clone();
                if section.takes_global_sequence {
                    section.min_sequence = loaded_behind?;
                    section.max_sequence = section.min_sequence;
                }
                section.encode(&mut directory);
            }
        }
        Some(directory)
    }
}

/// A footer, the directory in front of it, and where that begins.
struct End {
    footer: Footer,
    directory: Vec<u8>,
    offset: u64,
}

/// The bytes of a file with a frame as they were written, but for its body; none if there is nothing to mend. What cannot be
/// mended is returned with its place. Chunks whose checksum is lost do not match the one that stands there now.
pub(crate) fn mend_frame(file: &[u8], magic: Magic, known: Expected<'_>) -> Result<Option<Vec<u8>>, (u64, Fault)> {
    let wrong = || Err((0, Damage::WrongFile.into()));
    let header = match TableHeader::parse(file, magic) {
        Ok(header) => Some(header),
        Err(fault @ Fault::Unsupported(_)) => return Err((0, fault)),
        Err(Fault::Damage(_)) => None,
    };
    let sealed = Footer::of(file).filter(|footer| footer.is_sealed(magic, file.len() as u64));
    let named = [known.id(), header.map(|header| header.id()), sealed.as_ref().map(Footer::id)];
    let mut ids = named.into_iter().flatten();
    let Some(id) = ids.next() else { return Frame::parse(file, magic).map(|_| None) };
    if ids.any(|other| other != id) {
        return wrong();
    }
    // Most files are as they were written, and are not copied to find that out.
    if sealed.is_some()
        && let Ok(frame) = Frame::parse(file, magic)
        && (0..frame.pages()).all(|page| frame.check_page(Part::whole(file), page).is_ok())
    {
        return Ok(None);
    }
    let chunks = header.map_or(CHUNK_LOG2, |header| header.chunk_log2()..=header.chunk_log2());
    for chunk_log2 in chunks {
        // No directory begins behind the checksums of all the bytes that there are.
        let furthest = directory_offset(file.len() as u64, chunk_log2);
        for end in ends(file, magic, id, chunk_log2, known, sealed) {
            let offset = usize::try_from(end.offset).ok().filter(|_| Some(end.offset) <= furthest);
            let Some(offset) = offset else { continue };
            let made = header.unwrap_or_else(|| TableHeader::new(magic, id, chunk_log2));
            let mut mended = file.to_vec();
            mended.resize(offset, 0);
            mended.extend_from_slice(&end.directory);
            mended.extend_from_slice(end.footer.as_bytes());
            bytes::write(&mut mended, 0, made.as_bytes());
            let Ok(frame) = Frame::parse(&mended, magic) else { continue };
            let damaged: Vec<u64> =
                (0..frame.pages()).filter(|page| frame.check_page(Part::whole(&mended), *page).is_err()).collect();
            // The size of the chunks is nowhere but in the header, and where a page has its seal depends on it.
            if header.is_none() && damaged.len() as u64 == frame.pages() {
                continue;
            }
            for page in &damaged {
                frame.mend_page(&mut mended, *page);
            }
            return Ok(if mended == file { None } else { Some(mended) });
        }
    }
    match Frame::parse(file, magic) {
        Ok(_) => wrong(),
        Err(e) => Err(e),
    }
}

/// The ends that the file can have had, each with a proof.
fn ends(
    file: &[u8],
    magic: Magic,
    id: Id,
    chunk_log2: u8,
    known: Expected<'_>,
    sealed: Option<Footer>,
) -> impl Iterator<Item = End> {
    let length = file.len() as u64;
    let found = Footer::of(file);
    let stands =
        move |offset: u64, end: u64| bytes::slice(file, offset, end.checked_sub(offset)?).ok().map(<[u8]>::to_vec);
    let loaded_behind = sealed.map(|footer| footer.totals().min_sequence);
    let from_manifest = move |own: bool, offset: u64, end: u64| {
        if own { stands(offset, end) } else { known.directory(loaded_behind) }
    };
    let intact = sealed.into_iter().flat_map(move |footer| {
        let offset = footer.directory_offset();
        // Which of them it is, the checksum in the footer says.
        [true, false].into_iter().filter_map(move |own| {
            let directory = from_manifest(own, offset, length.saturating_sub(FOOTER_BYTES))?;
            Some(End { footer, directory, offset })
        })
    });
    let recorded = known.places().into_iter().flat_map(move |(file_bytes, body_end, checksum)| {
        [true, false].into_iter().filter_map(move |own| {
            // Without any of its checksums nothing of the body can be proven.
            let offset = directory_offset(body_end, chunk_log2).filter(|_| body_end < length)?;
            let directory = from_manifest(own, offset, file_bytes.checked_sub(FOOTER_BYTES)?)?;
            let (count, totals) = match known {
                Expected::Values(meta) => (0, Totals { entries: meta.records, ..Totals::default() }),
                _ => sum_up(&directory)?,
            };
            let footer = Footer::new(magic, id, body_end, offset, &directory, count, totals);
            (footer.checksum() == checksum && footer.is_sealed(magic, file_bytes)).then_some(End {
                footer,
                directory,
                offset,
            })
        })
    });
    let told = found.into_iter().flat_map(move |found| {
        [found.body_end(), body_end_before(found.directory_offset(), chunk_log2)].into_iter().filter_map(
            move |body_end| {
                let offset = directory_offset(body_end, chunk_log2)?;
                let directory = stands(offset, length.checked_sub(FOOTER_BYTES)?)?;
                let is_table = magic == Magic::TABLE;
                let summed = if is_table { sum_up(&directory)? } else { (found.section_count(), found.totals()) };
                let footer = Footer::new(magic, id, body_end, offset, &directory, summed.0, summed.1);
                // Of a table all of it follows from the rest, so that the checksum itself may be what is damaged.
                (footer.checksum() == found.checksum() || is_table && footer.says_the_same(&found)).then_some(End {
                    footer,
                    directory,
                    offset,
                })
            },
        )
    });
    intact.chain(recorded).chain(told)
}

/// Where the body ends if its checksums end in front of the directory at `offset`.
fn body_end_before(offset: u64, chunk_log2: u8) -> u64 {
    let mut body_end = offset;
    // The checksums take a thousandth of the body at most, so that each guess is off by that much less than the one before.
    for _ in 0..8 {
        let checksums = directory_offset(body_end, chunk_log2).map_or(0, |end| end.saturating_sub(body_end));
        body_end = offset.saturating_sub(checksums);
    }
    body_end
}

/// How many sections a directory has, and what they are in sum.
fn sum_up(mut rest: &[u8]) -> Option<(u32, Totals)> {
    let mut count = 0u32;
    let mut totals = Totals { min_sequence: Sequence(NUMBER_MAX), ..Totals::default() };
    while !rest.is_empty() {
        let (section, behind) = Section::decode(rest).ok()?;
        count = count.checked_add(1)?;
        totals.entries = totals.entries.checked_add(section.entries)?;
        totals.min_sequence = totals.min_sequence.min(section.min_sequence);
        totals.max_sequence = totals.max_sequence.max(section.max_sequence);
        rest = behind;
    }
    (count > 0).then_some((count, totals))
}

/// The id that a file with a frame has, if header and footer, or the one of them that is intact, say so.
pub(crate) fn frame_id(file: &[u8], magic: Magic) -> Option<Id> {
    let header = TableHeader::parse(file, magic).ok().map(|header| header.id());
    let footer = Footer::of(file).filter(|footer| footer.is_sealed(magic, file.len() as u64)).map(|footer| footer.id());
    match (header, footer) {
        (Some(header), Some(footer)) if header != footer => None,
        (header, footer) => header.or(footer),
    }
}

/// The database that segment or manifest `number` says it belongs to: by its header, or, where that is damaged, by a group
/// that verifies under the id in it.
pub(crate) fn stated_owner(file: &[u8], magic: Magic, number: FileNumber) -> Option<Id> {
    if let Ok(header) = SegmentHeader::parse_any(file, magic) {
        return (header.number() == number).then(|| header.database());
    }
    let stated = SegmentHeader::stated_database(file)?;
    matches!(find_owner(file, magic, number, &[stated]), Ok(LogOwner::Proven(_))).then_some(stated)
}

/// Whose a segment or manifest is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LogOwner {
    Header(SegmentHeader),
    /// The header is damaged, and a group verifies under the number of the file and this database.
    Proven(Id),
}

impl LogOwner {
    pub(crate) fn database(&self) -> Id {
        match self {
            Self::Header(header) => header.database(),
            Self::Proven(database) => *database,
        }
    }
}

/// Finds out whether a file is segment or manifest `number` of one of `databases`; if none is known, of whichever one.
pub(crate) fn find_owner(file: &[u8], magic: Magic, number: FileNumber, databases: &[Id]) -> Result<LogOwner, Fault> {
    let damage = match SegmentHeader::parse_any(file, magic) {
        Ok(header) => {
            let known = databases.is_empty() || databases.contains(&header.database());
            let right = known && header.number() == number;
            return if right { Ok(LogOwner::Header(header)) } else { Err(Damage::WrongFile.into()) };
        }
        Err(fault @ Fault::Unsupported(_)) => return Err(fault),
        Err(fault) => fault,
    };
    for database in databases {
        let seed = Seed::of_file(database, number);
        if next_group(file, seed, number, SEGMENT_HEADER_BYTES).map_err(|(_, fault)| fault)?.is_some() {
            return Ok(LogOwner::Proven(*database));
        }
    }
    Err(damage)
}

/// A group, where it stands, and its body.
pub(crate) type Placed<'f> = (u64, Group, &'f [u8]);

/// The first intact group at or behind `from` of a segment or manifest, with its place and its body. O(bytes), whatever
/// headers claim: a header that is intact while its body is not says where the next group begins, so that no byte is looked
/// at in two bodies. One of a kind that is not known here is an error.
pub(crate) fn next_group(
    file: &[u8],
    seed: Seed,
    number: FileNumber,
    from: u64,
) -> Result<Option<Placed<'_>>, (u64, Fault)> {
    let mut at = from;
    while let Some(rest) = usize::try_from(at).ok().and_then(|start| file.get(start..)).filter(|rest| !rest.is_empty())
    {
        let mut step = UNIT;
        if may_start_group(rest) {
            match GroupHeader::probe(file, seed, number, at) {
                Ok((header, group)) => match header.body(file, seed, at, &group) {
                    Ok(body) => return Ok(Some((at, group, body))),
                    // It cannot be told whether it was cut off, or never as long as that.
                    Err(Damage::Truncated) => {}
                    Err(_) => step = group.span(),
                },
                Err(fault @ Fault::Unsupported(_)) => return Err((at, fault)),
                Err(Fault::Damage(_)) => {}
            }
        }
        at = at.saturating_add(step);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Position;
    use crate::format::group::GroupKind;
    use crate::format::table::encode_tail;

    const ID: Id = [7; 16];

    /// A value file as a writer makes it, with a body of zeros of so many bytes behind the header, and its record.
    fn values(body: usize, chunk_log2: u8) -> (Vec<u8>, ValuesMeta) {
        let mut file = TableHeader::new(Magic::VALUES, ID, chunk_log2).as_bytes().to_vec();
        file.extend((0..body).map(|i| u8::try_from(i * 31 % 251).unwrap()));
        let seed = Seed::of_table(&ID);
        let chunks = file.chunks(1 << chunk_log2).zip(0u64..);
        let sums: Vec<u32> = chunks.map(|(chunk, i)| seed.sum(i << chunk_log2, chunk)).collect();
        let totals = Totals { entries: 3, ..Totals::default() };
        let tail = encode_tail(Magic::VALUES, ID, file.len() as u64, &sums, &[], 0, totals);
        file.extend(tail);
        let frame = Frame::parse(&file, Magic::VALUES).unwrap();
        let meta = ValuesMeta::of(FileNumber(4), &frame, file.len() as u64);
        (file, meta)
    }

    /// Whether a file has been mended. The size of chunks says nothing if there is only one.
    fn is_mended(mended: &Result<Option<Vec<u8>>, (u64, Fault)>, file: &[u8]) -> bool {
        let Ok(Some(mended)) = mended else { return false };
        let frame = Frame::parse(mended, Magic::VALUES).unwrap();
        let whole = Part::whole(mended);
        let intact = (0..frame.chunks()).all(|chunk| frame.check_chunk(whole, whole, chunk, true).is_ok());
        intact && mended[64..] == file[64..] && (frame.chunks() == 1 || mended[..64] == file[..64])
    }

    fn is_unsupported(mended: &Result<Option<Vec<u8>>, (u64, Fault)>) -> bool {
        matches!(mended, Err((_, Fault::Unsupported(_))))
    }

    #[test]
    fn every_bit_of_header_checksums_and_footer_is_made_good() {
        for (body, chunk_log2) in [(200, 12), (20_000, 12), (20_000, 13), (9_000, 16)] {
            let (file, meta) = values(body, chunk_log2);
            assert_eq!(mend_frame(&file, Magic::VALUES, Expected::Values(&meta)), Ok(None));
            let tail = 64 + body..file.len();
            let (mut alone, mut bits) = (0, 0);
            for bit in (0..64).chain(tail).flat_map(|byte| [byte * 8, byte * 8 + 5]) {
                let mut bad = file.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let mended = mend_frame(&bad, Magic::VALUES, Expected::Values(&meta));
                assert!(is_unsupported(&mended) || is_mended(&mended, &file), "{body}: bit {bit}");
                // Without a manifest: the right one or none.
                let mended = mend_frame(&bad, Magic::VALUES, Expected::Nothing);
                let right = is_mended(&mended, &file);
                assert!(right || mended.is_err(), "{body}: bit {bit}");
                (alone, bits) = (alone + usize::from(right), bits + 1);
            }
            assert!(alone * 10 > bits * 6, "{body}: {alone} of {bits}");
        }
    }

    #[test]
    fn what_is_cut_off_is_made_good_and_what_names_another_file_is_not() {
        let (file, meta) = values(20_000, 12);
        for cut in [1, 60, 128] {
            let mended = mend_frame(&file[..file.len() - cut], Magic::VALUES, Expected::Values(&meta));
            assert_eq!(mended, Ok(Some(file.clone())), "{cut}");
        }
        assert!(
            mend_frame(&file[..20_064], Magic::VALUES, Expected::Values(&meta)).is_err(),
            "nothing proves its body"
        );
        assert!(mend_frame(&[], Magic::VALUES, Expected::Values(&meta)).is_err());
        let other = ValuesMeta { id: [8; 16], ..meta };
        let refused = Err((0, Damage::WrongFile.into()));
        assert_eq!(mend_frame(&file, Magic::VALUES, Expected::Values(&other)), refused);
        for zeroed in [0..64, file.len() - 128..file.len()] {
            let mut bad = file.clone();
            bad[zeroed.clone()].fill(0);
            assert_eq!(mend_frame(&bad, Magic::VALUES, Expected::Values(&meta)), Ok(Some(file.clone())), "{zeroed:?}");
            // The other end is intact and names another file.
            assert_eq!(mend_frame(&bad, Magic::VALUES, Expected::Values(&other)), refused, "{zeroed:?}");
            bad[..64].fill(0);
            bad[file.len() - 128..].fill(0);
            assert_eq!(mend_frame(&bad, Magic::VALUES, Expected::Values(&meta)), Ok(Some(file.clone())), "both");
            assert!(mend_frame(&bad, Magic::VALUES, Expected::Values(&other)).is_err());
            assert!(mend_frame(&bad, Magic::VALUES, Expected::Nothing).is_err());
        }
        // Two ends of two files.
        let mut both = file.clone();
        let header = TableHeader::new(Magic::VALUES, [9; 16], 12);
        bytes::write(&mut both, 0, header.as_bytes());
        assert_eq!(mend_frame(&both, Magic::VALUES, Expected::Nothing), refused);
    }

    /// A number that nobody has held against the file must not become a length.
    #[test]
    fn places_that_lie_are_not_believed() {
        let (file, meta) = values(20_000, 12);
        let footer = file.len() - 128;
        let length = file.len() as u64;
        let large = [1 << 31, 1 << 46, (1 << 63) - 8, u64::MAX - 7, u64::MAX, length - 8, length + 8, length * 2, 0];
        for (field, number) in [24, 32, 40, 48].into_iter().flat_map(|field| large.map(|number| (field, number))) {
            let mut bad = file.clone();
            bad[footer + field..footer + field + 8].copy_from_slice(&number.to_le_bytes());
            if bad == file {
                continue;
            }
            let sum = Seed::of_table(&ID).sum(footer as u64, &bad[footer..footer + 124]);
            bad[footer + 124..].copy_from_slice(&sum.to_le_bytes());
            let wrong = ValuesMeta { file_bytes: number, record_bytes: number, ..meta };
            for known in [Expected::Nothing, Expected::Values(&meta), Expected::Values(&wrong), Expected::Index(&ID)] {
                let mended = mend_frame(&bad, Magic::VALUES, known);
                let of_manifest = matches!(known, Expected::Values(known) if *known == meta);
                assert!(
                    mended.is_err() || of_manifest && is_mended(&mended, &file),
                    "{number:#x} at {field}: {known:?}"
                );
                // A record of the manifest lies, and the file does not.
                assert!(mend_frame(&file, Magic::VALUES, known).is_ok());
            }
        }
    }

    /// Headers that claim all the rest of the file as their body, one behind the other.
    #[test]
    fn groups_are_searched_in_linear_time() {
        let number = FileNumber(6);
        let seed = Seed::of_file(&ID, number);
        let mut file = vec![0; 80];
        let (headers, end) = (10_000u64, 80 + 10_000 * 24);
        for at in (0..headers).map(|i| 80 + i * 24) {
            let group = Group { kind: GroupKind::Data, body_bytes: end - at - 24, count: 1, durable: None };
            file.extend_from_slice(group.header(seed, number, at, b"other").as_bytes());
        }
        let group = Group { kind: GroupKind::Idle, body_bytes: 0, count: 0, durable: None };
        file.extend_from_slice(group.header(seed, number, end, &[]).as_bytes());
        // It is a few times as much as one sum of the file; where each header has its body summed up, 5,000 times. Other work
        // may come in between.
        let timed = |work: &dyn Fn()| {
            let begun = std::time::Instant::now();
            work();
            begun.elapsed()
        };
        let search = || assert_eq!(next_group(&file, seed, number, 80), Ok(Some((end, group, &[][..]))));
        let tries: Vec<_> = (0..3).map(|_| (timed(&|| _ = seed.sum(0, &file)), timed(&search))).collect();
        assert!(tries.iter().any(|(sum, search)| *search < *sum * 500), "{tries:?}");
        // Whatever such a body holds, it is behind the header that is looked for.
        assert_eq!(next_group(&file[..file.len() - 8], seed, number, 80), Ok(None));
    }

    #[test]
    fn checksums_of_which_some_are_lost_speak_for_their_own_chunks() {
        let (file, meta) = values(20_000, 12);
        let mut bad = file.clone();
        // Chunk 1 itself, the checksum of chunk 2, and so the one of the page.
        bad[5000] ^= 1;
        bad[20_064 + 8] ^= 1;
        let mended = mend_frame(&bad, Magic::VALUES, Expected::Values(&meta)).unwrap().unwrap();
        let frame = Frame::parse(&mended, Magic::VALUES).unwrap();
        let whole = Part::whole(&mended);
        let intact: Vec<u64> =
            (0..frame.chunks()).filter(|chunk| frame.check_chunk(whole, whole, *chunk, true).is_ok()).collect();
        assert_eq!(intact, [0, 3, 4]);
    }

    #[test]
    fn a_segment_belongs_to_the_database_under_which_a_group_verifies() {
        let number = FileNumber(6);
        let header = SegmentHeader::new(Magic::SEGMENT, ID, number, Position::default(), Sequence(1));
        let mut file = header.as_bytes().to_vec();
        let group = Group { kind: GroupKind::Idle, body_bytes: 0, count: 0, durable: None };
        file.extend_from_slice(group.seal(Seed::of_file(&ID, number), number, 80, &[]).unwrap().as_bytes());
        let owner =
            |file: &[u8], number, databases: &[Id]| find_owner(file, Magic::SEGMENT, FileNumber(number), databases);
        assert!(matches!(owner(&file, 6, &[]), Ok(LogOwner::Header(_))));
        assert_eq!(owner(&file, 7, &[]).unwrap_err(), Damage::WrongFile.into());
        assert_eq!(owner(&file, 6, &[[8; 16]]).unwrap_err(), Damage::WrongFile.into());
        file[..80].fill(0);
        assert!(matches!(owner(&file, 6, &[[8; 16], ID]), Ok(LogOwner::Proven(ID))));
        assert!(owner(&file, 7, &[ID]).is_err() && owner(&file, 6, &[]).is_err());
        file.truncate(90);
        assert!(owner(&file, 6, &[ID]).is_err());
    }
}
