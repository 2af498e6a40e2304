//! What is in a directory and no part of the database, and a database that has lost what names its parts.

use std::path::{Path, PathBuf};

use maplsm::{Damage, SimFs};

use crate::support::{DIR, contents, image, load, sim_options};

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// A directory that has lost `CURRENT` is damaged and not empty, however it is opened, and nothing in it changes.
#[test]
fn data_without_current_is_damage() {
    let fs = SimFs::new();
    let mut options = sim_options(&fs);
    options.large_value_bytes(Some(64));
    let db = options.open(DIR).unwrap();
    load(&db, (0..100u8).map(|i| (vec![i], vec![i; 100])), 7);
    db.flush().unwrap();
    db.insert("key", "value").unwrap();
    db.close().unwrap();
    fs.remove(&path("CURRENT"));
    let all = image(&fs);
    let any_of = [".wal", ".sst", ".idx", ".val"];
    for kept in any_of {
        let left = fs.kill();
        for (name, _) in &all {
            if any_of.iter().any(|ending| name.ends_with(ending)) && !name.ends_with(kept) {
                left.remove(&path(name));
            }
        }
        let before = image(&left);
        let options = sim_options(&left);
        let as_it_is = options.clone();
        let writing = options.clone().create_if_missing(false).clone();
        let reading = options.clone().read_only(true).clone();
        for options in [as_it_is, writing, reading] {
            let error = options.open(DIR).unwrap_err();
            let corruption = error.corruption().unwrap_or_else(|| panic!("{kept}: {error}"));
            assert_eq!((corruption.path.clone(), corruption.what), (path("CURRENT"), Damage::Missing), "{kept}");
        }
        assert_eq!(image(&left), before, "{kept}");
    }
    let report = maplsm::repair(DIR, &sim_options(&fs)).unwrap();
    assert!(!report.has_losses());
    assert_eq!(contents(&sim_options(&fs).open(DIR).unwrap()).len(), 101);
}
