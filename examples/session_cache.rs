//! A cache of sessions that expire: written without waiting for the disk, looked up by token, and emptied in order of time.

use std::time::Duration;

use maplsm::zerocopy::little_endian::U64;
use maplsm::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use maplsm::{Db, Durability, Layout, Options, Result, Typed, WriteBatch};

/// What is known of a session. Its layout is its format: no parsing.
#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "maplsm::zerocopy")]
#[repr(C)]
struct Session {
    user: U64,
    /// In seconds, by the clock of the caller.
    expires: U64,
}

type Token = [u8; 16];

struct Sessions {
    db: Db,
    by_token: Typed<Token, Layout<Session>>,
    /// Each session once, in the order in which they expire.
    by_time: Typed<(u64, Token), ()>,
    lifetime: Duration,
}

impl Sessions {
    fn open(db: Db, lifetime: Duration) -> Result<Self> {
        let by_token = Typed::new(db.keyspace("sessions")?);
        let by_time = Typed::new(db.keyspace("sessions by time")?);
        Ok(Self { db, by_token, by_time, lifetime })
    }

    /// Begins a session, or prolongs it. A crash of the machine may forget it, one of the process does not.
    fn touch(&self, token: Token, user: u64, now: u64) -> Result<()> {
        let expires = now + self.lifetime.as_secs();
        let mut batch = WriteBatch::new();
        if let Some(before) = self.by_token.get(token)? {
            self.by_time.remove_from(&mut batch, (before.expires.get(), token));
        }
        self.by_token.insert_into(&mut batch, token, &Session { user: user.into(), expires: expires.into() })?;
        self.by_time.insert_into(&mut batch, (expires, token), &())?;
        self.db.write_with(&batch, Durability::Buffered)
    }

    fn user(&self, token: Token, now: u64) -> Result<Option<u64>> {
        let session = self.by_token.get(token)?;
        Ok(session.filter(|session| session.expires.get() > now).map(|session| session.user.get()))
    }

    /// Removes what has expired, the oldest first; returns how many sessions that were. One that has been prolonged meanwhile
    /// stays.
    fn sweep(&self, now: u64) -> Result<usize> {
        let mut swept = 0;
        for expired in self.by_time.range(..=(now, [u8::MAX; 16])) {
            let ((expires, token), ()) = expired?;
            self.db.transact(|tx| {
                let (by_token, by_time) = (self.by_token.within(tx), self.by_time.within(tx));
                if by_token.get(token)?.is_some_and(|session| session.expires.get() == expires) {
                    by_token.remove(token)?;
                }
                by_time.remove((expires, token))
            })?;
            swept += 1;
        }
        Ok(swept)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Options::new().durability(Durability::Buffered).open(dir.path().join("db"))?;
    let sessions = Sessions::open(db.clone(), Duration::from_secs(60))?;

    let token = |number: u8| [number; 16];
    for number in 0..100u8 {
        sessions.touch(token(number), u64::from(number) + 1000, u64::from(number))?;
    }
    assert_eq!(sessions.user(token(7), 20)?, Some(1007));
    assert_eq!(sessions.user(token(7), 67)?, None, "it has expired");
    assert_eq!(sessions.user(token(200), 0)?, None, "nobody has begun it");

    sessions.touch(token(3), 1003, 50)?;
    let swept = sessions.sweep(70)?;
    assert_eq!(swept, 10, "sessions 0 to 10, without the one that was prolonged");
    assert_eq!(sessions.user(token(3), 70)?, Some(1003));
    assert_eq!(sessions.by_token.iter().count(), 90);
    assert_eq!(sessions.by_time.iter().count(), 90);
    println!("{swept} sessions have expired, {} are left", sessions.by_token.iter().count());
    db.close()
}
