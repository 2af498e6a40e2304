//! What a store says about itself while it runs: statistics, explanations and events.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use maplsm::{
    CompactionReason, Db, Error, Event, Fault, Histogram, Latencies, LookupAnswer, LookupPlace, Options, PointIndex,
    SimFs, StallReason,
};

use crate::support::{DIR, Gate, change, names, sim_options, until};

const LINE_BYTES: u64 = 64;

/// Whether a sampled histogram has about so many operations; the sample is one of a thousand or more.
fn is_about(histogram: &Histogram, operations: u64) -> bool {
    let told = histogram.operations();
    (operations * 4 / 5..operations * 6 / 5).contains(&told)
}

#[test]
fn what_is_done_is_measured() {
    const MANY: u64 = 256 * 1000;
    for measured in [true, false] {
        let db = sim_options(&SimFs::new()).statistics(measured).open(DIR).unwrap();
        (0..MANY).for_each(|number| db.insert((number % 100).to_be_bytes(), "value").unwrap());
        (0..MANY).for_each(|number| _ = db.get((number % 200).to_be_bytes()).unwrap());
        let mut cursor = db.cursor();
        (0..MANY / 2).for_each(|number| _ = cursor.seek((number % 200).to_be_bytes()).unwrap());
        (0..MANY / 2).for_each(|_| _ = db.iter().next());
        db.sync().unwrap();
        for _ in 0..3 {
            db.insert("again", "value").unwrap();
            db.flush().unwrap();
        }
        db.compact().unwrap();
        let stats = db.stats();
        let latencies = &stats.latencies;
        assert_eq!((stats.flushes, stats.compactions), (3, 1));
        if !measured {
            let Latencies { get, put, seek, sync, flush, compaction, .. } = latencies;
            let samples = [get, put, seek, sync, flush, compaction].map(Histogram::samples);
            assert_eq!((samples, stats.lookups.lookups), ([0; 6], 0));
            continue;
        }
        assert!(is_about(&latencies.put, MANY), "{latencies:?}");
        assert!(is_about(&latencies.get, MANY), "{latencies:?}");
        assert!(is_about(&latencies.seek, MANY), "{latencies:?}");
        assert_eq!((latencies.flush.samples(), latencies.compaction.samples()), (3, 1));
        assert!(latencies.sync.samples() > 0 && latencies.sync.samples() <= stats.log_syncs, "{latencies:?}");
        for histogram in [&latencies.put, &latencies.get, &latencies.seek, &latencies.sync, &latencies.flush] {
            let quantiles = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0].map(|share| histogram.quantile(share).unwrap());
            assert!(quantiles.is_sorted() && Some(quantiles[5]) == histogram.longest(), "{histogram:?}");
            assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), histogram.samples());
        }
        let flushes = db.stats().latencies.flush.since(&latencies.flush);
        assert_eq!((flushes.samples(), flushes.quantile(0.5)), (0, None));
        assert_eq!(stats.lookups.lookups, latencies.get.samples());
        assert_eq!(stats.lookups.memtables, stats.lookups.lookups);
    }
}

/// A key that is in the oldest of three tables which all may have it, and what its lookups touch.
#[test]
fn lookups_tell_what_they_touch() {
    const GETS: u64 = 256 * 100;
    for point_index in [PointIndex::Hash, PointIndex::Bloom { error_rate: 0.01 }] {
        let db = sim_options(&SimFs::new()).l0_tables(100).point_index(point_index).open(DIR).unwrap();
        let key = |table: u8, number: u32| [&number.to_be_bytes()[..], &[table]].concat();
        for table in 0..3 {
            (0..1000).for_each(|number| db.insert(key(table, number), [7; 50]).unwrap());
            db.flush().unwrap();
        }
        // One of which the indexes of the other two are sure.
        let ruled_out = |number: &u32| {
            let answers = db.explain(key(0, *number)).unwrap().steps;
            answers[..2].iter().all(|step| step.answer == LookupAnswer::RuledOut)
        };
        let key = key(0, (10..500).find(ruled_out).unwrap());
        let explanation = db.explain(&key).unwrap();
        let step = explanation.steps.last().unwrap();
        assert_eq!((explanation.steps.len(), step.entries.len()), (3, 1), "{explanation}");
        assert!(step.entries[0].is_of_key && step.index_offset.is_some(), "{explanation}");

        let before = db.stats().lookups;
        (0..GETS).for_each(|_| assert!(db.get(&key).unwrap().is_some()));
        let lookups = db.stats().lookups;
        let gets = lookups.lookups - before.lookups;
        assert!(gets > 50, "{lookups:?}");
        assert_eq!(lookups.found - before.found, gets);
        assert_eq!(lookups.tables - before.tables, 3 * gets);
        assert_eq!(lookups.ruled_out - before.ruled_out, 2 * gets);
        assert_eq!(lookups.false_positives, before.false_positives);
        assert_eq!(lookups.bytes_returned - before.bytes_returned, 50 * gets);
        let entry = 12 + 5 + 50;
        assert_eq!(lookups.bytes_read - before.bytes_read, (3 * LINE_BYTES + entry) * gets);
        assert_eq!(lookups.tables_per_lookup(), Some(3.0));
        assert_eq!(lookups.ruled_out_share(), Some(1.0));

        // And one that is nowhere, of which an index is wrong.
        let wrong = |number: &u32| {
            let steps = db.explain([&number.to_be_bytes()[..], &[3]].concat()).unwrap().steps;
            steps.iter().any(|step| step.entries.iter().any(|entry| !entry.is_of_key))
        };
        let absent = [&(10..1_000_000u32).find(wrong).unwrap().to_be_bytes()[..], &[3]].concat();
        let before = db.stats().lookups;
        (0..GETS).for_each(|_| assert!(db.get(&absent).unwrap().is_none()));
        let lookups = db.stats().lookups;
        let gets = lookups.lookups - before.lookups;
        assert_eq!(lookups.found, before.found);
        assert!(lookups.false_positives - before.false_positives >= gets, "{lookups:?}");
        assert!(lookups.ruled_out - before.ruled_out < 3 * gets, "{lookups:?}");
    }
}

fn by_kind(fs: &SimFs) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for (name, bytes) in fs.files(Path::new(DIR)) {
        let kind = Path::new(&name).extension().map_or("other", |kind| kind.to_str().unwrap()).to_owned();
        *kinds.entry(kind).or_insert(0) += bytes;
    }
    kinds
}

#[test]
fn files_are_counted_by_kind_and_what_was_written_by_why() {
    let fs = SimFs::new();
    let db = sim_options(&fs).large_value_bytes(Some(4096)).l0_tables(100).open(DIR).unwrap();
    let mut by_users = 0;
    for number in 0..2000u32 {
        let value = vec![1; if number % 50 == 0 { 5000 } else { 100 }];
        by_users += 4 + value.len() as u64;
        db.insert(number.to_be_bytes(), value).unwrap();
    }
    let written = db.stats().written;
    assert_eq!((written.by_users, written.flushes, written.compactions, written.loads), (by_users, 0, 0, 0));
    assert!(written.log > by_users && written.log < by_users + 2000 * 80, "{written:?}");
    let log_alone = db.stats().write_amplification().unwrap();
    assert!(log_alone > 1.0 && log_alone < 1.5, "{log_alone}");

    db.flush().unwrap();
    let (stats, kinds) = (db.stats(), by_kind(&fs));
    let of = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
    let files = stats.file_bytes;
    assert_eq!(
        [files.log, files.tables, files.indexes, files.values, files.manifest],
        ["log", "sst", "idx", "val", "manifest"].map(of)
    );
    assert_eq!(files.total(), kinds.values().sum::<u64>());
    assert_eq!(stats.written.flushes, files.tables + files.indexes + files.values);
    assert!(stats.live_bytes > by_users && stats.live_bytes < by_users * 5 / 4, "{}", stats.live_bytes);
    assert!(stats.space_amplification().unwrap() >= 1.0);

    // The same again, which the deepest level has anew.
    (0..2000u32).for_each(|number| db.insert(number.to_be_bytes(), vec![2; 100]).unwrap());
    db.compact().unwrap();
    let after = db.stats();
    assert!(after.written.compactions > 200_000, "{:?}", after.written);
    assert_eq!(after.written.by_users, by_users + 2000 * 104);
    let loaded = db.ingest((0..500u32).map(|number| ((1 << 20 | number).to_be_bytes(), [3; 10]))).unwrap();
    let written = db.stats().written;
    assert_eq!(written.by_users, after.written.by_users + 500 * 14);
    assert!(written.loads > loaded.bytes, "an index as well");
    db.close().unwrap();
    assert_eq!(db.stats().file_bytes, maplsm::FileBytes::default());
}

#[test]
fn what_slices_and_iterators_keep_is_told() {
    let db = sim_options(&SimFs::new()).large_value_bytes(None).open(DIR).unwrap();
    db.insert("key", vec![1; 10_000]).unwrap();
    let (in_log, snapshot) = (db.get("key").unwrap().unwrap(), db.snapshot());
    assert_eq!(db.stats().pinned_bytes, 0);
    db.flush().unwrap();
    let stats = db.stats();
    assert!(stats.pinned_bytes > 10_000, "the segment of the log: {stats:?}");
    drop(in_log);
    assert_eq!(db.stats().pinned_bytes, 0);

    (0..7u8).for_each(|number| db.insert([number], "value").unwrap());
    let stats = db.stats();
    assert_eq!((stats.oldest_snapshot, stats.oldest_snapshot_age), (Some(snapshot.sequence()), 7));
    drop(snapshot);
    assert_eq!(db.stats().oldest_snapshot_age, 0);

    db.flush().unwrap();
    let in_table = db.get("key").unwrap().unwrap();
    let mut iter = db.iter();
    assert_eq!(iter.by_ref().count(), 8);
    db.insert("key", "newer").unwrap();
    db.flush().unwrap();
    let tables = db.stats().file_bytes.tables;
    db.compact().unwrap();
    drop(iter);
    db.maintain().unwrap();
    let stats = db.stats();
    assert_eq!(stats.obsolete_bytes, 0);
    assert!(stats.pinned_bytes > 10_000 && stats.pinned_bytes < tables + 10_000, "{stats:?}");
    assert_eq!(in_table.len(), 10_000);
    drop(in_table);
    assert_eq!(db.stats().pinned_bytes, 0);
}

/// A value that is made of operands names every place that has some of it.
#[test]
fn operands_are_explained() {
    use maplsm::operators::Append;

    let mut options = sim_options(&SimFs::new());
    options.large_value_bytes(Some(4096)).l0_tables(100).merge_operator(Append);
    let db = options.open(DIR).unwrap();
    let explain = |key: &str| {
        let explanation = db.explain(key).unwrap();
        assert_eq!(explanation.value_bytes, db.size_of(key).unwrap(), "{explanation}");
        explanation
    };
    let answers = |key: &str| explain(key).steps.iter().map(|step| step.answer).collect::<Vec<_>>();
    db.insert("k", "1").unwrap();
    db.insert("large", vec![7; 5000]).unwrap();
    db.merge("hidden", "1").unwrap();
    db.compact().unwrap();
    db.merge("k", "2").unwrap();
    db.merge("k", "3").unwrap();
    db.merge("large", "!").unwrap();
    db.flush().unwrap();
    db.remove_range("h".."i").unwrap();
    db.insert("other", "").unwrap();
    db.flush().unwrap();
    db.merge("k", "4").unwrap();
    db.merge("hidden", "2").unwrap();
    db.merge("new", "1").unwrap();

    let explained = explain("k");
    let places: Vec<LookupPlace> = explained.steps.iter().map(|step| step.place).collect();
    assert!(
        matches!(
            places[..],
            [LookupPlace::Memtable { .. }, LookupPlace::Table { level: 0, .. }, LookupPlace::Table { level: 1.., .. }]
        ),
        "{explained}"
    );
    assert_eq!(
        answers("k"),
        [
            LookupAnswer::Operands { sequence: 9, count: 1 },
            LookupAnswer::Operands { sequence: 5, count: 2 },
            LookupAnswer::Value { sequence: 1, bytes: 1 },
        ]
    );
    assert!(explained.steps[1].entries[0].is_of_key && explained.to_string().contains("2 operands"), "{explained}");
    assert_eq!(explained.value_bytes, Some(4));
    let large = answers("large");
    assert!(
        matches!(
            large[..],
            [
                LookupAnswer::Missing,
                ..,
                LookupAnswer::Operands { sequence: 6, count: 1 },
                LookupAnswer::Elsewhere { sequence: 2 },
                LookupAnswer::Stored { bytes: 5000, .. }
            ]
        ),
        "{large:?}"
    );
    assert_eq!(answers("hidden"), [LookupAnswer::Operands { sequence: 10, count: 1 }, LookupAnswer::RangeTombstone]);
    assert_eq!(answers("new"), [LookupAnswer::Operands { sequence: 11, count: 1 }]);

    // What has been made of a long chain is kept.
    (0..100).for_each(|_| db.merge("many", "1").unwrap());
    let many = explain("many");
    assert_eq!((many.steps.len(), many.steps[1].place, many.value_bytes), (2, LookupPlace::Kept, Some(100)), "{many}");
    assert!(matches!(many.steps[0].answer, LookupAnswer::Operands { count: 1..=64, .. }), "{many}");
    assert!(many.to_string().contains("kept in memory: written at"), "{many}");
}

/// The names and units that programs rely on; `maplsm stats --json` prints the same.
#[cfg(feature = "serde")]
#[test]
fn statistics_reports_and_events_are_serialized() {
    use serde_json::{Value, json, to_value};

    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let events = heard(&mut options);
    let db = options.open(DIR).unwrap();
    (0..1000u32).for_each(|number| db.insert(number.to_be_bytes(), vec![1; 100]).unwrap());
    db.flush().unwrap();
    db.insert([0; 4], "new").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    let stats = db.stats();
    let value = to_value(&stats).unwrap();
    assert_eq!(value["tables"][0]["entries"], json!(1000));
    assert_eq!(value["keyspaces"][0]["name"], json!("default"));
    assert_eq!(value["file_bytes"]["tables"], json!(stats.file_bytes.tables));
    assert_eq!(value["write_stall_seconds"], json!(0.0));
    assert_eq!(value["oldest_snapshot"], Value::Null);
    let stall = json!({ "reason": "Level0Tables", "count": 0, "seconds": 0.0, "longest_seconds": 0.0 });
    assert!(value["stalls"].as_array().unwrap().contains(&stall), "{value}");
    let flush = &value["latencies"]["flush"];
    let longest = u64::try_from(stats.latencies.flush.longest().unwrap().as_nanos()).unwrap();
    assert_eq!(
        (&flush["samples"], &flush["longest_ns"], &flush["p99.9_ns"]),
        (&json!(2), &json!(longest), &json!(longest))
    );
    let buckets = flush["buckets_ns"].as_array().unwrap();
    assert_eq!(buckets.iter().filter_map(|bucket| bucket[1].as_u64()).sum::<u64>(), 2, "{buckets:?}");
    let explanation = to_value(db.explain([0, 0, 0, 7]).unwrap()).unwrap();
    assert_eq!((&explanation["key"], &explanation["value_bytes"]), (&json!("\\x00\\x00\\x00\\x07"), &json!(100)));
    assert!(explanation["steps"][0]["place"]["Table"]["number"].is_u64(), "{explanation}");
    let report = to_value(db.recovery_report()).unwrap();
    assert_eq!(report, json!({ "clean": true, "segments": 0, "groups": 0, "entries": 0, "dropped": null }));
    db.close().unwrap();

    change(&fs, &names(&fs, ".sst")[0], |bytes| bytes[100] ^= 1);
    let db = sim_options(&fs).open(DIR).unwrap();
    let problems = &to_value(db.verify()).unwrap()["problems"];
    assert_eq!((&problems[0]["kind"], problems[0]["offset"].is_u64()), (&json!("Corruption"), true), "{problems}");
    assert!(problems[0]["path"].as_str().unwrap().starts_with(DIR), "{problems}");
    let events = events.lock().unwrap().iter().map(|event| to_value(event).unwrap()).collect::<Vec<_>>();
    assert!(events[0]["Recovered"]["clean"].is_boolean(), "{events:?}");
    assert!(events.iter().any(|event| event["FlushEnded"]["took_seconds"].is_f64()), "{events:?}");
    assert!(events.iter().any(|event| event["CompactionBegan"]["reason"] == json!("Asked")), "{events:?}");
}

/// Every place that a lookup can ask, and every answer.
#[test]
fn a_lookup_is_explained() {
    let mut options = sim_options(&SimFs::new());
    options.large_value_bytes(Some(4096)).l0_tables(100).max_open_tables(1);
    let db = options.open(DIR).unwrap();
    let answers = |key: &str| {
        let explanation = db.explain(key).unwrap();
        explanation.steps.iter().map(|step| step.answer).collect::<Vec<_>>()
    };
    assert_eq!(db.explain("key").unwrap().to_string(), "key at sequence 0\nnot found");
    for key in ["a", "b", "c"] {
        db.insert(key, "old").unwrap();
    }
    db.insert("large", vec![7; 5000]).unwrap();
    db.compact().unwrap();
    db.insert("b", "newer").unwrap();
    db.insert("range", "hidden").unwrap();
    db.flush().unwrap();
    db.remove("a").unwrap();
    db.remove_range("r".."s").unwrap();
    db.flush().unwrap();
    db.insert("c", "newest").unwrap();

    assert_eq!(answers("c"), [LookupAnswer::Value { sequence: 9, bytes: 6 }]);
    assert_eq!(answers("a"), [LookupAnswer::Missing, LookupAnswer::Tombstone { sequence: 7 }]);
    assert_eq!(answers("range"), [LookupAnswer::Missing, LookupAnswer::RangeTombstone]);
    let b = answers("b");
    assert_eq!(b.last(), Some(&LookupAnswer::Value { sequence: 5, bytes: 5 }), "{b:?}");
    let large = db.explain("large").unwrap();
    let places: Vec<LookupPlace> = large.steps.iter().map(|step| step.place).collect();
    assert!(matches!(places[0], LookupPlace::Memtable { .. }), "{large}");
    assert!(
        matches!(places[1..3], [LookupPlace::Table { level: 0, .. }, LookupPlace::Table { level: 0, .. }]),
        "{large}"
    );
    assert!(matches!(places[3..], [LookupPlace::Table { level: 1.., .. }, LookupPlace::ValueFile { .. }]), "{large}");
    assert!(matches!(large.steps[3].answer, LookupAnswer::Elsewhere { sequence: 4 }), "{large}");
    assert!(matches!(large.steps[4].answer, LookupAnswer::Stored { bytes: 5000, .. }), "{large}");
    assert!(large.to_string().ends_with("\nfound, 5000 bytes"), "{large}");
    let behind = db.explain("zzz").unwrap();
    assert!(matches!(behind.steps.last().unwrap().place, LookupPlace::Level { .. }), "{behind}");

    // An earlier moment, and another keyspace.
    let snapshot = db.snapshot();
    db.remove("c").unwrap();
    assert_eq!(snapshot.explain("c").unwrap().value_bytes, Some(6));
    assert_eq!(db.explain("c").unwrap().value_bytes, None);
    let named = db.keyspace("named").unwrap();
    named.insert("c", "of its own").unwrap();
    assert_eq!(named.explain("c").unwrap().value_bytes, Some(10));
    db.drop_keyspace("named").unwrap();
    assert!(matches!(named.explain("c"), Err(Error::KeyspaceDropped { .. })));
    db.close().unwrap();
    assert!(matches!(db.explain("c"), Err(Error::Closed)));
}

/// A listener that writes down what it hears.
fn heard(options: &mut Options) -> Arc<Mutex<Vec<Event>>> {
    let events = Arc::<Mutex<Vec<Event>>>::default();
    let notes = Arc::clone(&events);
    options.listener(move |event| notes.lock().unwrap().push(event.clone()));
    events
}

/// A store with a damaged table, and what it tells.
fn damaged() -> (Db, Arc<Mutex<Vec<Event>>>) {
    let fs = SimFs::new();
    let db = sim_options(&fs).open(DIR).unwrap();
    (0..1000u32).for_each(|number| db.insert(number.to_be_bytes(), "value").unwrap());
    db.flush().unwrap();
    db.close().unwrap();
    change(&fs, &names(&fs, ".sst")[0], |bytes| bytes[100] ^= 1);
    let mut options = sim_options(&fs);
    let events = heard(&mut options);
    (options.open(DIR).unwrap(), events)
}

#[test]
fn a_listener_hears_what_the_store_does() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let events = heard(&mut options);
    let db = options.open(DIR).unwrap();
    for round in 0..2u8 {
        (0..100u8).for_each(|number| db.insert([number], [round; 10]).unwrap());
        db.flush().unwrap();
    }
    db.compact().unwrap();
    db.close().unwrap();
    let events = std::mem::take(&mut *events.lock().unwrap());
    assert!(matches!(events[0], Event::Recovered { clean: true, entries: 0, .. }), "{events:?}");
    let position = |what: &str, is_it: &dyn Fn(&Event) -> bool| {
        events.iter().position(is_it).unwrap_or_else(|| panic!("no {what} in {events:?}"))
    };
    let began = position("flush", &|event| matches!(event, Event::FlushBegan { bytes, .. } if *bytes > 1000));
    let is_table = |name: &str| Path::new(name).extension().is_some_and(|kind| kind == "sst");
    let made = position("table", &|event| matches!(event, Event::FileMade(name) if is_table(name)));
    let ended =
        position("end", &|event| matches!(event, Event::FlushEnded { error: None, tables, .. } if tables.len() == 1));
    assert!(began < made && made < ended, "{events:?}");
    position("manifest", &|event| matches!(event, Event::ManifestReplaced));
    let begun = position(
        "compaction",
        &|event| matches!(event, Event::CompactionBegan { reason: CompactionReason::Asked, inputs, .. } if inputs.len() == 2),
    );
    let over = position(
        "its end",
        &|event| matches!(event, Event::CompactionEnded { outputs, error: None, .. } if outputs.len() == 1),
    );
    let removed = position("removal", &|event| matches!(event, Event::FileRemoved(name) if is_table(name)));
    assert!(begun < over && begun < removed, "{events:?}");
    // What is there is what was made and not removed.
    let mut there = BTreeSet::new();
    for event in &events {
        match event {
            Event::FileMade(name) => assert!(there.insert(name.clone()), "{name} is made twice"),
            Event::FileRemoved(name) => assert!(there.remove(name), "{name} was never made"),
            _ => {}
        }
    }
    let is_counted = |name: &String| {
        let kind = Path::new(name).extension();
        kind.is_some_and(|kind| kind == "sst" || kind == "log")
    };
    there.retain(is_counted);
    let found = fs.files(Path::new(DIR)).into_iter().map(|(name, _)| name);
    assert_eq!(there, found.filter(is_counted).collect());
}

#[test]
fn a_listener_hears_at_once_what_goes_wrong() {
    // Damage: once, however often it is met.
    let (db, events) = damaged();
    for _ in 0..3 {
        assert!(db.get(0u32.to_be_bytes()).is_err());
        assert!(db.iter().any(|entry| entry.is_err()));
        assert!(db.cursor().seek_first().is_err());
        assert!(db.snapshot().get(0u32.to_be_bytes()).is_err());
    }
    let found = || {
        let events = events.lock().unwrap();
        let places = events.iter().filter_map(|event| match event {
            Event::CorruptionFound(corruption) => Some((corruption.path.clone(), corruption.offset)),
            _ => None,
        });
        places.collect::<Vec<_>>()
    };
    until("told of damage", || !found().is_empty());
    db.close().unwrap();
    assert_eq!(found().len(), 1);

    // A sync that fails: before any other call.
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let events = heard(&mut options);
    let db = options.open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    fs.inject(Fault::Error { after: 1, kind: io::ErrorKind::Other });
    assert!(db.sync().is_err());
    until("told of the poison", || {
        events.lock().unwrap().iter().any(|event| matches!(event, Event::Poisoned(Error::Io(_))))
    });
    assert!(db.close().is_err());

    // A flush that fails in the background.
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    let events = heard(options.background_threads(1).memtable_entries(Some(10)).reserve_bytes(0));
    let db = options.open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    fs.set_capacity(Some(fs.space()));
    for number in 0..9u8 {
        let _ = db.insert([number], "value");
    }
    let _ = db.insert("one more", vec![1; 100]);
    fs.set_capacity(None);
    db.insert("key", "value").unwrap();
    db.wait_for_background().unwrap();
    db.close().unwrap();
    let events = events.lock().unwrap();
    let flushes = events.iter().filter(|event| matches!(event, Event::FlushEnded { .. })).count();
    assert!(flushes > 0, "{events:?}");
}

/// Every call that comes upon damage tells of it, whatever it looks for.
#[test]
fn a_listener_hears_of_damage_from_every_call() {
    type Call = (&'static str, fn(&Db) -> Result<(), Error>);
    const KEY: [u8; 4] = 0u32.to_be_bytes();
    let calls: &[Call] = &[
        ("get", |db| db.get(KEY).map(drop)),
        ("explain", |db| db.explain(KEY).map(drop)),
        ("size_of", |db| db.size_of(KEY).map(drop)),
        ("multi_get", |db| db.multi_get([KEY]).map(drop)),
        ("get of a snapshot", |db| db.snapshot().get(KEY).map(drop)),
        ("size_of of a snapshot", |db| db.snapshot().size_of(KEY).map(drop)),
        ("multi_get of a snapshot", |db| db.snapshot().multi_get([KEY]).map(drop)),
        ("first", |db| db.first().map(drop)),
        ("is_empty", |db| db.is_empty().map(drop)),
        ("iter", |db| db.iter().next().transpose().map(drop)),
        ("range, backwards", |db| db.range(..100u32.to_be_bytes()).next_back().transpose().map(drop)),
        ("keys", |db| db.keys().next().transpose().map(drop)),
        ("values", |db| db.values().next().transpose().map(drop)),
        ("seek", |db| db.cursor().seek(KEY).map(drop)),
        ("digest", |db| db.snapshot().digest().map(drop)),
        ("update", |db| db.update(KEY, |_| Some("new")).map(drop)),
        ("compare_and_swap", |db| db.compare_and_swap(KEY, Some(b"value"), Some(b"new")).map(drop)),
        ("insert_if_absent", |db| db.insert_if_absent(KEY, "new").map(drop)),
        ("take", |db| db.take(KEY).map(drop)),
        ("pop_first", |db| db.pop_first().map(drop)),
        ("get of a transaction", |db| db.transaction().get(KEY).map(drop)),
        ("range of a transaction", |db| db.transaction().iter().next().transpose().map(drop)),
        ("verify", |db| db.verify().problems.into_iter().next().map_or(Ok(()), Err)),
        ("backup", |db| db.backup("/backups").map(drop)),
        ("compact", |db| {
            // A table that overlaps no other one would move.
            db.insert(KEY, "new")?;
            db.flush()?;
            db.compact()
        }),
        ("compact_range", |db| {
            db.insert(KEY, "new")?;
            db.flush()?;
            db.compact_range(KEY..1u32.to_be_bytes())
        }),
    ];
    for (name, call) in calls {
        let (db, events) = damaged();
        let error = call(&db).expect_err(name);
        assert!(error.is_corruption(), "{name}: {error}");
        db.close().unwrap();
        let events = events.lock().unwrap();
        let told = |event: &&Event| matches!(event, Event::CorruptionFound(_));
        assert_eq!(events.iter().filter(told).count(), 1, "{name}: {events:?}");
    }
}

/// Delays for tables of level 0, from the first to the last.
#[test]
fn a_listener_hears_when_commits_are_held_up() {
    let mut options = sim_options(&SimFs::new());
    let events = heard(options.l0_tables(1));
    let db = options.open(DIR).unwrap();
    let mut pressed = 0;
    while db.stats().write_pressure == 0.0 {
        db.insert("again", [7; 100]).unwrap();
        db.flush().unwrap();
        pressed += 1;
        assert!(pressed < 100, "nothing slows writers down");
    }
    // More of the same is no news.
    db.insert("again", "and again").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert!(db.stats().write_pressure <= 0.0);
    db.close().unwrap();
    let events = std::mem::take(&mut *events.lock().unwrap());
    let stalls = events.iter().filter(|event| matches!(event, Event::StallBegan { .. } | Event::StallEnded { .. }));
    let stalls: Vec<&Event> = stalls.collect();
    assert!(
        matches!(
            stalls[..],
            [
                Event::StallBegan { reason: StallReason::Level0Tables, .. },
                Event::StallEnded { reason: StallReason::Level0Tables, .. }
            ]
        ),
        "{stalls:?}"
    );
}

#[test]
fn a_listener_may_panic_and_be_slow() {
    let fs = SimFs::new();
    let (heard, gate) = (Arc::new(AtomicU64::new(0)), Gate::default());
    let (counter, held, first) = (Arc::clone(&heard), gate.clone(), AtomicBool::new(true));
    let mut options = sim_options(&fs);
    options.listener(move |event| {
        if first.swap(false, Ordering::SeqCst) {
            held.pass();
        }
        counter.fetch_add(1, Ordering::SeqCst);
        assert!(!matches!(event, Event::FileMade(_)), "a panic that is meant to be");
    });
    let db = options.open(DIR).unwrap();
    gate.wait();
    // Nothing waits for it.
    db.insert("key", "value").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    gate.open();
    db.close().unwrap();
    assert!(heard.load(Ordering::SeqCst) > 5);
    let db = sim_options(&fs).open(DIR).unwrap();
    assert!(db.recovery_report().clean && db.verify().is_ok());
}

#[test]
fn a_listener_may_drop_the_last_handle() {
    let fs = SimFs::new();
    let slot = Arc::<Mutex<Option<Db>>>::default();
    let dropped = Arc::new(AtomicBool::new(false));
    let (given, told) = (Arc::clone(&slot), Arc::clone(&dropped));
    let mut options = sim_options(&fs);
    options.listener(move |event| {
        if matches!(event, Event::FlushEnded { .. }) {
            let db = loop {
                match given.lock().unwrap().take() {
                    Some(db) => break db,
                    None => std::thread::yield_now(),
                }
            };
            drop(db);
            told.store(true, Ordering::SeqCst);
        }
    });
    let db = options.open(DIR).unwrap();
    db.insert("key", "value").unwrap();
    db.flush().unwrap();
    *slot.lock().unwrap() = Some(db);
    until("dropped", || dropped.load(Ordering::SeqCst));
    until("closed", || sim_options(&fs).open(DIR).is_ok_and(|db| db.recovery_report().clean));
}
