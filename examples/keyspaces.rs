//! A table and its index in keyspaces of their own, changed together.

use maplsm::{Db, Keyspace, Result, WriteBatch};

/// People by number, and their numbers by city.
struct People {
    db: Db,
    by_number: Keyspace,
    by_city: Keyspace,
}

impl People {
    fn open(path: &std::path::Path) -> Result<Self> {
        let db = Db::open(path)?;
        let (by_number, by_city) = (db.keyspace("people")?, db.keyspace("people by city")?);
        Ok(Self { db, by_number, by_city })
    }

    fn add(&self, number: u32, name: &str, city: &str) -> Result<()> {
        let number = number.to_be_bytes();
        let mut batch = WriteBatch::new();
        batch.insert_into(&self.by_number, number, name).insert_into(&self.by_city, entry(city, &number), "");
        self.db.write(&batch) // both or none
    }

    fn in_city(&self, city: &str) -> Result<Vec<String>> {
        let index = self.by_city.snapshot();
        let people = index.keyspace(&self.by_number); // the same moment
        let mut names = Vec::new();
        for found in index.prefix(entry(city, b"")) {
            let found = found?;
            let number = &found.key()[city.len() + 1..];
            let name = people.get(number)?.unwrap_or_else(|| panic!("the index names {number:?}"));
            names.push(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(names)
    }
}

fn entry(city: &str, number: &[u8]) -> Vec<u8> {
    [city.as_bytes(), b"\0", number].concat()
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let people = People::open(&dir.path().join("people"))?;
    people.add(1, "Ada", "London")?;
    people.add(2, "Grace", "New York")?;
    people.add(3, "Alan", "London")?;
    println!("in London: {}", people.in_city("London")?.join(", "));

    // An index can be thrown away and built again; nothing of the old one shows.
    people.db.drop_keyspace("people by city")?;
    println!("keyspaces: {:?}", people.db.keyspaces());
    people.db.close()
}
