//! What a generated deployment consists of. Each record follows from the seed and its number alone.

use steeple_client::Operation;
use steeple_client::types::{
    AttestedNode, Bundle, CreateAttestedNodeRequest, CreateOrReturnRegistrationEntryRequest, RegistrationEntry,
    Selector, SetBundleRequest, SetNodeSelectorsRequest,
};

use super::dice::Dice;

/// A trust domain with agents in a few clusters, and entries for the workloads on them.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    pub(super) seed: u64,
    pub(super) agents: u32,
    pub(super) entries: u32,
    pub(super) trust_domain: String,
    /// Expiries are counted from here; Unix seconds.
    pub(super) base_seconds: i64,
}

const FEDERATED: [&str; 5] =
    ["partner.example", "payments.example", "staging.example", "acquired.example", "cloud.example"];
const CLUSTERS: [&str; 4] = ["eu-west", "eu-north", "us-east", "ap-south"];
const NAMESPACES: [&str; 12] = [
    "billing", "checkout", "search", "identity", "catalog", "shipping", "fraud", "ledger", "mail", "media", "ops",
    "web",
];
const ROLES: [&str; 8] = ["api", "worker", "db", "cache", "gateway", "cron", "stream", "admin"];
const HINTS: [&str; 3] = ["internal", "external", "batch"];
const DAY: i64 = 24 * 3600;

/// Entries for which there is one service name.
const ENTRIES_PER_SERVICE: u32 = 20;

impl Deployment {
    /// Bundles: the own one and those of federated trust domains.
    pub(super) fn bundle_count(&self) -> u32 {
        1 + FEDERATED.len() as u32
    }

    /// Stores a bundle.
    pub(super) fn bundle(&self, number: u32) -> Operation {
        let federated = number.checked_sub(1).and_then(|place| FEDERATED.get(place as usize));
        let name = federated.map_or(self.trust_domain.as_str(), |name| *name);
        let bundle = Bundle { trust_domain_id: format!("spiffe://{name}"), refresh_hint: 300, ..Default::default() };
        Operation::SetBundle(SetBundleRequest { context: None, bundle: Some(bundle) })
    }

    /// Stores an agent and its selectors.
    pub(super) fn agent(&self, number: u32) -> Vec<Operation> {
        let node = self.node(number);
        let (spiffe_id, selectors) = (node.spiffe_id.clone(), self.agent_selectors(number));
        vec![
            Operation::CreateAttestedNode(CreateAttestedNodeRequest { context: None, node: Some(node) }),
            Operation::SetNodeSelectors(SetNodeSelectorsRequest { context: None, spiffe_id, selectors }),
        ]
    }

    /// Two of three agents run on Kubernetes, the others on machines; 3 % have expired, 1 % are banned.
    pub(super) fn node(&self, number: u32) -> AttestedNode {
        let mut dice = self.dice("agent", number);
        let on_kubernetes = is_on_kubernetes(number);
        let age = i64::from(dice.below(3600));
        let expired = dice.chance(3);
        let not_after = self.base_seconds + if expired { -DAY - age } else { DAY - age };
        let serial = if dice.chance(1) { String::new() } else { dice.next().to_string() };
        AttestedNode {
            spiffe_id: self.agent_id(number),
            attestation_data_type: if on_kubernetes { "k8s_psat".into() } else { "x509pop".into() },
            cert_serial_number: serial,
            cert_not_after: not_after,
            can_reattest: on_kubernetes || dice.chance(50),
            agent_version: (*dice.pick(&["1.12.4", "1.13.0", "1.13.1"])).into(),
            ..Default::default()
        }
    }

    /// An agent's SPIFFE ID.
    pub(super) fn agent_id(&self, number: u32) -> String {
        let kind = if is_on_kubernetes(number) { format!("k8s_psat/{}", cluster(number)) } else { "x509pop".into() };
        format!("spiffe://{}/spire/agent/{kind}/{}", self.trust_domain, self.id("agent", number))
    }

    /// What an agent's machine was found to be.
    pub(super) fn agent_selectors(&self, number: u32) -> Vec<Selector> {
        let id = self.id("agent", number);
        if is_on_kubernetes(number) {
            return vec![
                selector("k8s_psat", format!("cluster:{}", cluster(number))),
                selector("k8s_psat", "agent_ns:spire".into()),
                selector("k8s_psat", format!("agent_node_name:node-{number}")),
                selector("k8s_psat", format!("agent_node_uid:{id}")),
            ];
        }
        vec![
            selector("x509pop", format!("subject:cn:host-{number}")),
            selector("x509pop", format!("serialnumber:{id}")),
        ]
    }

    /// Stores an entry.
    pub(super) fn entry(&self, number: u32) -> Operation {
        let entry = Some(self.registration_entry(number));
        Operation::CreateOrReturnRegistrationEntry(CreateOrReturnRegistrationEntryRequest { context: None, entry })
    }

    /// Entries are spread over the agents and share service names. Some federate (15 %), have hints (20 %) or DNS names
    /// (10 %), expire (4 %, half of them in the past), belong to downstream servers or administrators (1 % each).
    pub(super) fn registration_entry(&self, number: u32) -> RegistrationEntry {
        let mut dice = self.dice("entry", number);
        let service = self.service(number);
        let parent = dice.below(self.agents);
        let mut entry = RegistrationEntry {
            entry_id: self.id("entry", number),
            parent_id: self.agent_id(parent),
            spiffe_id: format!("spiffe://{}/ns/{}/sa/{}", self.trust_domain, service.namespace, service.account),
            selectors: workload_selectors(&mut dice, is_on_kubernetes(parent), &service, number),
            x509_svid_ttl: *dice.pick(&[0, 3600, 14_400]),
            jwt_svid_ttl: *dice.pick(&[0, 0, 300]),
            ..Default::default()
        };
        if dice.chance(15) {
            entry.federates_with = federated(&mut dice);
        }
        if dice.chance(20) {
            entry.hint = (*dice.pick(&HINTS)).into();
        }
        if dice.chance(10) {
            entry.dns_names = vec![format!("{}.{}.svc", service.account, service.namespace)];
        }
        if dice.chance(4) {
            let distance = 3600 + i64::from(dice.below(7 * 24 * 3600));
            entry.entry_expiry = self.base_seconds + if dice.chance(50) { distance } else { -distance };
        }
        entry.downstream = dice.chance(1);
        entry.admin = dice.chance(1);
        entry.store_svid = dice.chance(2);
        entry
    }

    fn service(&self, number: u32) -> Service {
        let services = (self.entries / ENTRIES_PER_SERVICE).max(1);
        let mut dice = self.dice("service", number % services);
        let namespace = (*dice.pick(&NAMESPACES)).to_owned();
        let account = format!("{}-{}", dice.pick(&ROLES), number % services);
        Service { namespace, account }
    }

    fn dice(&self, kind: &str, number: u32) -> Dice {
        Dice::new(self.seed, kind, number)
    }

    /// A UUID that follows from the seed.
    pub(super) fn id(&self, kind: &str, number: u32) -> String {
        let mut dice = self.dice(&format!("{kind} id"), number);
        let digits = format!("{:016x}{:016x}", dice.next(), dice.next());
        // The version and variant digits of a random UUID.
        format!("{}-{}-4{}-8{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
    }
}

/// What several entries have in common.
struct Service {
    namespace: String,
    account: String,
}

fn is_on_kubernetes(agent: u32) -> bool {
    !agent.is_multiple_of(3)
}

fn cluster(agent: u32) -> &'static str {
    CLUSTERS[agent as usize % CLUSTERS.len()]
}

fn selector(kind: &str, value: String) -> Selector {
    Selector { r#type: kind.into(), value }
}

fn workload_selectors(dice: &mut Dice, on_kubernetes: bool, service: &Service, number: u32) -> Vec<Selector> {
    if !on_kubernetes {
        return vec![
            selector("unix", format!("uid:{}", 1000 + dice.below(500))),
            selector("unix", format!("path:/opt/{}/bin/{number}", service.account)),
        ];
    }
    let mut selectors =
        vec![selector("k8s", format!("ns:{}", service.namespace)), selector("k8s", format!("sa:{}", service.account))];
    // Tells workloads of one service on one agent apart, as pods' labels do.
    selectors.push(selector("k8s", format!("pod-label:instance:{number}")));
    if dice.chance(30) {
        selectors.push(selector("k8s", format!("container-name:{}", dice.pick(&ROLES))));
    }
    selectors
}

/// One or two federated trust domains.
fn federated(dice: &mut Dice) -> Vec<String> {
    let first = dice.below(FEDERATED.len() as u32) as usize;
    let mut domains = vec![format!("spiffe://{}", FEDERATED[first])];
    if dice.chance(30) {
        domains.push(format!("spiffe://{}", FEDERATED[(first + 1) % FEDERATED.len()]));
    }
    domains
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn deployment(seed: u64) -> Deployment {
        let trust_domain = "prod.example".into();
        Deployment { seed, agents: 500, entries: 5_000, trust_domain, base_seconds: 1_700_000_000 }
    }

    fn entries(deployment: &Deployment) -> Vec<RegistrationEntry> {
        (0..deployment.entries).map(|number| deployment.registration_entry(number)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_deployment() {
        assert_eq!(entries(&deployment(1)), entries(&deployment(1)));
        assert_ne!(entries(&deployment(1)), entries(&deployment(2)));
        let nodes = |seed| (0..500).map(|number| deployment(seed).agent(number)).collect::<Vec<_>>();
        assert_eq!(nodes(1), nodes(1));
    }

    #[test]
    fn a_known_entry_never_changes() {
        let entry = deployment(1).registration_entry(0);
        assert_eq!(entry.entry_id, deployment(1).id("entry", 0));
        assert_eq!(entry.entry_id, "72e6a3f4-c918-402b-8d00-7b3efbc6af5f");
        assert_eq!(entry.spiffe_id, "spiffe://prod.example/ns/shipping/sa/gateway-0");
    }

    #[test]
    fn ids_are_unique_and_parents_exist() {
        let deployment = deployment(1);
        let agents: HashSet<_> = (0..500).map(|number| deployment.node(number).spiffe_id).collect();
        assert_eq!(agents.len(), 500);
        let entries = entries(&deployment);
        assert_eq!(entries.iter().map(|entry| &entry.entry_id).collect::<HashSet<_>>().len(), entries.len());
        assert!(entries.iter().all(|entry| agents.contains(&entry.parent_id)));
        let mut identities = HashSet::new();
        for entry in &entries {
            let selectors = entry.selectors.iter().map(|selector| format!("{selector:?}")).collect::<Vec<_>>();
            assert!(
                identities.insert((&entry.spiffe_id, &entry.parent_id, selectors)),
                "{entry:?} is similar to another"
            );
        }
    }

    #[test]
    fn every_kind_of_entry_and_agent_is_there() {
        let deployment = deployment(1);
        let entries = entries(&deployment);
        let share = |holds: &dyn Fn(&RegistrationEntry) -> bool| {
            entries.iter().filter(|entry| holds(entry)).count() * 100 / entries.len()
        };
        assert!((12..=18).contains(&share(&|entry| !entry.federates_with.is_empty())));
        assert!((17..=23).contains(&share(&|entry| !entry.hint.is_empty())));
        assert!((1..=4).contains(&share(&|entry| entry.entry_expiry > deployment.base_seconds)));
        assert!(entries.iter().any(|entry| entry.entry_expiry > 0 && entry.entry_expiry < deployment.base_seconds));
        assert!(entries.iter().any(|entry| entry.downstream));
        assert!(entries.iter().any(|entry| entry.admin));
        assert!(entries.iter().any(|entry| entry.selectors[0].r#type == "unix"));
        assert!((60..=72).contains(&share(&|entry| entry.selectors[0].r#type == "k8s")));
        let nodes: Vec<_> = (0..500).map(|number| deployment.node(number)).collect();
        assert!(nodes.iter().any(|node| node.cert_serial_number.is_empty()));
        assert!(nodes.iter().any(|node| node.cert_not_after < deployment.base_seconds));
    }

    #[test]
    fn federated_bundles_are_stored_first() {
        let deployment = deployment(1);
        let stored: HashSet<_> = (0..deployment.bundle_count())
            .map(|number| match deployment.bundle(number) {
                Operation::SetBundle(request) => request.bundle.unwrap().trust_domain_id,
                operation => panic!("{operation:?}"),
            })
            .collect();
        assert!(stored.contains("spiffe://prod.example"));
        assert!(
            entries(&deployment).iter().flat_map(|entry| &entry.federates_with).all(|domain| stored.contains(domain))
        );
    }
}
