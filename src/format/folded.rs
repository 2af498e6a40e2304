//! FORMAT.md, section 6.6.
//!
//! Merge operands that stand for several.

use zerocopy::IntoBytes;

use super::Sequence;
use super::alignment::Alignment;
use super::entry::{EntryHeader, Kind};
use super::extension::Extension;

/// Appends a merge operand that stands for all of its key with sequence numbers from `oldest` to its own. Returns false, and
/// has done nothing, if these are too far apart.
#[expect(clippy::arithmetic_side_effects, reason = "the sum of lengths of values in memory")]
pub(crate) fn push_folded(
    out: &mut Vec<u8>,
    (oldest, sequence): (Sequence, Sequence),
    key: &[u8],
    value: &[u8],
    alignment: Alignment,
) -> bool {
    let Some(extension) = Extension::folded_from(sequence.0.saturating_sub(oldest.0)) else { return false };
    let start = out.len();
    let header = EntryHeader::new(Kind::Merge, sequence, key, value, alignment).with_extension();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&extension);
    out.extend_from_slice(key);
    let round = |length: usize, to: fn(Alignment, u64) -> u64| {
        start + usize::try_from(to(alignment, (length - start) as u64)).unwrap_or(usize::MAX)
    };
    out.resize(round(out.len(), Alignment::value_start), 0);
    out.extend_from_slice(value);
    out.resize(round(out.len(), Alignment::entry_start), 0);
    true
}
