//! What tables and indexes have in common: header, footer, and checksums of the body.

use super::item::{Sink, Value, version};
use crate::error::Result;
use crate::format::bytes::Part;
use crate::format::prefix::Magic;
use crate::format::table::{FOOTER_BYTES, Frame, TableHeader};

/// A table or index whose header, footer and directory are verified, and its body as far as it has been shown.
pub(super) struct Framed<'a> {
    pub(super) file: &'a [u8],
    pub(super) frame: Frame,
    /// Chunks below this one are verified.
    verified: u64,
}

impl<'a> Framed<'a> {
    /// Shows header and footer.
    pub(super) fn open(sink: &mut Sink<'_>, file: &'a [u8], magic: Magic, kind: &'static str) -> Result<Self> {
        let header = TableHeader::parse(file, magic).map_err(|fault| sink.damaged(0, fault))?;
        let fields = vec![
            ("version", version()),
            ("id", Value::Id(header.id())),
            ("chunk_bytes", Value::Number(1 << header.chunk_log2())),
        ];
        sink.item(0, kind, fields)?;
        let frame = Frame::parse(file, magic).map_err(|(offset, fault)| sink.damaged(offset, fault))?;
        let fields = vec![
            ("id", Value::Id(frame.id)),
            ("file_bytes", Value::Number(file.len() as u64)),
            ("body_end", Value::Number(frame.body_end)),
            ("directory_offset", Value::Number(frame.directory_offset)),
            ("directory_bytes", Value::Number(frame.directory_bytes)),
            ("sections", Value::Number(frame.section_count.into())),
            ("entries", Value::Number(frame.totals.entries)),
            ("min_sequence", Value::Number(frame.totals.min_sequence.0)),
            ("max_sequence", Value::Number(frame.totals.max_sequence.0)),
            ("checksum", Value::Number(frame.footer_checksum.into())),
        ];
        sink.item(file.len() as u64 - FOOTER_BYTES, "footer", fields)?;
        Ok(Self { file, frame, verified: 0 })
    }

    /// Verifies the chunks up to `end`, which is inside the body.
    pub(super) fn verify_to(&mut self, sink: &Sink<'_>, end: u64) -> Result<()> {
        let chunks = end.div_ceil(1 << self.frame.chunk_log2);
        while self.verified < chunks {
            let whole = Part::whole(self.file);
            let checked = self.frame.check_chunk(whole, whole, self.verified, true);
            checked.map_err(|(offset, damage)| sink.damaged(offset, damage))?;
            self.verified += 1;
        }
        Ok(())
    }

    /// Verifies what is left and shows how much that was in all.
    pub(super) fn finish(mut self, sink: &mut Sink<'_>) -> Result<()> {
        self.verify_to(sink, self.frame.body_end)?;
        self.frame.check_padding(Part::whole(self.file)).map_err(|(offset, damage)| sink.damaged(offset, damage))?;
        sink.item(self.frame.body_end, "checksums", vec![("chunks", Value::Number(self.frame.chunks()))])
    }

    /// Where in the file the last `rest` bytes of the directory begin.
    pub(super) fn directory_position(&self, rest: &[u8]) -> u64 {
        self.file.len() as u64 - FOOTER_BYTES - rest.len() as u64
    }
}
