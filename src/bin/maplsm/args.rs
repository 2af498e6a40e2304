//! What may stand on the command line.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};

use crate::escape;

const ABOUT: &str = "Embedded ordered key-value store: interactive shell and one-shot commands.

Without a command, opens the interactive shell; if stdin is not a terminal, reads shell commands from it line by line.";

const NOTES: &str = "\
Keys and values are bytes. Printable UTF-8 is shown as it is; control bytes, invisible characters, bytes that are not
UTF-8 and the backslash are shown as \\t \\n \\r \\\\ \\xHH. The same is accepted wherever a key or value is typed; \\& stands
for nothing.

Data goes to stdout, messages to stderr. Exit code: 0 success, 1 error or key not there, 2 damaged files.";

#[derive(Debug, Parser)]
#[command(name = "maplsm", version, about = ABOUT, after_help = NOTES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The database that a command works on.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Directory of the database
    #[arg(short, long, value_name = "DIR", default_value = "lsm_db", global = true)]
    pub(crate) db: PathBuf,
    /// Flush the memtable to a table after N entries [default: by its size in bytes alone]
    #[arg(short, long, value_name = "N", global = true)]
    pub(crate) capacity: Option<NonZeroUsize>,
    /// Keyspace that the command or shell works on; `set` and `import` make it if it is missing [default: the default one]
    #[arg(short, long, value_name = "NAME", global = true)]
    pub(crate) keyspace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the value of a key; `(nil)` on stderr and exit code 1 if it is not there
    Get {
        #[arg(value_parser = typed(), allow_negative_numbers = true)]
        key: Typed,
    },
    /// Store a value under a key; durable when the command ends
    Set {
        #[arg(value_parser = typed(), allow_negative_numbers = true)]
        key: Typed,
        #[arg(value_parser = typed(), allow_negative_numbers = true)]
        value: Typed,
    },
    /// Remove a key; no error if it is not there
    Del {
        #[arg(value_parser = typed(), allow_negative_numbers = true)]
        key: Typed,
    },
    /// Print entries in key order, one `KEY<tab>VALUE` a line
    Scan(ScanArgs),
    /// Print the number of entries
    Count(RangeArgs),
    /// Print what the store consists of
    Stats {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the memtable to a table
    Flush,
    /// Merge all tables and drop what is no longer visible
    Compact,
    /// Store the entries of a file of `KEY<tab>VALUE` lines
    ///
    /// A line ends at `\n` and nowhere else; the key ends at the first tab, and the rest of the line is the value.
    ///
    /// Entries are written in batches. A batch is stored whole or not at all, and is on disk before the next one is
    /// written, unless --buffered is given. If a line cannot be imported, the message names it and says up to which
    /// line everything is stored; --skip takes that number.
    Import(ImportArgs),
    /// Load a file of `KEY<tab>VALUE` lines straight into tables, whole or not at all
    ///
    /// Reads what `import` reads, and is the faster way for much of it. Lines that are not in order of key are sorted first,
    /// in bounded memory and with temporary files; of several lines with one key, the last one counts.
    Ingest(IngestArgs),
    /// Write entries as `KEY<tab>VALUE` lines that `import` reads back to the same store
    Export(ExportArgs),
    /// Copy the database as it is into a new directory, as a database of its own: by hard links where that can be done
    Checkpoint {
        /// Directory to make, or to look at
        dir: PathBuf,
        /// Make nothing: list the files of a checkpoint, one `NAME<tab>BYTES<tab>ID<tab>CHECKSUM` a line, the last two in
        /// hexadecimal, and `-` for files that are always to be fetched
        #[arg(long)]
        list: bool,
    },
    /// Make a backup in a directory of backups of this database, which shares with the one before what has not changed
    Backup {
        /// Directory of backups, made if it is not there
        dir: PathBuf,
        /// Remove all but the newest N afterwards
        #[arg(long, value_name = "N")]
        keep: Option<NonZeroUsize>,
    },
    /// List the backups in a directory, oldest first, one `NUMBER<tab>PATH` a line
    Backups {
        /// Directory of backups
        dir: PathBuf,
    },
    /// Make a database of a backup, which stays as it is; every file is verified
    Restore {
        /// Directory of backups, of which the newest counts, or that of one backup or checkpoint
        from: PathBuf,
        /// Directory to make
        to: PathBuf,
    },
    /// Print a digest of the entries, the same for every database that holds the same
    Digest(RangeArgs),
    /// Print what one file of the format holds, whole or damaged; needs no database
    Dump(DumpArgs),
    /// Read every byte of the database and check it; exit code 2 if anything is damaged. Names what is left over, and what
    /// repairs have kept, as well
    Verify {
        /// Look at every file, also of a database that does not open, and say what `repair` could do about each damage and
        /// which keys would be lost. What is intact of damaged tables is held in memory meanwhile
        #[arg(long)]
        deep: bool,
    },
    /// Make a consistent database of what can be read of a damaged one
    ///
    /// Nobody may have it open. A lost index or `CURRENT` is made again; after other damage, all that is intact is written
    /// anew, which needs space for a copy, and the files as they were are kept in a directory `lost` beside. Every damage is
    /// named, with what came of it; exit code 2 if something is, or may be, lost.
    ///
    /// `lost.keys`, beside `lost`, then names everything that is lost, one line each, with tabs between the fields: `key`,
    /// keyspace, key: this key has lost its value and is absent. `range`, keyspace, start, end: unknown keys between these
    /// may be absent, or have an older value, or be back after a removal. A start is `[` or `(` (itself included, or not)
    /// and a key, an end is a key and `]` or `)`; either is empty if there is no bound. In names and keys, a byte that is
    /// not printable ASCII, or is a backslash, is written as `\xHH`.
    Repair {
        /// Directory of the database [default: that of --db]
        dir: Option<PathBuf>,
    },
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
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// File to read; `-` is stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Take keys and values as they are, without escapes
    #[arg(long)]
    pub(crate) raw: bool,
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
}

#[derive(Debug, clap::Args)]
pub(crate) struct IngestArgs {
    /// File to read; `-` is stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Take keys and values as they are, without escapes
    #[arg(long)]
    pub(crate) raw: bool,
    /// Memory for sorting, in bytes or with K, M or G behind
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = size)]
    pub(crate) memory: Size,
    /// Directory for temporary files [default: that of the database]
    #[arg(long, value_name = "DIR")]
    pub(crate) temp: Option<PathBuf>,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

fn size(text: &str) -> Result<Size, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<usize>().map_err(|_| "not a number, perhaps with K, M or G behind".to_owned())?;
    number.checked_mul(1 << shift).map(Size).ok_or_else(|| "too large".to_owned())
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File to write; `-` is stdout
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
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

/// A key or value from the command line, its escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Typed(pub(crate) Vec<u8>);

fn typed() -> impl TypedValueParser<Value = Typed> {
    OsStringValueParser::new().try_map(|argument| {
        let bytes = argument_bytes(argument)?;
        escape::unescape(&bytes).map(|bytes| Typed(bytes.into_owned())).map_err(|error| error.to_string())
    })
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps)] // Elsewhere an argument need not be bytes.
fn argument_bytes(argument: OsString) -> Result<Vec<u8>, String> {
    Ok(std::os::unix::ffi::OsStringExt::into_vec(argument))
}

#[cfg(not(unix))]
fn argument_bytes(argument: OsString) -> Result<Vec<u8>, String> {
    argument.into_string().map(String::into_bytes).map_err(|_| "the argument is not Unicode".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_database_may_be_named_on_either_side_of_the_command() {
        for line in [["maplsm", "-d", "x", "flush"], ["maplsm", "flush", "--db", "x"]] {
            let args = Args::try_parse_from(line).unwrap();
            assert_eq!(args.target.db, PathBuf::from("x"));
            assert!(matches!(args.command, Some(Command::Flush)));
        }
        assert_eq!(Args::try_parse_from(["maplsm"]).unwrap().target.db, PathBuf::from("lsm_db"));
    }

    #[test]
    fn keys_and_values_resolve_escapes() {
        let args = Args::try_parse_from(["maplsm", "set", r"a\x00b", "-5"]).unwrap();
        let Some(Command::Set { key, value }) = args.command else { panic!("not a set") };
        assert_eq!((key.0, value.0), (b"a\0b".to_vec(), b"-5".to_vec()));
        assert!(Args::try_parse_from(["maplsm", "get", r"\q"]).is_err());
        assert!(Args::try_parse_from(["maplsm", "-c", "0"]).is_err());
    }
}
