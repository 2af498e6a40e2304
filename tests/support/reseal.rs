//! A second implementation of the framing of all files, written from FORMAT.md alone: finds every checksum of a file and
//! makes it right again. It shares no code with the library and gives up quietly on whatever does not hang together.
//!
//! For damage that is to get past the checksums, and as a proof that the page and the code agree: it leaves every file that
//! the library has written as it is.

use std::ops::Range;

/// The six kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Current,
    Manifest,
    Segment,
    Table,
    Index,
    Values,
}

const GROUP_MAGIC: u8 = 0x96;
const SEGMENT_HEADER: usize = 80;
const GROUP_HEADER: usize = 24;
const TABLE_HEADER: usize = 64;
const FOOTER: usize = 128;
const PAGE: usize = 4096;
const PAGE_SUMS: usize = 1023;

impl Kind {
    /// The kind of the file with this name (section 2).
    pub(crate) fn of(name: &str) -> Option<Self> {
        if name == "CURRENT" {
            return Some(Self::Current);
        }
        match name.rsplit_once('.')?.1 {
            "manifest" => Some(Self::Manifest),
            "wal" => Some(Self::Segment),
            "sst" => Some(Self::Table),
            "idx" => Some(Self::Index),
            "val" => Some(Self::Values),
            _ => None,
        }
    }
}

/// CRC-32 as in zlib (section 3), continued from a state that begins as `!0` and is inverted at the end. Eight bytes at a
/// time, each with a table for its distance from the end of the eight: a fuzzer does little else.
fn crc(mut state: u32, bytes: &[u8]) -> u32 {
    const TABLES: [[u32; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let (mut byte, mut start) = (0, 0);
        while byte < 256 {
            let (mut value, mut distance): (u32, usize) = (start, 0);
            while distance < 8 {
                let mut bit = 0;
                while bit < 8 {
                    value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                    bit += 1;
                }
                tables[distance][byte] = value;
                distance += 1;
            }
            (byte, start) = (byte + 1, start + 1);
        }
        tables
    };
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let mixed = u64::from_le_bytes(*eight) ^ u64::from(state);
        state = 0;
        for (table, byte) in TABLES.iter().rev().zip(mixed.to_le_bytes()) {
            state ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        state = state >> 8 ^ TABLES[0][usize::from(state.to_le_bytes()[0] ^ byte)];
    }
    state
}

/// sum(identity, offset, bytes) of section 3.
fn sum(identity: &[u8], offset: usize, bytes: &[u8]) -> u32 {
    !crc(crc(crc(!0, identity), &(offset as u64).to_le_bytes()), bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut value = [0; 8];
    value.get_mut(..N)?.copy_from_slice(bytes.get(at..at.checked_add(N)?)?);
    Some(u64::from_le_bytes(value))
}

fn offset<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number::<N>(bytes, at)?).ok()
}

/// Writes the checksum of a range, which counts as standing at its own offset, to `at`.
fn put_sum(bytes: &mut [u8], identity: &[u8], of: Range<usize>, at: usize) -> Option<()> {
    let value = sum(identity, of.start, bytes.get(of)?);
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&value.to_le_bytes());
    Some(())
}

/// Makes all checksums of a file right, with the identity that the file itself states.
pub(crate) fn reseal(kind: Kind, bytes: &mut [u8]) {
    // What cannot be found cannot be sealed.
    let _ = match kind {
        Kind::Current => reseal_current(bytes),
        Kind::Manifest | Kind::Segment => reseal_groups(bytes),
        Kind::Table | Kind::Index | Kind::Values => reseal_table(bytes),
    };
}

/// Section 5.
fn reseal_current(bytes: &mut [u8]) -> Option<()> {
    let identity = bytes.get(24..48)?.to_vec();
    put_sum(bytes, &identity, 0..60, 60)
}

/// Sections 7 and 8.
fn reseal_groups(bytes: &mut [u8]) -> Option<()> {
    let identity = bytes.get(24..48)?.to_vec();
    put_sum(bytes, &identity, 0..76, 76)?;
    for group in groups(bytes) {
        if let Some(body) = &group.body {
            put_sum(bytes, &identity, body.clone(), group.start + 16)?;
        }
        put_sum(bytes, &identity, group.start..group.start + 20, group.start + 20)?;
    }
    Some(())
}

struct Group {
    start: usize,
    /// If it lies within the file.
    body: Option<Range<usize>>,
}

/// What looks like groups, with good checksums or not: back to back from the header on, and from the next magic where one
/// does not follow another.
fn groups(bytes: &[u8]) -> Vec<Group> {
    let mut found = Vec::new();
    let mut start = SEGMENT_HEADER;
    while let Some(header) = bytes.get(start..start + GROUP_HEADER) {
        if header[0] != GROUP_MAGIC {
            start += 8;
            continue;
        }
        let body_start = start + GROUP_HEADER;
        let body = offset::<4>(header, 4)
            .and_then(|units| body_start.checked_add(units.checked_mul(8)?))
            .filter(|end| *end <= bytes.len())
            .map(|end| body_start..end);
        let next = body.as_ref().map_or(body_start, |body| body.end);
        found.push(Group { start, body });
        start = next;
    }
    found
}

/// Section 10.
fn reseal_table(bytes: &mut [u8]) -> Option<()> {
    let identity = bytes.get(24..40)?.to_vec();
    put_sum(bytes, &identity, 0..60, 60)?;
    let footer = bytes.len().checked_sub(FOOTER)?;
    // What is sealed first must not depend on what is sealed later: chunks, pages, directory, footer.
    let _ = reseal_chunks(bytes, &identity, footer);
    let _ = reseal_directory(bytes, &identity, footer);
    put_sum(bytes, &identity, footer..footer + 124, footer + 124)
}

fn reseal_chunks(bytes: &mut [u8], identity: &[u8], footer: usize) -> Option<()> {
    let log2 = u32::from(*bytes.get(40)?);
    let body_end = offset::<8>(bytes, footer + 32)?;
    if !(12..=20).contains(&log2) || !(TABLE_HEADER..=footer).contains(&body_end) {
        return None;
    }
    let chunk = 1usize << log2;
    let chunks = body_end.div_ceil(chunk);
    for page in 0..chunks.div_ceil(PAGE_SUMS) {
        let start = body_end + page * PAGE;
        let first = page * PAGE_SUMS;
        let last = chunks.min(first + PAGE_SUMS);
        for i in first..last {
            put_sum(bytes, identity, i * chunk..body_end.min((i + 1) * chunk), start + 4 * (i - first))?;
        }
        let end = start + 4 * (last - first);
        put_sum(bytes, identity, start..end, end)?;
    }
    Some(())
}

fn directory(bytes: &[u8]) -> Option<Range<usize>> {
    let footer = bytes.len().checked_sub(FOOTER)?;
    let start = offset::<8>(bytes, footer + 40)?;
    let end = start.checked_add(offset::<8>(bytes, footer + 48)?)?;
    (end <= footer).then_some(start..end)
}

fn reseal_directory(bytes: &mut [u8], identity: &[u8], footer: usize) -> Option<()> {
    put_sum(bytes, identity, directory(bytes)?, footer + 60)
}

/// Writes what a table or value file says of itself into its record in the manifest (sections 12.3 and 12.6), as far as it
/// fits, so that the two agree. The manifest must be resealed afterwards.
pub(crate) fn adopt(manifest: &mut [u8], file_number: u64, file: &[u8]) {
    let bodies: Vec<Range<usize>> = groups(manifest).into_iter().filter_map(|group| group.body).collect();
    for body in bodies {
        let mut at = body.start;
        while let (Some(kind), Some(length)) = (number::<2>(manifest, at), offset::<4>(manifest, at + 4)) {
            let payload = at + 8;
            let Some(end) = payload.checked_add(length).filter(|end| *end <= body.end) else { break };
            if number::<8>(manifest, payload) == Some(file_number) {
                let _ = match kind {
                    5 => adopt_table(manifest, payload..end, file),
                    13 => adopt_values(manifest, payload..end, file),
                    _ => None,
                };
            }
            at = end;
        }
    }
}

fn adopt_table(manifest: &mut [u8], payload: Range<usize>, table: &[u8]) -> Option<()> {
    let record = manifest.get_mut(payload)?;
    record.get_mut(8..24)?.copy_from_slice(table.get(24..40)?);
    record.get_mut(24..32)?.copy_from_slice(&(table.len() as u64).to_le_bytes());
    record.get_mut(40..44)?.copy_from_slice(table.get(table.len().checked_sub(4)?..)?);
    let global_sequence: [u8; 8] = record.get(32..40)?.try_into().ok()?;
    let sections = record.get_mut(56..)?;
    let directory = table.get(directory(table)?)?;
    if sections.len() == directory.len() {
        sections.copy_from_slice(directory);
    }
    // A loaded table has one section, and the record knows its sequence number.
    if global_sequence != [0; 8] {
        sections.get_mut(72..88)?.copy_from_slice(&[global_sequence, global_sequence].concat());
    }
    Some(())
}

fn adopt_values(manifest: &mut [u8], payload: Range<usize>, file: &[u8]) -> Option<()> {
    let record = manifest.get_mut(payload)?;
    let footer = file.len().checked_sub(FOOTER)?;
    let record_bytes = number::<8>(file, footer + 32)?.wrapping_sub(TABLE_HEADER as u64);
    record.get_mut(8..24)?.copy_from_slice(file.get(24..40)?);
    record.get_mut(24..32)?.copy_from_slice(&(file.len() as u64).to_le_bytes());
    record.get_mut(32..40)?.copy_from_slice(&record_bytes.to_le_bytes());
    record.get_mut(40..48)?.copy_from_slice(file.get(footer + 64..footer + 72)?);
    record.get_mut(48..52)?.copy_from_slice(file.get(footer + 124..)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::damage::{Image, Shape};
    use super::*;

    const ALL: [Kind; 6] = [Kind::Current, Kind::Manifest, Kind::Segment, Kind::Table, Kind::Index, Kind::Values];

    #[test]
    fn the_worked_examples_of_the_specification() {
        assert_eq!(!crc(!0, b"123456789"), 0xcbf4_3926);
        let id: Vec<u8> = (0..16).collect();
        let file = [&id[..], &7u64.to_le_bytes()].concat();
        assert_eq!(sum(&file, 4096, b"payload"), 0xc7c6_0a5f);
        assert_eq!(sum(&id, 4096, b"payload"), 0x5f7b_a1b8);
    }

    #[test]
    fn every_file_as_written_is_sealed_already() {
        for shape in Shape::ALL {
            let image = Image::new(shape);
            let mut seen = Vec::new();
            for (name, bytes) in &image.files {
                let Some(kind) = Kind::of(name) else { continue };
                let mut again = bytes.clone();
                reseal(kind, &mut again);
                assert!(again == *bytes, "{shape:?}: {name} changed");
                seen.push(kind);
            }
            for kind in ALL {
                assert!(seen.contains(&kind), "{shape:?} has no {kind:?}");
            }
        }
    }

    #[test]
    fn every_checksum_is_found() {
        // After a change anywhere in the used part, sealing changes something else. Only a group without its magic is none,
        // and padding in front of a directory is looked at, not summed.
        for shape in Shape::ALL {
            for (name, bytes) in &Image::new(shape).files {
                let Some(kind) = Kind::of(name) else { continue };
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                for at in (0..used).step_by(7) {
                    let padding = matches!(kind, Kind::Table | Kind::Index)
                        && directory(bytes).is_some_and(|found| (found.start - 4..found.start).contains(&at))
                        && bytes[at] == 0;
                    if padding || at % 8 == 0 && bytes[at] == GROUP_MAGIC {
                        continue;
                    }
                    let mut bad = bytes.clone();
                    bad[at] ^= 0x10;
                    let before = bad.clone();
                    reseal(kind, &mut bad);
                    assert!(bad != before, "{shape:?}: {name}: byte {at} is covered by no checksum");
                }
            }
        }
    }

    #[test]
    fn tables_and_their_records_agree_as_written() {
        for shape in Shape::ALL {
            let image = Image::new(shape);
            let of_manifest = [Some(Kind::Table), Some(Kind::Values)];
            for (name, table) in image.files.iter().filter(|(name, _)| of_manifest.contains(&Kind::of(name))) {
                let number = name.split('.').next().unwrap().parse().unwrap();
                let (_, manifest) =
                    image.files.iter().find(|(name, _)| Kind::of(name) == Some(Kind::Manifest)).unwrap();
                let mut again = manifest.clone();
                adopt(&mut again, number, table);
                assert!(again == *manifest, "{shape:?}: {name}");
                let mut other = table.clone();
                *other.last_mut().unwrap() ^= 1;
                adopt(&mut again, number, &other);
                assert!(again != *manifest, "{shape:?}: {name} has no record");
            }
        }
    }

    #[test]
    fn anything_can_be_resealed() {
        let mut noise = 1u64;
        for length in 0..400 {
            for kind in ALL {
                let mut bytes: Vec<u8> = (0..length)
                    .map(|_| {
                        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        noise.to_le_bytes()[7]
                    })
                    .collect();
                reseal(kind, &mut bytes);
                adopt(&mut bytes, 1, &[0xff; 200]);
            }
        }
    }
}
