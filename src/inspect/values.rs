//! Value files: their records.

use super::frame::Framed;
use super::item::{Sink, Value, position};
use crate::error::Result;
use crate::format::bytes::Part;
use crate::format::prefix::Magic;
use crate::format::table::TABLE_HEADER_BYTES;
use crate::format::values::{Record, header_end, record_end};

pub(super) fn show(sink: &mut Sink<'_>, file: &[u8]) -> Result<()> {
    let mut values = Framed::open(sink, file, Magic::VALUES, "values")?;
    let (mut at, end) = (TABLE_HEADER_BYTES, values.frame.body_end);
    while at < end {
        values.verify_to(sink, end.min(header_end(at)))?;
        let next = record_end(Part::whole(file), at, end).map_err(|damage| sink.damaged(at, damage))?;
        values.verify_to(sink, next)?;
        let record = Record::parse(Part::whole(file), at, end).map_err(|fault| sink.damaged(at, fault))?;
        let place = record.value();
        let fields = vec![
            ("keyspace", Value::Number(record.keyspace.0.into())),
            ("sequence", Value::Number(record.sequence.0)),
            ("key", Value::Bytes(record.key)),
            ("value_offset", Value::Number(record.offset)),
            ("value", Value::Bytes(file.get(place.start..place.end.min(position(end))).unwrap_or_default())),
        ];
        sink.item(at, "value", fields)?;
        at = next;
    }
    values.finish(sink)
}
