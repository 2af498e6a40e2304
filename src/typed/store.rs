//! What may stand behind a view with types.

use crate::error::Result;
use crate::iter::{Entry, Iter};
use crate::key::Bounds;
use crate::keyspace::Keyspace;
use crate::slice::Slice;
use crate::snapshot::Snapshot;
use crate::transaction::{TransactionIter, TransactionKeyspace};

mod sealed {
    pub trait Sealed {}
}

use sealed::Sealed;

impl Sealed for Keyspace {}
impl Sealed for Snapshot {}
impl Sealed for TransactionKeyspace<'_> {}

/// What a [`Typed`](crate::Typed) reads: a [`Keyspace`], a [`Snapshot`] or a [`TransactionKeyspace`].
pub trait TypedStore: Sealed {
    /// Its iterator.
    type Entries: DoubleEndedIterator<Item = Result<Entry>>;

    #[doc(hidden)]
    fn read(&self, key: &[u8]) -> Result<Option<Slice>>;

    #[doc(hidden)]
    fn entries(&self, bounds: Bounds) -> Self::Entries;
}

/// What a [`Typed`](crate::Typed) writes: a [`Keyspace`] or a [`TransactionKeyspace`].
pub trait TypedWrite: TypedStore {
    #[doc(hidden)]
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    #[doc(hidden)]
    fn add(&self, key: &[u8], operand: &[u8]) -> Result<()>;

    #[doc(hidden)]
    fn delete(&self, key: &[u8]) -> Result<()>;

    #[doc(hidden)]
    fn delete_range(&self, bounds: Bounds) -> Result<()>;
}

macro_rules! reads {
    ($([$($lifetime:lifetime)?] $store:ty: $entries:ty),*) => {$(
        impl$(<$lifetime>)? TypedStore for $store {
            type Entries = $entries;

            fn read(&self, key: &[u8]) -> Result<Option<Slice>> {
                self.get(key)
            }

            fn entries(&self, bounds: Bounds) -> Self::Entries {
                self.range(bounds)
            }
        }
    )*};
}

reads!([] Keyspace: Iter, [] Snapshot: Iter, ['t] TransactionKeyspace<'t>: TransactionIter<'t>);

macro_rules! writes {
    ($($store:ty),*) => {$(
        impl TypedWrite for $store {
            fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
                self.insert(key, value)
            }

            fn add(&self, key: &[u8], operand: &[u8]) -> Result<()> {
                self.merge(key, operand)
            }

            fn delete(&self, key: &[u8]) -> Result<()> {
                self.remove(key)
            }

            fn delete_range(&self, bounds: Bounds) -> Result<()> {
                self.remove_range(bounds)
            }
        }
    )*};
}

writes!(Keyspace, TransactionKeyspace<'_>);
