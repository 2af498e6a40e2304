//! Keyspaces by name: finding, creating and dropping them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Engine, Installed};
use crate::error::{Error, Result, must};
use crate::format::KeyspaceId;
use crate::format::alignment::Alignment;
use crate::format::edit::{Edit, KeyspaceMeta, check_keyspace_name};
use crate::keyspace_state::{KeyspaceState, Owner};
use crate::options::{KeyspaceOptions, SectionOptions};
use crate::sys::{LockRank, Mutex, MutexGuard};
use crate::version::Version;

/// The keyspaces of an open database.
#[derive(Debug)]
pub(super) struct Keyspaces {
    pub(super) owner: Owner,
    default: Arc<KeyspaceState>,
    /// The others by name. Held for a moment only.
    named: Mutex<BTreeMap<Arc<str>, Arc<KeyspaceState>>>,
    naming: Mutex<()>,
}

impl Keyspaces {
    pub(super) fn new(version: &Version) -> Self {
        let owner = Owner::default();
        let default =
            Arc::new(KeyspaceState::new(KeyspaceId::DEFAULT, KeyspaceId::DEFAULT_NAME, Alignment::None, &owner));
        let keyspaces = Self {
            owner,
            default,
            named: Mutex::new(LockRank::Keyspaces, BTreeMap::new()),
            naming: Mutex::new(LockRank::Naming, ()),
        };
        for meta in version.named().iter() {
            keyspaces.add(meta);
        }
        keyspaces
    }

    /// Waits for whoever creates or drops one now.
    fn naming(&self) -> Naming<'_> {
        Naming { _held: self.naming.lock() }
    }

    fn add(&self, meta: &KeyspaceMeta) -> Arc<KeyspaceState> {
        let state = Arc::new(KeyspaceState::new(meta.id, &meta.name, meta.options.alignment, &self.owner));
        self.named.lock().insert(Arc::clone(&state.name), Arc::clone(&state));
        state
    }

    fn find(&self, name: &str) -> Option<Arc<KeyspaceState>> {
        if name == KeyspaceId::DEFAULT_NAME {
            return Some(Arc::clone(&self.default));
        }
        self.named.lock().get(name).map(Arc::clone)
    }

    /// Marks keyspaces as gone that `named` has. Their edit is durable; a read state without them follows.
    pub(super) fn set_dropped(&self, ids: &[KeyspaceId], named: &crate::version::Keyspaces) {
        for meta in ids.iter().filter_map(|id| named.get(*id)) {
            if let Some(state) = self.named.lock().remove(meta.name.as_str()) {
                state.set_dropped();
            }
        }
    }
}

/// The right to create and drop keyspaces, until that is durable.
struct Naming<'e> {
    _held: MutexGuard<'e, ()>,
}

impl Engine {
    pub(crate) fn default_keyspace(&self) -> &Arc<KeyspaceState> {
        &self.keyspaces.default
    }

    #[inline]
    pub(crate) fn check_owner(&self, keyspace: &KeyspaceState) -> Result<()> {
        keyspace.belongs_to(&self.keyspaces.owner)
    }

    /// The keyspace of this name, made with the database's options if there is none.
    pub(crate) fn keyspace(&self, name: &str) -> Result<Arc<KeyspaceState>> {
        self.health.check_open()?;
        check_name(name)?;
        if let Some(state) = self.keyspaces.find(name) {
            return Ok(state);
        }
        if self.options.read_only {
            return Err(Error::KeyspaceNotFound { name: name.into() });
        }
        let naming = self.keyspaces.naming();
        match self.keyspaces.find(name) {
            Some(state) => Ok(state),
            None => self.add_keyspace(&naming, name, &KeyspaceOptions::new()),
        }
    }

    pub(crate) fn create_keyspace(&self, name: &str, options: &KeyspaceOptions) -> Result<Arc<KeyspaceState>> {
        self.health.check_writable()?;
        check_name(name)?;
        let naming = self.keyspaces.naming();
        match self.keyspaces.find(name) {
            Some(_) => Err(Error::KeyspaceExists { name: name.into() }),
            None => self.add_keyspace(&naming, name, options),
        }
    }

    /// Makes a keyspace; it is durable before anyone can write to it.
    fn add_keyspace(&self, _alone: &Naming<'_>, name: &str, options: &KeyspaceOptions) -> Result<Arc<KeyspaceState>> {
        let id = self.readers.load().version.named().next();
        if id == KeyspaceId::LAST {
            return Err(Error::NumbersExhausted);
        }
        let meta = options.record(self.options.table.section, id, name)?;
        let installed = self.install_edit(Edit { create: vec![meta.clone()], ..Edit::default() })?;
        must(installed == Installed::Done, "a new keyspace has been refused as if it took something away")?;
        Ok(self.keyspaces.add(&meta))
    }

    /// Their names, sorted.
    pub(crate) fn keyspace_names(&self) -> Vec<String> {
        self.keyspaces.named.lock().keys().map(ToString::to_string).collect()
    }

    /// Drops a keyspace. What has been committed before is durable before the drop is, so that a power cut cannot take back a
    /// copy of the data and leave the drop.
    pub(crate) fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.health.check_writable()?;
        check_name(name)?;
        self.once_there_is_space(|| self.try_drop_keyspace(name))
    }

    fn try_drop_keyspace(&self, name: &str) -> Result<()> {
        let _naming = self.keyspaces.naming();
        let state = self.keyspaces.find(name).ok_or_else(|| Error::KeyspaceNotFound { name: name.into() })?;
        if state.id == KeyspaceId::DEFAULT {
            return Err(Error::InvalidKeyspaceName { problem: "the default keyspace cannot be dropped" });
        }
        // A fresh manifest, which names everything there is, is not written while nobody can commit.
        if self.manifest.lock().is_full() {
            self.install_edit(Edit::default())?;
        }
        self.sync()?;
        let syncing = self.log.syncing();
        let mut writer = self.log.writer();
        self.health.check_writable()?;
        let edit = Edit { drop: vec![state.id], ..Edit::default() };
        self.install_beside_log(&syncing, &mut writer, edit, |edit, _| self.install_edit(edit)).map(|_| ())
    }

    /// The options for sections of a keyspace.
    pub(super) fn section_options(&self, keyspace: KeyspaceId) -> SectionOptions {
        self.readers.load().version.named().section_options(keyspace, self.options.table.section)
    }
}

fn check_name(name: &str) -> Result<()> {
    check_keyspace_name(name).map_err(|problem| Error::InvalidKeyspaceName { problem })
}
