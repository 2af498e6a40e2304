//! Views with types: what they write is what they read, in the order of the keys, everywhere; and what is there of other types
//! is told and left alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Debug;

use maplsm::operators::Counter;
use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U16};
use maplsm::{
    CodecError, Db, Error, KeyspaceOptions, Layout, SimFs, Slice, Typed, TypedStore, TypedWrite, ValueCodec,
    WriteBatch, key,
};

use crate::support::{DIR, sim_options};

fn open() -> Db {
    sim_options(&SimFs::new()).known_operator(Counter).open(DIR).unwrap()
}

type Key = (String, Reverse<i32>);
type Model = BTreeMap<Key, u64>;

fn model_key(name: u64, number: u64) -> Key {
    (
        ["", "a", "a\0", "b"][usize::try_from(name % 4).unwrap()].to_owned(),
        Reverse(i32::try_from(number % 5).unwrap() - 2),
    )
}

/// Compares everything that a view reads with a map.
fn compare<S: TypedStore>(view: &Typed<Key, u64, S>, model: &Model, what: &str) {
    let all = |found: &mut dyn Iterator<Item = maplsm::Result<(Key, u64)>>| -> Vec<(Key, u64)> {
        found.collect::<Result<_, _>>().unwrap()
    };
    let expected = |is_in: &dyn Fn(&Key) -> bool| -> Vec<(Key, u64)> {
        model.iter().filter(|(key, _)| is_in(key)).map(|(key, value)| (key.clone(), *value)).collect()
    };
    assert_eq!(all(&mut view.iter()), expected(&|_| true), "{what}");
    let mut backwards = all(&mut view.into_iter().rev());
    backwards.reverse();
    assert_eq!(backwards, expected(&|_| true), "{what}");
    assert_eq!(view.first().unwrap(), expected(&|_| true).first().cloned(), "{what}");
    assert_eq!(view.last().unwrap(), expected(&|_| true).last().cloned(), "{what}");
    assert_eq!(view.is_empty().unwrap(), model.is_empty(), "{what}");
    for name in 0..4 {
        let (name, _) = model_key(name, 0);
        assert_eq!(all(&mut view.prefix((name.as_str(),))), expected(&|key| key.0 == name), "{what}");
        assert_eq!(all(&mut view.prefix_range((&name,)..)), expected(&|key| key.0 >= name), "{what}");
        for number in -2..=2 {
            let bound = (name.clone(), Reverse(number));
            assert_eq!(all(&mut view.range::<Key>(&bound..)), expected(&|key| *key >= bound), "{what}");
            assert_eq!(all(&mut view.range(..(&name, Reverse(number)))), expected(&|key| *key < bound), "{what}");
            let value = model.get(&bound).copied();
            assert_eq!(view.get((name.as_str(), Reverse(number))).unwrap(), value, "{what}");
            assert_eq!(view.contains_key(&bound).unwrap(), value.is_some(), "{what}");
        }
    }
}

/// One change, through whatever can be written.
fn change<S: TypedWrite>(view: &Typed<Key, u64, S>, model: &mut Model, random: u64) {
    let key = model_key(random >> 3, random >> 5);
    match random % 8 {
        0 => {
            view.remove(&key).unwrap();
            model.remove(&key);
        }
        1 => {
            view.merge((key.0.as_str(), key.1), &random).unwrap();
            model.entry(key).and_modify(|value| *value = value.wrapping_add(random)).or_insert(random);
        }
        2 if random % 64 == 2 => {
            view.remove_prefix((&key.0,)).unwrap();
            model.retain(|other, _| other.0 != key.0);
        }
        3 => {
            let end = model_key(random >> 8, random >> 11);
            view.remove_range::<Key>(&key..&end).unwrap();
            model.retain(|other, _| *other < key || *other >= end);
        }
        _ => {
            view.insert(&key, &random).unwrap();
            model.insert(key, random);
        }
    }
}

#[test]
fn views_agree_with_a_map() {
    for seed in 0..20u64 {
        let db = open();
        let keyspace = db.create_keyspace("typed", KeyspaceOptions::new().merge_operator(Counter)).unwrap();
        let view: Typed<Key, u64> = Typed::new(keyspace.clone());
        let (mut model, mut random) = (Model::new(), seed);
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            let (before, snapshot) = (model.clone(), db.snapshot());
            (0..next() % 20).for_each(|_| change(&view, &mut model, next()));
            compare(&view, &model, &what);
            let tx = db.transaction();
            let (within, mut in_model) = (view.within(&tx), model.clone());
            (0..next() % 10).for_each(|_| change(&within, &mut in_model, next()));
            compare(&within, &in_model, &what);
            compare(&view, &model, &what);
            if next() % 2 == 0 {
                tx.commit().unwrap();
                model = in_model;
            }
            let mut batch = WriteBatch::new();
            for _ in 0..next() % 6 {
                let (key, value) = (model_key(next(), next()), next());
                match value % 6 {
                    0 => {
                        view.remove_from(&mut batch, &key);
                        model.remove(&key);
                    }
                    1 => {
                        view.remove_prefix_from(&mut batch, (&key.0,));
                        model.retain(|other, _| other.0 != key.0);
                    }
                    _ => {
                        view.insert_into(&mut batch, &key, &value).unwrap();
                        model.insert(key, value);
                    }
                }
            }
            db.write(&batch).unwrap();
            compare(&view, &model, &what);
            compare(&view.at(&snapshot), &before, &what);
        }
        assert_eq!(keyspace.iter().count(), model.len(), "seed {seed}");
    }
}

#[test]
fn updates_with_types() {
    let db = open();
    let view: Typed<u32, String> = Typed::new(db.keyspace("typed").unwrap());
    let append = |old: Option<String>| Some(old.unwrap_or_default() + "x");
    assert_eq!(view.update(7u32, append).unwrap().as_deref(), Some("x"));
    assert_eq!(view.update(7u32, append).unwrap().as_deref(), Some("xx"));
    assert_eq!(view.update(7u32, |_| None::<&str>).unwrap(), None);
    assert!(!view.contains_key(7u32).unwrap());
    assert_eq!(view.update(7u32, |_| None::<&str>).unwrap(), None);
    assert_eq!(view.insert_if_absent(7u32, "first").unwrap(), None);
    assert_eq!(view.insert_if_absent(7u32, "second").unwrap().as_deref(), Some("first"));
    assert_eq!(view.take(7u32).unwrap().as_deref(), Some("first"));
    assert_eq!(view.take(7u32).unwrap(), None);
    assert!(view.is_empty().unwrap());
}

#[derive(Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Point {
    x: U16,
    y: U16,
}

/// A value by codec, and its bytes.
fn stands_as<V: ValueCodec>(db: &Db, value: &V::Item, bytes: &[u8]) -> V::Out {
    let view: Typed<bool, V> = Typed::new(db.keyspace("codecs").unwrap());
    view.insert(true, value).unwrap();
    assert_eq!(view.store().get(key::encode(&true)).unwrap().unwrap(), *bytes);
    view.get(true).unwrap().unwrap()
}

#[test]
fn every_codec_reads_what_it_has_written() {
    let db = open();
    assert_eq!(stands_as::<String>(&db, "ä", b"\xc3\xa4"), "ä");
    assert_eq!(stands_as::<Vec<u8>>(&db, b"ab", b"ab"), b"ab");
    assert_eq!(stands_as::<Slice>(&db, b"", b""), b"");
    assert_eq!(stands_as::<u8>(&db, &7, &[7]), 7);
    assert_eq!(stands_as::<i16>(&db, &-2, &[0xfe, 0xff]), -2);
    assert_eq!(stands_as::<u32>(&db, &1, &[1, 0, 0, 0]), 1);
    assert_eq!(stands_as::<i128>(&db, &-1, &[0xff; 16]), -1);
    assert_eq!(stands_as::<f64>(&db, &1.0, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]).to_bits(), 1.0f64.to_bits());
    assert!(stands_as::<bool>(&db, &true, &[1]));
    stands_as::<()>(&db, &(), &[]);
    let point = Point { x: 1.into(), y: 2.into() };
    assert_eq!(stands_as::<Layout<Point>>(&db, &point, &[1, 0, 2, 0]), point);
    assert_eq!(stands_as::<Even>(&db, &4, b"4"), 4);
    #[cfg(feature = "serde")]
    {
        let value = ("ä".to_owned(), Some(300u32));
        assert_eq!(
            stands_as::<maplsm::Postcard<(String, Option<u32>)>>(&db, &value, b"\x02\xc3\xa4\x01\xac\x02"),
            value
        );
    }
}

/// Even numbers, in text.
struct Even;

impl ValueCodec for Even {
    type Item = u32;
    type Out = u32;

    fn to_bytes(value: &u32) -> Result<impl AsRef<[u8]>, CodecError> {
        if value.is_multiple_of(2) { Ok(value.to_string()) } else { Err(CodecError::new("it is odd")) }
    }

    fn from_bytes(bytes: Slice) -> Result<u32, CodecError> {
        std::str::from_utf8(&bytes).map_err(CodecError::new)?.parse().map_err(CodecError::new)
    }
}

/// The text of a refusal.
fn refused<T: Debug>(outcome: maplsm::Result<T>) -> String {
    let refused = outcome.expect_err("it is no value of the type");
    assert!(matches!(refused, Error::Codec { .. }), "{refused:?}");
    refused.to_string()
}

#[test]
fn what_is_of_another_type_is_told_and_stays() {
    let db = open();
    let keyspace = db.keyspace("typed").unwrap();
    let view: Typed<u16, Even> = Typed::new(keyspace.clone());
    keyspace.insert([0, 1], "12").unwrap();
    keyspace.insert([0, 2], "strange").unwrap();
    keyspace.insert([3], "12").unwrap();
    keyspace.insert([4, 0], "14").unwrap();
    assert_eq!(refused(view.get(2u16)), "cannot decode a value: invalid digit found in string");
    assert_eq!(refused(view.update(2u16, |_| Some(2u32))), refused(view.take(2u16)));
    refused(view.insert_if_absent(2u16, &2));
    assert_eq!(keyspace.get([0, 2]).unwrap().unwrap(), "strange");
    assert!(view.contains_key(2u16).unwrap());
    let all: Vec<_> = view.iter().map(|entry| entry.map_err(|e| refused(Err::<(), _>(e)))).collect();
    let no_value = "cannot decode a value: invalid digit found in string".to_owned();
    let no_key = "cannot decode a key: it ends too early, after 1 bytes".to_owned();
    assert_eq!(all, [Ok((1, 12)), Err(no_value), Err(no_key), Ok((0x400, 14))]);

    assert_eq!(refused(view.insert(1u16, &3)), "cannot encode a value: it is odd");
    assert_eq!(refused(view.update(1u16, |old| old.map(|old| old + 1))), "cannot encode a value: it is odd");
    assert_eq!(view.get(1u16).unwrap(), Some(12), "nothing has changed");
    let mut batch = WriteBatch::new();
    refused(view.insert_into(&mut batch, 1u16, &3));
    assert!(batch.is_empty());
    let tx = db.transaction();
    refused(view.within(&tx).insert(1u16, &3));
    refused(view.within(&tx).get(2u16));

    keyspace.insert([0, 1], "1").unwrap();
    refused(Typed::<u16, u32>::new(keyspace.clone()).get(1u16));
    refused(Typed::<u16, bool>::new(keyspace.clone()).get(1u16));
    refused(Typed::<u16, ()>::new(keyspace.clone()).get(1u16));
    assert!(refused(Typed::<u16, Layout<Point>>::new(keyspace.clone()).get(1u16)).ends_with("Point takes 4"));
    keyspace.insert([0, 1], b"\xff").unwrap();
    refused(Typed::<u16, String>::new(keyspace.clone()).get(1u16));
    #[cfg(feature = "serde")]
    {
        refused(Typed::<u16, maplsm::Postcard<u32>>::new(keyspace.clone()).get(1u16));
        keyspace.insert([0, 1], b"\x01\x01").unwrap();
        let left = refused(Typed::<u16, maplsm::Postcard<u32>>::new(keyspace.clone()).get(1u16));
        assert_eq!(left, "cannot decode a value: 1 bytes are left behind it");
    }
}
