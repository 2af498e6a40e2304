//! `LevelDB`, an LSM-tree in C++, through its C interface.
#![expect(unsafe_code, reason = "a library in C++")]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::time::{Duration, Instant};

use crate::data::{Key, Value};
use crate::store::{Durability, Reader, Result, Settings, Store};

pub(crate) const MEANING: &str = "Buffered: in the log, in the page cache. Sync: `WriteOptions::sync`, shared by concurrent \
    commits. Block cache, bloom filters of 10 bits a key, block size as by default; tables are mapped. One background thread, \
    whatever the setting. What counts as settled: neither flushes nor compactions for 20 ms, which are part of the time.";

/// So long without a change of its statistics, and it counts as settled.
const QUIET: Duration = Duration::from_millis(20);

/// What the interface calls by names of its own; all of them are pointers.
type Handle = *mut c_void;
type Bytes = *const c_char;

#[link(name = "leveldb")]
unsafe extern "C" {
    fn leveldb_options_create() -> Handle;
    fn leveldb_options_set_create_if_missing(options: Handle, yes: c_uchar);
    fn leveldb_options_set_write_buffer_size(options: Handle, bytes: usize);
    fn leveldb_options_set_block_size(options: Handle, bytes: usize);
    fn leveldb_options_set_compression(options: Handle, kind: c_int);
    fn leveldb_options_set_cache(options: Handle, cache: Handle);
    fn leveldb_options_set_filter_policy(options: Handle, policy: Handle);
    fn leveldb_cache_create_lru(bytes: usize) -> Handle;
    fn leveldb_filterpolicy_create_bloom(bits: c_int) -> Handle;
    fn leveldb_open(options: Handle, name: Bytes, error: *mut *mut c_char) -> Handle;
    fn leveldb_close(db: Handle);
    fn leveldb_writeoptions_create() -> Handle;
    fn leveldb_writeoptions_set_sync(options: Handle, yes: c_uchar);
    fn leveldb_readoptions_create() -> Handle;
    fn leveldb_put(
        db: Handle,
        options: Handle,
        key: Bytes,
        key_bytes: usize,
        value: Bytes,
        value_bytes: usize,
        error: *mut *mut c_char,
    );
    fn leveldb_delete(db: Handle, options: Handle, key: Bytes, key_bytes: usize, error: *mut *mut c_char);
    fn leveldb_write(db: Handle, options: Handle, batch: Handle, error: *mut *mut c_char);
    fn leveldb_writebatch_create() -> Handle;
    fn leveldb_writebatch_put(batch: Handle, key: Bytes, key_bytes: usize, value: Bytes, value_bytes: usize);
    fn leveldb_writebatch_destroy(batch: Handle);
    fn leveldb_get(
        db: Handle,
        options: Handle,
        key: Bytes,
        key_bytes: usize,
        value_bytes: *mut usize,
        error: *mut *mut c_char,
    ) -> *mut c_char;
    fn leveldb_compact_range(db: Handle, start: Bytes, start_bytes: usize, end: Bytes, end_bytes: usize);
    fn leveldb_property_value(db: Handle, name: Bytes) -> *mut c_char;
    fn leveldb_create_iterator(db: Handle, options: Handle) -> Handle;
    fn leveldb_iter_destroy(iterator: Handle);
    fn leveldb_iter_valid(iterator: Handle) -> c_uchar;
    fn leveldb_iter_seek_to_first(iterator: Handle);
    fn leveldb_iter_seek_to_last(iterator: Handle);
    fn leveldb_iter_seek(iterator: Handle, key: Bytes, key_bytes: usize);
    fn leveldb_iter_next(iterator: Handle);
    fn leveldb_iter_prev(iterator: Handle);
    fn leveldb_iter_key(iterator: Handle, bytes: *mut usize) -> Bytes;
    fn leveldb_iter_value(iterator: Handle, bytes: *mut usize) -> Bytes;
    fn leveldb_iter_get_error(iterator: Handle, error: *mut *mut c_char);
    fn leveldb_free(memory: *mut c_void);
    fn leveldb_major_version() -> c_int;
    fn leveldb_minor_version() -> c_int;
}

/// The version of the library in use.
pub(crate) fn version() -> String {
    // SAFETY: both take nothing and answer a number.
    let major = unsafe { leveldb_major_version() };
    // SAFETY: as above.
    let minor = unsafe { leveldb_minor_version() };
    format!("{major}.{minor}")
}

/// Calls what reports errors by a message that is to be freed.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T> {
    let mut message: *mut c_char = null_mut();
    let answer = call(&raw mut message);
    if message.is_null() {
        return Ok(answer);
    }
    // SAFETY: a message of the library, which ends with a zero and is this caller's.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is not used any more.
    unsafe { leveldb_free(message.cast()) };
    Err(text.into())
}

fn start(bytes: &[u8]) -> Bytes {
    bytes.as_ptr().cast()
}

/// The options live as long as the process: this is a benchmark that opens a database some twenty times.
pub(crate) struct LevelDb {
    db: NonNull<c_void>,
    write: Handle,
    sync: Handle,
    read: Handle,
}

// SAFETY: the interface says that a database may be used by several threads at once; options are not changed once they are made.
unsafe impl Sync for LevelDb {}

impl Drop for LevelDb {
    fn drop(&mut self) {
        // SAFETY: it was opened once, and readers borrow it.
        unsafe { leveldb_close(self.db.as_ptr()) };
    }
}

/// Options of writes.
fn write_options(sync: bool) -> Handle {
    // SAFETY: takes nothing.
    let options = unsafe { leveldb_writeoptions_create() };
    // SAFETY: options that were made here.
    unsafe { leveldb_writeoptions_set_sync(options, sync.into()) };
    options
}

impl LevelDb {
    fn write(&self, entries: &[(Key, Value)], options: Handle) -> Result<()> {
        // SAFETY: takes nothing.
        let batch = unsafe { leveldb_writebatch_create() };
        for (key, value) in entries {
            // SAFETY: the batch copies bytes that are borrowed here.
            unsafe { leveldb_writebatch_put(batch, start(key), key.len(), start(value), value.len()) };
        }
        // SAFETY: database, options and batch are there.
        let written = checked(|error| unsafe { leveldb_write(self.db.as_ptr(), options, batch, error) });
        // SAFETY: it was made here and is not used any more.
        unsafe { leveldb_writebatch_destroy(batch) };
        written
    }

    /// What it says of its tables and of all compactions so far.
    fn statistics(&self) -> Vec<u8> {
        // SAFETY: the name ends with a zero.
        let text = unsafe { leveldb_property_value(self.db.as_ptr(), c"leveldb.stats".as_ptr()) };
        if text.is_null() {
            return Vec::new();
        }
        // SAFETY: a text of the library, which ends with a zero and is this caller's.
        let copy = unsafe { CStr::from_ptr(text) }.to_bytes().to_vec();
        // SAFETY: as above; it is not used any more.
        unsafe { leveldb_free(text.cast()) };
        copy
    }
}

impl Store for LevelDb {
    type Reader<'a> = LevelDbReader<'a>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        // SAFETY: takes nothing.
        let options = unsafe { leveldb_options_create() };
        // SAFETY: these take a number.
        let (cache, policy) = (unsafe { leveldb_cache_create_lru(settings.cache_bytes) }, unsafe {
            leveldb_filterpolicy_create_bloom(10)
        });
        // SAFETY: options, cache and policy were made here, and live on.
        unsafe { leveldb_options_set_cache(options, cache) };
        // SAFETY: as above.
        unsafe { leveldb_options_set_filter_policy(options, policy) };
        // SAFETY: as above.
        unsafe { leveldb_options_set_create_if_missing(options, 1) };
        // SAFETY: as above.
        unsafe { leveldb_options_set_write_buffer_size(options, settings.write_buffer_bytes) };
        // SAFETY: as above; 0 is no compression.
        unsafe { leveldb_options_set_compression(options, 0) };
        if let Some(bytes) = settings.block_bytes {
            // SAFETY: as above.
            unsafe { leveldb_options_set_block_size(options, bytes as usize) };
        }
        let name = CString::new(directory.as_os_str().as_encoded_bytes())?;
        // SAFETY: options that live on, and a name that ends with a zero.
        let db = checked(|error| unsafe { leveldb_open(options, name.as_ptr(), error) })?;
        let db = NonNull::new(db).ok_or("LevelDB opened nothing")?;
        // SAFETY: takes nothing.
        let read = unsafe { leveldb_readoptions_create() };
        Ok(Self { db, write: write_options(settings.durability == Durability::Sync), sync: write_options(true), read })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        checked(|error| {
            let (db, options) = (self.db.as_ptr(), self.write);
            // SAFETY: database and options are there, and the bytes are copied.
            unsafe { leveldb_put(db, options, start(key), key.len(), start(value), value.len(), error) };
        })
    }

    fn batch(&self, entries: &[(Key, Value)]) -> Result<()> {
        self.write(entries, self.write)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        // SAFETY: database and options are there, and the bytes are copied.
        checked(|error| unsafe { leveldb_delete(self.db.as_ptr(), self.write, start(key), key.len(), error) })
    }

    fn reader(&self) -> Result<LevelDbReader<'_>> {
        Ok(LevelDbReader { of: self, iterator: null_mut() })
    }

    fn sync(&self) -> Result<()> {
        self.write(&[], self.sync)
    }

    fn settle(&self) -> Result<()> {
        // A range without keys: the memtable is flushed, and nothing else is compacted.
        let behind = [u8::MAX; 32];
        let (db, length) = (self.db.as_ptr(), behind.len());
        // SAFETY: the database is there, and the bytes are copied.
        unsafe { leveldb_compact_range(db, start(&behind), length, start(&behind), length) };
        let mut seen = (self.statistics(), Instant::now());
        while seen.1.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(1));
            let now = self.statistics();
            if now != seen.0 {
                seen = (now, Instant::now());
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// Reads the present state; the iterator, made when the first scan needs it, is of that moment.
pub(crate) struct LevelDbReader<'a> {
    of: &'a LevelDb,
    iterator: Handle,
}

impl Drop for LevelDbReader<'_> {
    fn drop(&mut self) {
        if !self.iterator.is_null() {
            // SAFETY: it was made here, and of a database that is there.
            unsafe { leveldb_iter_destroy(self.iterator) };
        }
    }
}

impl LevelDbReader<'_> {
    fn iterator(&mut self) -> Handle {
        if self.iterator.is_null() {
            // SAFETY: database and options are there.
            self.iterator = unsafe { leveldb_create_iterator(self.of.db.as_ptr(), self.of.read) };
        }
        self.iterator
    }

    /// Key and value of the current entry, until the iterator moves.
    fn item(&self) -> Option<(&[u8], &[u8])> {
        // SAFETY: the iterator has been made by who calls this.
        if unsafe { leveldb_iter_valid(self.iterator) } == 0 {
            return None;
        }
        let (mut key_bytes, mut value_bytes) = (0, 0);
        // SAFETY: it is at an entry.
        let key = unsafe { leveldb_iter_key(self.iterator, &raw mut key_bytes) };
        // SAFETY: as above.
        let value = unsafe { leveldb_iter_value(self.iterator, &raw mut value_bytes) };
        // SAFETY: so many bytes, which stay where they are until the iterator moves, for which this borrow must end.
        let key = unsafe { std::slice::from_raw_parts(key.cast(), key_bytes) };
        // SAFETY: as above.
        let value = unsafe { std::slice::from_raw_parts(value.cast(), value_bytes) };
        Some((key, value))
    }

    fn status(&self) -> Result<()> {
        // SAFETY: the iterator has been made by who calls this.
        checked(|error| unsafe { leveldb_iter_get_error(self.iterator, error) })
    }
}

impl Reader for LevelDbReader<'_> {
    #[inline]
    fn get<T>(&mut self, key: &Key, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let (db, options, mut length) = (self.of.db.as_ptr(), self.of.read, 0);
        // SAFETY: database and options are there, and the bytes are borrowed here.
        let value = checked(|e| unsafe { leveldb_get(db, options, start(key), key.len(), &raw mut length, e) })?;
        let Some(value) = NonNull::new(value) else { return Ok(None) };
        // SAFETY: a copy of so many bytes, which is this caller's.
        let seen = see(unsafe { std::slice::from_raw_parts(value.as_ptr().cast::<u8>(), length) });
        // SAFETY: as above; it is not used any more.
        unsafe { leveldb_free(value.as_ptr().cast()) };
        Ok(Some(seen))
    }

    fn forward(&mut self, from: Option<&Key>, limit: usize, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let iterator = self.iterator();
        match from {
            // SAFETY: the iterator is there, and the bytes are borrowed here.
            Some(key) => unsafe { leveldb_iter_seek(iterator, start(key), key.len()) },
            // SAFETY: as above.
            None => unsafe { leveldb_iter_seek_to_first(iterator) },
        }
        let mut left = limit;
        while left > 0
            && let Some((key, value)) = self.item()
        {
            see(key, value);
            left -= 1;
            if left > 0 {
                // SAFETY: as above; what it lent is not used any more.
                unsafe { leveldb_iter_next(iterator) };
            }
        }
        self.status()
    }

    fn backward(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let iterator = self.iterator();
        // SAFETY: the iterator is there.
        unsafe { leveldb_iter_seek_to_last(iterator) };
        while let Some((key, value)) = self.item() {
            see(key, value);
            // SAFETY: as above; what it lent is not used any more.
            unsafe { leveldb_iter_prev(iterator) };
        }
        self.status()
    }
}
