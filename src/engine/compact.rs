//! Compaction: tables of one keyspace are merged into tables of a deeper level.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Engine;
use crate::error::{Error, Result};
use crate::format::edit::LEVELS;
use crate::format::entry::Kind;
use crate::format::{SEQUENCE_SPAN, Sequence};
use crate::merge::{LevelCursor, Located, Merge, Place, Source, Versions};
use crate::table::{Table, TableCursor, TableWriter, Verify};
use crate::version::{Plan, Share};

/// Entries between two looks at whether to stop or to flush first.
const ENTRIES_PER_STEP: u32 = 4096;

/// The keys of one piece of a compaction: from `start` to in front of `end`.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
}

impl Span {
    /// All keys, cut at `keys`, which are in order.
    pub(super) fn between(keys: Vec<Vec<u8>>) -> Vec<Self> {
        let mut spans = vec![Self::default()];
        for key in keys {
            if let Some(last) = spans.last_mut() {
                last.end = Some(key.clone());
            }
            spans.push(Self { start: Some(key), end: None });
        }
        spans
    }
}

impl Engine {
    /// Whether the inputs hold neither old versions nor tombstones that a rewrite would drop.
    pub(super) fn is_plain(plan: &Plan) -> bool {
        let is_plain = |share: &Share| {
            let mut sections = share.sections();
            sections.all(|(_, s)| s.entries == s.keys && (s.tombstones == 0 || !share.bottom))
        };
        plan.shares.iter().all(is_plain)
    }

    /// Writes the merged tables of a span; removes them again if that fails half-way.
    pub(super) fn merge_span(&self, plan: &Plan, span: &Span) -> Result<Vec<Arc<Table>>> {
        let mut merging = Vec::new();
        for share in &plan.shares {
            merging.push(Merging::new(self, share, span)?);
        }
        let mut outputs = Vec::new();
        while merging.iter().any(Merging::has_more) {
            let written = self.write_table(|writer| {
                // Several keyspaces go into one table of level 0; below it, one keyspace goes into many tables.
                let full = if plan.output == 0 { u64::MAX } else { self.options.table_bytes };
                merging.iter_mut().try_for_each(|merging| merging.fill(writer, full))
            });
            match written {
                Ok(table) => outputs.push(table),
                Err(e) => {
                    for table in outputs {
                        self.remove_table_files(table.number());
                    }
                    return Err(e);
                }
            }
        }
        Ok(outputs)
    }
}

/// A merge under way.
struct Merging<'a> {
    engine: &'a Engine,
    share: &'a Share,
    span: &'a Span,
    versions: Versions,
    /// The next version to write, and whether it is the first of its key.
    next: Option<(Located, bool)>,
    max_sequence: Sequence,
    until_step: u32,
}

impl<'a> Merging<'a> {
    fn new(engine: &'a Engine, share: &'a Share, span: &'a Span) -> Result<Self> {
        let rule = engine.registry.retain(engine.visible());
        let mut sources = Vec::new();
        for (_, table) in share.inputs.iter().filter(|(level, _)| *level == 0) {
            sources.extend(TableCursor::new(table.reader()?, share.keyspace, Verify::Again).map(Source::Table));
        }
        for level in 1..LEVELS {
            let of_level = share.inputs.iter().filter(|(l, _)| *l == level).map(|(_, table)| Arc::clone(table));
            let tables: Arc<[Arc<Table>]> = of_level.collect();
            if !tables.is_empty() {
                sources.push(Source::Level(LevelCursor::new(tables, share.keyspace, Verify::Again)));
            }
        }
        let max_sequence = share.sections().map(|(_, section)| section.max_sequence).max().unwrap_or_default();
        let place = span.start.as_deref().map_or(Place::First, Place::AtOrBehind);
        let versions = Versions::starting_at(Merge::new(sources), rule, place)?;
        let mut merging =
            Self { engine, share, span, versions, next: None, max_sequence, until_step: ENTRIES_PER_STEP };
        merging.advance()?;
        Ok(merging)
    }

    fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Goes to the next version that must be written.
    fn advance(&mut self) -> Result<()> {
        // A tombstone that is dropped may have been the first version of its key; nothing older follows it then.
        self.next = self.next_within()?;
        while let Some((found, _)) = self.next {
            let gone = found.entry.kind == Kind::Delete && self.is_last_word(found.entry.sequence);
            if !gone {
                break;
            }
            self.next = self.next_within()?;
        }
        Ok(())
    }

    /// The next version that someone sees, up to the end of the span.
    fn next_within(&mut self) -> Result<Option<(Located, bool)>> {
        let next = self.versions.next()?;
        Ok(match (&self.span.end, next) {
            (Some(end), Some((found, _))) if self.versions.merge().key(&found) >= end.as_slice() => None,
            _ => next,
        })
    }

    /// Whether everyone sees this version or a newer one, and nothing older of its key remains anywhere.
    fn is_last_word(&self, sequence: Sequence) -> bool {
        self.share.bottom && self.versions.rule().all_at_or_above(sequence)
    }

    /// Fills one table, up to a size; versions of one key stay together.
    fn fill(&mut self, writer: &mut TableWriter, full: u64) -> Result<()> {
        let mut empty = true;
        while let Some((found, new_key)) = self.next {
            let sequence = found.entry.sequence;
            let oldest = self.max_sequence.0 - sequence.0.min(self.max_sequence.0) >= SEQUENCE_SPAN / 2
                && sequence != Sequence(0)
                && self.is_last_word(sequence);
            let fits = oldest || sequence == Sequence(0) || writer.spans(sequence);
            if !empty && new_key && (writer.bytes() >= full || !fits) {
                break;
            }
            if !fits && !empty {
                return Err(Error::NumbersExhausted);
            }
            writer.add(self.share.keyspace, &found.entry, self.versions.merge().bytes(&found), oldest)?;
            empty = false;
            self.advance()?;
            self.step()?;
        }
        Ok(())
    }

    /// Looks up from time to time: a cancelled store stops here, and a flush that waits goes first. Its errors are its own.
    fn step(&mut self) -> Result<()> {
        self.until_step -= 1;
        if self.until_step > 0 {
            return Ok(());
        }
        self.until_step = ENTRIES_PER_STEP;
        if self.engine.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        while self.engine.flush_in_turn().is_ok_and(|flushed| flushed) {}
        Ok(())
    }
}
