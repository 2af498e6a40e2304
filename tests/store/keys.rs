//! Keys made of values: the order is that of the values, all of them come back, and whatever bytes are decoded is told.

use std::cmp::{Ordering, Reverse};
use std::fmt::Debug;

use maplsm::SimFs;
use maplsm::key::{self, Decode, DecodeError, Encode};

use crate::support::keys::{Floats, run};
use crate::support::{DIR, sim_options};

const SEEDS: u64 = 40;
const VALUES: usize = 60;

/// Draws values of which many are equal, or close to each other.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// All widths, and the ends of each.
    fn number(&mut self) -> u128 {
        let bits = u128::from(self.below(1 << 31)) << 64
            | u128::from(self.below(1 << 31)) << 33
            | u128::from(self.below(1 << 31));
        match self.below(5) {
            0 => bits >> self.below(120),
            1 => !(bits >> self.below(120)),
            2 => 1 << self.below(128),
            3 => (1 << self.below(128)) - 1,
            _ => u128::from(self.below(4)),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(5)).map(|_| [0, 0, 1, 1, 2, 3, 0xfe, 0xff][usize::try_from(self.below(8)).unwrap()]).collect()
    }

    fn text(&mut self) -> String {
        (0..self.below(5))
            .map(|_| {
                ['\0', '\u{1}', '\u{2}', 'a', 'ä', '\u{ffff}', '\u{10ffff}'][usize::try_from(self.below(7)).unwrap()]
            })
            .collect()
    }

    fn floats(&mut self) -> Floats {
        const SPECIAL: [f64; 10] =
            [0.0, -0.0, 1.0, -1.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 1e-310];
        let special = SPECIAL[usize::try_from(self.below(10)).unwrap()];
        let bits = self.number();
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        match self.below(3) {
            0 => Floats(special as f32, special),
            1 => Floats(1.0, f64::from_bits(bits as u64)),
            _ => Floats(f32::from_bits(bits as u32), special),
        }
    }
}

/// That each two values, of any seed, are ordered as their keys are, and come back from them.
fn agrees<T: Encode + Decode + Ord + Debug>(draw: impl Fn(&mut Draw) -> T) {
    for seed in 0..SEEDS {
        let mut from = Draw(seed);
        let values: Vec<(T, Vec<u8>)> = (0..VALUES)
            .map(|_| draw(&mut from))
            .map(|value| {
                let key = key::encode(&value);
                (value, key)
            })
            .collect();
        for (value, bytes) in &values {
            assert_eq!(key::decode::<T>(bytes).as_ref(), Ok(value), "seed {seed}");
            for (other, of_other) in &values {
                assert_eq!(bytes.cmp(of_other), value.cmp(other), "seed {seed}: {value:?} and {other:?}");
                let is_beginning = of_other.starts_with(bytes) && value != other;
                assert!(!is_beginning, "seed {seed}: {value:?} is the beginning of {other:?}");
            }
        }
    }
}

#[test]
#[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
fn numbers_are_in_order() {
    agrees(|draw| draw.number() as u8);
    agrees(|draw| draw.number() as u16);
    agrees(|draw| draw.number() as u32);
    agrees(|draw| draw.number() as u64);
    agrees(Draw::number);
    agrees(|draw| draw.number() as i8);
    agrees(|draw| draw.number() as i16);
    agrees(|draw| draw.number() as i32);
    agrees(|draw| draw.number() as i64);
    agrees(|draw| draw.number().cast_signed());
    agrees(Draw::floats);
    agrees(|draw| draw.below(2) == 0);
    agrees(|draw| {
        loop {
            if let Some(found) = char::from_u32(draw.number() as u32 >> draw.below(32)) {
                return found;
            }
        }
    });
}

#[test]
fn strings_are_in_order() {
    agrees(Draw::text);
    agrees(Draw::bytes);
    agrees(|draw| [draw.bytes(), draw.bytes()]);
}

#[test]
#[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
fn what_has_parts_is_in_order() {
    let some = |draw: &mut Draw| (draw.below(2) == 0).then(|| draw.bytes());
    agrees(some);
    agrees(|draw| (draw.below(2) == 0).then(|| some(draw)));
    agrees(|draw| Reverse(draw.bytes()));
    agrees(|draw| (Reverse(draw.text()), draw.below(3) as i8, draw.bytes()));
    agrees(|draw| (draw.bytes(), Reverse((draw.bytes(), Reverse(draw.bytes()))), some(draw)));
    agrees(|draw| ((), draw.number() as i16, [draw.below(2) as u8; 3], draw.floats()));
    agrees(|draw| {
        (
            draw.below(2),
            draw.below(2),
            draw.below(2),
            draw.below(2),
            draw.below(2),
            draw.text(),
            draw.below(2),
            draw.text(),
        )
    });
}

/// The table in the documentation of the module: these never change.
#[test]
fn the_bytes_are_those_that_are_documented() {
    fn is(value: &(impl Encode + ?Sized), bytes: &[u8]) {
        assert_eq!(key::encode(value), bytes);
    }
    is(&0x12u8, b"\x12");
    is(&0x1234u16, b"\x12\x34");
    is(&0x1234_5678u32, b"\x12\x34\x56\x78");
    is(&1u64, b"\0\0\0\0\0\0\0\x01");
    is(&(1u128 << 127), b"\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    is(&-1i8, b"\x7f");
    is(&1i16, b"\x80\x01");
    is(&i32::MIN, b"\0\0\0\0");
    is(&-2i64, b"\x7f\xff\xff\xff\xff\xff\xff\xfe");
    is(&i128::MAX, &[0xff; 16]);
    is(&1.0f32, b"\xbf\x80\0\0");
    is(&-1.0f64, b"\x40\x0f\xff\xff\xff\xff\xff\xff");
    is(&-0.0f64, b"\x7f\xff\xff\xff\xff\xff\xff\xff");
    is(&0.0f64, b"\x80\0\0\0\0\0\0\0");
    is(&false, b"\0");
    is(&true, b"\x01");
    is(&'ä', b"\0\0\0\xe4");
    is("a\0b\x01c\x02", b"a\x01\x01b\x01\x02c\x02\0");
    is(&String::new(), b"\0");
    is(&[0u8, 1, 0xff][..], b"\x01\x01\x01\x02\xff\0");
    is(&vec![7u8], b"\x07\0");
    is(&[0u8, 1, 0xff], b"\0\x01\xff");
    is(&[1u16, 2], b"\0\x01\0\x02");
    is(&None::<u8>, b"\0");
    is(&Some(5u8), b"\x01\x05");
    is(&Some("a"), b"\x01a\0");
    is(&(), b"");
    is(&(7u8,), b"\x07");
    is(&(7u8, "a", -1i8), b"\x07a\0\x7f");
    is(&Reverse(0x1234u16), b"\xed\xcb");
    is(&(Reverse("a"), 1u8), b"\x9e\xff\x01");
    is(&Reverse(Reverse("a")), b"a\0");
}

#[test]
fn what_is_no_key_of_a_type_is_told() {
    assert_eq!(key::decode::<u32>(b"\0\0\0"), Err(DecodeError::Short { bytes: 3 }));
    assert_eq!(key::decode::<u32>(b"\0\0\0\0\0\0"), Err(DecodeError::Long { at: 4, left: 2 }));
    assert_eq!(key::decode::<String>(b"a"), Err(DecodeError::Short { bytes: 1 }));
    assert_eq!(key::decode::<String>(b"a\x01"), Err(DecodeError::Short { bytes: 2 }));
    let unexpected = |at, expected| Err(DecodeError::Unexpected { at, expected });
    assert_eq!(key::decode::<bool>(b"\x02"), unexpected(1, "a truth value").map(|()| true));
    assert_eq!(key::decode::<char>(b"\0\0\xd8\0"), unexpected(4, "a character").map(|()| 'a'));
    assert_eq!(key::decode::<Option<u8>>(b"\x02\x01"), unexpected(1, "an optional value").map(|()| None));
    assert_eq!(key::decode::<Vec<u8>>(b"a\x01\x03\0"), unexpected(3, "a byte that is to be escaped").map(|()| vec![]));
    assert_eq!(
        key::decode::<(u8, String)>(b"a\xff\0"),
        unexpected(3, "a string in UTF-8").map(|()| (0, String::new()))
    );
    let said = key::decode::<bool>(b"\x02").unwrap_err().to_string();
    assert_eq!(said, "what ends after 1 bytes is not a truth value");
}

/// Any bytes, as keys of many types, each of which has one encoding.
#[test]
fn any_bytes_are_a_key_or_an_error() {
    for seed in 0..2000 {
        let mut draw = Draw(seed);
        let first = u8::try_from(draw.below(12)).unwrap();
        let mut data = vec![first];
        for _ in 0..draw.below(4) {
            data.extend(draw.bytes());
        }
        println!("seed {seed}: {data:?}");
        run(&data);
    }
}

type Three = (u8, Vec<u8>, i8);

#[test]
fn ranges_and_prefixes_are_those_of_the_first_parts() {
    let db = sim_options(&SimFs::new()).open(DIR).unwrap();
    let all: Vec<Three> = [0u8, 1, 0xfe, 0xff]
        .iter()
        .flat_map(|a| [&b""[..], b"\0", b"\0\0", b"\x01", b"x", b"\xff", b"\xff\xff"].map(|b| (*a, b.to_vec())))
        .flat_map(|(a, b)| [i8::MIN, -1, 0, i8::MAX].map(|c| (a, b.clone(), c)))
        .collect();
    for key in &all {
        db.insert(key::encode(key), "").unwrap();
    }
    let found = |range: key::Bounds| -> Vec<Three> {
        db.range(range).map(|entry| key::decode(entry.unwrap().key()).unwrap()).collect()
    };
    let expected =
        |is_in: &dyn Fn(&Three) -> bool| -> Vec<Three> { all.iter().filter(|key| is_in(key)).cloned().collect() };
    assert_eq!(found(key::prefix(&())), all);
    for first in [0, 1, 7, 0xfe, 0xff] {
        assert_eq!(found(key::prefix(&(first,))), expected(&|key| key.0 == first));
        assert_eq!(found(key::range((first,)..)), expected(&|key| key.0 >= first));
        assert_eq!(found(key::range(..(first,))), expected(&|key| key.0 < first));
        assert_eq!(found(key::range(..=(first,))), expected(&|key| key.0 <= first));
        let behind = (std::ops::Bound::Excluded((first,)), std::ops::Bound::Unbounded);
        assert_eq!(found(key::range(behind)), expected(&|key| key.0 > first));
        for second in [&b""[..], b"\0", b"\x01", b"w", b"\xff"] {
            assert_eq!(found(key::prefix(&(first, second))), expected(&|key| key.0 == first && key.1 == second));
            let up_to = |key: &Three| (key.0, key.1.as_slice()).cmp(&(first, second)) != Ordering::Greater;
            assert_eq!(found(key::range(..=(first, second))), expected(&up_to));
            let from_here = |key: &Three| *key > (first, second.to_vec(), 0);
            let behind = (std::ops::Bound::Excluded((first, second, 0i8)), std::ops::Bound::Unbounded);
            assert_eq!(found(key::range(behind)), expected(&from_here));
        }
    }
}
