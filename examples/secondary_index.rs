//! People by number, and by the name of their city: an index that is kept in the same transaction, so that it never disagrees.

use std::thread;

use maplsm::{CodecError, Db, Options, Result, Slice, Typed, ValueCodec};

#[derive(Debug, Clone, PartialEq)]
struct Person {
    name: String,
    city: String,
}

/// Name and city, each with its length in front.
impl ValueCodec for Person {
    type Item = Self;
    type Out = Self;

    fn to_bytes(person: &Self) -> Result<impl AsRef<[u8]>, CodecError> {
        let mut bytes = Vec::new();
        for part in [&person.name, &person.city] {
            bytes.extend(u16::try_from(part.len()).map_err(CodecError::new)?.to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: Slice) -> Result<Self, CodecError> {
        let part = |bytes: &[u8]| -> Option<(String, usize)> {
            let length = usize::from(u16::from_le_bytes(*bytes.first_chunk()?));
            let text = String::from_utf8(bytes.get(2..2 + length)?.to_vec()).ok()?;
            Some((text, 2 + length))
        };
        let parts = || {
            let (name, end) = part(&bytes)?;
            let (city, _) = part(&bytes[end..])?;
            Some(Self { name, city })
        };
        parts().ok_or_else(|| CodecError::new("it is no person"))
    }
}

struct People {
    db: Db,
    by_number: Typed<u64, Person>,
    /// City and number. The value is in the key.
    by_city: Typed<(String, u64), ()>,
}

impl People {
    fn open(db: Db) -> Result<Self> {
        let (by_number, by_city) = (Typed::new(db.keyspace("people")?), Typed::new(db.keyspace("people by city")?));
        Ok(Self { db, by_number, by_city })
    }

    /// Adds, replaces or, without a person, removes one, with the entries of the index: all of it or nothing. What comes
    /// between from elsewhere is a conflict, and it is run again.
    fn put(&self, number: u64, person: Option<&Person>) -> Result<()> {
        self.db.transact(|tx| {
            let (by_number, by_city) = (self.by_number.within(tx), self.by_city.within(tx));
            if let Some(before) = by_number.get(number)? {
                by_city.remove((&before.city, number))?;
            }
            match person {
                Some(person) => {
                    by_number.insert(number, person)?;
                    by_city.insert((&person.city, number), &())
                }
                None => by_number.remove(number),
            }
        })
    }

    /// Who lives in a city: index and people of one moment.
    fn in_city(&self, city: &str) -> Result<Vec<Person>> {
        let snapshot = self.db.snapshot();
        let people = self.by_number.at(&snapshot);
        let mut found = Vec::new();
        for entry in self.by_city.at(&snapshot).prefix((city,)) {
            let ((_, number), ()) = entry?;
            found.push(people.get(number)?.expect("the index agrees with the people"));
        }
        Ok(found)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Options::new().durability(maplsm::Durability::Buffered).open(dir.path().join("db"))?;
    let people = People::open(db.clone())?;
    let cities = ["Berlin", "Hamburg", "Köln"];
    let person = |number: u64, city: &str| Person { name: format!("person {number}"), city: city.to_owned() };

    // Four threads move the same people from city to city.
    thread::scope(|scope| {
        for thread in 0..4 {
            let (people, person) = (&people, &person);
            scope.spawn(move || {
                for round in 0..50usize {
                    let (number, city) = (round as u64 % 10, cities[(round + thread) % 3]);
                    people.put(number, Some(&person(number, city))).expect("it is run again until it commits");
                }
            });
        }
    });
    let all: Vec<Vec<Person>> = cities.iter().map(|city| people.in_city(city)).collect::<Result<_>>()?;
    assert_eq!(all.iter().map(Vec::len).sum::<usize>(), 10, "each lives in one city");
    for (city, found) in cities.iter().zip(&all) {
        assert!(found.iter().all(|person| person.city == *city));
        println!("{} live in {city}", found.len());
    }

    people.put(3, None)?;
    people.put(4, Some(&person(4, "Kölna")))?;
    assert_eq!(people.in_city("Kölna")?, [person(4, "Kölna")]);
    assert_eq!(people.by_city.iter().count(), 9);
    db.close()
}
