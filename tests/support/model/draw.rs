//! What a driver does next.

use maplsm::{Durability, Fault};

use super::driver::Driver;
use super::operation::{Change, Crash, How, Op, Space};
use super::setup::{Format, Setup};
use super::source::{Source, cursor_move, key, moves, range, removed_range, value};

impl Driver {
    pub(super) fn draw(&mut self, source: &mut Source<'_>) -> Op {
        match source.below(100) {
            88 if self.history.now.second.is_none() => Op::CreateSecond,
            88 if source.one_in(3) => Op::DropSecond,
            0..=39 | 85..=88 => self.draw_write(source),
            40..=41 => self.draw_ingest(source),
            42..=49 => Op::Get(key(source)),
            50 => Op::Hold(key(source)),
            51..=53 => Op::Scan(range(source), moves(source)),
            54 => {
                let mut prefix = key(source);
                prefix.truncate(source.below(5));
                Op::Prefix(prefix, moves(source))
            }
            55 => Op::IterOpen(range(source)),
            56..=59 => Op::IterMove(source.below(3), moves(source)),
            60 => Op::CursorOpen,
            61..=66 => {
                let count = 1 + source.below(12);
                Op::CursorMove(source.below(3), (0..count).map(|_| cursor_move(source)).collect())
            }
            67..=68 => Op::Take,
            69..=72 => Op::Look(source.below(4), key(source)),
            73 => Op::LookAll(source.below(4)),
            74 => Op::Release(source.below(4)),
            75..=84 => Self::draw_work(source),
            89 => Op::Check,
            90..=91 => Op::Reopen(self.draw_setup(source)),
            92 => Op::Kill(self.draw_setup(source)),
            93..=94 => Op::PowerCut(source.below(1 << 16) as u64, self.draw_setup(source)),
            95 => Op::ReadOnly,
            _ => self.draw_crash(source),
        }
    }

    /// Mostly the format of the run; sometimes another one.
    pub(super) fn draw_setup(&self, source: &mut Source<'_>) -> Setup {
        let other = source.one_in(4).then(|| Format::of(source.below(256) as u64));
        Setup::draw(source, other.unwrap_or(self.setup.format), self.setup.threads)
    }

    /// A commit, a load or some work.
    pub(crate) fn draw_change(&mut self, source: &mut Source<'_>) -> Op {
        match source.below(14) {
            0..=2 => Self::draw_work(source),
            3 => self.draw_ingest(source),
            4 if self.history.now.second.is_none() => Op::CreateSecond,
            4 if source.one_in(2) => Op::DropSecond,
            _ => self.draw_write(source),
        }
    }

    /// Keys from everywhere, or neighbours, which nothing may be in between of.
    pub(super) fn draw_ingest(&mut self, source: &mut Source<'_>) -> Op {
        let narrow = source.one_in(2).then(|| (source.below(150), source.below(4)));
        let count = source.pick(&[1, 3, 30, 0]) + source.below(12);
        let entries = (0..count).map(|i| {
            self.stamp += 1;
            let key = match narrow {
                Some((first, ending)) => format!("k{:03}{}", first + i, &"xyz"[..ending]).into_bytes(),
                None => key(source),
            };
            (key, value(source, self.stamp))
        });
        let entries = entries.collect();
        Op::Ingest(self.draw_space(source), entries)
    }

    pub(super) fn draw_write(&mut self, source: &mut Source<'_>) -> Op {
        let (count, how) = match source.below(9) {
            0..=4 => (1, How::Single),
            5 => (1 + source.below(6), How::Batch),
            6 => (source.below(40), How::With(Durability::Buffered)),
            7 => (source.below(6), How::Submitted),
            _ => (1 + source.below(4), How::With(Durability::Sync)),
        };
        let mut change = || {
            self.stamp += 1;
            let space = self.draw_space(source);
            let change = match source.below(16) {
                0..=2 => Change::Remove(key(source)),
                3 => Change::RemoveRange(removed_range(source)),
                4..=5 => Change::Merge(key(source), format!("{};", self.stamp).into_bytes()),
                6 => Change::Merge(key(source), value(source, self.stamp)),
                _ => Change::Insert(key(source), value(source, self.stamp)),
            };
            (space, change)
        };
        Op::Write((0..count).map(|_| change()).collect(), how)
    }

    /// The second keyspace only if there is one, so that most operations do something.
    pub(super) fn draw_space(&self, source: &mut Source<'_>) -> Space {
        if self.history.now.second.is_some() && source.one_in(3) { Space::Second } else { Space::First }
    }

    pub(super) fn draw_work(source: &mut Source<'_>) -> Op {
        match source.below(12) {
            11 => Op::Await(source.below(4)),
            10 => Op::Checkpoint,
            0..=2 => Op::Flush,
            3..=4 => Op::Maintain,
            5 => Op::Wait,
            6 => Op::Compact,
            7 => Op::CompactRange(range(source)),
            _ => Op::Sync,
        }
    }

    pub(super) fn draw_crash(&mut self, source: &mut Source<'_>) -> Op {
        let after = 1 + source.below(60) as u64;
        let fault = match source.below(4) {
            0..=1 => Fault::Halt { after },
            2 => Fault::Error { after, kind: std::io::ErrorKind::Other },
            _ => Fault::Short { after: 1 + after % 16 },
        };
        let count = 1 + source.below(12);
        let work = (0..count).map(|_| self.draw_change(source));
        Op::Crash(Crash {
            fault,
            work: work.collect(),
            power_cut: (source.below(3) > 0).then(|| source.below(1 << 16) as u64),
            again: source.one_in(2).then(|| (1 + source.below(40) as u64, source.below(1 << 16) as u64)),
            setup: self.draw_setup(source),
        })
    }
}
