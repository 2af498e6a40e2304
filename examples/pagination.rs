//! Pages of a list, each of which begins where the one before has ended, whatever was added or removed meanwhile.

use std::ops::Bound;

use maplsm::{Db, Result, WriteBatch};

struct Page {
    names: Vec<String>,
    /// Where the next page begins: behind this key. `None` if this is the last one.
    behind: Option<Vec<u8>>,
}

/// The page behind a key, or the first one. Costs a seek and the entries that it shows, however far into the list it is.
fn page(db: &Db, behind: Option<&[u8]>, most: usize) -> Result<Page> {
    let start = behind.map_or(Bound::Unbounded, Bound::Excluded);
    let mut entries = db.range::<&[u8]>((start, Bound::Unbounded));
    let shown = entries.by_ref().take(most).collect::<Result<Vec<_>>>()?;
    let more = entries.next().transpose()?.is_some();
    let names = shown.iter().map(|entry| String::from_utf8_lossy(entry.key()).into_owned()).collect();
    let behind = shown.last().filter(|_| more).map(|last| last.key().to_vec());
    Ok(Page { names, behind })
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path().join("names"))?;
    let mut batch = WriteBatch::new();
    for number in 0..25 {
        batch.insert(format!("name {number:02}"), "");
    }
    db.write(&batch)?;

    let first = page(&db, None, 10)?;
    assert_eq!((first.names.len(), &*first.names[0], &*first.names[9]), (10, "name 00", "name 09"));
    // Between two pages, the last name of the first one goes, and one comes that belongs on the second.
    db.write(WriteBatch::new().remove("name 09").insert("name 09, the other one", ""))?;
    let second = page(&db, first.behind.as_deref(), 10)?;
    assert_eq!((&*second.names[0], &*second.names[9]), ("name 09, the other one", "name 18"));
    let third = page(&db, second.behind.as_deref(), 10)?;
    assert_eq!((third.names.len(), third.behind), (6, None));

    // A list that must not change under its reader: a snapshot, which has the same calls.
    let snapshot = db.snapshot();
    db.remove_range("name 00".."name 20")?;
    assert_eq!((snapshot.iter().count(), db.iter().count()), (25, 5));
    println!("the last page has {}", third.names.join(", "));
    db.close()
}
