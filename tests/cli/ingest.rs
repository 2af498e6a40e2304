//! Lines straight into tables.

use std::fs;

use super::{Store, lines};

#[test]
fn sorted_lines_are_taken_as_they_are_and_others_are_sorted() {
    let sorted = lines(3000, |number| format!("key{number:06}\tvalue {number}\n"));
    let mut shuffled: Vec<&str> = sorted.lines().collect();
    shuffled.sort_by_key(|line| line.bytes().rev().collect::<Vec<u8>>());
    let shuffled: String = shuffled.into_iter().flat_map(|line| [line, "\n"]).collect();
    for (input, memory) in [(&sorted, "64M"), (&shuffled, "64M"), (&shuffled, "64K")] {
        let store = Store::new();
        let file = store.beside("entries.tsv");
        fs::write(&file, input).unwrap();
        let answer = store.run(["ingest".as_ref(), "--memory".as_ref(), memory.as_ref(), file.as_os_str()]).success();
        assert_eq!(answer.err, "ingested 3000 entries as 1 tables of level 1\n");
        store.run(["scan"]).prints(&sorted);
        assert!(!store.database().join("ingest.tmp").exists());
        store.run(["verify", "--deep"]).prints("ok\n");
    }
    // Standard input is sorted in any case; the temporary directory may be elsewhere.
    let store = Store::new();
    let temp = store.directory.path().to_str().unwrap().to_owned();
    store.feed(["ingest", "--temp", &temp, "--memory", "64K"], &shuffled).success();
    store.run(["count"]).prints("3000\n");
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 1, "the database alone");
}

#[test]
fn the_last_line_of_a_key_wins_and_a_load_replaces_what_is_there() {
    let store = Store::with("a\told\nb\told\n");
    store.feed(["ingest"], "c\t1\na\t1\nc\t2\na\t2\n").success();
    store.run(["scan"]).prints("a\t2\nb\told\nc\t2\n");
    store.feed(["ingest", "--keyspace", "other"], "k\tv\n").success();
    store.run(["scan", "--keyspace", "other"]).prints("k\tv\n");
}

#[test]
fn a_malformed_line_is_named_and_nothing_is_stored() {
    let store = Store::with("a\told\n");
    let file = store.beside("bad.tsv");
    fs::write(&file, "a\tnew\nb\tnew\nno tab\n").unwrap();
    store.run(["ingest".as_ref(), file.as_os_str()]).failure(1, &["error: line 3: no tab"]);
    store.feed(["ingest"], "b\tx\na\ty\nno tab\n").failure(1, &["error: line 3: no tab"]);
    store.run(["scan"]).prints("a\told\n");
    store.run(["ingest", "--memory", "12Q"]).failure(1, &["--memory"]);
}

#[test]
fn backups_share_files_and_are_restored() {
    let store = Store::with("a\t1\nb\t2\n");
    let [backups, restored] = ["backups", "restored"].map(|name| store.beside(name));
    store.run(["flush"]).success();
    store.run(["backups".as_ref(), backups.as_os_str()]).failure(1, &["backups"]);
    let first = store.run(["backup".as_ref(), backups.as_os_str()]).success();
    assert!(first.text().contains("000001-") && first.text().contains(" 0 B shared"), "{first:?}");
    store.run(["set", "a", "3"]).success();
    let second = store.run(["backup".as_ref(), backups.as_os_str()]).success();
    assert!(second.text().contains("000002-") && !second.text().contains(" 0 B shared"), "{second:?}");
    let digest = store.run(["digest"]).success().text().to_owned();
    let list = store.run(["backups".as_ref(), backups.as_os_str()]).success().text().to_owned();
    let oldest = list.lines().next().and_then(|line| line.strip_prefix("1\t")).expect("the first backup").to_owned();
    store.run(["restore".as_ref(), backups.as_os_str(), restored.as_os_str()]).prints("");
    store.run(["restore".as_ref(), backups.as_os_str(), restored.as_os_str()]).failure(1, &["exists"]);
    store.run(["digest", "--db", restored.to_str().unwrap()]).prints(&digest);
    let old = store.beside("old");
    store.run(["restore".as_ref(), oldest.as_ref(), old.as_os_str()]).prints("");
    store.run(["scan", "--db", old.to_str().unwrap()]).prints("a\t1\nb\t2\n");
    store.run(["backup".as_ref(), backups.as_os_str(), "--keep".as_ref(), "1".as_ref()]).success();
    assert_eq!(store.run(["backups".as_ref(), backups.as_os_str()]).success().text().lines().count(), 1);
    store
        .run(["backup".as_ref(), backups.as_os_str(), "--db".as_ref(), old.as_os_str()])
        .failure(1, &["another database"]);
}

#[test]
fn a_checkpoint_is_a_copy_and_a_damaged_database_is_repaired() {
    let store = Store::with("a\t1\nb\t2\n");
    let copy = store.beside("copy");
    store.run(["checkpoint".as_ref(), copy.as_os_str()]).prints("");
    store.run(["checkpoint".as_ref(), copy.as_os_str()]).failure(1, &["exists"]);
    let list = store.run(["checkpoint".as_ref(), "--list".as_ref(), copy.as_os_str()]).success();
    let lines: Vec<Vec<&str>> = list.text().lines().map(|line| line.split('\t').collect()).collect();
    assert!(lines.iter().all(|line| line.len() == 4), "{list:?}");
    assert!(
        lines[0][0].contains(".sst") && lines[0][2].len() == 32 && lines.last().unwrap()[0] == "CURRENT",
        "{list:?}"
    );
    store.run(["del", "a"]).success();
    store.run(["scan", "--db", copy.to_str().unwrap()]).prints("a\t1\nb\t2\n");

    store.run(["repair"]).prints("ok, nothing to repair\n");
    fs::remove_file(store.database().join("CURRENT")).unwrap();
    let answer = store.run(["verify", "--deep"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.text().contains("CURRENT") && answer.text().ends_with("damaged\n"), "{answer:?}");
    for command in [&["scan"][..], &["verify"], &["set", "a", "x"], &["del", "a"]] {
        store.run(command).failure(2, &["CURRENT", "maplsm repair"]);
    }
    let answer = store.run(["repair".as_ref(), store.database().as_os_str()]).success();
    assert!(answer.text().ends_with("repaired, nothing is lost\n"), "{answer:?}");
    let table = &store.files("sst")[0];
    fs::remove_file(table).unwrap();
    let answer = store.run(["repair"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.text().contains("2 entries are lost") && answer.text().contains("lost\n"), "{answer:?}");
    assert!(answer.text().contains("lost.keys\n"), "{answer:?}");
    let list = fs::read_to_string(store.database().join("lost.keys")).unwrap();
    assert_eq!(list, "range\tdefault\t[a\tb]\n");
    store.run(["scan"]).prints("");
    let answer = store.run(["verify"]).success();
    assert!(answer.text().contains("kept by a repair") && answer.text().contains("database/lost\n"), "{answer:?}");
    assert!(!answer.text().contains("none of the database's"), "{answer:?}");
}

/// What is lost is named by whoever looks, and by the repair in a file as well.
#[test]
fn lost_keys_are_named() {
    let store = Store::new();
    let text: Vec<String> = (0..40).map(|key| format!("key {key:02}\t{}\n", "v".repeat(9000))).collect();
    let text = text.concat();
    store.feed(["import"], &text).success();
    store.run(["flush"]).success();
    let values = &store.files("val")[0];
    let mut bytes = fs::read(values).unwrap();
    bytes[9040 * 20 + 4500] ^= 1;
    fs::write(values, bytes).unwrap();
    let answer = store.run(["verify", "--deep"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    let named = r#"    "default" "key 20""#;
    assert!(answer.text().contains("absent: 1\n") && answer.text().contains(named), "{answer:?}");
    assert!(!store.database().join("lost.keys").exists());
    let answer = store.run(["repair"]);
    assert!(answer.text().contains(named), "{answer:?}");
    assert_eq!(fs::read_to_string(store.database().join("lost.keys")).unwrap(), "key\tdefault\tkey 20\n");
    let answer = store.run(["count"]).success();
    assert_eq!(answer.text(), "39\n");
}

#[test]
fn a_copy_without_its_lock_says_what_is_missing() {
    let store = Store::with("a\t1\n");
    fs::remove_file(store.database().join("LOCK")).unwrap();
    for command in ["verify", "stats", "scan"] {
        store.run([command]).failure(2, &["LOCK", "maplsm repair"]);
    }
    store.run(["verify", "--deep"]).prints("ok\n");
    store.run(["repair"]).success();
    store.run(["verify"]).success();
}
