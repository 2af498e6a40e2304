//! Making the index of a table again when it is lost or damaged.

use std::path::PathBuf;

use super::body::{Body, Verify, first};
use super::index::{Index, IndexBuilder};
use super::walk::{InWindows, Walk};
use crate::error::{Damage, Result};
use crate::format::key_hash;
use crate::options::{PointIndex, SectionOptions, TableOptions};
use crate::sys::Mapping;

/// Makes an index from the entries of a table, O(size).
pub(super) fn rebuild_index(body: &Body, options: TableOptions, points: &[PointIndex], path: PathBuf) -> Result<Index> {
    let mut builder = IndexBuilder::new(options, body.file.frame().id);
    for (number, section) in body.sections.iter().enumerate() {
        let point_index = points.get(number).copied().unwrap_or(options.section.point_index);
        builder.start_section(SectionOptions { interval: section.interval, point_index, ..options.section });
        let mut keys = 0;
        let mut walk = InWindows::new(body, section, Verify::Apart);
        walk.visit(first(section), |place, entry, is_new_key| {
            let (key, locator) = (entry.key(), u32::try_from(place / 8));
            let locator = locator.map_err(|_| body.file.corrupt(section.start, Damage::OutOfBounds))?;
            keys += u64::from(is_new_key);
            let added = if is_new_key {
                builder.add(key, key_hash(section.keyspace, key), locator)
            } else {
                builder.add_version(key, locator)
            };
            added.map_err(|damage| body.file.corrupt(section.start, damage))
        })?;
        if keys != section.keys {
            return Err(body.file.corrupt(section.start, Damage::ManifestMismatch));
        }
        let finished = builder.finish_section(section.keyspace, section.lower.key(), section.upper.key());
        finished.map_err(|damage| body.file.corrupt(section.start, damage))?;
    }
    let id = body.file.frame().id;
    let index =
        Index::open(path, Mapping::heap(builder.finish().to_vec()), &id, &body.sections, options.verify_always)?;
    index.mark_verified();
    Ok(index)
}
