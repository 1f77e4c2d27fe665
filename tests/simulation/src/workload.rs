//! What clients ask for: the SPIRE datastore, a few contested registration entries above all.

use steeple_engine::domain::Command;
use steeple_engine::namespaces;
use steeple_engine::spire::bundles::records::{Bundle, Certificate};
use steeple_engine::spire::entries::commands::EntryMask;
use steeple_engine::spire::entries::queries::{EntryFilter, ListEntries};
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::nodes::records::Node;
use steeple_engine::spire::selectors::{Match, Selector, SelectorFilter};
use steeple_engine::spire::tokens::records::JoinToken;
use steeple_engine::spire::{self, bundles, entries, events, nodes, tokens};

use crate::chance::Chance;

/// The namespace that all clients work in.
pub const NAMESPACE: &str = "simulated";

/// What a client asks for.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each client, and no more")]
pub enum Call {
    /// The namespace, created when it is not there.
    Open,
    /// Creates the entry under a key with a value.
    Create(String, i64),
    /// Gives the entry under a key another value.
    Update(String, i64),
    /// Deletes the entry under a key.
    Delete(String),
    /// What is under a key now.
    Read(String),
    /// What was under a key a while ago.
    ReadStale(String),
    /// The entries of a parent that carry the selector of a group, now.
    List {
        /// Which parent.
        parent: u64,
        /// Which group.
        group: u64,
    },
    /// Any other mutation.
    Other(Command),
}

impl Call {
    /// Draws the next call of a client. `value` is one that nobody has written.
    pub fn draw(chance: &mut Chance, keys: u64, value: i64, now_micros: u64) -> Self {
        let key = format!("key-{}", chance.below(keys));
        match chance.below(100) {
            0..20 => Self::Create(key, value),
            20..42 => Self::Update(key, value),
            42..52 => Self::Delete(key),
            52..68 => Self::Read(key),
            68..72 => Self::List { parent: chance.below(PARENTS), group: chance.below(GROUPS) },
            72..84 => Self::ReadStale(key),
            _ => Self::Other(Command::Spire(other(chance, value, now_micros))),
        }
    }

    /// The key that the call is about, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Create(key, _)
            | Self::Update(key, _)
            | Self::Delete(key)
            | Self::Read(key)
            | Self::ReadStale(key) => Some(key),
            Self::Open | Self::List { .. } | Self::Other(_) => None,
        }
    }

    /// Whether it is a read that must be current.
    #[must_use]
    pub fn is_current_read(&self) -> bool {
        matches!(self, Self::Read(_) | Self::List { .. })
    }

    /// What it asks to change; nothing for reads.
    #[must_use]
    pub fn command(&self) -> Option<Command> {
        let entry = |command| Some(Command::Spire(spire::Command::Entry(command)));
        match self {
            Self::Open => Some(Command::Namespace(namespaces::Command::Open { name: NAMESPACE.into() })),
            Self::Create(key, value) => entry(entries::Command::CreateOrReturn(Some(registration(key, *value)))),
            Self::Update(key, value) => {
                let mask = EntryMask { expiry: true, ..EntryMask::default() };
                entry(entries::Command::Update(Some(registration(key, *value)), Some(mask)))
            }
            Self::Delete(key) => entry(entries::Command::Delete { entry_id: key.clone() }),
            Self::Other(command) => Some(command.clone()),
            Self::Read(_) | Self::ReadStale(_) | Self::List { .. } => None,
        }
    }

    /// Its kind, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Open => "open namespace",
            Self::Create(..) => "create entry",
            Self::Update(..) => "update entry",
            Self::Delete(_) => "delete entry",
            Self::Read(_) => "current read",
            Self::ReadStale(_) => "stale read",
            Self::List { .. } => "list",
            Self::Other(Command::Spire(spire::Command::Event(_))) => "prune events",
            Self::Other(Command::Spire(spire::Command::Entry(_))) => "prune entries",
            Self::Other(Command::Spire(spire::Command::Token(_))) => "join tokens",
            Self::Other(Command::Spire(spire::Command::Node(_))) => "nodes",
            Self::Other(_) => "bundles",
        }
    }
}

/// Parents that entries have.
const PARENTS: u64 = 2;

/// Groups of entries.
const GROUPS: u64 = 3;

/// The parent and the group of the entry under a key.
#[must_use]
pub fn place_of(key: &str) -> (u64, u64) {
    let number = key.bytes().fold(0, |sum, byte| sum + u64::from(byte));
    (number % PARENTS, number % GROUPS)
}

/// The entries of a parent that carry the selector of a group.
#[must_use]
pub fn list_of(parent: u64, group: u64) -> ListEntries {
    let selectors = SelectorFilter { matching: Match::Superset, selectors: vec![group_selector(group)] };
    let filter = EntryFilter { parent_id: parent_id(parent), selectors: Some(selectors), ..EntryFilter::default() };
    ListEntries { filter, page: None }
}

fn parent_id(parent: u64) -> String {
    format!("spiffe://simulated/parent-{parent}")
}

fn group_selector(group: u64) -> Selector {
    Selector { kind: "group".into(), value: group.to_string() }
}

fn registration(key: &str, value: i64) -> Entry {
    let (parent, group) = place_of(key);
    Entry {
        entry_id: key.into(),
        spiffe_id: format!("spiffe://simulated/{key}"),
        parent_id: parent_id(parent),
        selectors: vec![Selector { kind: "key".into(), value: key.into() }, group_selector(group)],
        expiry: value,
        ..Entry::default()
    }
}

fn other(chance: &mut Chance, value: i64, now_micros: u64) -> spire::Command {
    let token = format!("token-{}", chance.below(6));
    let spiffe_id = format!("spiffe://simulated/node-{}", chance.below(6));
    match chance.below(100) {
        0..20 => spire::Command::Token(tokens::Command::Create(Some(JoinToken {
            token,
            expiry: now_micros as i64 / 1_000_000 + 60,
        }))),
        20..35 => spire::Command::Token(tokens::Command::Delete { token }),
        35..55 => {
            let node = Node { spiffe_id, attestation_data_type: "simulated".into(), ..Node::default() };
            spire::Command::Node(nodes::Command::Create(Some(node)))
        }
        55..65 => spire::Command::Node(nodes::Command::Delete { spiffe_id }),
        65..85 => {
            let certificate = Certificate { der_bytes: value.to_be_bytes().to_vec(), ..Certificate::default() };
            let bundle = Bundle {
                trust_domain_id: format!("spiffe://domain-{}", chance.below(3)),
                root_cas: vec![certificate],
                ..Bundle::default()
            };
            spire::Command::Bundle(bundles::Command::Set(Some(bundle)))
        }
        _ => {
            let older_than_micros = now_micros.saturating_sub(chance.below(8_000_000));
            spire::Command::Event(match chance.below(2) {
                0 => events::Command::PruneEntryEvents { older_than_micros, limit: 100 },
                _ => events::Command::PruneNodeEvents { older_than_micros, limit: 100 },
            })
        }
    }
}
