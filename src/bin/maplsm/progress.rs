//! A bar on stderr for work on files, while somebody watches.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

/// Counts towards a known number of bytes.
pub(crate) fn of_bytes(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) if io::stderr().is_terminal() => {
            styled(ProgressBar::new(total), "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        }
        _ => ProgressBar::hidden(),
    }
}

/// Counts entries, of which nobody knows how many there are.
pub(crate) fn of_entries(visible: bool) -> ProgressBar {
    if visible && io::stderr().is_terminal() {
        styled(ProgressBar::new_spinner(), "{spinner} {human_pos} entries {per_sec}")
    } else {
        ProgressBar::hidden()
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_nothing_is_drawn() {
        assert!(of_bytes(None).is_hidden());
        assert!(of_entries(false).is_hidden());
    }
}
