//! Compaction: tables of one keyspace are merged into tables of a deeper level.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::background::Work;
use super::callback::Callback;
use super::files::Files;
use super::flush::Flusher;
use super::fold::{Next, OperandRun, OwnEntry, Written};
use super::health::Health;
use super::job::Subcompaction;
use super::log::LogEnd;
use super::outputs::Outputs;
use super::readers::Readers;
use super::value_sink::ValueSink;
use crate::error::{Error, Result};
use crate::format::edit::{Edit, LEVELS};
use crate::format::entry::{Entry, Kind};
use crate::format::range::Edge;
use crate::format::{KeyspaceId, SEQUENCE_SPAN, Sequence};
use crate::merge::{LevelCursor, Merge, Place, Source, Tables, Versions};
use crate::operator::Operator;
use crate::options::{Compression, Filter, FilterEntry, Options, SectionOptions, Verdict};
use crate::table::{Level, StoredValue, Table, TableCursor, TableWriter, Verify};
use crate::version::{Plan, Running, Share, Version};
use crate::visibility::{Cover, Fragments, Visibility};

/// Entries between two looks at whether to stop or to flush first. Models compact a handful of entries.
const ENTRIES_PER_STEP: u32 = if cfg!(shuttle) { 1 } else { 4096 };

/// Merges the inputs of compactions. Flushes in between, if that is due.
pub(super) struct Merger {
    pub(super) options: Arc<Options>,
    pub(super) health: Arc<Health>,
    pub(super) files: Arc<Files>,
    pub(super) readers: Arc<Readers>,
    pub(super) log: Arc<LogEnd>,
    pub(super) flusher: Arc<Flusher>,
}

impl Merger {
    /// Whether the inputs hold nothing that a rewrite would drop: old versions, tombstones, or what a filter must see.
    pub(super) fn is_plain(&self, plan: &Plan) -> bool {
        let filtered = self.options.compaction_filter.is_some();
        let version = self.readers.version();
        let is_plain = |share: &Share| {
            let mut sections = share.sections();
            sections.all(|(_, s)| {
                // Of a single operand, the bottom makes a value.
                let may_merge = version.named().operator(s.keyspace).is_some();
                let drops = s.tombstones + s.range_tombstones > 0 || filtered || may_merge;
                s.has_single_versions() && !(drops && share.bottom)
            })
        };
        plan.shares.iter().all(is_plain)
    }

    /// An edit that drops the tables that lie in a removed range as a whole and that nobody sees any more, without a look into
    /// them. Only tombstones that are on disk count, in tables or in the log: others may be lost in a crash, and what they hide
    /// would not come back. Inputs of running compactions are left to those.
    pub(super) fn covered(&self, version: &Version, running: &Running) -> Result<Option<Edit>> {
        let mut edit = Edit::default();
        let mut context = None;
        let memtables = &self.readers.load().memtables;
        for keyspace in version.keyspaces() {
            let in_log: Vec<_> = memtables.iter().filter_map(|memtable| memtable.ranges(keyspace)).collect();
            if in_log.is_empty() && !version.has_ranges(keyspace) {
                continue;
            }
            let mut cover = cover(keyspace, version.of_keyspace(keyspace).map(|(_, table)| table))?;
            for ranges in &in_log {
                cover.add(&**ranges, 0);
            }
            // Before the rule: whatever the log gets later is newer than what the rule says about readers.
            let (durable, rule) = context.get_or_insert_with(|| {
                // The log is flushed in order, so what is older than anything in a table is on disk as well.
                let in_tables =
                    version.tables().flat_map(|(_, table)| &table.meta.sections).map(|s| s.max_sequence).max();
                (in_tables.max(Some(self.log.durable_sequence())), self.readers.retain())
            });
            let free = version.of_keyspace(keyspace).filter(|(_, table)| !running.takes(table, keyspace));
            for (level, table) in free.filter(|(_, table)| is_covered(table, keyspace, &cover, rule, *durable)) {
                match level {
                    0 => edit.consume.push((table.number(), keyspace)),
                    _ => edit.remove.push(table.number()),
                }
            }
        }
        Ok((edit != Edit::default()).then_some(edit))
    }

    /// Bytes that the inputs of a plan would have left if it were carried out. Asks no filter.
    pub(super) fn weigh(&self, plan: &Plan) -> Result<u64> {
        let mut left = 0;
        let subcompaction = Subcompaction::of(plan);
        for share in &plan.shares {
            let mut merging = Merging::new(self, plan, share, &subcompaction)?;
            merging.filter = None;
            merging.operator = None;
            while let Some(next) = &merging.next {
                left += (next.entry().next() - next.entry().start) as u64;
                merging.advance()?;
                merging.step()?;
            }
        }
        Ok(left)
    }

    /// Writes the merged tables of a subcompaction; removes them again if that fails half-way.
    pub(super) fn merge_subcompaction(&self, plan: &Plan, subcompaction: &Subcompaction) -> Result<Outputs> {
        let mut merging = Vec::new();
        for share in &plan.shares {
            merging.push(Merging::new(self, plan, share, subcompaction)?);
        }
        let mut sink = ValueSink::new(&self.files);
        let mut outputs = Outputs::default();
        while merging.iter().any(Merging::has_more) {
            let written = self.files.write_table(|writer| {
                // Several keyspaces go into one table of level 0; below it, one keyspace goes into many tables.
                let full = if plan.output == 0 { u64::MAX } else { self.options.table_bytes };
                merging.iter_mut().try_for_each(|merging| merging.fill(writer, &mut sink, full))
            });
            match written {
                Ok(table) => outputs.tables.push(table),
                Err(e) => {
                    self.files.discard(&outputs);
                    return Err(e);
                }
            }
        }
        outputs.values = sink.finish().inspect_err(|_| self.files.discard(&outputs))?;
        Ok(outputs)
    }
}

/// The range tombstones of several tables.
fn cover<'t>(keyspace: KeyspaceId, tables: impl Iterator<Item = &'t Arc<Table>>) -> Result<Cover> {
    let mut cover = Cover::default();
    for table in tables.filter(|table| table.has_ranges(keyspace)) {
        cover.add(&table.ranges(keyspace)?, 0);
    }
    Ok(cover)
}

/// Whether everything of a keyspace in a table was removed by a range tombstone that everyone sees, and that is no newer than
/// `upto`, if that says anything.
fn is_covered(table: &Table, keyspace: KeyspaceId, cover: &Cover, rule: &Visibility, upto: Option<Sequence>) -> bool {
    table.section(keyspace).is_some_and(|section| {
        let counts = |removal: Sequence| {
            removal > section.max_sequence && upto.is_none_or(|upto| removal <= upto) && rule.all_at_or_above(removal)
        };
        cover.fragments().any(|ranges| ranges.covers(&section.lower, &section.upper, counts))
    })
}

/// What is merged of some tables, newest first: each table of level 0 by itself, those of a deeper level one behind the other.
fn sources(keyspace: KeyspaceId, tables: &[&(u8, Arc<Table>)]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (_, table) in tables.iter().filter(|(level, _)| *level == 0) {
        sources.extend(TableCursor::new(table.pin()?, keyspace, Verify::Again).map(Source::from));
    }
    for level in 1..LEVELS {
        let of_level = tables.iter().filter(|(l, _)| *l == level).map(|(_, table)| Arc::clone(table));
        let of_level: Level = of_level.collect();
        if !of_level.is_empty() {
            sources.push(Source::Level(LevelCursor::new(Tables::Level(of_level), keyspace, Verify::Again)));
        }
    }
    Ok(sources)
}

/// A merge under way.
struct Merging<'a> {
    merger: &'a Merger,
    plan: &'a Plan,
    share: &'a Share,
    options: SectionOptions,
    subcompaction: &'a Subcompaction,
    versions: Versions,
    /// The range tombstones to write; those in front of `written_to` have been.
    ranges: Fragments,
    written_to: Edge,
    next: Option<Next>,
    /// What comes behind it, as far as that has been looked at.
    ready: VecDeque<Next>,
    /// What makes values of operands. None if the keyspace has none, or the program has not.
    operator: Option<Operator>,
    /// Whether the keyspace has one.
    has_operator: bool,
    max_sequence: Sequence,
    until_step: u32,
    /// None beside a snapshot: what this could remove, that may see.
    filter: Option<&'a Filter>,
    /// Sources from this number on only hide what the others have.
    inputs: usize,
}

impl<'a> Merging<'a> {
    fn new(merger: &'a Merger, plan: &'a Plan, share: &'a Share, subcompaction: &'a Subcompaction) -> Result<Self> {
        let mut rule = merger.readers.retain();
        let own = cover(share.keyspace, share.inputs.iter().map(|(_, table)| table))?;
        let mut ranges = Fragments::merge(own.fragments(), &mut rule);
        if share.bottom {
            // Everyone sees these, and nothing that they remove is left.
            ranges.remove(|removal| rule.all_at_or_above(removal));
        }
        ranges = ranges.clip(&subcompaction.start(), &subcompaction.end());
        let all = share.inputs.iter().chain(&share.newer);
        let cover = if share.newer.is_empty() { own } else { cover(share.keyspace, all.map(|(_, table)| table))? };
        let visible = |(_, table): &&(u8, Arc<Table>)| !is_covered(table, share.keyspace, &cover, &rule, None);
        let inputs: Vec<&(u8, Arc<Table>)> = share.inputs.iter().filter(visible).collect();
        let max_sequence = inputs.iter().filter_map(|(_, table)| table.section(share.keyspace));
        let max_sequence = max_sequence.map(|section| section.max_sequence).max().unwrap_or_default();
        let mut sources = sources(share.keyspace, &inputs)?;
        let from_inputs = sources.len();
        if from_inputs > 0 {
            sources.extend(self::sources(share.keyspace, &share.newer.iter().collect::<Vec<_>>())?);
        }
        let place = subcompaction.start.as_deref().map_or(Place::First, Place::AtOrBehind);
        let versions = Versions::starting_at(Merge::new(sources), cover, rule, place)?;
        let read_state = merger.readers.read_state();
        let mut merging = Self {
            merger,
            plan,
            share,
            options: merger.readers.section_options(share.keyspace, merger.options.table.section).at_level(plan.output),
            subcompaction,
            versions,
            ranges,
            written_to: subcompaction.start(),
            next: None,
            ready: VecDeque::new(),
            operator: read_state.operators.of(share.keyspace),
            has_operator: read_state.version.named().operator(share.keyspace).is_some(),
            max_sequence,
            until_step: ENTRIES_PER_STEP,
            filter: merger.options.compaction_filter.as_ref().filter(|_| merger.readers.registry().is_empty()),
            inputs: from_inputs,
        };
        merging.advance()?;
        Ok(merging)
    }

    fn has_more(&self) -> bool {
        self.next.is_some() || self.ranges.list().last().is_some_and(|last| last.end > self.written_to.as_ref())
    }

    /// Goes to the next version that must be written.
    fn advance(&mut self) -> Result<()> {
        // A tombstone that is dropped may have been the first version of its key; nothing older follows it then.
        self.next = self.next_folded()?;
        while let Some(next) = &self.next {
            if !self.is_last_word(next.entry().sequence) {
                break;
            }
            if next.entry().kind() != Kind::Delete && !self.is_filtered(next)? {
                break;
            }
            self.next = self.next_folded()?;
        }
        Ok(())
    }

    /// The next version, where those that were operands may be one entry.
    fn next_folded(&mut self) -> Result<Option<Next>> {
        let next = match self.ready.pop_front() {
            Some(next) => next,
            None => match self.next_within()? {
                Some(next) => next,
                None => return Ok(None),
            },
        };
        match (&next.what, &self.operator) {
            (Written::Copied(found), Some(operator)) if found.entry.kind() == Kind::Merge => {
                let operator = operator.clone();
                self.fold(&operator, &next)?;
                Ok(self.ready.pop_front())
            }
            _ => Ok(Some(next)),
        }
    }

    /// Makes `ready` what is to be written of an operand, and of those behind it that nobody sees without it: their value, if
    /// what they work on is known, or one operand; and, if the operator makes neither, what they were. What was read to find
    /// out follows.
    fn fold(&mut self, operator: &Operator, newest: &Next) -> Result<()> {
        let (first, below_operand) = (newest.first, newest.below_operand);
        let mut run = OperandRun::of(newest.in_bytes(self.versions.merge()));
        let is_apart = |entry: &Entry| entry.kind() == Kind::Pointer;
        let mut has_room = true;
        let (behind, consumed, base) = loop {
            let Some(next) = self.next_within()? else { break (None, false, self.share.bottom.then_some(None)) };
            if next.first {
                break (Some(next), false, self.share.bottom.then_some(None));
            }
            if self.versions.is_behind_removal() {
                break (Some(next), false, Some(None));
            }
            let (merge, entry) = (self.versions.merge(), next.in_bytes(self.versions.merge()));
            let together = self.versions.rule().sees_together(entry.sequence, run.oldest());
            match entry.kind() {
                Kind::Merge if together && has_room => {
                    run.add(entry);
                    has_room = self.within_operator(|| run.make_room(operator));
                }
                Kind::Merge => break (Some(next), false, None),
                Kind::Delete | Kind::RangeDelete => break (Some(next), together, Some(None)),
                _ => {
                    let Written::Copied(found) = &next.what else { break (Some(next), false, None) };
                    let value = if is_apart(&entry) {
                        let (pointer, file) = merge.find_value(found, &self.plan.values)?;
                        file.value(pointer)?.bytes().to_vec()
                    } else {
                        entry.value().to_vec()
                    };
                    break (Some(next), together, Some(Some(value)));
                }
            }
        };
        let made = match &base {
            Some(value) => self.within_operator(|| run.merge(operator, value.as_deref()))?,
            None => None,
        };
        let is_made = made.is_some();
        if base.is_none() {
            self.within_operator(|| run.combine(operator));
        }
        let own = |(at, own): (usize, OwnEntry)| Next {
            what: Written::Own(own),
            first: first && at == 0,
            below_operand: below_operand || at > 0,
        };
        match made {
            Some(made) => self.ready.push_back(own((0, made))),
            None => self.ready.extend(run.into_entries().enumerate().map(own)),
        }
        // What a value was made of, nobody sees any more.
        self.ready.extend(behind.filter(|_| !(is_made && consumed)));
        Ok(())
    }

    /// The operator at work, which must not wait for the compaction that asks it.
    fn within_operator<T>(&self, work: impl FnOnce() -> T) -> T {
        let _within = self.merger.health.enter(Callback::MergeOperator);
        work()
    }

    /// The next version in the inputs that someone sees, up to the end of the subcompaction, and whether it is the first one of
    /// its key.
    fn next_within(&mut self) -> Result<Option<Next>> {
        let mut first = false;
        loop {
            let Some((found, new_key)) = self.versions.next()? else { return Ok(None) };
            if self.subcompaction.end.as_deref().is_some_and(|end| self.versions.merge().key(&found) >= end) {
                return Ok(None);
            }
            first |= new_key;
            if Merge::source(&found) < self.inputs {
                let below_operand = self.versions.is_below_operand();
                return Ok(Some(Next { what: Written::Copied(found), first, below_operand }));
            }
        }
    }

    /// Whether the user's filter wants a version removed that is the last word on its key.
    fn is_filtered(&self, next: &Next) -> Result<bool> {
        let Some(filter) = self.filter else { return Ok(false) };
        if !next.entry().kind().has_value() || next.below_operand {
            return Ok(false);
        }
        let merge = self.versions.merge();
        let entry = next.in_bytes(merge);
        let apart = match &next.what {
            Written::Copied(found) if entry.kind() == Kind::Pointer => {
                let (pointer, file) = merge.find_value(found, &self.plan.values)?;
                Some(file.value(pointer)?)
            }
            _ => None,
        };
        let value = apart.as_ref().map_or_else(|| entry.value(), StoredValue::bytes);
        let entry = FilterEntry { key: entry.key(), value };
        let verdict = {
            let _within = self.merger.health.enter(Callback::CompactionFilter);
            catch_unwind(AssertUnwindSafe(|| (filter.0)(entry)))
        };
        let panicked =
            |_| Error::io("compact", self.merger.files.path(), std::io::Error::other("the compaction filter panicked"));
        Ok(verdict.map_err(panicked)? == Verdict::Remove)
    }

    /// Whether everyone sees this version or a newer one, and nothing older of its key remains anywhere.
    fn is_last_word(&self, sequence: Sequence) -> bool {
        self.share.bottom && self.versions.rule().all_at_or_above(sequence)
    }

    /// Fills one table, up to a size; versions of one key stay together.
    fn fill(&mut self, writer: &mut TableWriter, sink: &mut ValueSink<'_>, full: u64) -> Result<()> {
        let mut empty = true;
        // Entries are copied as they are, but zeros in place of numbers that nobody needs shrink to nothing.
        let packed = self.plan.output > 0 && self.options.compression != Compression::None;
        let marked_from = if packed { 0 } else { SEQUENCE_SPAN / 2 };
        writer.start_section(self.options)?;
        while let Some(next) = &self.next {
            let sequence = next.entry().sequence;
            let oldest = self.max_sequence.0 - sequence.0.min(self.max_sequence.0) >= marked_from
                && sequence != Sequence(0)
                && !self.has_operator
                && next.entry().kind() != Kind::Merge
                && self.is_last_word(sequence);
            let fits = oldest || sequence == Sequence(0) || writer.spans(sequence);
            if !empty && next.first && (writer.bytes() >= full || writer.is_full() || !fits) {
                break;
            }
            if !fits && !empty {
                return Err(Error::NumbersExhausted);
            }
            self.write(writer, sink, next, oldest)?;
            empty = false;
            self.advance()?;
            self.step()?;
        }
        let upto = match &self.next {
            Some(next) => Edge::Before(next.in_bytes(self.versions.merge()).key().to_vec()),
            None => self.subcompaction.end(),
        };
        writer.add_ranges(self.share.keyspace, &self.ranges.clip(&self.written_to, &upto))?;
        self.written_to = upto;
        Ok(())
    }

    /// Copies an entry. Its value moves if it stands in a value file that is to be emptied, or inside the entry and is large.
    fn write(&self, writer: &mut TableWriter, sink: &mut ValueSink<'_>, next: &Next, oldest: bool) -> Result<()> {
        let (merge, keyspace) = (self.versions.merge(), self.share.keyspace);
        let entry = next.in_bytes(merge);
        if let Written::Copied(found) = &next.what
            && entry.kind() == Kind::Pointer
            && self.plan.moves_values()
        {
            let (pointer, file) = merge.find_value(found, &self.plan.values)?;
            if self.plan.emptied.contains(&pointer.file) {
                let (sequence, value) = file.record(keyspace, merge.key(found), pointer)?;
                let value = (sequence, value.bytes());
                return sink.add(writer, keyspace, entry, value, oldest);
            }
        }
        if self.options.stands_apart(entry.place()) {
            let value = (entry.sequence, entry.value());
            return sink.add(writer, keyspace, entry, value, oldest);
        }
        writer.add(keyspace, entry, oldest)
    }

    /// Looks up from time to time: a cancelled store stops here, a dropped keyspace as well, and a flush that waits goes
    /// first, whose errors are its own.
    fn step(&mut self) -> Result<()> {
        self.until_step -= 1;
        if self.until_step > 0 {
            return Ok(());
        }
        self.until_step = ENTRIES_PER_STEP;
        self.merger.health.check_going_on()?;
        if !self.merger.readers.load().version.named().is_live(self.share.keyspace) {
            // Dropped: the inputs are not part of the database any more, and the outputs will not be.
            self.next = None;
            self.ready.clear();
        }
        while let Ok(Work::Done) = self.merger.flusher.flush_in_turn() {}
        Ok(())
    }
}
