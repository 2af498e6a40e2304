//! How much waits to be flushed: `Options::max_frozen_bytes`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use maplsm::{Db, Durability, Error, Event, Options, SimFs, StallReason, Stats, Verdict, WriteBatch};

use crate::support::{Gate, until};

const MEMTABLE: usize = 64 << 10;
const MOST: u64 = 4 * MEMTABLE as u64;

fn options(fs: &SimFs, threads: usize) -> Options {
    let mut options = Options::new();
    options.file_system(fs.clone()).durability(Durability::Buffered).memtable_bytes(MEMTABLE).reserve_bytes(0);
    options.background_threads(threads).large_value_bytes(None);
    options
}

/// Batches of all sizes, of one thread and of several, with threads that flush and without: the bound holds at every moment, and
/// all of them come to their turn.
#[test]
fn what_waits_to_be_flushed_is_bounded() {
    for (threads, writers, batch) in
        [(1, 1, 40 << 10), (1, 1, 300 << 10), (1, 8, 20 << 10), (2, 8, 90 << 10), (0, 4, 50 << 10)]
    {
        let fs = SimFs::new();
        let db = options(&fs, threads).open("/db").unwrap();
        let highest = AtomicU64::new(0);
        let write = |writer: u32| {
            for number in 0..24u32 {
                // Between large ones a small one, which is not to keep them out.
                db.insert([&b"small"[..], &writer.to_be_bytes(), &number.to_be_bytes()].concat(), "x").unwrap();
                db.insert([writer.to_be_bytes(), number.to_be_bytes()].concat(), vec![7; batch]).unwrap();
                highest.fetch_max(db.stats().frozen_bytes, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..writers {
                scope.spawn(move || write(writer));
            }
        });
        // What grows may be frozen on top.
        let (batch, highest) = (batch as u64, highest.into_inner());
        let most = MOST.max(MOST / 2 + batch) + (MEMTABLE as u64).max(batch) + 1024;
        assert!(highest <= most, "{threads} {writers} {batch}: {highest} of {most}");
        db.wait_for_background().unwrap();
        let entries = db.iter().count();
        assert_eq!(entries, 2 * 24 * writers as usize);
    }
}

/// A filter that holds up the only thread that would flush.
struct HeldUp {
    db: Db,
    gate: Gate,
}

impl HeldUp {
    fn new() -> Self {
        Self::told(|_| {})
    }

    fn told(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        let gate = Gate::default();
        let (held, mut options) = (gate.clone(), options(&SimFs::new(), 1));
        options.listener(listener).l0_tables(1).compaction_filter(move |_| {
            held.pass();
            Verdict::Keep
        });
        let db = options.open("/db").unwrap();
        for _ in 0..3 {
            db.insert("again", "and again").unwrap();
            db.flush().unwrap();
        }
        gate.wait();
        Self { db, gate }
    }

    /// Writes until there is no room.
    fn fill(&self) {
        for number in 0..100u32 {
            match self.db.try_write(WriteBatch::new().insert(number.to_be_bytes(), vec![1; 30 << 10])) {
                Ok(()) => {}
                Err(Error::WouldBlock) if self.db.stats().frozen_bytes > MOST / 2 => return,
                // Slowed down only.
                Err(Error::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
                Err(e) => panic!("{e}"),
            }
        }
        panic!("there is room for everything: {:?}", self.db.stats());
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// A delay, and then a wait: both are told when they begin and when they end.
#[test]
fn a_listener_hears_of_delays_and_of_waits() {
    let heard = Arc::<Mutex<Vec<(StallReason, Option<Duration>)>>>::default();
    let notes = Arc::clone(&heard);
    let held_up = HeldUp::told(move |event| {
        let note = match event {
            Event::StallBegan { reason, .. } => (*reason, None),
            Event::StallEnded { reason, took, .. } => (*reason, Some(*took)),
            _ => return,
        };
        notes.lock().unwrap().push(note);
    });
    held_up.fill();
    let db = &held_up.db;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..8u32 {
                db.insert([b"later".as_slice(), &number.to_be_bytes()].concat(), vec![2; 30 << 10]).unwrap();
            }
        });
        let waits = || heard.lock().unwrap().contains(&(StallReason::FrozenBytes, None));
        until("told of the wait", waits);
        assert!(heard.lock().unwrap().contains(&(StallReason::FrozenMemtables, None)));
        std::thread::sleep(Duration::from_millis(20));
        held_up.gate.open();
        writer.join().unwrap();
    });
    db.wait_for_background().unwrap();
    db.close().unwrap();
    let heard = heard.lock().unwrap();
    for reason in [StallReason::FrozenMemtables, StallReason::Level0Tables, StallReason::FrozenBytes] {
        // Each ends before it begins anew, and all of them have ended.
        let of_reason: Vec<_> = heard.iter().filter(|(of, _)| *of == reason).map(|(_, took)| took).collect();
        assert!(of_reason.chunks(2).all(|pair| matches!(pair, [None, Some(_)])), "{heard:?}");
    }
    let longest = heard.iter().filter(|(of, _)| *of == StallReason::FrozenBytes).filter_map(|(_, took)| *took).max();
    assert!(longest >= Some(Duration::from_millis(20)), "{heard:?}");
}

#[test]
fn a_commit_waits_for_a_flush_and_is_counted() {
    let held_up = HeldUp::new();
    held_up.fill();
    let (db, before) = (&held_up.db, held_up.db.stats());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..8u32 {
                db.insert([b"later".as_slice(), &number.to_be_bytes()].concat(), vec![2; 30 << 10]).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_finished() && db.stats().frozen_bytes <= MOST, "{:?}", db.stats());
        held_up.gate.open();
        writer.join().unwrap();
    });
    let after = db.stats();
    assert!(after.write_stalls > before.write_stalls, "{after:?}");
    assert!(after.write_stall_time >= before.write_stall_time + Duration::from_millis(20), "{after:?}");
    let waits = |stats: &Stats| *stats.stalls.iter().find(|stall| stall.reason == StallReason::FrozenBytes).unwrap();
    let waits = (waits(&before), waits(&after));
    assert_eq!((waits.1.count, waits.1.time), (after.write_stalls, after.write_stall_time));
    assert!(waits.1.longest <= waits.1.time && waits.1.longest >= Duration::from_millis(20), "{after:?}");
    assert_eq!(db.prefix("later").count(), 8);
}

#[test]
fn closing_ends_the_wait() {
    let held_up = HeldUp::new();
    held_up.fill();
    let db = &held_up.db;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            loop {
                if let Err(e) = db.insert("later", vec![2; 30 << 10]) {
                    break e;
                }
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        let closer = scope.spawn(|| db.close());
        let refused = writer.join().unwrap();
        assert!(matches!(refused, Error::Closed), "{refused}");
        held_up.gate.open();
        closer.join().unwrap().unwrap();
    });
}

/// What a callback writes has room although the thread that would make it is the one that writes.
#[test]
fn a_callback_makes_room_itself() {
    for threads in [0, 1] {
        let own: Arc<OnceLock<Db>> = Arc::default();
        let (db_of_filter, mut options) = (Arc::clone(&own), options(&SimFs::new(), threads));
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        options.compaction_filter(move |_| {
            if let Some(db) = db_of_filter.get() {
                let number = count.fetch_add(1, Ordering::Relaxed);
                if number < 40 {
                    db.insert([b"derived".as_slice(), &number.to_be_bytes()].concat(), vec![3; 30 << 10]).unwrap();
                    assert!(db.stats().frozen_bytes <= MOST + MEMTABLE as u64, "{:?}", db.stats());
                }
            }
            Verdict::Keep
        });
        let db = options.open("/db").unwrap();
        for number in 0..60u32 {
            db.insert(number.to_be_bytes(), vec![4; 1 << 10]).unwrap();
        }
        own.set(db.clone()).unwrap();
        db.compact().unwrap();
        assert_eq!(db.prefix("derived").count(), 40);
        db.close().unwrap();
    }
}
