//! Values of keys whose newest version is an operand, as a scan makes them.

use super::apart::Apart;
use super::chain::{Chain, ChainStep};
use super::scan::{Current, Scan};
use super::{Merge, Place};
use crate::error::{Error, Result};
use crate::format::key_hash;
use crate::sys::Block;

impl Scan {
    /// Makes the value of the current entry, an operand. What that works on stands behind it in one direction and has been
    /// passed in the other, so another merge of the same sources looks for it; the scan stays where it is.
    #[cold]
    pub(super) fn make(&mut self) -> Result<bool> {
        let made = self.make_apart();
        if made.is_err() {
            self.current = Current::Nowhere;
        }
        made.map(|()| true)
    }

    fn make_apart(&mut self) -> Result<()> {
        let Some(operator) = self.shared.operator.clone() else {
            return Err(match &self.current {
                Current::Left(left, _) => self.merge.refuse(Some(left)),
                _ => self.merge.refuse(self.merge.top().as_ref()),
            });
        };
        let key = self.key().to_vec();
        let removed = self.cover.removed(&key, self.look.at).map(|(removal, _)| removal);
        let hashed = (self.look.keyspace, key_hash(self.look.keyspace, &key), key.as_slice());
        let mut chain = Chain::new(self.look.at, removed.unwrap_or_default());
        if let Some(kept) = self.shared.kept.get(hashed) {
            chain.know(kept.at, &kept.value);
        }
        let aside = self.aside.get_or_insert_with(|| Box::new(Merge::clone(&self.merge)));
        aside.go(Place::AtOrBehind(&key))?;
        while let Some(top) = aside.top().filter(|top| aside.key(top) == key) {
            match chain.show(aside.entry(&top)) {
                ChainStep::More => aside.advance()?,
                ChainStep::Complete | ChainStep::Removed | ChainStep::Known => break,
                ChainStep::Pointer => {
                    let (pointer, file) = aside.find_value(&top, &self.shared.values)?;
                    chain.show_value(file.value(pointer)?.bytes());
                    break;
                }
            }
        }
        let made = chain.merge(&operator, &key)?;
        if let Some(newest) = chain.newest() {
            self.shared.kept.keep(hashed, chain.len(), newest, &made);
        }
        let path = || aside.top().and_then(|top| aside.path(&top).map(std::path::Path::to_owned)).unwrap_or_default();
        self.apart = Apart::Made(Block::copy_of(&made).map_err(|e| Error::io("make a value of", &path(), e))?);
        Ok(())
    }
}
