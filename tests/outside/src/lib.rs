//! A user's crate: it has no dependency but maplsm, so that what compiles here compiles for everyone.
//!
//! Inside of maplsm, tests and examples have its dependencies as well, and would not notice that code needs one of them.

use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U32};

/// A value that is read in place, wherever it stands.
#[derive(Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[zerocopy(crate = "maplsm::zerocopy")]
#[repr(C)]
pub struct Point {
    /// To the right.
    pub x: U32,
    /// Downwards.
    pub y: U32,
}

/// A value that needs an alignment.
#[derive(Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "maplsm::zerocopy")]
#[repr(C)]
pub struct Vector {
    /// Of unit length.
    pub direction: [f64; 2],
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use maplsm::key::{self, Decode, DecodeError, Encode, EncodeAs, KeyInput};
    use maplsm::zerocopy::IntoBytes;
    use maplsm::{
        CodecError, Db, Error, FileSystem, KeyspaceOptions, Layout, MergeError, MergeOperator, Options, SimFs, Slice,
        Transaction, Typed, ValueCodec, WriteBatch,
    };

    use super::{Point, Vector};

    fn open() -> Db {
        Options::new().file_system(FileSystem::from(SimFs::new())).open("/db").unwrap()
    }

    #[test]
    fn structures_are_read_in_place() {
        let db = open();
        let point = Point { x: 640.into(), y: 480.into() };
        db.insert("corner", point.as_bytes()).unwrap();
        assert_eq!(db.get("corner").unwrap().unwrap().get_as::<Point>().unwrap(), &point);

        let vectors = db.create_keyspace("vectors", KeyspaceOptions::new().value_alignment(8)).unwrap();
        let vector = Vector { direction: [0.6, 0.8] };
        for length in 0..20 {
            let key = &"a key of some length"[..length];
            vectors.insert(key, vector.as_bytes()).unwrap();
            assert_eq!(vectors.get(key).unwrap().unwrap().get_as::<Vector>().unwrap(), &vector);
            db.insert(key, vector.as_bytes()).unwrap();
        }
        // Without the option, only chance aligns a value.
        let values = db.range(""..="a key of some length").map(|entry| entry.unwrap());
        let refused: Vec<Error> = values.filter_map(|entry| entry.value_as::<Vector>().err()).collect();
        assert!(!refused.is_empty());
        for refused in refused {
            assert!(refused.to_string().contains("`KeyspaceOptions::value_alignment(8)`"), "{refused}");
        }
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct UserId(u64);

    impl Encode for UserId {
        fn encode(&self, to: &mut Vec<u8>) {
            self.0.encode(to);
        }
    }

    impl EncodeAs<Self> for UserId {}

    impl Decode for UserId {
        fn decode(from: &mut KeyInput<'_>) -> Result<Self, DecodeError> {
            u64::decode(from).map(Self)
        }
    }

    /// A list of words.
    struct Words;

    impl ValueCodec for Words {
        type Item = [&'static str];
        type Out = Vec<String>;

        fn to_bytes(value: &[&'static str]) -> Result<impl AsRef<[u8]>, CodecError> {
            Ok(value.join(" "))
        }

        fn from_bytes(bytes: Slice) -> Result<Vec<String>, CodecError> {
            let text = std::str::from_utf8(&bytes).map_err(CodecError::new)?;
            Ok(text.split(' ').map(str::to_owned).collect())
        }
    }

    impl MergeOperator for Words {
        fn name(&self) -> &'static str {
            "outside.words"
        }

        fn merge(&self, _: &[u8], value: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
            Ok(value.into_iter().chain(operands.iter().copied()).collect::<Vec<_>>().join(&b' '))
        }
    }

    #[test]
    fn keys_values_and_operators_of_ones_own() {
        let db = Options::new().file_system(FileSystem::from(SimFs::new())).known_operator(Words).open("/db").unwrap();
        let words = db.create_keyspace("words", KeyspaceOptions::new().merge_operator(Words)).unwrap();
        let words: Typed<(UserId, u8), Words> = Typed::new(words);
        words.insert((UserId(7), 1), &["to", "be"]).unwrap();
        words.merge((UserId(7), 1), &["or", "not"]).unwrap();
        assert_eq!(
            words.first().unwrap().unwrap(),
            ((UserId(7), 1), ["to", "be", "or", "not"].map(str::to_owned).to_vec())
        );
        let mut batch = WriteBatch::new();
        words.insert_into(&mut batch, (UserId(8), 1), &["that"]).unwrap();
        db.write(batch).unwrap();
        assert_eq!(words.prefix((UserId(8),)).count(), 1);
        assert_eq!(words.store().range(key::prefix(&(UserId(7),))).count(), 1);
        let points: Typed<UserId, Layout<Point>> = Typed::new(db.keyspace("points").unwrap());
        points.insert(UserId(1), &Point { x: 1.into(), y: 2.into() }).unwrap();
        let moved = db.transact(|tx: &mut Transaction| {
            let points = points.within(tx);
            let mut point = points.get(UserId(1))?.ok_or(Error::Conflict)?;
            point.x = (point.x.get() + 1).into();
            points.insert(UserId(1), &point)?;
            Ok(point)
        });
        assert_eq!(points.get(UserId(1)).unwrap(), Some(moved.unwrap()));
    }
}
