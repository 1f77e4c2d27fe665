//! What is asked of every side: the same entries, and the same questions in the same order.

use std::sync::Arc;

use steeple_benches::deployment::{Deployment, list_form};
use steeple_benches::messages;
use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter};
use steeple_engine::spire::entries::queries::EntryFilter;
use steeple_engine::spire::selectors::{Match, SelectorFilter};

/// The deployment is worked out from it.
const SEED: u64 = 1;

/// Entries of a bulk fetch: what SPIRE's cache asks for at a time.
const FETCHED_MAX: u64 = 10_000;

/// Questions of each kind that are made ahead of time.
const PREPARED: u64 = 256;

/// Of bulk fetches, which are long, fewer.
const PREPARED_BULK: u64 = 8;

/// Services one of which an entry of a long list belongs to: a few hundred entries, while those of one service are few enough that
/// the node answers them in another way.
const SERVICES_LISTED: u64 = 6;

/// What an event is longer than the record that it creates.
const EVENT_BYTES_MORE: usize = 280;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Fetch,
    FetchMany,
    /// A form of list, by its name in the deployment.
    List(&'static str),
    /// A list several times as long as the others.
    ListLong,
    /// The next page is asked for while one is decoded, where that is offered.
    Scan,
    /// One page after the other.
    ScanInTurn,
    /// The same as a stream where there is one, and by pages elsewhere.
    ScanStreamed,
    EventsAfter,
    Create,
    Prune,
}

/// In this order: whatever adds records comes last, because the sides add different numbers of them.
pub(crate) const WORK: [Work; 16] = [
    Work::Fetch,
    Work::FetchMany,
    Work::List("parent"),
    Work::List("spiffe_id"),
    Work::List("selectors_exact"),
    Work::List("selectors_subset"),
    Work::List("selectors_superset"),
    Work::List("selectors_any"),
    Work::ListLong,
    Work::List("federates_with"),
    Work::Scan,
    Work::ScanInTurn,
    Work::ScanStreamed,
    Work::EventsAfter,
    Work::Create,
    Work::Prune,
];

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::FetchMany => "bulk fetch",
            Self::List("parent") => "list by parent",
            Self::List("spiffe_id") => "list by SPIFFE ID",
            Self::List("selectors_exact") => "list by selectors, exact",
            Self::List("selectors_subset") => "list by selectors, subset",
            Self::List("selectors_superset") => "list by selectors, superset",
            Self::List("selectors_any") => "list by selectors, any",
            Self::List(_) => "list by federation",
            Self::ListLong => "list by selectors, any of 6",
            Self::Scan => "full paged scan",
            Self::ScanInTurn => "full scan, page after page",
            Self::ScanStreamed => "full scan, streamed by Steeple",
            Self::EventsAfter => "events after the last",
            Self::Create => "create",
            Self::Prune => "prune of events",
        }
    }

    /// In what the sides differ when they are asked for it.
    pub(crate) fn unlike(self) -> Option<&'static str> {
        (self == Self::ScanStreamed).then_some("Steeple's stream by the others' pages")
    }

    /// Whether only one client asks for it: a cache that is filled, and a task that runs now and then.
    pub(crate) fn is_lone(self) -> bool {
        matches!(self, Self::FetchMany | Self::Scan | Self::ScanInTurn | Self::ScanStreamed | Self::Prune)
    }
}

/// A question.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create(Box<RegistrationEntry>),
    Fetch(String),
    FetchMany(Vec<String>),
    List(RegistrationEntryFilter),
    Scan,
    ScanInTurn,
    ScanStreamed,
    EventsAfter,
    Prune,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Entries(Vec<RegistrationEntry>),
    Count(u64),
}

impl Answer {
    /// How many entries, or whatever was counted.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Entries(entries) => entries.len() as u64,
            Self::Count(count) => *count,
        }
    }

    /// Without what each side chooses for itself: the order, and when an entry was created.
    pub(crate) fn comparable(self) -> Self {
        let Self::Entries(mut entries) = self else { return self };
        for entry in &mut entries {
            entry.created_at = 0;
            entry.selectors.sort_by(|left, right| (&left.r#type, &left.value).cmp(&(&right.r#type, &right.value)));
            entry.dns_names.sort();
            entry.federates_with.sort();
        }
        entries.sort_by(|left, right| left.entry_id.cmp(&right.entry_id));
        Self::Entries(entries)
    }
}

/// Entries, and questions about them.
#[derive(Debug)]
pub(crate) struct Workload {
    deployment: Deployment,
    entry_ids: Vec<String>,
}

impl Workload {
    /// That of so many entries.
    pub(crate) fn new(size: u64) -> Self {
        let deployment = Deployment::new(SEED, size);
        let entry_ids = (0..size).map(|number| deployment.entry(number).entry_id).collect();
        Self { deployment, entry_ids }
    }

    pub(crate) fn size(&self) -> u64 {
        self.deployment.entries()
    }

    /// Trust domains that entries federate with, whose bundles have to be there before.
    pub(crate) fn trust_domains(&self) -> Vec<String> {
        self.deployment.bundles().map(|bundle| bundle.trust_domain_id).collect()
    }

    /// Entry `number`; those from the size on are new.
    pub(crate) fn entry(&self, number: u64) -> RegistrationEntry {
        messages::entry(self.deployment.entry(number))
    }

    /// Id of entry `number` of those that are there.
    pub(crate) fn entry_id(&self, number: u64) -> &str {
        &self.entry_ids[number as usize]
    }

    /// Entry `number` of those that are there, as if somebody had changed it.
    pub(crate) fn changed_entry(&self, number: u64, turn: u64) -> RegistrationEntry {
        RegistrationEntry { hint: format!("changed-{turn}"), ..self.entry(number % self.size()) }
    }

    /// So long is the event of a new entry in the log.
    pub(crate) fn event_bytes(&self) -> usize {
        self.deployment.entry(self.size()).encode().len() + EVENT_BYTES_MORE
    }

    /// Questions of one kind, in no order. Creations are made one by one.
    pub(crate) fn requests(&self, work: Work) -> Arc<[Request]> {
        let count = if work == Work::FetchMany { PREPARED_BULK } else { PREPARED };
        (0..count).map(|turn| self.request(work, turn)).collect()
    }

    fn request(&self, work: Work, turn: u64) -> Request {
        let number = self.deployment.shuffled(turn);
        match work {
            Work::Fetch => Request::Fetch(self.entry_ids[number as usize].clone()),
            Work::FetchMany => {
                let count = FETCHED_MAX.min(self.size());
                let step = self.size() / count;
                // Everywhere in the table, and others each time.
                let ids = (0..count).map(|place| (number + place * step) % self.size());
                Request::FetchMany(ids.map(|place| self.entry_ids[place as usize].clone()).collect())
            }
            Work::List(form) => Request::List(self.filter(form, number % self.deployment.agents())),
            Work::ListLong => Request::List(self.long_filter(number % self.deployment.agents())),
            Work::Scan => Request::Scan,
            Work::ScanInTurn => Request::ScanInTurn,
            Work::ScanStreamed => Request::ScanStreamed,
            Work::EventsAfter => Request::EventsAfter,
            Work::Create => Request::Create(Box::new(self.entry(self.size() + turn))),
            Work::Prune => Request::Prune,
        }
    }

    fn filter(&self, form: &str, service: u64) -> RegistrationEntryFilter {
        messages::filter(list_form(&self.deployment, service, form))
    }

    /// The entries of this service and of those that follow it, each by the selector that is its own.
    fn long_filter(&self, service: u64) -> RegistrationEntryFilter {
        let services = self.deployment.agents();
        let own = |place: u64| self.deployment.selectors((service + place) % services).swap_remove(1);
        let selectors = (0..SERVICES_LISTED.min(services)).map(own).collect();
        let selectors = Some(SelectorFilter { matching: Match::Any, selectors });
        messages::filter(EntryFilter { selectors, ..EntryFilter::default() })
    }
}
