//! The workloads, in the order in which every store runs them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::check::{self, Walk, require};
use crate::data::{Data, Head, MISSING, Random, head, key, value};
use crate::report::{self, Samples, Unit};
use crate::store::{Durability, Reader, Result, Settings, Store};

/// Workloads, by the names that `db_bench` and YCSB gave them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    /// Durable single puts, by one thread and by many.
    FillSync,
    /// Batches of 100 puts, and the sync after them.
    FillBatch,
    /// All entries at once and in order of key, into an empty store.
    Ingest,
    /// Single deletes of half of the entries, and whole scans of what is left: at once, and once the store has settled.
    DeleteRandom,
    /// Single puts of new keys in random order.
    FillRandom,
    /// What is left to do in the background after fillrandom and after overwrite.
    Settle,
    /// Gets of present keys in random order.
    ReadRandom,
    /// Gets of absent keys.
    ReadMissing,
    /// Gets of present keys, Zipf distributed.
    ReadZipf,
    /// A seek to a random key, and ten or a hundred entries from there.
    SeekRandom,
    /// A whole scan in order.
    ReadSeq,
    /// A whole scan in reverse order.
    ReadReverse,
    /// Opening the settled store; one get; one put.
    Open,
    /// Gets of present keys in random order, and a whole scan, right after an open with nothing of the store in the kernel's
    /// page cache.
    ReadCold,
    /// Bytes on disk once settled and closed.
    Disk,
    /// Bytes on disk once every second entry was overwritten.
    #[value(name = "diskhalf")]
    DiskHalf,
    /// Single puts of present keys in random order.
    Overwrite,
    /// A reader and a writer, both at full speed.
    ReadWhileWriting,
    /// Half gets, half puts of present keys, Zipf distributed.
    YcsbA,
    /// Scans of up to 100 entries from Zipf distributed keys; every twentieth operation is the put of a new key.
    YcsbE,
}

/// What to run.
pub(crate) struct Plan {
    pub(crate) data: Data,
    pub(crate) workloads: Vec<Workload>,
    /// Threads of the second fillsync.
    pub(crate) threads: u32,
    /// The longest that a workload of reads goes on.
    pub(crate) read_for: Duration,
    /// Whether memory is.
    pub(crate) is_limited: bool,
    pub(crate) settings: Settings,
}

const BATCH: usize = 100;
const SEEK_ENTRIES: [usize; 2] = [10, 100];
const READERS: u32 = 2;
const SCAN_ENTRIES_MAX: u32 = 100;

impl Plan {
    fn wants(&self, workload: Workload) -> bool {
        self.workloads.contains(&workload)
    }

    fn wants_any(&self, workloads: &[Workload]) -> bool {
        workloads.iter().any(|workload| self.wants(*workload))
    }

    fn settings(&self, durability: Durability) -> Settings {
        Settings { durability, ..self.settings }
    }
}

/// Runs all wanted workloads once, each group in a directory of its own in `directory`.
pub(crate) fn run<S: Store>(directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let within = |name: &str, group: &mut dyn FnMut(&Path) -> Result<()>| -> Result<()> {
        let directory = directory.join(name);
        fs::create_dir(&directory)?;
        group(&directory)?;
        Ok(fs::remove_dir_all(&directory)?)
    };
    // Syncs first, while nothing that was written before waits for the disk.
    if plan.wants(Workload::FillSync) {
        within("sync", &mut |directory| fill_sync::<S>(directory, plan, 1, samples))?;
        if plan.threads > 1 {
            within("sync-shared", &mut |directory| fill_sync::<S>(directory, plan, plan.threads, samples))?;
        }
    }
    if plan.wants(Workload::Ingest) {
        within("ingest", &mut |directory| ingest::<S>(directory, plan, samples))?;
    }
    if plan.wants_any(&[Workload::FillBatch, Workload::DeleteRandom]) {
        within("batch", &mut |directory| batches::<S>(directory, plan, samples))?;
    }
    if plan.wants(Workload::DiskHalf) {
        within("half", &mut |directory| disk_half::<S>(directory, plan, samples))?;
    }
    let is_apart = |workload: &Workload| {
        matches!(
            workload,
            Workload::FillSync | Workload::Ingest | Workload::FillBatch | Workload::DeleteRandom | Workload::DiskHalf
        )
    };
    if !plan.workloads.iter().all(is_apart) {
        within("single", &mut |directory| singles::<S>(directory, plan, samples))?;
    }
    Ok(())
}

fn fill_sync<S: Store>(directory: &Path, plan: &Plan, threads: u32, samples: &mut Samples) -> Result<()> {
    let store = S::open(directory, plan.settings(Durability::Sync))?;
    let puts = (plan.data.entries / 100).clamp(200, 5_000);
    let write = |first: u32| {
        (first..puts)
            .step_by(threads as usize)
            .try_for_each(|number| store.put(&key(number), &value(Head::new(number))))
    };
    let begin = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads).map(|first| scope.spawn(move || write(first))).collect();
        writers.into_iter().try_for_each(joined)
    })?;
    let took = begin.elapsed();
    let name = if threads == 1 { "fillsync, 1 thread".to_owned() } else { format!("fillsync, {threads} threads") };
    samples.add(&name, Unit::Microseconds, puts, took);
    check::all(&mut store.reader()?, puts, |number| number < puts, 0..=0)?;
    store.close()
}

fn ingest<S: Store>(directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let entries = plan.data.entries;
    let sorted = plan.data.sorted();
    let store = S::open(directory, plan.settings(Durability::Sync))?;
    let begin = Instant::now();
    let ingests = store.ingest(sorted.into_iter().map(|number| (key(number), value(Head::new(number)))))?;
    let took = begin.elapsed();
    if ingests {
        samples.add("ingest, durable", Unit::Nanoseconds, entries, took);
        check::all(&mut store.reader()?, entries, |_| true, 0..=0)?;
    }
    store.close()
}

fn batches<S: Store>(directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let data = &plan.data;
    let store = S::open(directory, plan.settings(Durability::Buffered))?;
    let mut entries = Vec::with_capacity(BATCH);
    let mut numbers = data.written().take(data.entries as usize).peekable();
    let begin = Instant::now();
    while numbers.peek().is_some() {
        entries.clear();
        entries.extend(numbers.by_ref().take(BATCH).map(|number| (key(number), value(Head::new(number)))));
        store.batch(&entries)?;
    }
    let filled = begin.elapsed();
    let begin = Instant::now();
    store.sync()?;
    let synced = begin.elapsed();
    if plan.wants(Workload::FillBatch) {
        samples.add("fillbatch, 100 each", Unit::Nanoseconds, data.entries, filled);
        samples.add("sync after fillbatch", Unit::Milliseconds, 1, synced);
    }
    check::all(&mut store.reader()?, data.entries, |_| true, 0..=0)?;

    if plan.wants(Workload::DeleteRandom) {
        store.settle()?;
        let is_deleted = |number: &u32| number.is_multiple_of(2);
        let deletes = data.entries.div_ceil(2);
        let begin = Instant::now();
        for number in data.read().take(data.entries as usize).filter(is_deleted) {
            store.delete(&key(number))?;
        }
        samples.add("deleterandom", Unit::Nanoseconds, deletes, begin.elapsed());
        let left = data.entries - deletes;
        scan_left(&store, left, "readseq after deleterandom, at once", samples)?;
        let begin = Instant::now();
        store.settle()?;
        samples.add("settle after deleterandom", Unit::Milliseconds, 1, begin.elapsed());
        scan_left(&store, left, "readseq after deleterandom, settled", samples)?;
        check::all(&mut store.reader()?, left, |number| !is_deleted(&number), 0..=0)?;
    }
    store.close()
}

/// A whole scan of a store that has `left` entries; the time is for each of these, whatever else is in the way.
fn scan_left<S: Store>(store: &S, left: u32, name: &str, samples: &mut Samples) -> Result<()> {
    let mut walk = Walk::forward();
    let mut reader = store.reader()?;
    let begin = Instant::now();
    reader.forward(None, usize::MAX, |key, value| walk.see(key, value))?;
    samples.add(name, Unit::Nanoseconds, left, begin.elapsed());
    require(walk.is_right() && walk.count == left as usize, name, "order and count")
}

fn singles<S: Store>(directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let data = &plan.data;
    let mut store = S::open(directory, plan.settings(Durability::Buffered))?;
    fill(&store, plan, 0, samples)?;
    reads(&store, plan, samples)?;

    store.close()?;
    if plan.wants(Workload::Disk) {
        samples.add_bytes("disk after fillrandom", data.entries, bytes_in(directory)?);
    }
    if plan.wants(Workload::ReadCold) {
        read_cold::<S>(directory, plan, samples)?;
    }
    store = reopen(directory, plan, 0, samples)?;
    if plan.wants_any(&[Workload::Overwrite, Workload::ReadWhileWriting, Workload::YcsbA, Workload::YcsbE]) {
        fill(&store, plan, 1, samples)?;
        store.close()?;
        if plan.wants(Workload::Disk) {
            samples.add_bytes("disk after overwrite", data.entries, bytes_in(directory)?);
        }
        store = reopen(directory, plan, 1, samples)?;
        mixed(&store, plan, samples)?;
    }
    store.close()
}

/// Overwrites every second entry of a store at rest, so that garbage and what is still needed lie side by side.
fn disk_half<S: Store>(directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let entries = plan.data.entries;
    let store = S::open(directory, plan.settings(Durability::Buffered))?;
    for (version, step) in [(0, 1), (1, 2)] {
        for number in plan.data.written().take(entries as usize).filter(|number| number.is_multiple_of(step)) {
            store.put(&key(number), &value(Head { number, version }))?;
        }
        store.settle()?;
    }
    check::all(&mut store.reader()?, entries, |_| true, 0..=1)?;
    store.close()?;
    samples.add_bytes("disk after overwriting half", entries, bytes_in(directory)?);
    Ok(())
}

/// Reads a fiftieth of the entries from a store that is on disk only, and then all of them in order.
fn read_cold<S: Store>(directory: &Path, plan: &Plan, samples: &mut Samples) -> Result<()> {
    evict(directory)?;
    let gets = plan.data.entries.div_ceil(50);
    let store = S::open(directory, plan.settings(Durability::Buffered))?;
    let mut reader = store.reader()?;
    let get = |number| Ok(reader.get(&key(number), head)?.flatten() == Some(Head::new(number)));
    let reads = repeat(data_from_the_middle(&plan.data).take(gets as usize), plan.read_for, "readrandom, cold", get)?;
    samples.add("readrandom, cold", Unit::Nanoseconds, reads.count, reads.took);
    if let Some(bytes) = reads.from_disk {
        samples.add_read("readrandom, cold", reads.count, bytes);
    }
    drop(reader);
    store.close()?;

    evict(directory)?;
    let store = S::open(directory, plan.settings(Durability::Buffered))?;
    let mut reader = store.reader()?;
    let mut walk = Walk::forward();
    let begin = Instant::now();
    reader.forward(None, usize::MAX, |key, value| walk.see(key, value))?;
    samples.add("readseq, cold", Unit::Nanoseconds, plan.data.entries, begin.elapsed());
    require(walk.is_right() && walk.count == plan.data.entries as usize, "readseq, cold", "order and count")?;
    drop(reader);
    store.close()?;

    evict(directory)?;
    let begin = Instant::now();
    read_files(directory)?;
    samples.add("the floor of that: its files, in a row", Unit::Nanoseconds, plan.data.entries, begin.elapsed());
    Ok(())
}

/// Reads every file in a directory and those in it from front to back.
fn read_files(directory: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_files(&path)?;
        } else {
            let mut file = fs::File::open(path)?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}

fn data_from_the_middle(data: &Data) -> impl Iterator<Item = u32> {
    data.read().skip(data.entries as usize / 2)
}

/// Asks the kernel to drop what it has cached of the files in a directory and those in it.
fn evict(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else {
            let file = fs::File::open(path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Opens a store that was settled and closed, to the point where reads and writes cost what they do later.
fn reopen<S: Store>(directory: &Path, plan: &Plan, version: u32, samples: &mut Samples) -> Result<S> {
    let written = Head { number: 0, version };
    let begin = Instant::now();
    let store = S::open(directory, plan.settings(Durability::Buffered))?;
    let found = store.reader()?.get(&key(0), head)?.flatten();
    let opened = begin.elapsed();
    require(found == Some(written), "open", "the first get")?;
    let begin = Instant::now();
    store.put(&key(0), &value(written))?;
    let put = begin.elapsed();
    if plan.wants(Workload::Open) && version == 0 {
        samples.add("open, first get", Unit::Milliseconds, 1, opened);
        samples.add("first put after open", Unit::Milliseconds, 1, put);
    }
    Ok(store)
}

/// Puts all entries in random order, settles and reads every byte back.
fn fill<S: Store>(store: &S, plan: &Plan, version: u32, samples: &mut Samples) -> Result<()> {
    let data = &plan.data;
    let (workload, name, settle) = if version == 0 {
        (Workload::FillRandom, "fillrandom", "settle after fillrandom")
    } else {
        (Workload::Overwrite, "overwrite", "settle after overwrite")
    };
    let begin = Instant::now();
    for number in data.written().take(data.entries as usize) {
        store.put(&key(number), &value(Head { number, version }))?;
    }
    let filled = begin.elapsed();
    let begin = Instant::now();
    store.settle()?;
    let settled = begin.elapsed();
    if plan.wants(workload) {
        samples.add(name, Unit::Nanoseconds, data.entries, filled);
    }
    if plan.wants(Workload::Settle) {
        samples.add(settle, Unit::Milliseconds, 1, settled);
    }
    check::all(&mut store.reader()?, data.entries, |_| true, version..=version)
}

/// Reads of a store at rest, whose caches the check after filling has warmed. One reader for each workload.
fn reads<S: Store>(store: &S, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let data = &plan.data;
    let entries = data.entries;
    if plan.wants(Workload::ReadRandom) {
        let mut reader = store.reader()?;
        let get = |number| Ok(reader.get(&key(number), head)?.flatten() == Some(Head::new(number)));
        let gets = repeat(data.read().take(entries as usize), plan.read_for, "readrandom", get)?;
        gets.add_to("readrandom", plan, samples);
        read_shared(store, plan)?.add_to(&format!("readrandom, {READERS} threads"), plan, samples);
    }
    if plan.wants(Workload::ReadMissing) {
        let mut reader = store.reader()?;
        let get = |number| Ok(reader.get(&key(number), |_| ())?.is_none());
        repeat(MISSING..MISSING + entries, plan.read_for, "readmissing", get)?.add_to("readmissing", plan, samples);
    }
    if plan.wants(Workload::ReadZipf) {
        let mut reader = store.reader()?;
        let get = |number| Ok(reader.get(&key(number), head)?.flatten() == Some(Head::new(number)));
        let gets = repeat(data.skewed().take(entries as usize), plan.read_for, "readzipf", get)?;
        gets.add_to("readzipf", plan, samples);
    }
    if plan.wants(Workload::SeekRandom) {
        for limit in SEEK_ENTRIES {
            let mut reader = store.reader()?;
            let seek = |number| {
                let mut walk = Walk::forward();
                let start = key(number);
                reader.forward(Some(&start), limit, |key, value| walk.see(key, value))?;
                let expected = data.at_or_behind(number).min(limit);
                Ok(walk.is_right() && walk.first == Some(start) && walk.count == expected)
            };
            let numbers = data.read().take(entries.div_ceil(4) as usize);
            let seeks = repeat(numbers, plan.read_for, "seekrandom", seek)?;
            seeks.add_to(&format!("seekrandom, {limit} entries"), plan, samples);
        }
    }
    let is_whole = |walk: &Walk| {
        let all = u64::from(entries);
        walk.is_right() && walk.count == entries as usize && walk.sum == all * (all - 1) / 2
    };
    if plan.wants(Workload::ReadSeq) {
        let mut walk = Walk::forward();
        let mut reader = store.reader()?;
        let begin = Instant::now();
        reader.forward(None, usize::MAX, |key, value| walk.see(key, value))?;
        samples.add("readseq", Unit::Nanoseconds, entries, begin.elapsed());
        require(is_whole(&walk), "readseq", "order, count and sum")?;
    }
    if plan.wants(Workload::ReadReverse) {
        let mut walk = Walk::backward();
        let mut reader = store.reader()?;
        let begin = Instant::now();
        reader.backward(|key, value| walk.see(key, value))?;
        samples.add("readreverse", Unit::Nanoseconds, entries, begin.elapsed());
        require(is_whole(&walk), "readreverse", "order, count and sum")?;
    }
    Ok(())
}

/// How often something was read, for how long, and how many bytes came from the disk.
struct Reads {
    count: u32,
    took: Duration,
    from_disk: Option<u64>,
}

impl Reads {
    /// What came from the disk is of interest where not all is in memory.
    fn add_to(&self, name: &str, plan: &Plan, samples: &mut Samples) {
        samples.add(name, Unit::Nanoseconds, self.count, self.took);
        if let Some(bytes) = self.from_disk.filter(|_| plan.is_limited) {
            samples.add_read(name, self.count, bytes);
        }
    }
}

/// Does `read`, which answers whether all was right, with one number after the other, for so long at the most; answers how often
/// and for how long.
fn repeat(
    numbers: impl Iterator<Item = u32>,
    longest: Duration,
    workload: &str,
    mut read: impl FnMut(u32) -> Result<bool>,
) -> Result<Reads> {
    let (mut reads, mut right) = (0, 0);
    let from_disk = report::bytes_from_disk();
    let begin = Instant::now();
    for number in numbers {
        right += u32::from(read(number)?);
        reads += 1;
        if reads % 64 == 0 && begin.elapsed() > longest {
            break;
        }
    }
    let took = begin.elapsed();
    require(right == reads, workload, "what was found")?;
    Ok(Reads { count: reads, took, from_disk: read_since(from_disk) })
}

fn read_since(then: Option<u64>) -> Option<u64> {
    Some(report::bytes_from_disk()? - then?)
}

/// Gets of present keys by several threads at once, each from its own place in the order of reading.
fn read_shared<S: Store>(store: &S, plan: &Plan) -> Result<Reads> {
    let each = plan.data.entries / READERS;
    let read = |thread: u32| {
        let mut reader = store.reader()?;
        let get = |number| Ok(reader.get(&key(number), head)?.flatten() == Some(Head::new(number)));
        repeat(plan.data.read().skip((thread * each) as usize).take(each as usize), plan.read_for, "readrandom", get)
    };
    let from_disk = report::bytes_from_disk();
    let begin = Instant::now();
    let reads = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|thread| {
                scope.spawn({
                    let read = &read;
                    move || read(thread)
                })
            })
            .collect();
        readers.into_iter().map(|reader| Ok(joined(reader)?.count)).sum::<Result<u32>>()
    })?;
    Ok(Reads { count: reads, took: begin.elapsed(), from_disk: read_since(from_disk) })
}

/// Reads and writes together, each workload from a store at rest. Every read is of the newest state.
fn mixed<S: Store>(store: &S, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let data = &plan.data;
    let entries = data.entries;
    if plan.wants(Workload::ReadWhileWriting) {
        read_while_writing(store, plan, samples)?;
        store.settle()?;
    }
    if plan.wants(Workload::YcsbA) {
        let mut random = Random(7 << 40);
        let begin = Instant::now();
        for number in data.skewed().take(entries as usize) {
            if random.below(2) == 0 {
                let found = store.reader()?.get(&key(number), head)?.flatten();
                require(found.is_some_and(|head| head.number == number), "ycsba", "the values")?;
            } else {
                store.put(&key(number), &value(Head { number, version: 3 }))?;
            }
        }
        samples.add("YCSB A", Unit::Nanoseconds, entries, begin.elapsed());
        store.settle()?;
    }
    let mut inserted = 0;
    if plan.wants(Workload::YcsbE) {
        let operations = entries.div_ceil(10);
        let mut random = Random(8 << 40);
        let begin = Instant::now();
        for number in data.skewed().take(operations as usize) {
            if random.below(20) == 0 {
                let number = entries + inserted;
                store.put(&key(number), &value(Head::new(number)))?;
                inserted += 1;
                continue;
            }
            let limit = random.below(SCAN_ENTRIES_MAX) as usize + 1;
            let mut walk = Walk::forward();
            let start = key(number);
            store.reader()?.forward(Some(&start), limit, |key, value| walk.see(key, value))?;
            let expected = data.at_or_behind(number).min(limit)..=limit;
            let is_right = walk.is_right() && walk.first == Some(start) && expected.contains(&walk.count);
            require(is_right, "ycsbe", "the entries")?;
        }
        samples.add("YCSB E", Unit::Nanoseconds, operations, begin.elapsed());
    }
    check::all(&mut store.reader()?, entries + inserted, |number| number < entries + inserted, 0..=3)
}

fn read_while_writing<S: Store>(store: &S, plan: &Plan, samples: &mut Samples) -> Result<()> {
    let data = &plan.data;
    let stop = AtomicBool::new(false);
    // Counts what one side does until it is told to stop.
    let until_stopped = |numbers: &mut dyn Iterator<Item = u32>, operation: &dyn Fn(u32) -> Result<()>| {
        let mut operations = 0;
        let begin = Instant::now();
        for number in numbers.take_while(|_| !stop.load(Ordering::Relaxed)) {
            operation(number)?;
            operations += 1;
        }
        Ok((operations, begin.elapsed()))
    };
    let write = |number| store.put(&key(number), &value(Head { number, version: 2 }));
    let read = |number| {
        let found = store.reader()?.get(&key(number), head)?.flatten();
        require(found.is_some_and(|head| head.number == number), "readwhilewriting", "the values")
    };
    let (reader, writer) = thread::scope(|scope| {
        let reader = scope.spawn(|| until_stopped(&mut data.read(), &read));
        let writer = scope.spawn(|| until_stopped(&mut data.written(), &write));
        thread::sleep(Duration::from_micros(2 * u64::from(data.entries)).max(Duration::from_millis(20)));
        stop.store(true, Ordering::Relaxed);
        (joined(reader), joined(writer))
    });
    let ((reads, read_for), (puts, put_for)) = (reader?, writer?);
    samples.add("readwhilewriting, reader", Unit::Nanoseconds, reads, read_for);
    samples.add("readwhilewriting, writer", Unit::Nanoseconds, puts, put_for);
    Ok(())
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
}

/// What the file system has allocated for the files of a directory.
fn bytes_in(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
