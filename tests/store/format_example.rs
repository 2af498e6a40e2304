//! FORMAT-EXAMPLE.md is the dump of a database that this test makes. `BLESS=1 cargo test` writes it again after an intended
//! change of the format.

use std::fmt::Write;
use std::path::Path;

use maplsm::inspect::{self, Value};
use maplsm::{Options, SimFs, WriteBatch};

use crate::support::{DIR, image};

const BEGIN: &str = "<!-- example:begin -->\n";
const END: &str = "<!-- example:end -->";

/// Three keys in a table, one of them with its value in a value file, a batch with a new version and a tombstone in the log,
/// and a clean close.
fn database() -> SimFs {
    let fs = SimFs::with_seed(1);
    let mut options = Options::new();
    options
        .file_system(fs.clone())
        .background_threads(0)
        .memtable_bytes(4096)
        .large_value_bytes(Some(64))
        .reserve_bytes(0);
    let db = options.open(DIR).unwrap();
    db.insert("apple", "red").unwrap();
    db.insert("pear", "").unwrap();
    db.insert("quince", [b'q'; 64]).unwrap();
    db.flush().unwrap();
    db.write(WriteBatch::new().insert("apple", "green").remove("pear")).unwrap();
    db.close().unwrap();
    fs
}

/// The dump of one file: each structure with its fields, then its bytes. Zeros at the end are left out.
fn dump(out: &mut String, name: &str, bytes: &[u8]) {
    let used =
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1).next_multiple_of(8).min(bytes.len());
    writeln!(out, "\n### `{name}`, {} bytes\n\n```text", bytes.len()).unwrap();
    let mut parts: Vec<(u64, String)> = Vec::new();
    if !name.starts_with("LOCK") {
        inspect::bytes(Path::new(name), bytes, &mut |item| {
            let mut line = String::from(item.kind);
            for (field, value) in &item.fields {
                match value {
                    Value::Number(number) => write!(line, " {field}={number}"),
                    Value::Text(text) => write!(line, " {field}={text}"),
                    Value::Bytes(bytes) => write!(line, " {field}=\"{}\"", bytes.escape_ascii()),
                    Value::Id(_) => write!(line, " {field}=(16 bytes)"),
                    _ => Ok(()),
                }
                .unwrap();
            }
            parts.push((item.offset, line));
            Ok(())
        })
        .unwrap();
    }
    parts.sort_by_key(|(offset, _)| *offset);
    let mut at = 0;
    for (i, (offset, line)) in parts.iter().enumerate() {
        let next = parts.get(i + 1).map_or(used as u64, |(next, _)| *next);
        hex(out, bytes, &mut at, usize::try_from(*offset).unwrap().min(used));
        writeln!(out, "# {line}").unwrap();
        hex(out, bytes, &mut at, usize::try_from(next).unwrap().min(used));
    }
    hex(out, bytes, &mut at, used);
    if used < bytes.len() {
        writeln!(out, "# zeros to the end").unwrap();
    }
    out.push_str("```\n");
}

fn hex(out: &mut String, bytes: &[u8], at: &mut usize, to: usize) {
    while *at < to {
        let line = &bytes[*at..to.min(*at + 16)];
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        writeln!(out, "{:06x}  {:<47}  {text}", *at, digits.join(" ")).unwrap();
        *at += line.len();
    }
}

#[test]
fn the_worked_example_is_true() {
    let mut example = String::from(
        "A database in which `apple` = `red`, `pear` = (empty) and `quince` = 64 times `q` were written and flushed, then\n\
         `apple` = `green` and the removal of `pear` in one batch; then it was closed. Values of 64 bytes and more go into value\n\
         files. In each file, a line with `#` names the structure that follows it.\n",
    );
    for (name, bytes) in image(&database()) {
        dump(&mut example, &name, &bytes);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("FORMAT-EXAMPLE.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{example}{END}{after}")).unwrap();
    } else {
        assert!(written == example, "the bytes have changed: FORMAT.md says how, and then BLESS=1 cargo test");
    }
}
