//! Where a node keeps what has to survive it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use steeple_engine::disk::{Disk, SimulatedDisk};
use steeple_engine::record_store::MemoryStore;
use steeple_engine::view::{Fork, InTurn};

use super::fork::TwoThreads;
use super::open::Directories;

/// Where a node keeps what has to survive it.
#[derive(Clone)]
pub(crate) enum Storage {
    /// Nowhere: it does not survive.
    Memory,
    /// Below a directory.
    Directory(PathBuf),
    /// On what a simulator owns.
    Simulated(Arc<SimulatedStorage>),
}

impl Storage {
    /// As the settings say.
    pub(super) fn new(data: Option<PathBuf>) -> Self {
        data.map_or(Self::Memory, Self::Directory)
    }

    /// How work at the start is shared out. A simulated node has the one thread that simulates it.
    pub(super) fn fork(&self) -> &'static dyn Fork {
        match self {
            Self::Directory(_) => &TwoThreads,
            Self::Memory | Self::Simulated(_) => &InTurn,
        }
    }

    /// Its directories; none when there are no files.
    pub(super) fn directories(&self) -> Directories {
        match self {
            Self::Directory(path) => Directories::new(Some(path.clone())),
            Self::Memory | Self::Simulated(_) => Directories::new(None),
        }
    }
}

/// What a simulator keeps of a node between two of its lives.
pub struct SimulatedStorage {
    /// The disk with the log.
    pub log: Arc<dyn Disk>,
    /// The disk with the base snapshot.
    pub base: SimulatedDisk,
    /// The record stores.
    pub stores: Shelf,
}

/// Record stores by number, in the place of directories. What a crash takes away from them, the simulator decides.
#[derive(Default)]
pub struct Shelf {
    stores: Mutex<BTreeMap<u64, Arc<MemoryStore>>>,
}

impl Shelf {
    /// What a crash leaves: of each store the flushed batches and some of those after them, as `surviving` says for the
    /// number of batches that were not flushed.
    #[must_use]
    pub fn crash(&self, mut surviving: impl FnMut(usize) -> usize) -> Self {
        let stores = self.stores.lock();
        let crashed = stores.iter().map(|(number, store)| {
            let kept = surviving(store.unflushed_batches());
            (*number, Arc::new(store.crash(kept)))
        });
        Self { stores: Mutex::new(crashed.collect()) }
    }

    /// The stores, the newest first.
    #[must_use]
    pub fn stores(&self) -> Vec<Arc<MemoryStore>> {
        self.stores.lock().values().rev().cloned().collect()
    }

    /// Makes every store fail from now on, as a broken disk would.
    pub fn fail(&self, detail: &str) {
        self.stores.lock().values().for_each(|store| store.fail(detail));
    }

    /// Makes every store fail at its next flush, in this life or a later one.
    pub fn fail_at_flush(&self, detail: &str) {
        self.stores.lock().values().for_each(|store| store.fail_at_flush(detail));
    }

    /// Whether one of them fails.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.stores.lock().values().any(|store| store.has_failed())
    }

    /// Whether one of them fails, or will at some flush or read, in this life or a later one.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.stores.lock().values().any(|store| store.is_damaged())
    }

    /// Makes one pair of every store unreadable; whether there was any.
    pub fn damage(&self, place: u64) -> bool {
        self.stores.lock().values().filter(|store| store.damage(place)).count() > 0
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.stores.lock().keys().copied().collect()
    }

    pub(super) fn open(&self, number: u64) -> Arc<MemoryStore> {
        let mut stores = self.stores.lock();
        Arc::clone(stores.entry(number).or_insert_with(|| Arc::new(MemoryStore::crashing())))
    }

    pub(super) fn remove(&self, number: u64) {
        self.stores.lock().remove(&number);
    }
}
