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
    /// A type that may be ignored.
    Ignored(u8),
}

/// Types with this bit may be ignored.
const IGNORABLE: u8 = 0x80;
const EXPIRY: u8 = 0x81;

/// How many bytes the extension at the front of `rest` takes. They may reach beyond `rest`.
pub(super) fn extension_bytes(rest: &[u8]) -> Result<usize, Fault> {
    let [units, kind, ..] = *rest else { return Err(Damage::OutOfBounds.into()) };
    if kind & IGNORABLE == 0 {
        return Err(Feature::EntryExtension(kind).into());
    }
    if units == 0 || (kind == EXPIRY && units != 1) {
        return Err(Damage::BadField.into());
    }
    Ok(usize::from(units) * 8)
}

impl Extension {
    /// What the extension at the front of `rest` says.
    pub(super) fn read(rest: &[u8]) -> Result<Self, Fault> {
        let extension = bytes::slice(rest, 0, extension_bytes(rest)? as u64)?;
        let [_, kind, data @ ..] = extension else { return Err(Damage::OutOfBounds.into()) };
        if *kind != EXPIRY {
            return Ok(Self::Ignored(*kind));
        }
        let mut seconds = [0; 8];
        if let (Some(low), Ok(data)) = (seconds.first_chunk_mut::<6>(), data.try_into()) {
            *low = data;
        }
        Ok(Self::Expiry(u64::from_le_bytes(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_ignorable_types_are_read_and_others_refused() {
        let expiry = [1, 0x81, 0x15, 0xcd, 0x5b, 7, 0, 0, 9];
        assert_eq!(Extension::read(&expiry), Ok(Extension::Expiry(123_456_789)));
        let mut long = [7; 24];
        long[..2].copy_from_slice(&[3, 0xff]);
        assert_eq!(Extension::read(&long), Ok(Extension::Ignored(0xff)));
        assert_eq!(Extension::read(&long[..23]), Err(Damage::OutOfBounds.into()));
        assert_eq!(Extension::read(&[1]), Err(Damage::OutOfBounds.into()));
        assert_eq!(Extension::read(&[0, 0x81, 0, 0, 0, 0, 0, 0]), Err(Damage::BadField.into()));
        assert_eq!(Extension::read(&[2, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Damage::BadField.into()));
        for kind in 0..0x80 {
            assert_eq!(
                Extension::read(&[1, kind, 0, 0, 0, 0, 0, 0]),
                Err(Feature::EntryExtension(kind).into()),
                "type {kind}"
            );
        }
    }
}
