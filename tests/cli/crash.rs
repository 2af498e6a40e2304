//! An import that is killed.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};

use super::Store;

const LINES: usize = 200_000;

#[test]
fn what_is_acknowledged_survives_kill() {
    let store = Store::new();
    let file = store.beside("entries.tsv");
    let mut input = String::new();
    for number in 0..LINES {
        // Neither sorted nor of one length.
        let scattered = number.wrapping_mul(7919) % LINES;
        writeln!(input, "key{scattered:06}\t{number} {}", "value ".repeat(number % 7)).unwrap();
    }
    fs::write(&file, &input).unwrap();
    let lines: Vec<&str> = input.lines().collect();

    let mut acknowledged = 0;
    for batches in [1, 7, 30] {
        let skip = acknowledged.to_string();
        let arguments = ["import", "--progress-lines", "--batch", "100", "--skip", &skip];
        let mut child = store.command(arguments.iter().map(AsRef::as_ref).chain([file.as_os_str()])).spawn().unwrap();
        let progress = BufReader::new(child.stdout.take().unwrap());
        for line in progress.lines().take(batches) {
            acknowledged = line.unwrap().parse().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        // Everything that was acknowledged is there. Of what came after it, only whole batches are.
        let mut stored: Vec<String> = store.run(["export"]).success().text().lines().map(str::to_owned).collect();
        assert!(stored.len() >= acknowledged && stored.len().is_multiple_of(100), "{}", stored.len());
        let mut expected = lines[..stored.len()].to_vec();
        expected.sort_unstable();
        stored.sort_unstable();
        assert!(stored == expected);
        store.run(["verify"]).success();
    }

    let skip = acknowledged.to_string();
    store.run(["import".as_ref(), "--skip".as_ref(), skip.as_ref(), file.as_os_str()]).success();
    store.run(["count"]).prints(&format!("{LINES}\n"));
}
