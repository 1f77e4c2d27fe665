//! Deciding ahead of commit comes to the same events as deciding on what is committed.
//!
//! One group folds every event at once. The other leaves a random number of them in the overlay, as a leader does
//! whose followers lag. Both get the same random commands, with the same seed for identities.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bundles::commands::DeleteMode;
use super::bundles::records::Bundle;
use super::entries::records::Entry;
use super::nodes::records::Node;
use super::selectors::Selector;
use super::{Command, bundles, entries, events, nodes};
use crate::domain::{self, CATALOG};
use crate::event::Event;
use crate::ids::{LogIndex, NamespaceId, Timestamp};
use crate::local::{LocalGroup, SeededEntropy};
use crate::namespaces;
use crate::record_store::MemoryStore;
use crate::transaction::Transaction;
use crate::view::{Committed, Overlay, OverlayReader, View};

const SEED: u64 = 5;
const COMMANDS: usize = 3_000;
/// Events in the overlay at the most.
const LAG_MAX: usize = 40;

/// A leader whose events are committed late.
struct Leader {
    view: View,
    overlay: Overlay,
    pending: Vec<Arc<Event>>,
    entropy: SeededEntropy,
    decided: u64,
}

impl Leader {
    fn new() -> Self {
        Self {
            view: View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap(),
            overlay: Overlay::new(CATALOG),
            pending: Vec::new(),
            entropy: SeededEntropy::new(SEED),
            decided: 0,
        }
    }

    /// The event that a command came to; `None` when it changed nothing.
    fn decide(
        &mut self,
        namespace: NamespaceId,
        now: Timestamp,
        command: &domain::Command,
    ) -> Result<Option<Arc<Event>>, String> {
        let below = self.view.read();
        let reader = OverlayReader::new(&below, &self.overlay);
        let mut transaction = Transaction::new(&reader, CATALOG, namespace, now, &mut self.entropy);
        let source = command.clone().decide(&mut transaction).map_err(|rejection| rejection.to_string())?;
        let content = transaction.into_content();
        if content.is_empty() {
            return Ok(None);
        }
        self.decided += 1;
        let event = Arc::new(Event {
            revision: self.decided.into(),
            time: now,
            namespace,
            request: None,
            changes: content.changes,
            items: content.items,
            marks: content.marks,
            answer: source.encode(),
        });
        self.overlay.push(Arc::clone(&event), &below).unwrap();
        self.pending.push(Arc::clone(&event));
        Ok(Some(event))
    }

    fn commit(&mut self, count: usize) {
        let count = count.min(self.pending.len());
        let committed: Vec<Committed> =
            self.pending.drain(..count).map(|event| Committed { index: LogIndex(event.revision.0), event }).collect();
        if let Some(last) = committed.last() {
            let folded = last.event.revision;
            self.view.fold(&committed).unwrap();
            self.overlay.drop_folded(folded).unwrap();
        }
    }
}

fn pick<'a>(random: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices[random.random_range(0..choices.len())]
}

fn random_selectors(random: &mut StdRng, parent_id: &str) -> Vec<Selector> {
    if random.random_ratio(1, 3) {
        return vec![Selector { kind: "spiffe_id".into(), value: parent_id.into() }];
    }
    let values = ["1", "2", "3"].into_iter().filter(|_| random.random_ratio(1, 2));
    values.map(|value| Selector { kind: "unix".into(), value: value.into() }).collect()
}

fn random_agent(random: &mut StdRng) -> String {
    format!("agent-{}", random.random_range(0..6))
}

fn random_domain(random: &mut StdRng) -> String {
    format!("spiffe://{}", pick(random, &["red", "blue"]))
}

fn random_entry(random: &mut StdRng) -> Entry {
    let parent_id = random_agent(random);
    Entry {
        entry_id: if random.random() { String::new() } else { format!("e{}", random.random_range(0..20)) },
        spiffe_id: pick(random, &["web", "db"]).into(),
        selectors: random_selectors(random, &parent_id),
        federates_with: if random.random_ratio(1, 4) { vec![random_domain(random)] } else { Vec::new() },
        expiry: random.random_range(0..4_000),
        parent_id,
        ..Entry::default()
    }
}

fn random_node(random: &mut StdRng) -> Node {
    Node {
        spiffe_id: random_agent(random),
        attestation_data_type: pick(random, &["join_token", "x509pop"]).into(),
        cert_serial_number: pick(random, &["", "serial"]).into(),
        cert_not_after: random.random_range(0..4_000),
        can_reattest: random.random(),
        ..Node::default()
    }
}

fn random_command(random: &mut StdRng, now: Timestamp) -> Command {
    let limit = random.random_range(1..4);
    let instant = random.random_range(0..1_000);
    match random.random_range(0..14) {
        0..4 => Command::Entry(entries::Command::CreateOrReturn(Some(random_entry(random)))),
        4 => Command::Entry(entries::Command::Update(Some(random_entry(random)), None)),
        5 => Command::Entry(entries::Command::Delete { entry_id: format!("e{}", random.random_range(0..20)) }),
        6 => Command::Entry(entries::Command::Prune { expires_before: instant, limit }),
        7 => Command::Node(nodes::Command::Create(Some(random_node(random)))),
        8 => Command::Node(nodes::Command::Update(Some(random_node(random)), None)),
        9 => Command::Node(nodes::Command::Delete { spiffe_id: random_agent(random) }),
        10 => {
            let include_non_reattestable = random.random();
            Command::Node(nodes::Command::Prune { expired_before: instant, include_non_reattestable, batch_size: 2 })
        }
        11 => {
            let spiffe_id = random_agent(random);
            let selectors = random_selectors(random, &spiffe_id);
            Command::Node(nodes::Command::SetSelectors { spiffe_id, selectors })
        }
        12 => {
            let older_than_micros = now.0 - random.random_range(0..50);
            Command::Event(if random.random() {
                events::Command::PruneEntryEvents { older_than_micros, limit }
            } else {
                events::Command::PruneNodeEvents { older_than_micros, limit }
            })
        }
        _ => {
            let trust_domain_id = random_domain(random);
            Command::Bundle(match random.random_range(0..6) {
                0 => bundles::Command::Delete { trust_domain_id, mode: DeleteMode::Restrict },
                1 => bundles::Command::Delete { trust_domain_id, mode: DeleteMode::Dissociate },
                2 => bundles::Command::Delete { trust_domain_id, mode: DeleteMode::Delete },
                _ => bundles::Command::Create(Some(Bundle { trust_domain_id, ..Bundle::default() })),
            })
        }
    }
}

#[test]
fn deciding_ahead_comes_to_the_same_events() {
    let mut random = StdRng::seed_from_u64(71);
    let mut now = Timestamp(1_000_000_000);
    let mut group = LocalGroup::new(SEED, now).unwrap();
    let mut leader = Leader::new();
    let open = domain::Command::Namespace(namespaces::Command::Open { name: "test".into() });
    let answer = group.submit(NamespaceId::SYSTEM, &open).unwrap();
    let domain::Answer::Namespace(namespaces::Answer::Opened { id: namespace, .. }) = answer else {
        panic!("opening answered {answer:?}");
    };
    leader.decide(NamespaceId::SYSTEM, now, &open).unwrap();

    let (mut accepted, mut refused, mut lag_max) = (0, 0, 0);
    for place in 0..COMMANDS {
        now = Timestamp(now.0 + random.random_range(0..3));
        group.set_now(now);
        let command = domain::Command::Spire(random_command(&mut random, now));
        let revision = group.revision();
        let expected = group.submit(namespace, &command).map_err(|error| error.to_string());
        let expected = expected.map(|_| group.events().last().filter(|_| group.revision() > revision).cloned());
        let decided = leader.decide(namespace, now, &command);
        assert_eq!(decided, expected, "command {place}: {command:?}");
        match decided {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
        lag_max = lag_max.max(leader.pending.len());
        if leader.pending.len() >= LAG_MAX || random.random_ratio(1, 10) {
            leader.commit(random.random_range(1..=LAG_MAX));
        }
    }
    leader.commit(usize::MAX);
    assert_eq!(leader.view.folded(), group.view().folded(), "the same records, down to the digest");
    assert!(accepted > 1_000 && refused > 300 && lag_max > 10, "{accepted} accepted, {refused} refused, {lag_max}");
}
