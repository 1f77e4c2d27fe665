//! A realistic SPIRE deployment of any size, worked out from a seed.
//!
//! Workloads of a Kubernetes cluster: every agent is the parent of [`Deployment::hits`] entries, every service (one
//! SPIFFE ID, one set of selectors) runs on as many agents. An entry is a pure function of its number, and its
//! neighbours in creation order belong to other agents and services, so nothing profits from lying close together.
//! Records are about 600 bytes long and carry 8 or 9 index keys, the 2 of which the store adds itself included.

use steeple_engine::domain::Command;
use steeple_engine::event::{Change, Event, StreamItem};
use steeple_engine::ids::{NamespaceId, Revision, Sequence, StreamSequence, Timestamp};
use steeple_engine::spire::bundles::records::Bundle;
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::nodes::records::Node;
use steeple_engine::spire::selectors::{Match, Selector, SelectorFilter};
use steeple_engine::spire::{self, entries::queries::EntryFilter};

/// The trust domain.
const TRUST_DOMAIN: &str = "spiffe://prod.example.org";

/// Federated trust domain that a handful of entries carry.
pub const RARE_PARTNER: &str = "spiffe://rare-partner.example.net";

/// Federated trust domains that many entries carry.
const PARTNERS: u64 = 8;

/// Hint that a handful of entries carry.
pub const RARE_HINT: &str = "payments-legacy";

/// Kubernetes namespaces.
const KUBERNETES_NAMESPACES: u64 = 40;

/// Container images.
const IMAGES: u64 = 300;

/// Most entries of one agent or one service.
const HITS_MAX: u64 = 50;

/// Distance between the services of one agent; agents have no service twice.
const STRIDE: u64 = 3;

/// When everything is created.
pub const NOW: Timestamp = Timestamp(1_760_000_000_000_000);

/// A deployment of a number of entries.
#[derive(Clone, Copy, Debug)]
pub struct Deployment {
    seed: u64,
    entries: u64,
}

impl Deployment {
    /// The deployment of so many entries that follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, entries: u64) -> Self {
        Self { seed, entries }
    }

    /// How many entries it has.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How many entries each agent and each service has, and how many each rare property.
    #[must_use]
    pub fn hits(&self) -> u64 {
        HITS_MAX.min(self.entries / 100).max(1)
    }

    /// How many agents there are; as many as services.
    #[must_use]
    pub fn agents(&self) -> u64 {
        (self.entries / self.hits()).max(1)
    }

    /// Entry `number`. Numbers from [`Deployment::entries`] on go on in the same manner, on agents of their own.
    #[must_use]
    pub fn entry(&self, number: u64) -> Entry {
        let (agent, round) = (number % self.agents(), number / self.agents());
        let service = (agent + round * STRIDE) % self.agents();
        let dice = self.dice(number);
        let beyond = if number < self.entries { 0 } else { number };
        Entry {
            entry_id: uuid_text(self.dice(number), self.dice(!number)),
            spiffe_id: self.spiffe_id(service),
            parent_id: if beyond == 0 { self.agent_id(agent) } else { self.agent_id(beyond) },
            selectors: self.selectors(service),
            dns_names: vec![
                format!("svc-{service}.ns-{}.svc.cluster.local", service % KUBERNETES_NAMESPACES),
                format!("pod-{:08x}.svc-{service}.prod.example.org", dice >> 32),
            ],
            federates_with: federates_with(agent, dice),
            x509_svid_ttl: 3600,
            jwt_svid_ttl: 300,
            downstream: agent == 13,
            hint: match agent {
                11 => RARE_HINT.to_owned(),
                _ if dice.is_multiple_of(10) => "internal".to_owned(),
                _ => String::new(),
            },
            expiry: if dice.is_multiple_of(20) { NOW.seconds() + (dice % 1_000_000).cast_signed() } else { 0 },
            ..Entry::default()
        }
    }

    /// The node of an agent.
    #[must_use]
    pub fn node(&self, agent: u64) -> Node {
        let dice = self.dice(agent ^ 0x5eed);
        Node {
            spiffe_id: self.agent_id(agent),
            attestation_data_type: "k8s_psat".to_owned(),
            cert_serial_number: format!("{dice}{:010}", agent),
            cert_not_after: NOW.seconds() + (dice % 86_400).cast_signed(),
            can_reattest: true,
            agent_version: "1.13.3".to_owned(),
            ..Node::default()
        }
    }

    /// The federated trust domains' bundles, which have to be there before entries name them.
    pub fn bundles(&self) -> impl Iterator<Item = Bundle> {
        let partners = (0..PARTNERS).map(partner).chain([RARE_PARTNER.to_owned()]);
        partners.map(|trust_domain_id| Bundle { trust_domain_id, refresh_hint: 300, ..Bundle::default() })
    }

    /// SPIFFE ID of an agent.
    #[must_use]
    pub fn agent_id(&self, agent: u64) -> String {
        format!(
            "{TRUST_DOMAIN}/spire/agent/k8s_psat/cluster-{}/{}",
            agent % 5,
            uuid_text(self.dice(agent << 1), self.dice(agent << 32))
        )
    }

    /// SPIFFE ID of a service.
    #[must_use]
    pub fn spiffe_id(&self, service: u64) -> String {
        format!("{TRUST_DOMAIN}/ns/ns-{}/sa/service-account-{service}", service % KUBERNETES_NAMESPACES)
    }

    /// Selectors of a service: one that it shares with many, one of its own, one that it shares with some.
    #[must_use]
    pub fn selectors(&self, service: u64) -> Vec<Selector> {
        let image = service % IMAGES;
        let image = format!("registry.example.org/team-{}/image-{image}@sha256:{:016x}", image % 9, self.dice(image));
        [
            format!("ns:ns-{}", service % KUBERNETES_NAMESPACES),
            format!("sa:service-account-{service}"),
            format!("container-image:{image}"),
        ]
        .map(|value| Selector { kind: "k8s".to_owned(), value })
        .to_vec()
    }

    /// Number `turn` of a walk through all entries in no order.
    #[must_use]
    pub fn shuffled(&self, turn: u64) -> u64 {
        self.dice(turn) % self.entries
    }

    fn dice(&self, number: u64) -> u64 {
        let mut word = self.seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

/// The forms in which entries are listed, each about `service` or an agent of the same number.
#[must_use]
pub fn list_forms(deployment: &Deployment, number: u64) -> Vec<(&'static str, EntryFilter)> {
    let own = deployment.selectors(number);
    let selectors = |matching, selectors: &[Selector]| EntryFilter {
        selectors: Some(SelectorFilter { matching, selectors: selectors.to_vec() }),
        ..EntryFilter::default()
    };
    // A workload's own selectors, and what its attestation adds to them.
    let attested: Vec<Selector> = ["pod-name:p", "node-name:n", "pod-owner:o"]
        .map(|value| Selector { kind: "k8s".to_owned(), value: value.to_owned() })
        .into_iter()
        .chain(own.clone())
        .collect();
    vec![
        ("parent", EntryFilter { parent_id: deployment.agent_id(number), ..EntryFilter::default() }),
        ("spiffe_id", EntryFilter { spiffe_id: deployment.spiffe_id(number), ..EntryFilter::default() }),
        ("selectors_exact", selectors(Match::Exact, &own)),
        ("selectors_subset", selectors(Match::Subset, &attested)),
        ("selectors_superset", selectors(Match::Superset, &own[..2])),
        ("selectors_any", selectors(Match::Any, &[own[1].clone(), attested[0].clone()])),
        (
            "federates_with",
            EntryFilter { federates_with: Some((Match::Any, vec![RARE_PARTNER.to_owned()])), ..EntryFilter::default() },
        ),
        ("hint", EntryFilter { hint: RARE_HINT.to_owned(), ..EntryFilter::default() }),
        ("downstream", EntryFilter { downstream: Some(true), ..EntryFilter::default() }),
    ]
}

/// One of these forms, by its name.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn list_form(deployment: &Deployment, number: u64, name: &str) -> EntryFilter {
    let form = list_forms(deployment, number).into_iter().find(|(form, _)| *form == name);
    form.expect("a form of list").1
}

/// The command that creates an entry.
#[must_use]
pub fn create_entry(entry: Entry) -> Command {
    Command::Spire(spire::Command::Entry(spire::entries::Command::CreateOrReturn(Some(entry))))
}

/// The command that deletes an entry.
#[must_use]
pub fn delete_entry(entry_id: String) -> Command {
    Command::Spire(spire::Command::Entry(spire::entries::Command::Delete { entry_id }))
}

/// The command that creates a node.
#[must_use]
pub fn create_node(node: Node) -> Command {
    Command::Spire(spire::Command::Node(spire::nodes::Command::Create(Some(node))))
}

/// The command that creates a bundle.
#[must_use]
pub fn create_bundle(bundle: Bundle) -> Command {
    Command::Spire(spire::Command::Bundle(spire::bundles::Command::Create(Some(bundle))))
}

/// The event that creating an entry makes of an empty namespace and so many creations before.
#[must_use]
pub fn creation_event(deployment: &Deployment, number: u64) -> Event {
    let entry = deployment.entry(number);
    Event {
        revision: Revision(number + 1),
        time: NOW,
        namespace: NamespaceId(1),
        request: None,
        changes: vec![Change {
            table: spire::tables::ENTRIES,
            sequence: Sequence(number + 1),
            previous: None,
            before: None,
            after: Some(entry.encode()),
        }],
        items: vec![StreamItem {
            stream: spire::REGISTRATIONS,
            sequence: StreamSequence(number + 1),
            key: entry.entry_id.into_bytes(),
            change: Some(0),
        }],
        marks: Vec::new(),
        answer: vec![0; 16],
    }
}

fn federates_with(agent: u64, dice: u64) -> Vec<String> {
    match agent {
        7 => vec![RARE_PARTNER.to_owned()],
        _ if dice.is_multiple_of(7) => vec![partner(dice % PARTNERS)],
        _ => Vec::new(),
    }
}

fn partner(number: u64) -> String {
    format!("spiffe://partner-{number}.example.net")
}

fn uuid_text(high: u64, low: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_agent_and_service_has_as_many_entries_and_no_two_entries_are_similar() {
        let deployment = Deployment::new(1, 10_000);
        let (mut agents, mut services, mut similar) = (HashMap::new(), HashMap::new(), HashMap::new());
        for entry in (0..deployment.entries()).map(|number| deployment.entry(number)) {
            *agents.entry(entry.parent_id.clone()).or_insert(0) += 1;
            *services.entry(entry.spiffe_id.clone()).or_insert(0) += 1;
            *similar.entry((entry.parent_id, entry.spiffe_id, entry.selectors)).or_insert(0) += 1;
        }
        assert!(agents.values().chain(services.values()).all(|count| *count == deployment.hits()));
        assert!(similar.values().all(|count| *count == 1));
        assert_eq!(agents.len() as u64, deployment.agents());
    }

    #[test]
    fn records_are_of_the_size_that_is_claimed() {
        let deployment = Deployment::new(1, 10_000);
        let bytes: usize = (0..1000).map(|number| deployment.entry(number).encode().len()).sum();
        assert!((500_000..700_000).contains(&bytes), "{bytes} bytes in 1000 records");
    }
}
