//! Looking up many keys at one moment.
//!
//! One after another, each lookup would wait for two or three cache misses, and where data is larger than memory, for a page or
//! two from the disk. Of a window of keys, everything that the lookups look at first is asked for, then everything that they
//! look at next, and only then are they done.

use super::read_state::{Find, Opened, ReadState, ValuePlace, resolve};
use super::readers::Readers;
use super::registry::Registration;
use crate::error::Result;
use crate::format::{KeyspaceId, Sequence, key_hash};
use crate::sys::{Era, Pinned};
use crate::table::{Nobody, TableReader};
use crate::version::Tree;

/// Keys whose lookups overlap: more than a processor has misses under way, and few enough that what was asked for first is
/// still in the cache.
const WINDOW: usize = 32;

/// A key with its hash.
type Hashed<'k> = (u64, &'k [u8]);

impl Readers {
    /// The values of keys of a keyspace at a registered sequence, in their order.
    pub(crate) fn get_many_at(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        at: &Registration,
    ) -> Result<Vec<Option<Pinned>>> {
        self.health.check_open()?;
        let mut values = Vec::with_capacity(keys.len());
        for window in keys.chunks(WINDOW) {
            let window: Vec<Hashed<'_>> = window.iter().map(|key| (key_hash(keyspace, key), *key)).collect();
            self.health.events.noted(self.get_window(keyspace, &window, at, &mut values))?;
        }
        Ok(values)
    }

    fn get_window(
        &self,
        keyspace: KeyspaceId,
        window: &[Hashed<'_>],
        at: &Registration,
        values: &mut Vec<Option<Pinned>>,
    ) -> Result<()> {
        let mut opened = Opened::default();
        let mut left = window;
        while !left.is_empty() {
            let read_state = self.load();
            let (era, open) = (&read_state.era, (&read_state.era, &opened));
            read_state.ask_for(era, keyspace, left);
            let places = read_state.places(open, keyspace, left, at.at);
            let (mut closed, mut operand) = (None, false);
            for place in places {
                let found = match place?.and_then(|place| resolve(open, place))? {
                    Find::Value(value) => Some(value.pin()),
                    Find::Absent | Find::Retry => None,
                    Find::Operand => {
                        operand = true;
                        break;
                    }
                    Find::Closed(of_key) => {
                        closed = Some(of_key);
                        break;
                    }
                };
                values.push(self.mapped(found)?);
                left = left.get(1..).unwrap_or_default();
            }
            // Who opens a table may have to wait for those who hold an era.
            drop(read_state);
            if let Some(closed) = closed {
                opened.open(&closed)?;
            }
            if let [(_, key), behind @ ..] = left
                && operand
            {
                values.push(Some(self.made(keyspace, key, at, &mut Nobody)?));
                left = behind;
            }
        }
        Ok(())
    }
}

impl ReadState {
    /// Asks for what lookups will look at: indexes, then entries.
    fn ask_for(&self, era: &Era, keyspace: KeyspaceId, keys: &[Hashed<'_>]) {
        for (hash, _) in keys {
            self.memtables.iter().for_each(|memtable| memtable.prefetch_slot(keyspace, *hash));
        }
        self.readers_of(era, keyspace, keys).for_each(|(reader, hash)| reader.ask_for_index(keyspace, hash));
        for (hash, _) in keys {
            self.memtables.iter().for_each(|memtable| memtable.prefetch_entry(keyspace, *hash));
        }
        self.readers_of(era, keyspace, keys).for_each(|(reader, hash)| reader.ask_for_entry(keyspace, hash));
    }

    /// The open tables that may have keys, with the hash of the key.
    fn readers_of<'r>(
        &'r self,
        era: &'r Era,
        keyspace: KeyspaceId,
        keys: &'r [Hashed<'r>],
    ) -> impl Iterator<Item = (&'r TableReader, u64)> {
        let tree = self.version.tree(keyspace);
        keys.iter().flat_map(move |(hash, key)| {
            let levels = tree.into_iter().flat_map(Tree::levels).filter_map(|(_, tables)| tables.table_with(key));
            let tables = self.version.level0(keyspace).chain(levels);
            tables.filter_map(|table| table.peek(era)).map(|reader| (reader, *hash))
        })
    }

    /// Where the values of keys are; asks for those that stand apart.
    fn places<'v>(
        &'v self,
        (era, opened): (&'v Era, &'v Opened),
        keyspace: KeyspaceId,
        keys: &[Hashed<'_>],
        at: Sequence,
    ) -> Vec<Result<Find<ValuePlace<'v>>>> {
        let locate = |(hash, key): &Hashed<'_>| {
            let place = self.locate((era, opened), (keyspace, *hash, key), at, true);
            if let Ok(Find::Value(ValuePlace::Apart(pointer, file))) = &place {
                file.ask_for(era, *pointer);
            }
            place
        };
        keys.iter().map(locate).collect()
    }
}
