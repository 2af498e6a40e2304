//! Arguments of the commands that read and write entries.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::ValueEnum;

use crate::args::creation::CreationArgs;
use crate::args::typed::{Size, Typed, size, typed};

/// How entries stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `KEY<tab>VALUE` lines
    Tsv,
    /// Rows of key and value under the header `key,value` (RFC 4180)
    Csv,
    /// JSON objects, one a line, with the strings `key` and `value`; `key_hex`, `value_hex` for bytes that are not UTF-8
    Jsonl,
}

/// How the input is to be read.
#[derive(Debug, clap::Args)]
pub(crate) struct InputArgs {
    /// What a line is [default: by the name of the file, else tsv]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Take keys and values of lines with tabs as they are, without escapes
    #[arg(long)]
    pub(crate) raw: bool,
    /// Lines with tabs end in `\r\n`, as Windows has them
    #[arg(long)]
    pub(crate) crlf: bool,
}

/// Which keys.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RangeArgs {
    /// First key
    #[arg(long, value_name = "KEY", value_parser = typed())]
    pub(crate) from: Option<Typed>,
    /// End of the range: the first key that is not in it
    #[arg(long, value_name = "KEY", value_parser = typed())]
    pub(crate) to: Option<Typed>,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", value_parser = typed())]
    pub(crate) prefix: Option<Typed>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Stop after N entries
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Print keys alone
    #[arg(long)]
    pub(crate) keys_only: bool,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
}

/// How entries are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct ShapeArgs {
    /// Print keys and values in hexadecimal
    #[arg(long, conflicts_with = "json")]
    pub(crate) hex: bool,
    /// Print one JSON object a line, as `export --format jsonl` does
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// File to read; `-` is stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) form: InputArgs,
    /// Entries in a batch at most; a batch also ends at 1 MiB
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) batch: NonZeroUsize,
    /// Sync once, at the end: faster, but nothing is certain to survive a crash of the machine before that
    #[arg(long)]
    pub(crate) buffered: bool,
    /// Leave out the first N lines, to go on after an interrupted import
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) skip: u64,
    /// After each sync print, as a line on stdout, how many lines of the input are now safely stored, skipped ones
    /// included. The last such number is what --skip takes after a crash
    #[arg(long)]
    pub(crate) progress_lines: bool,
    #[command(flatten)]
    pub(crate) options: CreationArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IngestArgs {
    /// File to read; `-` is stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) form: InputArgs,
    /// Memory for sorting, in bytes or with K, M or G behind
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = size)]
    pub(crate) memory: Size,
    /// Directory for temporary files [default: that of the database]
    #[arg(long, value_name = "DIR")]
    pub(crate) temp: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: CreationArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File to write; `-` is stdout
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// What a line is [default: by the name of the file, else tsv]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Write keys and values as they are; an error if one holds a byte that `import --raw` would take for a separator
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// Log segment, table, index or manifest
    pub(crate) file: PathBuf,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Stop after N items
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroU64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[arg(value_parser = typed(), allow_negative_numbers = true)]
    pub(crate) key: Typed,
    /// Print the bytes of the value as they are, and nothing behind them
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print the value in hexadecimal
    #[arg(long, conflicts_with = "raw")]
    pub(crate) hex: bool,
    /// Print one JSON object of key and value
    #[arg(long, conflicts_with_all = ["raw", "hex"])]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    #[arg(value_parser = typed(), allow_negative_numbers = true)]
    pub(crate) key: Typed,
    #[arg(value_parser = typed(), allow_negative_numbers = true, required_unless_present = "file")]
    pub(crate) value: Option<Typed>,
    /// Take the bytes of a file as the value; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: CreationArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FindArgs {
    /// What to look for
    #[arg(value_parser = typed(), allow_negative_numbers = true)]
    pub(crate) text: Typed,
    /// Look into values as well
    #[arg(long)]
    pub(crate) values: bool,
    #[command(flatten)]
    pub(crate) scan: ScanArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Workloads, in this order
    #[arg(value_enum, default_values = ["fillrandom", "readrandom", "readseq"])]
    pub(crate) workloads: Vec<Workload>,
    /// Entries
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) num: NonZeroU64,
    /// Operations of the workloads that read or delete [default: as many as entries]
    #[arg(long, value_name = "N")]
    pub(crate) ops: Option<NonZeroU64>,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = size)]
    pub(crate) value_size: Size,
    /// Sync each write
    #[arg(long)]
    pub(crate) sync: bool,
    /// Seed of the random order
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// Print one JSON object a workload
    #[arg(long)]
    pub(crate) json: bool,
    /// Directory of the database, which must not be there and is removed at the end [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: CreationArgs,
}

/// What `bench` measures, by the names of `db_bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    /// Entries in order of key
    FillSeq,
    /// Entries in random order
    FillRandom,
    /// The same keys again, in random order
    Overwrite,
    /// Gets of keys that are there
    ReadRandom,
    /// Gets of keys that are not there
    ReadMissing,
    /// All entries in order
    ReadSeq,
    /// All entries backwards
    ReadReverse,
    /// Seeks, and the entry there
    SeekRandom,
    /// Removals in order of key
    DeleteSeq,
    /// Removals in random order
    DeleteRandom,
    /// A compaction of all that is there
    Compact,
}
