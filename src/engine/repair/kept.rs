//! Names of what a repair keeps beside the database.

/// Where the files of the old one are kept; a number follows if there is one already.
pub(super) const ORIGINALS: &str = "lost";

/// What follows in the name of the list of what is lost.
pub(super) const LIST_ENDING: &str = ".keys";

/// Whether this is the name of what a repair keeps of the files as they were, or of what is lost.
pub(crate) fn is_kept(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(ORIGINALS) else { return false };
    let number = rest.strip_suffix(LIST_ENDING).unwrap_or(rest);
    let digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.is_empty() || number.strip_prefix('-').is_some_and(digits)
}
