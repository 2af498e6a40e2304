//! Long stretches of removed keys, which readers learn to jump over, and never over anything that is there.

use std::collections::BTreeMap;

use maplsm::{Db, SimFs, Snapshot};

use crate::support::{DIR, sim_options};

type Model = BTreeMap<u32, u32>;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// Both ends of a range, and what is between.
fn read(snapshot: &Snapshot, from: u32, to: u32) -> (Option<u32>, Option<u32>, Vec<(u32, u32)>) {
    let range = || snapshot.range(key(from)..key(to));
    let first = range().next().map(|entry| number(entry.unwrap().key()));
    let last = range().next_back().map(|entry| number(entry.unwrap().key()));
    let all = range().map(|entry| entry.map(|entry| (number(entry.key()), number(entry.value()))).unwrap());
    (first, last, all.collect())
}

fn check(snapshot: &Snapshot, model: &Model, from: u32, to: u32, what: &str) {
    let expected: Vec<(u32, u32)> = model.range(from..to).map(|(key, value)| (*key, *value)).collect();
    let ends = (expected.first().map(|(key, _)| *key), expected.last().map(|(key, _)| *key));
    for round in 0..2 {
        let (first, last, all) = read(snapshot, from, to);
        assert_eq!((first, last), ends, "{what}, {from}..{to}, round {round}");
        assert_eq!(all, expected, "{what}, {from}..{to}, round {round}");
    }
}

/// Everything that may happen beside gaps, in random order, against a map: insertions into them, more removals, removed
/// ranges, flushes, compactions, loads, readers of the past.
#[test]
fn nothing_in_a_gap_is_passed_over() {
    const KEYS: u32 = 3000;
    for seed in 1..=12_u64 {
        let mut state = seed;
        let mut pick = move |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % below
        };
        let fs = SimFs::with_seed(seed);
        let db: Db = sim_options(&fs).memtable_entries(Some(4000)).open(DIR).unwrap();
        let mut model = Model::new();
        for number in 0..KEYS {
            db.insert(key(number), key(number)).unwrap();
            model.insert(number, number);
        }
        let mut past: Vec<(Snapshot, Model)> = Vec::new();
        for step in 0..120 {
            let at = pick(KEYS);
            match pick(11) {
                0..4 => {
                    let end = (at + 150 + pick(600)).min(KEYS);
                    for number in at..end {
                        db.remove(key(number)).unwrap();
                    }
                    model.retain(|number, _| !(at..end).contains(number));
                }
                4..7 => {
                    db.insert(key(at), key(step)).unwrap();
                    model.insert(at, step);
                }
                7 => {
                    db.remove_range(key(at)..key(at + 40)).unwrap();
                    model.retain(|number, _| !(at..at + 40).contains(number));
                }
                8 => past.push((db.snapshot(), model.clone())),
                9 => {
                    let loaded = at..(at + 3).min(KEYS);
                    db.ingest(loaded.clone().map(|number| (key(number), key(step)))).unwrap();
                    model.extend(loaded.map(|number| (number, step)));
                }
                _ if pick(3) == 0 => db.compact().unwrap(),
                _ => db.flush().unwrap(),
            }
            if past.len() > 3 {
                past.remove(0);
            }
            let what = format!("seed {seed}, step {step}");
            let (from, to) = (pick(KEYS), pick(KEYS));
            check(&db.snapshot(), &model, 0, KEYS, &what);
            check(&db.snapshot(), &model, from.min(to), from.max(to), &what);
            for (snapshot, model) in &past {
                check(snapshot, model, from.min(to), from.max(to), &format!("{what}, in the past"));
            }
        }
    }
}
