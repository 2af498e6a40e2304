//! Creating and dropping keyspaces.

use std::sync::Arc;

use super::append::Appender;
use super::health::Health;
use super::keyspaces::{KeyspaceNames, Naming};
use super::log::LogEnd;
use super::maintenance::Maintenance;
use super::readers::Readers;
use super::store::{Installed, Store};
use super::sync::Syncer;
use crate::error::{Error, Result, must};
use crate::format::KeyspaceId;
use crate::format::edit::{Edit, check_keyspace_name};
use crate::keyspace_state::KeyspaceState;
use crate::options::{KeyspaceOptions, SectionOptions};

/// Finds keyspaces, and creates and drops them.
pub(crate) struct Catalog {
    /// For keyspaces that have none of their own.
    pub(super) default_options: SectionOptions,
    pub(super) health: Arc<Health>,
    pub(super) readers: Arc<Readers>,
    pub(super) keyspaces: Arc<KeyspaceNames>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LogEnd>,
    pub(super) syncer: Arc<Syncer>,
    pub(super) appender: Arc<Appender>,
    pub(super) maintenance: Arc<Maintenance>,
}

impl Catalog {
    /// The keyspace of this name, made with the database's options if there is none.
    pub(crate) fn keyspace(&self, name: &str) -> Result<Arc<KeyspaceState>> {
        self.health.check_open()?;
        check_name(name)?;
        if let Some(state) = self.keyspaces.find(name) {
            return Ok(state);
        }
        if self.health.is_read_only() {
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
        let meta = options.record(self.default_options, id, name)?;
        let installed = self.store.install_edit(Edit { create: vec![meta.clone()], ..Edit::default() })?;
        must(installed == Installed::Done, "a new keyspace has been refused as if it took something away")?;
        if let Some(operator) = options.operator() {
            self.readers.operators.add(id, operator);
        }
        Ok(self.keyspaces.add(&meta, options.operator().is_some()))
    }

    /// Their names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.keyspaces.names()
    }

    /// Drops a keyspace. What has been committed before is durable before the drop is, so that a power cut cannot take back a
    /// copy of the data and leave the drop.
    pub(crate) fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.health.check_writable()?;
        check_name(name)?;
        self.maintenance.once_there_is_space(|| self.try_drop_keyspace(name))
    }

    fn try_drop_keyspace(&self, name: &str) -> Result<()> {
        let _naming = self.keyspaces.naming();
        let state = self.keyspaces.find(name).ok_or_else(|| Error::KeyspaceNotFound { name: name.into() })?;
        if state.id == KeyspaceId::DEFAULT {
            return Err(Error::InvalidKeyspaceName { problem: "the default keyspace cannot be dropped" });
        }
        // A fresh manifest, which names everything there is, is not written while nobody can commit.
        if self.store.manifest.is_full() {
            self.store.install_edit(Edit::default())?;
        }
        self.syncer.sync()?;
        let syncing = self.log.syncing();
        let mut writer = self.log.writer();
        self.health.check_writable()?;
        let edit = Edit { drop: vec![state.id], ..Edit::default() };
        let install = |edit, _| self.store.install_edit(edit);
        self.appender.install_beside_log(&syncing, &mut writer, edit, install).map(|_| ())
    }
}

fn check_name(name: &str) -> Result<()> {
    check_keyspace_name(name).map_err(|problem| Error::InvalidKeyspaceName { problem })
}
