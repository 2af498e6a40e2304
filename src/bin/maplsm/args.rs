//! What may stand on the command line.

mod creation;
mod entries;
mod typed;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use crate::args::creation::CreationArgs;
pub(crate) use crate::args::entries::{
    BenchArgs, DumpArgs, ExportArgs, FindArgs, Format, GetArgs, ImportArgs, IngestArgs, InputArgs, RangeArgs, ScanArgs,
    SetArgs, ShapeArgs, Workload,
};
use crate::args::typed::typed;
pub(crate) use crate::args::typed::{Size, Typed, argument_bytes};

const ABOUT: &str = "Embedded ordered key-value store: interactive shell and one-shot commands.

Without a command, opens the interactive shell; if stdin is not a terminal, reads shell commands from it line by line. The
directory may stand in front: `maplsm DIR`, `maplsm DIR stats`; so may commands of the shell: `maplsm DIR 'SET a 1' 'GET a'`.";

const NOTES: &str = "\
Keys and values are bytes. Printable UTF-8 is shown as it is; control bytes, invisible characters, bytes that are not
UTF-8 and the backslash are shown as \\t \\n \\r \\\\ \\xHH. The same is accepted wherever a key or value is typed; \\& stands
for nothing.

`set`, `import`, `ingest` and the shell make a database where there is none; nothing else does.

Data goes to stdout, messages to stderr. Exit code: 0 success, 1 error or key not there, 2 damaged files, 130 interrupted.";

#[derive(Debug, Parser)]
#[command(name = "maplsm", version, about = ABOUT, after_help = NOTES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) options: CreationArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The database that a command works on.
#[derive(Debug, Clone, clap::Args)]
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
    /// For what is made; of the command, and of the program where the command has none.
    #[arg(skip)]
    pub(crate) options: CreationArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the value of a key; `(nil)` on stderr and exit code 1 if it is not there
    Get(GetArgs),
    /// Print what a lookup of a key asks, in that order, and what each place says; exit code 1 if the key is not there
    ///
    /// Memtables come first, then tables from the youngest on, each with the offsets that are looked at.
    Explain {
        #[arg(value_parser = typed(), allow_negative_numbers = true)]
        key: Typed,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Store a value under a key; durable when the command ends
    Set(SetArgs),
    /// Remove a key; no error if it is not there
    Del {
        #[arg(value_parser = typed(), allow_negative_numbers = true)]
        key: Typed,
    },
    /// Print entries in key order, one `KEY<tab>VALUE` a line
    Scan(ScanArgs),
    /// Print the number of entries
    Count(RangeArgs),
    /// Print the entries whose key holds a piece of text, as `scan` does
    Find(FindArgs),
    /// List the keyspaces, one a line
    Keyspaces {
        /// Print one JSON object a line, with the options of each
        #[arg(long)]
        json: bool,
    },
    /// Make a keyspace, with options of its own
    Create {
        name: String,
        #[command(flatten)]
        options: CreationArgs,
    },
    /// Drop a keyspace with all that is in it
    Drop { name: String },
    /// List the tables, level by level
    Ls {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print what two databases or checkpoints differ in: `<` and the entry of the first, `>` and that of the second; exit
    /// code 1 if they do
    ///
    /// Compares the keyspace that --keyspace names, or all of them: then the name stands in front of each entry.
    Diff {
        a: PathBuf,
        b: PathBuf,
        /// Print keys alone
        #[arg(long)]
        keys_only: bool,
    },
    /// Measure a new database in a temporary directory, with the workloads of `db_bench`
    Bench(BenchArgs),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page of the program, or of one of its commands
    Man { command: Option<String> },
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
    /// A line ends at `\n` and nowhere else; the key ends at the first tab, and the rest of the line is the value. Files
    /// whose names end in `.csv`, `.jsonl` or `.ndjson` are read as such, and --format tells of others. What is compressed
    /// with gzip or Zstandard is unpacked.
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
        /// Print one JSON object
        #[arg(long)]
        json: bool,
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
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// What it says about what is made.
    pub(crate) fn options(&self) -> Option<&CreationArgs> {
        match self {
            Self::Set(args) => Some(&args.options),
            Self::Import(args) => Some(&args.options),
            Self::Ingest(args) => Some(&args.options),
            Self::Bench(args) => Some(&args.options),
            _ => None,
        }
    }
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
        let Some(Command::Set(SetArgs { key, value: Some(value), .. })) = args.command else { panic!("not a set") };
        assert_eq!((key.0, value.0), (b"a\0b".to_vec(), b"-5".to_vec()));
        assert!(Args::try_parse_from(["maplsm", "get", r"\q"]).is_err());
        assert!(Args::try_parse_from(["maplsm", "-c", "0"]).is_err());
    }
}
