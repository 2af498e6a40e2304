//! What a subscriber of `tracing` is told, with the feature of that name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use maplsm::SimFs;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::{DIR, change, names, sim_options};

type Fields = BTreeMap<&'static str, String>;

/// Notes fields as text.
struct Notes<'n>(&'n mut Fields);

impl Visit for Notes<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

#[derive(Default)]
struct Heard {
    next: AtomicU64,
    /// Name, fields, and whether it is closed, by number.
    spans: Mutex<BTreeMap<u64, (&'static str, Fields, bool)>>,
    entered: Mutex<Vec<u64>>,
    /// Level, fields, and the span that they are in.
    events: Mutex<Vec<(Level, Fields, Option<u64>)>>,
}

/// Writes all of it down.
#[derive(Clone, Default)]
struct Scribe(Arc<Heard>);

impl Subscriber for Scribe {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("maplsm")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let number = self.0.next.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fields = Fields::new();
        span.record(&mut Notes(&mut fields));
        self.0.spans.lock().unwrap().insert(number, (span.metadata().name(), fields, false));
        Id::from_u64(number)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.spans.lock().unwrap();
        values.record(&mut Notes(&mut spans.get_mut(&span.into_u64()).unwrap().1));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Notes(&mut fields));
        let within = self.0.entered.lock().unwrap().last().copied();
        self.0.events.lock().unwrap().push((*event.metadata().level(), fields, within));
    }

    fn enter(&self, span: &Id) {
        self.0.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _span: &Id) {
        self.0.entered.lock().unwrap().pop();
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.spans.lock().unwrap().get_mut(&span.into_u64()).unwrap().2 = true;
        true
    }
}

#[test]
fn a_subscriber_is_told_what_the_store_does() {
    let (fs, scribe) = (SimFs::new(), Scribe::default());
    tracing::subscriber::with_default(scribe.clone(), || {
        let db = sim_options(&fs).l0_tables(1).open(DIR).unwrap();
        for round in 0..8u8 {
            (0..100u8).for_each(|number| db.insert([number], [round; 10]).unwrap());
            db.flush().unwrap();
        }
        db.compact().unwrap();
        db.close().unwrap();
    });
    let spans = scribe.0.spans.lock().unwrap();
    let of = |name: &str| spans.values().filter(|(of, ..)| *of == name).collect::<Vec<_>>();
    assert!(spans.values().all(|(.., closed)| *closed), "{spans:?}");
    let (flushes, compactions, stalls) = (of("flush"), of("compaction"), of("stall"));
    assert!(flushes.len() == 8 && !compactions.is_empty(), "{spans:?}");
    assert!(flushes.iter().all(|(_, fields, _)| fields["tables"] == "1" && fields.contains_key("took_seconds")));
    let asked = compactions.iter().filter(|(_, fields, _)| fields["reason"] == "Asked" && fields["tables"] == "1");
    assert_eq!(asked.count(), 1, "{spans:?}");
    assert!(!stalls.is_empty() && stalls.iter().all(|(_, fields, _)| fields["reason"] == "Level0Tables"), "{spans:?}");
    let events = scribe.0.events.lock().unwrap();
    let said = |text: &str| events.iter().filter(|(_, fields, _)| fields["message"] == text).collect::<Vec<_>>();
    assert_eq!((said("recovered").len(), said("done").len()), (1, 8 + compactions.len()), "{events:?}");
    // The end of a flush or a compaction is told within its span.
    assert!(said("done").iter().all(|(.., within)| within.is_some_and(|span| spans[&span].0 != "stall")), "{events:?}");
    assert!(said("file made").iter().all(|(level, ..)| *level == Level::DEBUG));
    drop((spans, events));

    // Without a subscriber nothing is told, and with one damage is.
    let told = scribe.0.events.lock().unwrap().len();
    change(&fs, &names(&fs, ".sst")[0], |bytes| bytes[100] ^= 1);
    let db = sim_options(&fs).open(DIR).unwrap();
    assert!(db.get([0]).is_err());
    db.close().unwrap();
    assert_eq!(scribe.0.events.lock().unwrap().len(), told);
    let db = tracing::subscriber::with_default(scribe.clone(), || sim_options(&fs).open(DIR)).unwrap();
    assert!(!db.verify().is_ok());
    db.close().unwrap();
    let events = scribe.0.events.lock().unwrap();
    let damage = events.iter().filter(|(level, ..)| *level == Level::ERROR).collect::<Vec<_>>();
    assert_eq!(damage.len(), 1, "{events:?}");
    assert_eq!(damage[0].1["message"], "damage found");
}
