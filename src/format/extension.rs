//! FORMAT.md, section 6.3.
//!
//! What an entry may say besides key and value: 8 n bytes between its header and its key.
//!
//! ```text
//! offset  size     field
//!      0     1     length n in units of 8 bytes, at least 1
//!      1     1     type; with the high bit set, a reader that does not know it may ignore it
//!      2     8n-2  data
//! ```

use super::bytes;
use crate::error::{Damage, Fault, Feature};

/// An extension whose length and type have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    /// From this second since 1970 (UTC) on the entry may be dropped.
    Expiry(u64),
    /// The merge operand stands for all of its key with sequence numbers from its own less this one to its own.
    FoldedFrom(u64),
    /// A type that may be ignored.
    Ignored(u8),
}

/// Types with this bit may be ignored.
const IGNORABLE: u8 = 0x80;
const EXPIRY: u8 = 0x81;
const FOLDED_FROM: u8 = 2;

/// How many bytes the extension at the front of `rest` takes, which is one of a merge operand or of another entry. They may
/// reach beyond `rest`.
pub(super) fn extension_bytes(rest: &[u8], of_operand: bool) -> Result<usize, Fault> {
    let [units, kind, ..] = *rest else { return Err(Damage::OutOfBounds.into()) };
    if kind & IGNORABLE == 0 && !(of_operand && kind == FOLDED_FROM) {
        return Err(Feature::EntryExtension(kind).into());
    }
    if units == 0 || (matches!(kind, EXPIRY | FOLDED_FROM) && units != 1) {
        return Err(Damage::BadField.into());
    }
    Ok(usize::from(units) * 8)
}

impl Extension {
    /// What the extension at the front of `rest` says.
    pub(super) fn read(rest: &[u8], of_operand: bool) -> Result<Self, Fault> {
        let extension = bytes::slice(rest, 0, extension_bytes(rest, of_operand)? as u64)?;
        let [_, kind, data @ ..] = extension else { return Err(Damage::OutOfBounds.into()) };
        let mut number = [0; 8];
        if let (Some(low), Ok(data)) = (number.first_chunk_mut::<6>(), data.try_into()) {
            *low = data;
        }
        let number = u64::from_le_bytes(number);
        Ok(match *kind {
            EXPIRY => Self::Expiry(number),
            FOLDED_FROM => Self::FoldedFrom(number),
            other => Self::Ignored(other),
        })
    }

    /// The extension of a merge operand that stands for others; none if the distance does not fit.
    pub(super) fn folded_from(distance: u64) -> Option<[u8; 8]> {
        let [data @ .., 0, 0] = distance.to_le_bytes() else { return None };
        let mut extension = [1, FOLDED_FROM, 0, 0, 0, 0, 0, 0];
        extension.last_chunk_mut::<6>().map(|place| *place = data)?;
        Some(extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_ignorable_types_are_read_and_others_refused() {
        let expiry = [1, 0x81, 0x15, 0xcd, 0x5b, 7, 0, 0, 9];
        assert_eq!(Extension::read(&expiry, false), Ok(Extension::Expiry(123_456_789)));
        let mut long = [7; 24];
        long[..2].copy_from_slice(&[3, 0xff]);
        assert_eq!(Extension::read(&long, false), Ok(Extension::Ignored(0xff)));
        assert_eq!(Extension::read(&long[..23], false), Err(Damage::OutOfBounds.into()));
        assert_eq!(Extension::read(&[1], false), Err(Damage::OutOfBounds.into()));
        assert_eq!(Extension::read(&[0, 0x81, 0, 0, 0, 0, 0, 0], false), Err(Damage::BadField.into()));
        assert_eq!(
            Extension::read(&[2, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], false),
            Err(Damage::BadField.into())
        );
        for kind in 0..0x80 {
            assert_eq!(
                Extension::read(&[1, kind, 0, 0, 0, 0, 0, 0], false),
                Err(Feature::EntryExtension(kind).into()),
                "type {kind}"
            );
        }
    }

    #[test]
    fn what_an_operand_was_folded_from_is_said_of_operands_alone() {
        let extension = Extension::folded_from(0xa0b_0c0d_0e0f).unwrap();
        assert_eq!(Extension::read(&extension, true), Ok(Extension::FoldedFrom(0xa0b_0c0d_0e0f)));
        assert_eq!(Extension::read(&extension, false), Err(Feature::EntryExtension(2).into()));
        assert_eq!(Extension::folded_from(1 << 48), None);
        let long = [[2, 2, 0, 0, 0, 0, 0, 0], [0; 8]].concat();
        assert_eq!(Extension::read(&long, true), Err(Damage::BadField.into()));
    }
}
