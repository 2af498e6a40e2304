//! What two databases differ in, key by key.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use maplsm::{Db, Entry, Iter};

use crate::args::Target;
use crate::escape::Escaped;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::open;
use crate::tsv::{self, Form};

pub(crate) fn run(target: &Target, paths: [&Path; 2], keys_only: bool) -> Result<Status, Failure> {
    let [a, b] = paths.map(|path| open::to_read(&Target { db: path.to_owned(), ..target.clone() }));
    let (a, b) = (a?, b?);
    let names = |db: &Db| [open::DEFAULT.to_owned()].into_iter().chain(db.keyspaces()).collect::<BTreeSet<_>>();
    let (of_a, of_b) = (names(&a), names(&b));
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut printer = Printer { out: &mut out, keyspace: None, keys_only, differences: 0 };
    if let Some(name) = &target.keyspace {
        let [a, b] = [&a, &b].map(|db| open::existing_keyspace(db, Some(name)).map(|keyspace| keyspace.iter()));
        compare(a?, b?, &mut printer)?;
    } else {
        for name in of_a.union(&of_b) {
            printer.keyspace = Some(name);
            let [a, b] = [&a, &b].map(|db| open::existing_keyspace(db, Some(name)));
            match (a, b) {
                (Ok(a), Ok(b)) => compare(a.iter(), b.iter(), &mut printer)?,
                // An empty keyspace is a difference as well.
                (Ok(_), _) => printer.print_keyspace('<', name)?,
                (_, Ok(_)) => printer.print_keyspace('>', name)?,
                (Err(error), Err(_)) => return Err(error.into()),
            }
        }
    }
    let status = if printer.differences == 0 { Status::Success } else { Status::Failed };
    out.flush()?;
    Ok(status)
}

/// Walks over both in order of key.
fn compare(mut a: Iter, mut b: Iter, printer: &mut Printer<'_, impl Write>) -> Result<(), Failure> {
    let (mut of_a, mut of_b) = (a.next().transpose()?, b.next().transpose()?);
    loop {
        interrupt::check()?;
        let order = match (&of_a, &of_b) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.key().cmp(b.key()),
        };
        let differ = order.is_ne() || of_a.as_ref().map(Entry::value) != of_b.as_ref().map(Entry::value);
        if differ {
            if let Some(entry) = of_a.as_ref().filter(|_| order.is_le()) {
                printer.print('<', entry)?;
            }
            if let Some(entry) = of_b.as_ref().filter(|_| order.is_ge()) {
                printer.print('>', entry)?;
            }
        }
        if order.is_le() {
            of_a = a.next().transpose()?;
        }
        if order.is_ge() {
            of_b = b.next().transpose()?;
        }
    }
}

struct Printer<'a, W> {
    out: &'a mut W,
    /// The name that stands in front of each entry.
    keyspace: Option<&'a str>,
    keys_only: bool,
    differences: u64,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, side: char, entry: &Entry) -> io::Result<()> {
        self.differences += 1;
        write!(self.out, "{side} ")?;
        if let Some(name) = self.keyspace {
            write!(self.out, "{}\t", Escaped(name.as_bytes()))?;
        }
        if self.keys_only {
            writeln!(self.out, "{}", Escaped(entry.key()))
        } else {
            tsv::write(self.out, entry.key(), entry.value(), Form::Escaped)
        }
    }

    /// A keyspace that one side lacks.
    fn print_keyspace(&mut self, side: char, name: &str) -> io::Result<()> {
        self.differences += 1;
        writeln!(self.out, "{side} {}", Escaped(name.as_bytes()))
    }
}
