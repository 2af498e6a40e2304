//! Errors for serializers: what people read, with what programs ask for beside it.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::{Corruption, Error};

/// A structure of the kind, the message, and of damage the file and the offset.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let damage = self.corruption();
        let mut fields = to.serialize_struct("Error", 4)?;
        fields.serialize_field("kind", &format_args!("{:?}", self.kind()))?;
        fields.serialize_field("message", &format_args!("{self}"))?;
        fields.serialize_field("path", &damage.map(|damage| damage.path.to_string_lossy()))?;
        fields.serialize_field("offset", &damage.map(|damage| damage.offset))?;
        fields.end()
    }
}

/// A structure of the file, the offset, and what is wrong.
impl Serialize for Corruption {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Corruption", 3)?;
        fields.serialize_field("path", &self.path.to_string_lossy())?;
        fields.serialize_field("offset", &self.offset)?;
        fields.serialize_field("what", &format_args!("{}", self.what))?;
        fields.end()
    }
}
