//! maplsm next to its peers, under equal settings. README.md says what is equal and what is not.

mod check;
mod data;
mod limit;
mod report;
mod store;
mod stores;
mod workload;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use clap::{Parser, ValueEnum};

use crate::data::{Data, Head, KEY_BYTES, Values, key, value};
use crate::limit::MemoryLimit;
use crate::report::Samples;
use crate::store::{Compression, Durability, Result, Settings};
use crate::stores::Kind;
use crate::workload::{Plan, Workload};

/// Compares maplsm with its peers and prints a table in Markdown.
#[derive(Parser)]
#[command(about, long_about = None)]
struct Arguments {
    /// How many entries
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=500_000_000))]
    entries: u32,
    /// How often every store runs every workload; the table has medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Which stores; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    stores: Vec<Kind>,
    /// Which workloads; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Where the stores write; by default the directory for temporary files
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Threads of the second fillsync
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// MiB of a memtable, where there is one
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    write_buffer_mib: u16,
    /// MiB of the store's own cache, where there is one
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    cache_mib: u16,
    /// MiB of memory for everything, the page cache included: a control group, which takes root and Linux
    #[arg(long, value_parser = clap::value_parser!(u32).range(32..))]
    memory_mib: Option<u32>,
    /// The longest that a workload of reads goes on, in seconds; what is left of it is left out
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    read_seconds: u32,
    /// Threads for flushes and compactions, where there are such
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    background_threads: u8,
    /// Compression of tables; by default only the stores run that have it
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// KiB that are compressed together; by default what each store prefers
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    block_kib: Option<u32>,
    /// What values are made of
    #[arg(long, value_enum, default_value = "noise")]
    values: Values,
    /// Bytes of a value; the key has 16
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    value_bytes: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut stores = arguments.stores;
    if stores.is_empty() {
        stores = Kind::value_variants().to_vec();
        stores.retain(|store| !matches!(store, Kind::MaplsmRead | Kind::MaplsmBloom));
        stores.retain(|store| arguments.compression == Compression::None || store.compresses());
    }
    data::set_values(arguments.values, arguments.value_bytes as usize);
    stores.sort_unstable();
    stores.dedup();
    let mut workloads = arguments.workloads;
    if workloads.is_empty() {
        workloads = Workload::value_variants().to_vec();
    }
    let settings = Settings {
        durability: Durability::Buffered,
        write_buffer_bytes: usize::from(arguments.write_buffer_mib) << 20,
        cache_bytes: usize::from(arguments.cache_mib) << 20,
        background_threads: arguments.background_threads.into(),
        compression: arguments.compression,
        block_bytes: arguments.block_kib.map(|kib| kib << 10),
        value_bytes: arguments.value_bytes as usize,
    };
    let plan = Plan {
        data: Data::new(arguments.entries),
        workloads,
        threads: arguments.threads,
        is_limited: arguments.memory_mib.is_some(),
        read_for: Duration::from_secs(arguments.read_seconds.into()),
        settings,
    };

    let directory = fs::canonicalize(arguments.dir.unwrap_or_else(env::temp_dir))?;
    let directory = tempfile::Builder::new().prefix("maplsm-compare-").tempdir_in(directory)?;
    let mut facts = report::machine(directory.path());
    facts.push(format!("Command: `{}`", env::args().collect::<Vec<_>>().join(" ")));
    facts.push(format!(
        "{} entries of {KEY_BYTES} + {} bytes, {} repetitions; {} MiB write buffer, {} MiB cache, {} background \
         threads",
        arguments.entries,
        arguments.value_bytes,
        arguments.repetitions,
        arguments.write_buffer_mib,
        arguments.cache_mib,
        arguments.background_threads
    ));
    facts.push(format!("Of each put, {:.0} ns are making key and value", nanoseconds_to_make(&plan.data)));

    let _limit = match arguments.memory_mib {
        Some(mib) => {
            facts.push(format!(
                "Memory for stores and page cache: {mib} MiB; readahead: {} KiB",
                report::readahead_kib(directory.path()).unwrap_or_else(|| "unknown".to_owned())
            ));
            Some(MemoryLimit::new(u64::from(mib) << 20)?)
        }
        None => None,
    };
    let mut samples = Samples::new();
    for repetition in 0..arguments.repetitions {
        // Who comes first changes, so that nobody always meets the disk as the same predecessor left it.
        stores.rotate_left(usize::from(repetition > 0));
        for store in &stores {
            eprintln!("repetition {} of {}: {}", repetition + 1, arguments.repetitions, store.name());
            samples.begin(*store);
            let own = directory.path().join("store");
            fs::create_dir(&own)?;
            store.run(&own, &plan, &mut samples).map_err(|error| format!("{}: {error}", store.name()))?;
            fs::remove_dir_all(&own)?;
        }
    }

    stores.sort_unstable();
    for fact in facts {
        println!("- {fact}");
    }
    println!();
    samples.print(&stores);
    println!();
    for store in stores {
        let large = if settings.has_large_values() { store.large_meaning(&settings) } else { "" };
        println!("- **{}** ({}). {}{large}", store.name(), store.version(), store.meaning());
    }
    Ok(())
}

/// What the loops of the writing workloads take without a store.
fn nanoseconds_to_make(data: &Data) -> f64 {
    let begin = Instant::now();
    for number in data.written().take(data.entries as usize) {
        black_box((key(number), value(Head::new(number))));
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(data.entries)
}
