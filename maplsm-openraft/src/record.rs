//! Records: what the group's keyspaces hold, under which keys, and how it is encoded.
//!
//! The keyspace `log` has an entry under its index, 8 bytes big-endian; `meta` has the others under short names. A value is a
//! byte with the version of the encoding, and postcard's encoding of what openraft calls it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

const VERSION: u8 = 1;

/// A record that this crate keeps for a Raft group.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// What says that the group is there, written last when it is made.
    Format,
    /// The vote.
    Vote,
    /// The last log id that is known to be committed.
    Committed,
    /// The last log id that was purged.
    Purged,
    /// The last log id that was applied.
    Applied,
    /// The last membership that was applied.
    Membership,
    /// Which keyspace has the state.
    Generation,
    /// The current snapshot.
    Snapshot,
    /// The log entry of this index.
    Entry(u64),
}

impl Record {
    /// Its key in the keyspace `meta`; that of an entry is for the keyspace `log`.
    pub(crate) fn key(self) -> RecordKey {
        match self {
            Self::Format => RecordKey::Name("format"),
            Self::Vote => RecordKey::Name("vote"),
            Self::Committed => RecordKey::Name("committed"),
            Self::Purged => RecordKey::Name("purged"),
            Self::Applied => RecordKey::Name("applied"),
            Self::Membership => RecordKey::Name("membership"),
            Self::Generation => RecordKey::Name("generation"),
            Self::Snapshot => RecordKey::Name("snapshot"),
            Self::Entry(index) => RecordKey::Index(index.to_be_bytes()),
        }
    }

    pub(crate) fn encode(self, value: &impl Serialize) -> Result<Vec<u8>> {
        postcard::to_extend(value, vec![VERSION]).map_err(|source| Error::Unencodable { record: self, source })
    }

    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        let Some((&version, encoded)) = bytes.split_first() else {
            return Err(Error::Malformed { record: self, problem: "it is empty" });
        };
        if version != VERSION {
            return Err(Error::UnknownVersion { record: self, version });
        }
        match postcard::take_from_bytes(encoded) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(Error::Malformed { record: self, problem: "it is longer than what it encodes" }),
            Err(source) => Err(Error::Undecodable { record: self, source }),
        }
    }
}

/// The key of a record.
pub(crate) enum RecordKey {
    Name(&'static str),
    Index([u8; 8]),
}

impl AsRef<[u8]> for RecordKey {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Name(name) => name.as_bytes(),
            Self::Index(index) => index,
        }
    }
}

/// The index in a key of the log.
pub(crate) fn index_of(key: &[u8]) -> Result<u64> {
    let index = key.try_into().map(u64::from_be_bytes);
    index.map_err(|_| Error::Malformed { record: Record::Entry(0), problem: "its key is not one of 8 bytes" })
}
