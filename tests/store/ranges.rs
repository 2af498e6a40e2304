//! Every way to name a range that must go on compiling, on every call that takes one, and that it means what it says.
//!
//! A range may be any `RangeBounds<K>`, also a type of the caller's or one that he is generic over. So its kind of key is not
//! always told by it: `..` has none, `&a..&b` is a range of `A` and one of `&A`, and so is a pair of bounds by reference. There
//! the kind of key is named, which every call allows. An argument that would infer it could have one kind of key for each type
//! of range; but programs name `&str` as well as `&[u8]` for `..`, and are generic over `RangeBounds<K>`.

use std::ops::{Bound, RangeBounds};

use maplsm::{Db, SimFs, Slice, WriteBatch};

use crate::support::{DIR, sim_options};

fn open() -> Db {
    let db = sim_options(&SimFs::new()).open(DIR).unwrap();
    let mut batch = WriteBatch::new();
    for key in ["a", "b", "c", "d", "e"] {
        batch.insert(key, key);
    }
    db.write(&batch).unwrap();
    db
}

/// What a range leaves of the five keys.
fn keys(iter: maplsm::Iter) -> String {
    iter.map(|entry| String::from_utf8(entry.unwrap().key().to_vec()).unwrap()).collect()
}

/// A range of the caller's own.
struct From<'k>(&'k str);

impl RangeBounds<str> for From<'_> {
    fn start_bound(&self) -> Bound<&str> {
        Bound::Included(self.0)
    }

    fn end_bound(&self) -> Bound<&str> {
        Bound::Unbounded
    }
}

impl RangeBounds<String> for From<'_> {
    fn start_bound(&self) -> Bound<&String> {
        Bound::Unbounded
    }

    fn end_bound(&self) -> Bound<&String> {
        Bound::Unbounded
    }
}

/// A caller that is generic.
fn generic<K: AsRef<[u8]>, R: RangeBounds<K>>(db: &Db, range: R) -> String {
    keys(db.range(range))
}

/// Runs the same over each form: `$call!(range)` or `$call!(for K, range)`, with what it leaves.
macro_rules! forms {
    ($call:ident) => {{
        let (b, d) = ("b".to_owned(), "d".to_owned());
        let (bytes_b, bytes_d) = (b"b".to_vec(), b"d".to_vec());
        let (slice_b, slice_d): (&[u8], &[u8]) = (&bytes_b, &bytes_d);
        // Inferred.
        $call!("b".."d", "bc");
        $call!("b"..="d", "bcd");
        $call!("b".., "bcde");
        $call!(.."d", "abc");
        $call!(..="d", "abcd");
        $call!([b'b']..[b'd'], "bc");
        $call!(b.clone()..d.clone(), "bc");
        $call!(b.clone().., "bcde");
        $call!(..=d.clone(), "abcd");
        $call!(..="d".to_string(), "abcd");
        $call!(bytes_b.clone()..bytes_d.clone(), "bc");
        $call!(..bytes_d.clone(), "abc");
        $call!(slice_b..slice_d, "bc");
        $call!(slice_b..=slice_d, "bcd");
        $call!(slice_b.., "bcde");
        $call!(b.as_str()..d.as_str(), "bc");
        $call!(&b[..]..&d[..], "bc");
        $call!((Bound::Excluded(b.clone()), Bound::Unbounded), "cde");
        $call!((Bound::Excluded(bytes_b.clone()), Bound::Included(bytes_d.clone())), "cd");
        $call!((Bound::Included([b'b']), Bound::Excluded([b'd'])), "bc");
        // With the kind of key.
        $call!(for &str, .., "abcde");
        $call!(for &[u8], .., "abcde");
        $call!(for String, .., "abcde");
        $call!(for Vec<u8>, .., "abcde");
        $call!(for [u8; 1], .., "abcde");
        $call!(for Slice, .., "abcde");
        $call!(for &str, "b".."d", "bc");
        $call!(for [u8; 1], b"b"..b"d", "bc");
        $call!(for &[u8; 1], b"b"..b"d", "bc");
        $call!(for &[u8], slice_b.., "bcde");
        $call!(for String, &b..&d, "bc");
        $call!(for &String, &b..&d, "bc");
        $call!(for Vec<u8>, &bytes_b..=&bytes_d, "bcd");
        $call!(for Vec<u8>, &bytes_b.., "bcde");
        $call!(for &[u8], (Bound::Excluded(slice_b), Bound::Unbounded), "cde");
        $call!(for &str, (Bound::Excluded("b"), Bound::Included("d")), "cd");
        $call!(for Vec<u8>, (Bound::Excluded(&bytes_b), Bound::Unbounded), "cde");
        $call!(for &str, (Bound::Unbounded, Bound::Excluded("d")), "abc");
        $call!(for String, (Bound::Unbounded::<String>, Bound::Unbounded), "abcde");
        $call!(for String, From("b"), "abcde");
    }};
}

#[test]
fn every_form_of_a_range_reads() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    named.ingest(db.iter().map(|entry| entry.unwrap().into_parts())).unwrap();
    let snapshot = db.snapshot();
    let tx = db.transaction();
    macro_rules! read {
        (for $kind:ty, $range:expr, $left:expr) => {{
            assert_eq!(keys(db.range::<$kind>($range)), $left);
            assert_eq!(keys(named.range::<$kind>($range)), $left);
            assert_eq!(keys(snapshot.range::<$kind>($range)), $left);
            assert_eq!(tx.range::<$kind>($range).count(), $left.len());
            assert_eq!(tx.range_of::<$kind>(&named, $range).count(), $left.len());
            assert_eq!(db.approximate_len::<$kind>($range).unwrap(), $left.len() as u64);
            assert!(named.approximate_size::<$kind>($range).unwrap() > 0);
            db.compact_range::<$kind>($range).unwrap();
            named.compact_range::<$kind>($range).unwrap();
        }};
        ($range:expr, $left:expr) => {{
            assert_eq!(keys(db.range($range)), $left);
            assert_eq!(keys(named.range($range)), $left);
            assert_eq!(keys(snapshot.range($range)), $left);
            assert_eq!(tx.range($range).count(), $left.len());
            assert_eq!(tx.range_of(&named, $range).count(), $left.len());
            assert_eq!(generic(&db, $range), $left);
            assert_eq!(db.approximate_len($range).unwrap(), $left.len() as u64);
            assert!(named.approximate_size($range).unwrap() > 0);
            db.compact_range($range).unwrap();
            named.compact_range($range).unwrap();
        }};
    }
    db.compact().unwrap();
    forms!(read);
}

#[test]
fn every_form_of_a_range_removes() {
    let db = open();
    let named = db.keyspace("named").unwrap();
    let fill = || {
        for key in ["a", "b", "c", "d", "e"] {
            db.insert(key, key).unwrap();
            named.insert(key, key).unwrap();
        }
    };
    let removed = |left: &str| {
        for iter in [db.iter(), named.iter()] {
            let there = keys(iter);
            assert!(
                left.chars().all(|key| !there.contains(key)) && there.len() + left.len() == 5,
                "{there} without {left}"
            );
        }
        fill();
    };
    macro_rules! remove {
        (for $kind:ty, $range:expr, $left:expr) => {{
            db.remove_range::<$kind>($range).unwrap();
            named.remove_range::<$kind>($range).unwrap();
            removed($left);
            db.write(WriteBatch::new().remove_range::<$kind>($range).remove_range_from::<$kind>(&named, $range))
                .unwrap();
            removed($left);
            let tx = db.transaction();
            tx.remove_range::<$kind>($range).unwrap();
            tx.remove_range_from::<$kind>(&named, $range).unwrap();
            tx.commit().unwrap();
            removed($left);
        }};
        ($range:expr, $left:expr) => {{
            db.remove_range($range).unwrap();
            named.remove_range($range).unwrap();
            removed($left);
            db.write(WriteBatch::new().remove_range($range).remove_range_from(&named, $range)).unwrap();
            removed($left);
            let tx = db.transaction();
            tx.remove_range($range).unwrap();
            tx.remove_range_from(&named, $range).unwrap();
            tx.commit().unwrap();
            removed($left);
        }};
    }
    fill();
    forms!(remove);
}
