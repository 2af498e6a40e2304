//! File numbers so high that they leave none for new files: an open refuses a directory that has used the numbers up.

use crate::format::names::numbered;
use crate::format::{FileNumber, NUMBER_MAX};

/// No database comes as far as this by itself, and there are as many numbers again behind it.
const ENOUGH: u64 = NUMBER_MAX / 2;

/// Whether a database should not go on behind this number.
pub(super) fn is_last(number: FileNumber) -> bool {
    number.0 >= ENOUGH
}

/// The files that keep a database from having new ones, whatever is in them.
pub(super) fn last_names(names: &[String]) -> impl Iterator<Item = String> {
    numbered(names).filter(|(_, number)| is_last(*number)).map(|(kind, number)| kind.name(number))
}

/// The number behind those of all other files, for a database made anew.
pub(super) fn first_free(names: &[String]) -> u64 {
    let others = numbered(names).map(|(_, number)| number).filter(|number| !is_last(*number));
    others.max().map_or(1, |number| number.0 + 1)
}
