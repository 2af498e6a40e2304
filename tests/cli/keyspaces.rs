//! Keyspaces on the command line.

use super::Store;

#[test]
fn commands_work_on_the_keyspace_that_is_named() {
    let store = Store::new();
    store.run(["set", "k", "default"]).prints("");
    store.run(["--keyspace", "users", "set", "k", "ada"]).prints("");
    store.run(["get", "k", "-k", "users"]).prints("ada\n");
    store.run(["get", "k"]).prints("default\n");
    store.run(["get", "k", "-k", "default"]).prints("default\n");
    store.feed(["import", "-k", "users"], "a\t1\nb\t2\n").success();
    store.run(["count", "-k", "users"]).prints("3\n");
    store.run(["compact", "-k", "users"]).prints("");
    store.run(["del", "k", "-k", "users"]).prints("");
    store.run(["scan", "-k", "users"]).prints("a\t1\nb\t2\n");
    assert_eq!(store.run(["export", "-k", "users"]).success().text(), "a\t1\nb\t2\n");
    store.run(["scan"]).prints("k\tdefault\n");
    let stats = store.run(["stats"]).success();
    assert!(stats.text().contains("  users\n"), "{stats:?}");
    let json: serde_json::Value = serde_json::from_str(store.run(["stats", "--json"]).success().text()).unwrap();
    assert_eq!(json["keyspaces"][1]["name"], "users");
    assert_eq!(json["keyspaces"][1]["memtable_entries"], 1);
}

#[test]
fn only_writing_makes_a_keyspace() {
    let store = Store::new();
    store.run(["set", "k", "v"]).prints("");
    for command in [&["get", "k"][..], &["del", "k"], &["scan"], &["count"], &["export"], &["compact"]] {
        store.run(command.iter().chain(&["-k", "absent"])).failure(1, &["error: there is no keyspace `absent`"]);
    }
    store.run(["set", "k", "v", "-k", ""]).failure(1, &["name of a keyspace"]);
    store.shell("KEYSPACES\n").prints("* default\n");
}

#[test]
fn the_shell_lists_makes_uses_and_drops_keyspaces() {
    let store = Store::new();
    store
        .shell("SET k 1\nCREATE a\\x20b\nUSE a\\x20b\nGET k\nSET k 2\nKEYSPACES\nKEYS MEMTABLE\nSCAN\nUSE default\nGET k\nUSE a\\x20b\nDROP a\\x20b\nKEYSPACES\nGET k\n")
        .prints("OK\nOK\nOK\n(nil)\nOK\n  default\n* a b\nKeys in memtable (1):\n  • k\nk\t2\nOK\n1\nOK\nOK\n* default\n1\n");
    let answer = store.shell("USE absent\nDROP absent\nDROP default\nCREATE default\nCREATE a\nCREATE a\n");
    assert_eq!(answer.text(), "OK\n");
    assert_eq!(answer.err.lines().count(), 5, "{answer:?}");
    store.feed(["-k", "a"], "SET x y\n").prints("OK\n");
    store.run(["get", "x", "-k", "a"]).prints("y\n");
}

#[test]
fn commands_make_list_and_drop_keyspaces() {
    let store = Store::new();
    store.run(["create", "users"]).failure(1, &["there is no database"]);
    store.run(["keyspaces"]).failure(1, &["there is no database"]);
    assert!(!store.database().exists());
    store.run(["set", "k", "v"]).success();
    store
        .run(["create", "users", "--compression", "zstd:7", "--index", "bloom:0.02", "--large-values", "none"])
        .prints("");
    store.run(["create", "users"]).failure(1, &["users"]);
    store.run(["create", "plain"]).prints("");
    store.run(["keyspaces"]).prints("default\nplain\nusers\n");
    let answer = store.run(["keyspaces", "--json"]).success();
    let users: serde_json::Value = serde_json::from_str(answer.text().lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (&users["name"], &users["compression"], &users["index"]),
        (&"users".into(), &"zstd:7".into(), &"bloom:0.02".into())
    );
    store.run(["drop", "users"]).prints("");
    store.run(["drop", "users"]).failure(1, &["there is no keyspace `users`"]);
    store.run(["keyspaces"]).prints("default\nplain\n");
    store.run(["create", "x", "--compression", "gzip"]).failure(1, &["none, lz4, zstd"]);
    // What `set` makes on its way has the options that stand beside it.
    store.run(["set", "k", "v", "-k", "made", "--compression", "lz4"]).prints("");
    let answer = store.run(["keyspaces", "--json"]).success();
    assert!(answer.text().lines().any(|line| line.contains("\"made\"") && line.contains("\"lz4\"")), "{answer:?}");
}
