//! Who looks on while a key is looked up in a read state: nobody, whoever counts what lookups touch, or who
//! [explains](super::explain) one.

use crate::format::FileNumber;
use crate::format::entry::Entry;
use crate::format::values::Pointer;
use crate::memtable::{Lookup, Memtable};
use crate::meter::Tally;
use crate::operator::KeptValue;
use crate::table::{Answer, Nobody, Table, Witness};

/// Bytes of a line of a point index.
const LINE_BYTES: u64 = 64;

/// What a table has said about a key.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// The key is in front of all others of the table, or behind them.
    OutOfRange,
    /// The first line of the index or the filter has ruled the key out.
    RuledOut,
    Answer(&'a Answer),
}

/// Where a version is that operands go on with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored<'a> {
    Memtable(&'a Memtable),
    /// On a level.
    Table(u8, &'a Table),
}

/// Is told where a lookup asks, in that order.
pub(super) trait Onlooker: Witness {
    /// A lookup begins, perhaps anew: what has been told before was of an attempt that has come to nothing.
    #[inline]
    fn begin(&mut self) {}

    #[inline]
    fn memtable(&mut self, _memtable: &Memtable, _said: &Lookup) {}

    /// No table of a level has keys on both sides of this one.
    #[inline]
    fn level_without(&mut self, _level: u8) {}

    #[inline]
    fn table(&mut self, _level: u8, _table: &Table, _said: Said<'_>) {}

    /// An entry has led to a value file.
    #[inline]
    fn value_file(&mut self, _number: FileNumber, _pointer: Pointer) {}

    /// Once the newest version has been found to be an operand: it, and each older one that the value is made of, newest first.
    /// The last one may be `hidden` by a range tombstone.
    #[inline]
    fn below_operands<'a>(&mut self, _stored: impl FnOnce() -> Option<Stored<'a>>, _entry: &Entry, _hidden: bool) {}

    /// What is older has been found in what an earlier read has made.
    #[inline]
    fn kept(&mut self, _kept: &KeptValue) {}
}

impl Onlooker for Nobody {}

impl Witness for Tally {
    fn line(&mut self, _at: impl FnOnce() -> Option<u64>) {
        self.bytes += LINE_BYTES;
    }

    fn entry(&mut self, _place: usize, entry: &Entry, is_of_key: bool) {
        self.entries += 1;
        self.bytes += (entry.end - entry.start) as u64;
        self.false_positives += u64::from(!is_of_key);
    }

    fn none_behind(&mut self) {
        self.entries += 1;
        self.false_positives += 1;
    }
}

impl Onlooker for Tally {
    fn begin(&mut self) {
        *self = Self::default();
    }

    fn memtable(&mut self, _memtable: &Memtable, _said: &Lookup) {
        self.memtables += 1;
    }

    fn table(&mut self, _level: u8, _table: &Table, said: Said<'_>) {
        let ruled_out = match said {
            Said::OutOfRange => return,
            Said::RuledOut => {
                self.bytes += LINE_BYTES;
                true
            }
            Said::Answer(Answer::Missing) => self.entries == 0,
            Said::Answer(_) => false,
        };
        self.entries = 0;
        self.tables += 1;
        self.ruled_out += u64::from(ruled_out);
    }

    fn value_file(&mut self, _number: FileNumber, pointer: Pointer) {
        self.bytes += u64::from(pointer.length);
    }
}
