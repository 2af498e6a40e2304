//! Looking at the database from outside: stats, verify, dump.

use std::fs;

use serde_json::Value;

use super::{Store, damage, lines};

fn sample() -> Store {
    let input = lines(1000, |number| format!("key{number:04}\tvalue \"{number}\"\\n\n"));
    Store::with(input)
}

#[test]
fn stats_are_for_people_and_for_programs() {
    let store = sample();
    let answer = store.run(["stats"]).success();
    for part in
        ["directory", "memtable", "SSTable files", "tombstones", "1000", "KiB", "on disk", "tables ", "by estimate"]
    {
        assert!(answer.text().contains(part), "{part}: {}", answer.text());
    }
    let answer = store.run(["stats", "--json"]).success();
    assert_eq!(answer.text().lines().count(), 1);
    let stats: Value = serde_json::from_slice(&answer.out).unwrap();
    let sum = |list: &str, field: &str| -> u64 {
        stats[list].as_array().unwrap().iter().map(|item| item[field].as_u64().unwrap()).sum()
    };
    assert_eq!(stats["memtable_entries"], 0);
    assert_eq!((sum("levels", "tables"), sum("levels", "entries"), sum("tables", "entries")), (1, 1000, 1000));
    assert_eq!(sum("levels", "bytes"), sum("tables", "bytes"));
    assert_eq!(stats["file_bytes"]["tables"], sum("tables", "bytes"));
    assert_eq!(stats["file_bytes"]["indexes"], sum("tables", "index_bytes"));
    assert!(stats["space_amplification"].as_f64().unwrap() >= 1.0, "{stats}");
    assert_eq!((&stats["written"]["by_users"], &stats["write_amplification"]), (&Value::from(0), &Value::Null));
    assert_eq!(
        (&stats["latencies"]["get"]["samples"], &stats["latencies"]["get"]["p99_ns"]),
        (&Value::from(0), &Value::Null)
    );
}

#[test]
fn verify_tells_a_sound_database_from_a_damaged_one() {
    let store = sample();
    let answer = store.run(["verify"]).success();
    assert!(answer.text().starts_with("ok: "), "{answer:?}");
    assert!(answer.text().contains("1000 entries") && answer.text().lines().count() == 1, "{answer:?}");

    let left = store.database().join("900000.sst");
    for path in [&left, &store.database().join("notes.txt")] {
        std::fs::write(path, "x").unwrap();
    }
    let answer = store.run(["verify"]).success();
    let lines: Vec<&str> = answer.text().lines().collect();
    assert!(lines[0].starts_with("ok: "), "{answer:?}");
    assert_eq!(lines[1], format!("left over, removed by the next write: {}", left.display()));
    assert_eq!(lines[2..], ["files that are none of the database's: 1"]);
    store.run(["set", "a", "x"]).success();
    assert!(!left.exists());

    let table = store.files("sst").remove(0);
    damage(&table);
    let name = table.file_name().unwrap().to_str().unwrap();
    store.run(["verify"]).failure(2, &["error: ", name]);
    store.run(["scan"]).failure(2, &["error: ", name]);
}

#[test]
fn a_damaged_table_is_damage_in_the_shell_too() {
    let store = sample();
    damage(&store.files("sst").remove(0));
    let answer = store.shell("frob\nSCAN\n");
    assert_eq!(answer.code, Some(2), "{answer:?}");
}

#[test]
fn dump_shows_the_items_of_a_file() {
    let store = sample();
    let table = store.files("sst").remove(0);
    let dump = |arguments: &[&str]| {
        let answer = store.run([&["dump", table.to_str().unwrap()], arguments].concat()).success();
        String::from_utf8(answer.out).unwrap()
    };
    let text = dump(&[]);
    assert!(text.contains(r#""key0000""#) && text.contains(r#""value \x22999\x22\n""#), "{text}");
    assert_eq!(dump(&["--limit", "3"]).lines().count(), 3);

    let json = dump(&["--json"]);
    assert_eq!(json.lines().count(), text.lines().count());
    for line in json.lines() {
        let item: Value = serde_json::from_str(line).unwrap();
        assert!(item["offset"].is_u64() && item["kind"].is_string() && item["fields"].is_object());
    }
    assert!(json.contains(r#""key0999""#));
}

#[test]
fn dump_of_something_else_says_so() {
    let store = Store::new();
    for (name, code, words) in [("garbage", 1, "is not a file of this format"), ("000007.sst", 2, "the magic number")] {
        let file = store.beside(name);
        fs::write(&file, "This is not a file of the format, whatever else it may be. ".repeat(100)).unwrap();
        for arguments in [&["dump"][..], &["dump", "--json"]] {
            let answer = store
                .run(arguments.iter().map(AsRef::as_ref).chain([file.as_os_str()]))
                .failure(code, &["error: ", name, words]);
            assert_eq!(answer.text(), "");
        }
    }
    store.run(["dump", "/does/not/exist"]).failure(1, &["error: ", "/does/not/exist"]);
    assert!(!store.database().exists());
}

#[test]
fn tables_are_listed() {
    let store = sample();
    let answer = store.run(["ls"]).success();
    assert!(answer.text().lines().count() == 2 && answer.text().contains(" 1000 "), "{answer:?}");
    let table: Value = serde_json::from_str(store.run(["ls", "--json"]).success().text()).unwrap();
    assert_eq!((&table["level"], &table["entries"]), (&0.into(), &1000.into()));
}

#[test]
fn verify_and_repair_speak_json() {
    let store = sample();
    let object = |answer: &super::Answer| -> Value { serde_json::from_str(answer.text()).unwrap() };
    let found = object(&store.run(["verify", "--json"]).success());
    assert_eq!((&found["verdict"], &found["entries"]), (&"ok".into(), &1000.into()));
    assert_eq!(object(&store.run(["verify", "--deep", "--json"]).success())["verdict"], "ok");
    assert_eq!(object(&store.run(["repair", "--json"]).success())["verdict"], "ok, nothing to repair");

    damage(&store.files("sst").remove(0));
    let found = object(&store.run(["verify", "--json"]).failure(2, &["error: "]));
    assert_eq!((&found["verdict"], found["problems"].as_array().unwrap().len()), (&"damaged".into(), 1));
    let deep = object(&store.run(["verify", "--deep", "--json"]).failure(2, &[]));
    assert_eq!(deep["findings"][0]["outcome"], "salvaged");
    let repaired = object(&store.run(["repair", "--json"]).failure(2, &[]));
    assert_eq!(repaired["verdict"], "repaired, with losses");
    assert_eq!(repaired["findings"][0]["entries_read"], repaired["entries"]);
    assert!(repaired["originals"].is_string() && repaired["rebuilt"] == true);
}
