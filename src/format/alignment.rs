//! FORMAT.md, sections 6.1 and 12.4.
//!
//! The alignment of values: zeros stand in front of a value, so that it begins at a multiple of 8 or 16 bytes of its file.

use super::align_up;

/// How the values of a keyspace are aligned, and with them where its entries begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Alignment {
    /// A value stands right behind its key.
    #[default]
    None,
    Eight,
    Sixteen,
}

/// The bits of an entry's flags.
const SHIFT: u8 = 5;
const ALIGNMENT_FLAGS: u8 = 0x60;

impl Alignment {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Eight, Self::Sixteen];

    /// The bits of an entry's flags that say so.
    #[inline]
    pub(super) fn flags(self) -> u8 {
        (self as u8) << SHIFT
    }

    /// What an entry's flags say; nothing for bits that are not assigned.
    #[inline]
    pub(super) fn of_flags(flags: u8) -> Option<Self> {
        match (flags & ALIGNMENT_FLAGS) >> SHIFT {
            0 => Some(Self::None),
            1 => Some(Self::Eight),
            2 => Some(Self::Sixteen),
            _ => None,
        }
    }

    /// As sections and keyspaces store it.
    pub(crate) fn log2(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Eight => 3,
            Self::Sixteen => 4,
        }
    }

    pub(crate) fn of_log2(log2: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|alignment| alignment.log2() == log2)
    }

    /// Where a value begins of an entry whose key ends at `key_end`, both counted from the start of the entry.
    #[inline]
    pub(crate) fn value_start(self, key_end: u64) -> u64 {
        match self {
            Self::None => key_end,
            Self::Eight => align_up(key_end),
            Self::Sixteen => align_up_wide(key_end),
        }
    }

    /// Rounds up to where an entry can begin: a multiple of 8, or of 16 if values are aligned to 16.
    #[inline]
    pub(crate) fn entry_start(self, offset: u64) -> u64 {
        if self == Self::Sixteen { align_up_wide(offset) } else { align_up(offset) }
    }
}

/// Rounds up to a multiple of 16.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "offsets and lengths below 2^63")]
const fn align_up_wide(bytes: u64) -> u64 {
    (bytes + 15) & !15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_logarithms_round_trip() {
        for alignment in Alignment::ALL {
            assert_eq!(Alignment::of_flags(alignment.flags() | 0x9f), Some(alignment));
            assert_eq!(Alignment::of_log2(alignment.log2()), Some(alignment));
        }
        assert_eq!((Alignment::of_flags(0x60), Alignment::of_log2(1), Alignment::of_log2(5)), (None, None, None));
    }

    #[test]
    fn places_are_rounded_up() {
        assert_eq!(Alignment::ALL.map(|a| a.value_start(13)), [13, 16, 16]);
        assert_eq!(Alignment::ALL.map(|a| a.value_start(16)), [16, 16, 16]);
        assert_eq!(Alignment::ALL.map(|a| a.entry_start(17)), [24, 24, 32]);
    }
}
