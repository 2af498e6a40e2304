//! The keys that a command is about, as one range.

use std::ops::Bound;

use maplsm::{Iter, Keyspace};

use crate::args::{RangeArgs, Typed};
use crate::failure::Failure;
use crate::interrupt;

/// A range of keys: from the first to before the end, or without end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Span {
    first: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Span {
    pub(crate) fn new(from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> Self {
        Self { first: from.unwrap_or_default(), end: to }
    }

    /// Nothing, if no key is in the range.
    pub(crate) fn iter(self, of: &Keyspace) -> Iter {
        of.range(self.bounds())
    }

    /// The number of entries, unless an interrupt comes.
    pub(crate) fn count(self, of: &Keyspace) -> Result<u64, Failure> {
        let mut entries = 0;
        for entry in self.iter(of) {
            interrupt::check()?;
            entry?;
            entries += 1;
        }
        Ok(entries)
    }

    pub(crate) fn bounds(self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Included(self.first), self.end.map_or(Bound::Unbounded, Bound::Excluded))
    }
}

impl From<RangeArgs> for Span {
    fn from(args: RangeArgs) -> Self {
        let bytes = |typed: Option<Typed>| typed.map(|Typed(bytes)| bytes);
        let prefix = bytes(args.prefix).unwrap_or_default();
        let from = bytes(args.from).unwrap_or_default();
        let end = match (bytes(args.to), after_prefix(&prefix)) {
            (Some(to), Some(after)) => Some(to.min(after)),
            (to, after) => to.or(after),
        };
        Self { first: from.max(prefix), end }
    }
}

/// The first key after all keys that begin with `prefix`; none if they go on to the end.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: Option<&str>, to: Option<&str>, prefix: Option<&str>) -> (String, Option<String>) {
        let typed = |text: Option<&str>| text.map(|text| Typed(text.into()));
        let span = Span::from(RangeArgs { from: typed(from), to: typed(to), prefix: typed(prefix) });
        (String::from_utf8(span.first).unwrap(), span.end.map(|end| String::from_utf8(end).unwrap()))
    }

    #[test]
    fn range_and_prefix_narrow_each_other() {
        assert_eq!(span(None, None, None), (String::new(), None));
        assert_eq!(span(Some("b"), Some("d"), None), ("b".into(), Some("d".into())));
        assert_eq!(span(None, None, Some("ab")), ("ab".into(), Some("ac".into())));
        assert_eq!(span(Some("abc"), Some("z"), Some("ab")), ("abc".into(), Some("ac".into())));
        assert_eq!(span(Some("a"), Some("abx"), Some("ab")), ("ab".into(), Some("abx".into())));
    }

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(after_prefix(b""), None);
        assert_eq!(after_prefix(b"\xff\xff"), None);
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"a\x00"), Some(b"a\x01".to_vec()));
    }
}
