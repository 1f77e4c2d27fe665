//! What the cluster has decided, as the checkers know it: gathered from what members have folded, whoever of them was
//! first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use steeple_engine::event::Event;
use steeple_engine::ids::{NamespaceId, StreamId};
use steeple_engine::log::{Entry, EntryKind};
use steeple_engine::spire::entries::records::Entry as Registration;
use steeple_engine::spire::tables;
use xxhash_rust::xxh3::xxh3_64;

/// What is held under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Written by a create or an update.
    pub value: i64,
    /// Updates since the creation.
    pub updates: i64,
}

impl Held {
    /// What a registration entry holds.
    #[must_use]
    pub fn of(entry: &Registration) -> Self {
        Self { value: entry.expiry, updates: entry.revision_number }
    }
}

/// An entry of the group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The term of the leader that appended it.
    pub term: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Tells its payload from others.
    pub fingerprint: u64,
}

impl Committed {
    /// What is known of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self { term: entry.position.term.0, kind: entry.kind, fingerprint: xxh3_64(&entry.payload) }
    }
}

/// One item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The event that it belongs to.
    pub revision: u64,
    /// What it is about.
    pub key: Vec<u8>,
}

/// Everything that was decided so far.
#[derive(Default)]
pub struct History {
    /// By index, from 1 on.
    pub entries: Vec<Committed>,
    /// By revision, from 1 on.
    pub events: Vec<Arc<Event>>,
    /// By entry id: the revisions at which it changed, and what it was from there on.
    pub keys: HashMap<String, Vec<(u64, Option<Held>)>>,
    /// By namespace and stream, from sequence 1 on.
    pub streams: BTreeMap<(NamespaceId, StreamId), Vec<Item>>,
    /// The low-water marks.
    pub marks: BTreeMap<(NamespaceId, StreamId), u64>,
}

impl History {
    /// What a key held at a revision.
    #[must_use]
    pub fn held(&self, key: &str, revision: u64) -> Option<Held> {
        let versions = self.keys.get(key)?;
        let place = versions.partition_point(|(changed, _)| *changed <= revision);
        versions[..place].last().and_then(|(_, held)| *held)
    }

    /// The event of a revision.
    #[must_use]
    pub fn event(&self, revision: u64) -> Option<&Arc<Event>> {
        self.events.get(usize::try_from(revision.checked_sub(1)?).ok()?)
    }

    /// The entry at an index.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Committed> {
        self.entries.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.events.len() as u64
    }

    /// Takes up an event that was just committed.
    pub(crate) fn push_event(&mut self, event: Event) {
        let revision = event.revision.0;
        for change in event.changes.iter().filter(|change| change.table == tables::ENTRIES) {
            let decode = |body: &Vec<u8>| Registration::decode(body).ok();
            let (before, after) = (change.before.as_ref().and_then(decode), change.after.as_ref().and_then(decode));
            let Some(id) = after.as_ref().or(before.as_ref()).map(|entry| entry.entry_id.clone()) else { continue };
            self.keys.entry(id).or_default().push((revision, after.as_ref().map(Held::of)));
        }
        for item in &event.items {
            let items = self.streams.entry((event.namespace, item.stream)).or_default();
            items.push(Item { revision, key: item.key.clone() });
        }
        self.events.push(Arc::new(event));
    }
}
