//! A queue that survives crashes: producers add jobs, workers take them in order, and a job whose worker dies comes back.

use maplsm::{Db, Keyspace, Result, WriteBatch};

struct Queue {
    db: Db,
    waiting: Keyspace,
    taken: Keyspace,
}

impl Queue {
    /// Opens the queue. What workers of an earlier run had taken, and did not finish, waits again, in its old place.
    fn open(path: &std::path::Path) -> Result<Self> {
        let db = Db::open(path)?;
        let queue = Self { waiting: db.keyspace("waiting")?, taken: db.keyspace("taken")?, db };
        let mut back = WriteBatch::new();
        for job in &queue.taken {
            let job = job?;
            back.insert_into(&queue.waiting, job.key(), job.value()).remove_from(&queue.taken, job.key());
        }
        queue.db.write(&back)?;
        Ok(queue)
    }

    /// Adds a job behind all others.
    fn push(&self, job: &str) -> Result<()> {
        self.db.transact(|tx| {
            // A number is never used again, even if the queue has been empty.
            let last = tx.get("last number")?.and_then(|last| last[..].try_into().ok()).map_or(0, u64::from_be_bytes);
            let number = (last + 1).to_be_bytes();
            tx.insert("last number", number)?;
            tx.insert_into(&self.waiting, number, job)
        })
    }

    /// Takes the first job: no other worker gets it.
    fn take(&self) -> Result<Option<(Vec<u8>, String)>> {
        self.db.transact(|tx| {
            let Some(first) = tx.range_of::<&[u8]>(&self.waiting, ..).next().transpose()? else { return Ok(None) };
            tx.remove_from(&self.waiting, first.key())?;
            tx.insert_into(&self.taken, first.key(), first.value())?;
            Ok(Some((first.key().to_vec(), String::from_utf8_lossy(first.value()).into_owned())))
        })
    }

    /// A job that was taken is done.
    fn done(&self, number: &[u8]) -> Result<()> {
        self.taken.remove(number)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("queue");
    let queue = Queue::open(&path)?;
    for job in ["resize a picture", "send a letter", "count to ten"] {
        queue.push(job)?;
    }
    let (first, job) = queue.take()?.expect("three jobs wait");
    assert_eq!(job, "resize a picture");
    queue.done(&first)?;
    let (_, unfinished) = queue.take()?.expect("two jobs wait");
    assert_eq!(unfinished, "send a letter");
    queue.db.close()?; // before it was done

    let queue = Queue::open(&path)?;
    let mut left = Vec::new();
    while let Some((number, job)) = queue.take()? {
        queue.done(&number)?;
        left.push(job);
    }
    assert_eq!(left, ["send a letter", "count to ten"]);
    println!("done after the restart: {}", left.join(", "));
    queue.db.close()
}
