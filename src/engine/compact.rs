//! Compaction: tables of one keyspace are merged into tables of a deeper level.

use std::sync::Arc;

use super::Engine;
use crate::error::{Error, Result};
use crate::format::edit::{Edit, LEVELS};
use crate::format::entry::Kind;
use crate::format::range::{Edge, Range};
use crate::format::{KeyspaceId, SEQUENCE_SPAN, Sequence};
use crate::merge::{LevelCursor, Located, Merge, Source, Versions};
use crate::sys::atomic::Ordering;
use crate::table::{Table, TableCursor, TableWriter, Verify};
use crate::version::{Plan, Version, pick, plan_range};
use crate::visibility::{Cover, Fragments, Visibility};

/// Entries between two looks at whether to stop or to flush first. Models compact a handful of entries.
const ENTRIES_PER_STEP: u32 = if cfg!(shuttle) { 1 } else { 4096 };

impl Engine {
    /// Runs the most urgent compaction, if there is one.
    pub(super) fn compact_next(&self) -> Result<bool> {
        let _alone = self.compacting.lock();
        self.check_writable()?;
        let version = Arc::clone(&self.view.load().version);
        if let Some(edit) = self.covered(&version)? {
            return self.install(edit, &[], &[]).map(|_| true);
        }
        match pick(&version, &self.limits()) {
            Some(plan) => self.compact(&plan).map(|()| true),
            None => Ok(false),
        }
    }

    /// Compacts everything of a keyspace in a range (all of it, if `None`) into one level.
    pub(crate) fn compact_range(&self, keyspace: KeyspaceId, range: Range<'_>) -> Result<()> {
        self.flush()?;
        let compacted = self.compact_planned(keyspace, range);
        // What this has made due, and what threads that found the lock taken have left.
        self.background.wake();
        compacted
    }

    fn compact_planned(&self, keyspace: KeyspaceId, range: Range<'_>) -> Result<()> {
        let _alone = self.compacting.lock();
        self.check_writable()?;
        let version = Arc::clone(&self.view.load().version);
        match plan_range(&version, keyspace, range) {
            Some(plan) if !Self::is_plain(&plan) => self.rewrite(&plan),
            // Nothing to drop: one table can move, and what is on one level already stays.
            Some(plan) if plan.inputs.iter().any(|(level, _)| *level != plan.output) => self.compact(&plan),
            _ => Ok(()),
        }
    }

    /// Whether the inputs hold neither old versions nor tombstones that a rewrite would drop.
    fn is_plain(plan: &Plan) -> bool {
        let mut sections = plan.inputs.iter().flat_map(|(_, table)| &table.meta.sections);
        sections.all(|s| s.entries == s.keys && (s.tombstones + s.range_tombstones == 0 || !plan.bottom))
    }

    /// An edit that drops the tables that lie in a removed range as a whole and that nobody sees any more, without a look into
    /// them. Only tombstones in tables count: those in the log may be lost in a crash.
    pub(super) fn covered(&self, version: &Version) -> Result<Option<Edit>> {
        let mut edit = Edit::default();
        let mut rule = None;
        for keyspace in version.keyspaces().into_iter().filter(|keyspace| version.has_ranges(*keyspace)) {
            let cover = cover(keyspace, version.of_keyspace(keyspace).map(|(_, table)| table))?;
            let rule = rule.get_or_insert_with(|| self.registry.retain(self.visible()));
            for (level, table) in
                version.of_keyspace(keyspace).filter(|(_, table)| is_covered(table, keyspace, &cover, rule))
            {
                match level {
                    0 => edit.consume.push((table.number(), keyspace)),
                    _ => edit.remove.push(table.number()),
                }
            }
        }
        Ok((edit != Edit::default()).then_some(edit))
    }

    fn compact(&self, plan: &Plan) -> Result<()> {
        if plan.is_move() {
            let moves = plan.inputs.iter().map(|(_, table)| (table.number(), plan.output)).collect();
            return self.install(Edit { moves, ..Edit::default() }, &[], &[]).map(|_| ());
        }
        self.rewrite(plan)
    }

    fn rewrite(&self, plan: &Plan) -> Result<()> {
        let mut edit = Edit::default();
        for (level, table) in &plan.inputs {
            match level {
                0 => edit.consume.push((table.number(), plan.keyspace)),
                _ => edit.remove.push(table.number()),
            }
        }
        let outputs = self.merge_tables(plan)?;
        edit.add = outputs.iter().map(|table| (plan.output, table.meta.clone())).collect();
        if !self.install_new(edit, &outputs, &[])? {
            return Ok(());
        }
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters.compacted_bytes.fetch_add(plan.input_bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes the merged tables; removes them again if that fails half-way.
    fn merge_tables(&self, plan: &Plan) -> Result<Vec<Arc<Table>>> {
        let mut merging = Merging::new(self, plan)?;
        let mut outputs = Vec::new();
        while merging.has_more() {
            match self.write_table(|writer| merging.fill(writer)) {
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

/// The range tombstones of several tables.
fn cover<'t>(keyspace: KeyspaceId, tables: impl Iterator<Item = &'t Arc<Table>>) -> Result<Cover> {
    let mut cover = Cover::default();
    for table in tables.filter(|table| table.has_ranges(keyspace)) {
        cover.add(table.reader()?.ranges(keyspace), 0);
    }
    Ok(cover)
}

/// Whether everything of a keyspace in a table was removed by a range tombstone that everyone sees.
fn is_covered(table: &Table, keyspace: KeyspaceId, cover: &Cover, rule: &Visibility) -> bool {
    table.section(keyspace).is_some_and(|section| {
        let counts = |removal: Sequence| removal > section.max_sequence && rule.all_at_or_above(removal);
        cover.fragments().any(|ranges| ranges.covers(&section.lower, &section.upper, counts))
    })
}

/// A compaction under way.
struct Merging<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    versions: Versions,
    /// The range tombstones to write; those in front of `written_to` have been.
    ranges: Fragments,
    written_to: Edge,
    /// The next version to write, and whether it is the first of its key.
    next: Option<(Located, bool)>,
    max_sequence: Sequence,
    until_step: u32,
}

impl<'a> Merging<'a> {
    fn new(engine: &'a Engine, plan: &'a Plan) -> Result<Self> {
        let mut rule = engine.registry.retain(engine.visible());
        let cover = cover(plan.keyspace, plan.inputs.iter().map(|(_, table)| table))?;
        let mut ranges = Fragments::merge(cover.fragments(), &mut rule);
        if plan.bottom {
            // Everyone sees these, and nothing that they remove is left.
            ranges.remove(|removal| rule.all_at_or_above(removal));
        }
        let visible = |(_, table): &&(u8, Arc<Table>)| !is_covered(table, plan.keyspace, &cover, &rule);
        let inputs: Vec<&(u8, Arc<Table>)> = plan.inputs.iter().filter(visible).collect();
        let mut sources = Vec::new();
        for (_, table) in inputs.iter().filter(|(level, _)| *level == 0) {
            sources.extend(TableCursor::new(table.reader()?, plan.keyspace, Verify::Again).map(Source::Table));
        }
        for level in 1..LEVELS {
            let of_level = inputs.iter().filter(|(l, _)| *l == level).map(|(_, table)| Arc::clone(table));
            let tables: Arc<[Arc<Table>]> = of_level.collect();
            if !tables.is_empty() {
                sources.push(Source::Level(LevelCursor::new(tables, plan.keyspace, Verify::Again)));
            }
        }
        let sections = inputs.iter().filter_map(|(_, table)| table.section(plan.keyspace));
        let max_sequence = sections.map(|section| section.max_sequence).max().unwrap_or_default();
        let versions = Versions::new(Merge::new(sources), cover, rule)?;
        let mut merging = Self {
            engine,
            plan,
            versions,
            ranges,
            written_to: Edge::START.to_owned(),
            next: None,
            max_sequence,
            until_step: ENTRIES_PER_STEP,
        };
        merging.advance()?;
        Ok(merging)
    }

    fn has_more(&self) -> bool {
        self.next.is_some() || self.ranges.list().last().is_some_and(|last| last.end > self.written_to)
    }

    /// Goes to the next version that must be written.
    fn advance(&mut self) -> Result<()> {
        // A tombstone that is dropped may have been the first version of its key; nothing older follows it then.
        self.next = self.versions.next()?;
        while let Some((found, _)) = self.next {
            let gone = found.entry.kind == Kind::Delete && self.is_last_word(found.entry.sequence);
            if !gone {
                break;
            }
            self.next = self.versions.next()?;
        }
        Ok(())
    }

    /// Whether everyone sees this version or a newer one, and nothing older of its key remains anywhere.
    fn is_last_word(&self, sequence: Sequence) -> bool {
        self.plan.bottom && self.versions.rule().all_at_or_above(sequence)
    }

    /// Fills one table, up to its size; versions of one key stay together.
    fn fill(&mut self, writer: &mut TableWriter) -> Result<()> {
        let mut empty = true;
        writer.start_section(self.engine.section_options(self.plan.keyspace));
        while let Some((found, new_key)) = self.next {
            let sequence = found.entry.sequence;
            let oldest = self.max_sequence.0 - sequence.0.min(self.max_sequence.0) >= SEQUENCE_SPAN / 2
                && sequence != Sequence(0)
                && self.is_last_word(sequence);
            let fits = oldest || sequence == Sequence(0) || writer.spans(sequence);
            let full = writer.bytes() >= self.engine.options.table_bytes;
            if !empty && new_key && (full || !fits) {
                break;
            }
            if !fits && !empty {
                return Err(Error::NumbersExhausted);
            }
            writer.add(self.plan.keyspace, &found.entry, self.versions.merge().bytes(&found), oldest)?;
            empty = false;
            self.advance()?;
            self.step()?;
        }
        let upto = match &self.next {
            Some((found, _)) => Edge::Before(self.versions.merge().key(found).to_vec()),
            None => Edge::End,
        };
        writer.add_ranges(self.plan.keyspace, &self.ranges.clip(&self.written_to, &upto))?;
        self.written_to = upto;
        Ok(())
    }

    /// Looks up from time to time: a cancelled store stops here, a dropped keyspace as well, and a flush that waits goes first.
    fn step(&mut self) -> Result<()> {
        self.until_step -= 1;
        if self.until_step > 0 {
            return Ok(());
        }
        self.until_step = ENTRIES_PER_STEP;
        if self.engine.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        if !self.engine.view.load().version.named().is_live(self.plan.keyspace) {
            // Dropped: the inputs are not part of the database any more, and the outputs will not be.
            self.next = None;
        }
        while self.engine.flush_wanted(&self.engine.view()) && self.engine.flush_oldest()? {}
        Ok(())
    }
}
