//! Where the fuzzer begins: each kind of damage once, in each mode.

use crate::damage::{Image, Shape};
use crate::reseal::Kind;

/// Modes that differ in more than the database: raw, resealed, resealed and written to, read-only and checked always.
const MODES: [u8; 5] = [0, 4, 64, 4 + 64, 4 + 16 + 32];

fn place(at: usize) -> [u8; 2] {
    u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes()
}

fn overwrite(at: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len() - 1).unwrap_or(63);
    let place = place(at);
    [&[length << 2, place[0], place[1]][..], bytes].concat()
}

fn simple(operation: u8, length: u8, at: usize, from: &[u8]) -> Vec<u8> {
    let place = place(at);
    [&[operation | (length - 1) << 2, place[0], place[1]][..], from].concat()
}

/// Places worth changing: the fields of headers and footers, and the first groups, entries, records and buckets.
fn places(kind: Kind, length: usize) -> Vec<usize> {
    match kind {
        Kind::Current => vec![24, 40, 48],
        Kind::Manifest => {
            vec![40, 80, 81, 82, 84, 88, 92, 96, 104, 108, 112, 120, 128, 152, 176, 184, 200, 224, 264, 304]
        }
        Kind::Segment => vec![40, 48, 56, 64, 80, 81, 82, 84, 88, 92, 96, 104, 108, 112, 113, 118, 120, 124, 284],
        Kind::Table | Kind::Index | Kind::Values => {
            let footer = length - 128;
            let fields = [24, 32, 40, 48, 56, 64, 72, 80, 88].map(|at| footer + at);
            let directory = (8..27).filter_map(|back| footer.checked_sub(8 * back));
            [40, 64, 65, 70, 72, 76, 88, 128, 192].into_iter().chain(fields).chain(directory).collect()
        }
    }
}

/// Names and contents of the seeds of a target.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "wal_replay" => of_one(Kind::Segment),
        "sst_open" => of_one(Kind::Table),
        "idx_open" => of_one(Kind::Index),
        "val_open" => of_one(Kind::Values),
        "manifest_replay" => of_one(Kind::Manifest),
        "inspect" => of_each(),
        "directory" => of_any(),
        "repair" => of_any_and_mixed(),
        "ops" => of_operations(),
        _ => Vec::new(),
    }
}

/// Every file as it is, and with one change each at the places that are worth one.
fn of_each() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (shape, image) in (0u8..).zip(Shape::ALL.map(Image::new)) {
        for (file, (name, bytes)) in (0u8..).zip(&image.files) {
            seeds.push((format!("{shape}-{name}-whole"), vec![shape | 4, file]));
            let Some(kind) = Kind::of(name) else { continue };
            let places = places(kind, bytes.len()).into_iter().filter(|at| at + 8 <= bytes.len());
            for (number, at) in places.enumerate() {
                let change = overwrite(at, &[[1, 2, 4, 8, 0x80, 0xff][number % 6]]);
                seeds.push((format!("{shape}-{name}-{at}"), [&[shape | 4, file][..], &change].concat()));
            }
        }
    }
    seeds
}

fn of_one(kind: Kind) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let images = Shape::ALL.map(Image::new);
    for (shape, image) in images.iter().enumerate() {
        let shape_bits = u8::try_from(shape).unwrap_or(0);
        let files: Vec<&Vec<u8>> =
            image.files.iter().filter(|(n, _)| Kind::of(n) == Some(kind)).map(|(_, b)| b).collect();
        for (number, file) in files.iter().enumerate() {
            let head = |mode: u8| vec![mode | shape_bits, u8::try_from(number).unwrap_or(0)];
            let mut add =
                |name: String, mode: u8, patch: &[u8]| seeds.push((name, [head(mode), patch.to_vec()].concat()));
            for mode in MODES {
                add(format!("plain-{shape}-{number}-{mode}"), mode, &[]);
            }
            let patches = places(kind, file.len());
            for (i, at) in patches.into_iter().enumerate() {
                // Each place once over the databases and modes, so that there are few seeds.
                let mode = MODES[(i + number) % MODES.len()];
                if (i + number + shape) % 3 == 0 {
                    add(format!("field-{shape}-{number}-{at}"), mode, &overwrite(at, &[place(i)[0], 0xff]));
                }
            }
            if number == 0 {
                let half = file.len() / 2;
                add(format!("cut-{shape}"), 0, &simple(1, 1, half, &[]));
                add(format!("copy-{shape}"), 4, &simple(2, 8, 80, &place(half)));
                add(format!("insert-{shape}"), 4, &simple(3, 1, half & !7, &[]));
                let used = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                if used < 2048 {
                    add(format!("whole-{shape}"), 8 + 4, &file[..used]);
                }
            }
        }
    }
    seeds
}

fn of_any() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for shape in 0..4u8 {
        for file in 0..20u8 {
            let mode = MODES[usize::from(file) % MODES.len()];
            let mut add = |name: &str, action: &[u8]| {
                let seed = [&[mode | shape, file][..], action].concat();
                seeds.push((format!("{name}-{shape}-{file}"), seed));
            };
            add("remove", &[5]);
            add("replace", &[6, file.wrapping_mul(7)]);
            add("strange", &[7, file]);
            add("patch", &[[0].to_vec(), overwrite(usize::from(file) * 8, &[1, 2, 3, 4])].concat());
        }
    }
    seeds
}

/// The same with files of another database, and the footers of all files changed.
fn of_any_and_mixed() -> Vec<(String, Vec<u8>)> {
    let mut seeds = of_any();
    for (shape, image) in (0u8..).zip(Shape::ALL.map(Image::new)) {
        for (file, (name, bytes)) in (0u8..).zip(&image.files) {
            let other = [shape | 8, file, file.wrapping_mul(5)];
            seeds.push((format!("mixed-{shape}-{file}"), [&other[..], &[file, 5]].concat()));
            let Some(kind) = Kind::of(name) else { continue };
            for at in places(kind, bytes.len()).into_iter().filter(|at| at + 8 <= bytes.len()) {
                let large = overwrite(at, &[[0xf8, 0xff][at % 2], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
                seeds.push((format!("field-{shape}-{file}-{at}"), [&[shape | 4, file, 0][..], &large].concat()));
            }
        }
    }
    seeds
}

/// Bytes without a meaning of their own: the driver makes operations of any.
fn of_operations() -> Vec<(String, Vec<u8>)> {
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..24).map(|i| (format!("noise-{i}"), (0..(i + 1) * 60).map(|_| noise()).collect())).collect()
}
