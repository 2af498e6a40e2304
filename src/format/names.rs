//! FORMAT.md, section 2.
//!
//! File names: a number and an extension, nothing else. No string from a file ever reaches a path.

use super::FileNumber;

/// Held by whoever has the database open.
pub(crate) const LOCK: &str = "LOCK";
/// Names the manifest.
pub(crate) const CURRENT: &str = "CURRENT";
/// The next `CURRENT` before it is renamed.
pub(crate) const CURRENT_NEW: &str = "CURRENT.new";

/// Space that is kept for a full disk. Its bytes mean nothing.
pub(crate) const RESERVE: &str = "RESERVE";

/// A numbered kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileKind {
    Manifest,
    Segment,
    Table,
    Index,
    Values,
}

impl FileKind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Manifest, "manifest"),
        (Self::Segment, "wal"),
        (Self::Table, "sst"),
        (Self::Index, "idx"),
        (Self::Values, "val"),
    ];

    fn extension(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Segment => "wal",
            Self::Table => "sst",
            Self::Index => "idx",
            Self::Values => "val",
        }
    }

    /// The file name with this number.
    pub(crate) fn name(self, number: FileNumber) -> String {
        format!("{number}.{}", self.extension())
    }

    /// Reads a name back; `None` for every name that this crate does not write.
    pub(crate) fn parse(name: &str) -> Option<(Self, FileNumber)> {
        let (digits, extension) = name.split_once('.')?;
        let (kind, _) = Self::ALL.into_iter().find(|(_, e)| *e == extension)?;
        let number = FileNumber(digits.parse().ok()?);
        (kind.name(number) == name).then_some((kind, number))
    }
}

/// The files of a database among these names.
pub(crate) fn numbered(names: &[String]) -> impl Iterator<Item = (FileKind, FileNumber)> {
    names.iter().filter_map(|name| FileKind::parse(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_not_ours() {
        for (kind, _) in FileKind::ALL {
            for number in [0, 7, 999_999, 1_000_000, u64::MAX] {
                assert_eq!(FileKind::parse(&kind.name(FileNumber(number))), Some((kind, FileNumber(number))));
            }
        }
        for name in
            ["7.sst", "0000007.sst", "+00007.sst", "000007.SST", "000007", "notes.wal", "CURRENT", "000007.sst.bak"]
        {
            assert_eq!(FileKind::parse(name), None, "{name}");
        }
    }
}
