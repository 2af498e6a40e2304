//! What a lookup asks, in order, and what it is told: for people who want to know why a key is found, or is not, or takes long.

use std::fmt;

use super::onlooker::{Onlooker, Said, Stored};
use super::readers::Readers;
use super::registry::Registration;
use crate::error::Result;
use crate::format::entry::{Entry, Kind};
use crate::format::names::FileKind;
use crate::format::values::Pointer;
use crate::format::{FileNumber, KeyspaceId};
use crate::memtable::{Lookup, Memtable};
use crate::operator::KeptValue;
use crate::table::{Answer, Table, Witness};

/// How a get of a key has found its value, or that there is none: see [`Db::explain`](crate::Db::explain).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Explanation {
    /// The key.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::bytes"))]
    pub key: Vec<u8>,
    /// The sequence number at which it was looked up. Newer versions do not count.
    pub sequence: u64,
    /// What was asked, in that order, up to the one that has settled it. If the newest version is an operand of a
    /// [merge](crate::Db::merge), what follows names each place with older ones that the value is made of, and no others.
    pub steps: Vec<LookupStep>,
    /// The length of the value; `None` if there is none.
    pub value_bytes: Option<u64>,
}

/// One place that a lookup has asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LookupStep {
    /// What was asked.
    pub place: LookupPlace,
    /// Of a table, where the line of its index or filter stands in the `.idx` file that was looked at first, if the table was
    /// not passed by before.
    pub index_offset: Option<u64>,
    /// Of a table, the entries that were looked at because index or filter did not rule the key out, in that order. Older
    /// versions that stand behind the newest one of the key are not among them.
    pub entries: Vec<EntryLookedAt>,
    /// What it said.
    pub answer: LookupAnswer,
}

/// Where a lookup asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum LookupPlace {
    /// The memtable over a segment of the log.
    Memtable {
        /// The number of the segment.
        segment: u64,
    },
    /// A level of which no table has keys on both sides of the key.
    Level {
        /// The level.
        level: u8,
    },
    /// A table.
    Table {
        /// The level that it is on.
        level: u8,
        /// Its number.
        number: u64,
    },
    /// A value file, to which an entry has led.
    ValueFile {
        /// Its number.
        number: u64,
    },
    /// What an earlier read has made of operands, which is kept in memory.
    Kept,
}

/// An entry of a table that a lookup has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EntryLookedAt {
    /// Where it stands: its offset in the file, or, in a compressed section, in what that is unpacked.
    pub place: u64,
    /// Whether its key is the one that is looked for. If not, the index or the filter has given a false positive.
    pub is_of_key: bool,
}

/// What a place says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum LookupAnswer {
    /// Nothing. The next one is asked.
    Missing,
    /// Nothing: its keys are all smaller or all greater. Nothing of it was read.
    OutOfRange,
    /// Nothing: the hash index or the filter rules the key out. Nothing else of it was read.
    RuledOut,
    /// A range tombstone hides the key, and what older places have of it.
    RangeTombstone,
    /// The key was removed.
    Tombstone {
        /// The sequence number of the removal.
        sequence: u64,
    },
    /// The key has a value.
    Value {
        /// The sequence number of the version.
        sequence: u64,
        /// The length of the value.
        bytes: u64,
    },
    /// The key has a value, which stands in a value file.
    Elsewhere {
        /// The sequence number of the version.
        sequence: u64,
    },
    /// The value was found here, where an entry has said.
    Stored {
        /// Its offset in the file.
        offset: u64,
        /// The length of the value.
        bytes: u64,
    },
    /// Operands of merges, which work on what is older.
    Operands {
        /// The sequence number of the newest one here.
        sequence: u64,
        /// How many of them there are here. One that a compaction has made of several counts once.
        count: u64,
    },
}

impl LookupAnswer {
    fn of(entry: &Entry) -> Self {
        let sequence = entry.sequence.0;
        match entry.kind() {
            Kind::Put => Self::Value { sequence, bytes: entry.value_bytes() as u64 },
            Kind::Pointer => Self::Elsewhere { sequence },
            Kind::Delete => Self::Tombstone { sequence },
            Kind::RangeDelete => Self::RangeTombstone,
            Kind::Merge => Self::Operands { sequence, count: 0 },
        }
    }
}

impl fmt::Display for LookupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |kind: FileKind, number: u64| kind.name(FileNumber(number));
        match *self {
            Self::Memtable { segment } => write!(f, "memtable over {}", name(FileKind::Segment, segment)),
            Self::Level { level } => write!(f, "level {level}"),
            Self::Table { level, number } => write!(f, "level {level}, {}", name(FileKind::Table, number)),
            Self::ValueFile { number } => f.write_str(&name(FileKind::Values, number)),
            Self::Kept => f.write_str("kept in memory"),
        }
    }
}

impl fmt::Display for LookupAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Missing => f.write_str("nothing"),
            Self::OutOfRange => f.write_str("its keys are elsewhere"),
            Self::RuledOut => f.write_str("ruled out"),
            Self::RangeTombstone => f.write_str("hidden by a range tombstone"),
            Self::Tombstone { sequence } => write!(f, "removed at {sequence}"),
            Self::Value { sequence, bytes } => write!(f, "written at {sequence}, {bytes} bytes"),
            Self::Elsewhere { sequence } => write!(f, "written at {sequence}, the value stands apart"),
            Self::Stored { offset, bytes } => write!(f, "{bytes} bytes at offset {offset}"),
            Self::Operands { sequence, count: 1 } => write!(f, "operand of a merge at {sequence}"),
            Self::Operands { sequence, count } => write!(f, "{count} operands of merges, the newest at {sequence}"),
        }
    }
}

impl fmt::Display for LookupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(offset) = self.index_offset {
            write!(f, "index at {offset}, ")?;
        }
        for entry in &self.entries {
            write!(f, "entry at {}{}, ", entry.place, if entry.is_of_key { "" } else { " of another key" })?;
        }
        write!(f, "{}", self.answer)
    }
}

/// A line for the key, one for each step, and one for what has come of it.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at sequence {}", self.key.escape_ascii(), self.sequence)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        match self.value_bytes {
            Some(bytes) => write!(f, "found, {bytes} bytes"),
            None => f.write_str("not found"),
        }
    }
}

/// What is noted while a key is looked up.
#[derive(Debug, Default)]
struct Notes {
    steps: Vec<LookupStep>,
    /// Of the table that is asked now, as is what follows.
    index_offset: Option<u64>,
    entries: Vec<EntryLookedAt>,
    let_pass: bool,
}

impl Notes {
    fn note(&mut self, place: LookupPlace, answer: LookupAnswer) {
        self.let_pass = false;
        let (index_offset, entries) = (self.index_offset.take(), std::mem::take(&mut self.entries));
        self.steps.push(LookupStep { place, index_offset, entries, answer });
    }
}

impl Witness for Notes {
    fn line(&mut self, at: impl FnOnce() -> Option<u64>) {
        self.index_offset = at();
    }

    fn entry(&mut self, place: usize, _entry: &Entry, is_of_key: bool) {
        self.entries.push(EntryLookedAt { place: place as u64, is_of_key });
        self.let_pass = true;
    }

    fn none_behind(&mut self) {
        self.let_pass = true;
    }
}

impl Onlooker for Notes {
    fn begin(&mut self) {
        *self = Self::default();
    }

    fn memtable(&mut self, memtable: &Memtable, said: &Lookup) {
        let answer = match said {
            Lookup::Missing | Lookup::Retry => LookupAnswer::Missing,
            Lookup::Removed => LookupAnswer::RangeTombstone,
            Lookup::Entry(entry) => LookupAnswer::of(entry),
        };
        self.note(LookupPlace::Memtable { segment: memtable.number().0 }, answer);
    }

    fn level_without(&mut self, level: u8) {
        self.note(LookupPlace::Level { level }, LookupAnswer::OutOfRange);
    }

    fn table(&mut self, level: u8, table: &Table, said: Said<'_>) {
        let answer = match said {
            Said::OutOfRange => LookupAnswer::OutOfRange,
            Said::Answer(Answer::Entry(entry)) => LookupAnswer::of(entry),
            Said::Answer(Answer::InBlock(found)) => LookupAnswer::of(&found.0),
            Said::Answer(Answer::Removed) => LookupAnswer::RangeTombstone,
            Said::Answer(Answer::Missing) if self.let_pass => LookupAnswer::Missing,
            Said::RuledOut | Said::Answer(Answer::Missing) => LookupAnswer::RuledOut,
        };
        self.note(LookupPlace::Table { level, number: table.number().0 }, answer);
    }

    fn value_file(&mut self, number: FileNumber, pointer: Pointer) {
        let answer = LookupAnswer::Stored { offset: pointer.offset, bytes: pointer.length.into() };
        self.note(LookupPlace::ValueFile { number: number.0 }, answer);
    }

    fn below_operands<'a>(&mut self, stored: impl FnOnce() -> Option<Stored<'a>>, entry: &Entry, hidden: bool) {
        let place = match stored() {
            Some(Stored::Memtable(memtable)) => LookupPlace::Memtable { segment: memtable.number().0 },
            Some(Stored::Table(level, table)) => LookupPlace::Table { level, number: table.number().0 },
            None => return,
        };
        let answer = if hidden { LookupAnswer::RangeTombstone } else { LookupAnswer::of(entry) };
        let is_operand = matches!(answer, LookupAnswer::Operands { .. });
        if let Some(LookupStep { place: last, answer: LookupAnswer::Operands { count, .. }, .. }) =
            self.steps.last_mut()
        {
            if *last == place && is_operand {
                *count += 1;
                return;
            }
            if *count == 0 {
                // It has been flushed, or compacted, since it was found.
                self.steps.pop();
            }
        }
        if let LookupPlace::Table { .. } = place {
            self.entries.push(EntryLookedAt { place: entry.start as u64, is_of_key: true });
        }
        let answer = match answer {
            LookupAnswer::Operands { sequence, .. } => LookupAnswer::Operands { sequence, count: 1 },
            other => other,
        };
        self.note(place, answer);
    }

    fn kept(&mut self, kept: &KeptValue) {
        if matches!(self.steps.last(), Some(LookupStep { answer: LookupAnswer::Operands { count: 0, .. }, .. })) {
            // All that there is has been kept.
            self.steps.pop();
        }
        let answer = LookupAnswer::Value { sequence: kept.at.0, bytes: kept.value.len() as u64 };
        self.note(LookupPlace::Kept, answer);
    }
}

impl Readers {
    /// Looks a key up at a registered sequence, and notes how.
    pub(crate) fn explain(&self, keyspace: KeyspaceId, key: &[u8], at: &Registration) -> Result<Explanation> {
        let mut notes = Notes::default();
        let found = self.get_at_before(keyspace, key, at, &mut notes)?;
        Ok(Explanation {
            key: key.to_vec(),
            sequence: at.at.0,
            steps: notes.steps,
            value_bytes: found.map(|value| value.len() as u64),
        })
    }
}
