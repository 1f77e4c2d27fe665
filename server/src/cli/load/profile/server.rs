//! A SPIRE server, as the datastore sees it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steeple_client::types::{
    AttestedNode, AttestedNodeMask, BySelectors, MatchBehavior, RegistrationEntry, RegistrationEntryFilter, Selector,
};
use steeple_client::{Error, Namespace};

use super::population::Population;
use super::schedule::{Activity, AgentCalls, LIST_PAGE, Prune};
use super::tally::{Call, Place, Tally};
use crate::cli::instant::now_micros;

/// Records that a cache fetches with one call at the most.
const FETCHED_MAX: usize = 10_000;

const DAY_SECONDS: i64 = 24 * 3600;

/// One server with its connection.
pub(super) struct Server {
    current: Namespace,
    stale: Namespace,
    events: Mutex<Events>,
}

/// Where a server's cache stands.
#[derive(Clone, Copy, Debug, Default)]
struct Events {
    first_entry: u64,
    last_entry: u64,
    first_node: u64,
    last_node: u64,
}

impl Server {
    /// A server that has just filled its cache.
    pub(super) async fn start(namespace: Namespace) -> Result<Self, Error> {
        let (entries, nodes) = namespace.fetch_event_bounds().await?;
        let events = Events {
            first_entry: entries.oldest_event_id,
            last_entry: entries.last_event_id,
            first_node: nodes.oldest_event_id,
            last_node: nodes.last_event_id,
        };
        Ok(Self { stale: namespace.stale(), current: namespace, events: Mutex::new(events) })
    }
}

/// The calls of one activity, one after the other.
pub(super) struct Work<'a> {
    pub(super) server: &'a Server,
    pub(super) population: &'a Population,
    pub(super) agent_calls: AgentCalls,
    pub(super) tally: &'a Tally,
    pub(super) place: Place,
    /// When the next call is due.
    pub(super) due: Instant,
    /// Calls made so far.
    pub(super) made: u64,
}

/// A call failed, so those behind it are not made. The failure is counted already.
struct Stopped;

impl Work<'_> {
    /// Does it, and counts the calls that it did not come to.
    pub(super) async fn run(mut self, activity: Activity) {
        let planned = activity.calls(self.population, self.agent_calls);
        if self.perform(activity).await.is_err() {
            self.tally.not_made(self.place, planned.saturating_sub(self.made));
        }
    }

    async fn perform(&mut self, activity: Activity) -> Result<(), Stopped> {
        let server = self.server;
        match activity {
            Activity::Sync { agent } => match self.agent_calls {
                AgentCalls::Cached => self.sync_cached(agent).await,
                AgentCalls::Uncached => self.sync_uncached(agent).await,
            },
            Activity::OwnBundle => self.bundle(self.population.own_domain()).await,
            Activity::CacheTick => self.tick().await,
            Activity::Attestation { agent, round } => self.attest_again(agent, round).await,
            Activity::Newcomer { number } => self.come_and_go(number).await,
            Activity::Renewal { agent, round } => self.renew(agent, round).await,
            Activity::ControllerList => self.list_all().await,
            Activity::ControllerCreate { number } => {
                let created = server.current.create_or_return_registration_entry(self.passing_entry(number));
                self.call(Call::CreateOrReturnEntry, created).await.map(drop)
            }
            Activity::ControllerDelete { number } => {
                let id = self.passing_entry(number).entry_id;
                let deleted = async {
                    match server.current.delete_registration_entry(id).await {
                        // The first burst of a run finds nothing.
                        Err(error) if error.is_not_found() => Ok(()),
                        deleted => deleted.map(drop),
                    }
                };
                self.call(Call::DeleteEntry, deleted).await
            }
            Activity::Prune(what) => self.prune(what).await,
            Activity::FederationConfig => {
                let listed = server.current.list_federation_relationships();
                self.call(Call::ListFederationRelationships, listed).await.map(drop)
            }
            Activity::Health => {
                self.call(Call::ListBundles, server.current.list_bundles()).await?;
                self.bundle(self.population.own_domain()).await
            }
        }
    }

    /// Makes a call. The next one is due when it has ended.
    async fn call<T>(&mut self, call: Call, made: impl Future<Output = Result<T, Error>>) -> Result<T, Stopped> {
        self.made += 1;
        self.tally.begun(self.place, call, self.due);
        let result = made.await;
        self.tally.answered(self.place, call, self.due, result.as_ref().err());
        self.due = Instant::now();
        result.map_err(|_| Stopped)
    }

    async fn bundle(&mut self, domain: String) -> Result<(), Stopped> {
        self.call(Call::FetchBundle, self.server.current.fetch_bundle(domain)).await.map(drop)
    }

    /// A server looks who calls it, which it does for each call of an agent.
    async fn authorize(&mut self, spiffe_id: &str) -> Result<(), Stopped> {
        self.call(Call::FetchAttestedNode, self.server.current.fetch_attested_node(spiffe_id)).await.map(drop)
    }

    /// The agent asks for its entries, which are in the cache, and for bundles.
    async fn sync_cached(&mut self, agent: usize) -> Result<(), Stopped> {
        let agent = &self.population.agents[agent];
        self.authorize(&agent.spiffe_id).await?;
        self.authorize(&agent.spiffe_id).await?;
        self.federated_bundles(&agent.federated).await
    }

    /// The entries are looked for: the agent's own, those of groups that it belongs to, and what is below each of them.
    async fn sync_uncached(&mut self, agent: usize) -> Result<(), Stopped> {
        let population = self.population;
        let selectors = population.deployment.agent_selectors(u32::try_from(agent).unwrap_or(u32::MAX));
        let agent = &population.agents[agent];
        self.authorize(&agent.spiffe_id).await?;
        self.list_below(&agent.spiffe_id).await?;
        let found = self.server.current.get_node_selectors(agent.spiffe_id.as_str());
        self.call(Call::GetNodeSelectors, found).await?;
        let by_selectors = Some(BySelectors { r#match: MatchBehavior::Subset.into(), selectors });
        let filter = RegistrationEntryFilter { by_selectors, ..Default::default() };
        self.call(Call::ListEntriesBySelectors, self.server.current.list_registration_entries(filter)).await?;
        for workload in &agent.workloads {
            self.list_below(workload).await?;
        }
        self.bundle(population.own_domain()).await?;
        self.federated_bundles(&agent.federated).await
    }

    async fn list_below(&mut self, parent: &str) -> Result<(), Stopped> {
        let filter = RegistrationEntryFilter { by_parent_id: parent.to_owned(), ..Default::default() };
        self.call(Call::ListEntriesByParent, self.server.current.list_registration_entries(filter)).await.map(drop)
    }

    async fn federated_bundles(&mut self, domains: &[String]) -> Result<(), Stopped> {
        for domain in domains {
            self.bundle(domain.clone()).await?;
        }
        Ok(())
    }

    /// New events, those that may have been late (there are none here), and the records that they are about.
    async fn tick(&mut self) -> Result<(), Stopped> {
        let (server, mut events) = (self.server, *self.server.events.lock());
        let entries = server.stale.list_registration_entry_events(events.last_entry, 0);
        let entries = self.call(Call::ListEntryEvents, entries).await?;
        let nodes = server.stale.list_attested_node_events(events.last_node, 0);
        let nodes = self.call(Call::ListNodeEvents, nodes).await?;
        let late = server.current.list_registration_entry_events(0, events.first_entry);
        self.call(Call::ListEntryEvents, late).await?;
        let late = server.current.list_attested_node_events(0, events.first_node);
        self.call(Call::ListNodeEvents, late).await?;
        events.last_entry = entries.last().map_or(events.last_entry, |event| event.event_id);
        events.last_node = nodes.last().map_or(events.last_node, |event| event.event_id);
        let changed = distinct(entries.into_iter().map(|event| event.entry_id));
        for ids in changed.chunks(FETCHED_MAX) {
            self.call(Call::FetchEntries, server.current.fetch_registration_entries(ids.to_vec())).await?;
        }
        let changed = distinct(nodes.into_iter().map(|event| event.spiffe_id));
        for ids in changed.chunks(FETCHED_MAX) {
            self.call(Call::FetchNodes, server.current.fetch_attested_nodes(ids.to_vec())).await?;
        }
        *server.events.lock() = events;
        Ok(())
    }

    async fn attest_again(&mut self, agent: usize, round: u64) -> Result<(), Stopped> {
        let number = u32::try_from(agent).unwrap_or(u32::MAX);
        let deployment = &self.population.deployment;
        let mut node = deployment.node(number);
        let selectors = deployment.agent_selectors(number);
        self.authorize(&node.spiffe_id).await?;
        self.set_selectors(&node.spiffe_id, selectors).await?;
        (node.cert_serial_number, node.cert_not_after) = (serial(agent, round), in_an_hour());
        let mask = AttestedNodeMask {
            cert_serial_number: true,
            cert_not_after: true,
            new_cert_serial_number: true,
            new_cert_not_after: true,
            can_reattest: true,
            ..Default::default()
        };
        self.update(node.clone(), mask).await?;
        self.update(node, AttestedNodeMask { agent_version: true, ..Default::default() }).await
    }

    /// The new certificate is announced, and then used for the first time.
    async fn renew(&mut self, agent: usize, round: u64) -> Result<(), Stopped> {
        let mut node = self.population.deployment.node(u32::try_from(agent).unwrap_or(u32::MAX));
        self.authorize(&node.spiffe_id).await?;
        (node.new_cert_serial_number, node.new_cert_not_after) = (serial(agent, round), in_an_hour());
        let mask = AttestedNodeMask { new_cert_serial_number: true, new_cert_not_after: true, ..Default::default() };
        self.update(node.clone(), mask).await?;
        (node.cert_serial_number, node.cert_not_after) = (node.new_cert_serial_number, node.new_cert_not_after);
        (node.new_cert_serial_number, node.new_cert_not_after) = (String::new(), 0);
        self.update(node, AttestedNodeMask { cert_serial_number: true, cert_not_after: true, ..mask }).await
    }

    async fn come_and_go(&mut self, number: u64) -> Result<(), Stopped> {
        let server = self.server;
        // Tokens are used once, so each run has its own.
        let token = format!("{:016x}{:016x}", rand::random::<u64>(), number);
        let spiffe_id = format!("{}/spire/agent/join_token/{token}", self.population.own_domain());
        let created = server.current.create_join_token(token.as_str(), in_an_hour());
        self.call(Call::CreateJoinToken, created).await?;
        self.call(Call::FetchJoinToken, server.current.fetch_join_token(token.as_str())).await?;
        self.call(Call::DeleteJoinToken, server.current.delete_join_token(token.as_str())).await?;
        self.authorize(&spiffe_id).await?;
        let selectors = vec![Selector { r#type: "spiffe_id".into(), value: spiffe_id.clone() }];
        self.set_selectors(&spiffe_id, selectors).await?;
        let node = AttestedNode {
            spiffe_id: spiffe_id.clone(),
            attestation_data_type: "join_token".into(),
            cert_serial_number: number.to_string(),
            cert_not_after: in_an_hour(),
            ..Default::default()
        };
        self.call(Call::CreateAttestedNode, server.current.create_attested_node(node)).await?;
        self.call(Call::DeleteAttestedNode, server.current.delete_attested_node(spiffe_id)).await.map(drop)
    }

    async fn set_selectors(&mut self, spiffe_id: &str, selectors: Vec<Selector>) -> Result<(), Stopped> {
        let set = self.server.current.set_node_selectors(spiffe_id, selectors);
        self.call(Call::SetNodeSelectors, set).await
    }

    async fn update(&mut self, node: AttestedNode, mask: AttestedNodeMask) -> Result<(), Stopped> {
        let updated = self.server.current.update_attested_node(node, Some(mask));
        self.call(Call::UpdateAttestedNode, updated).await.map(drop)
    }

    /// A controller is authorized by its entry, and then reads all of them page by page.
    async fn list_all(&mut self) -> Result<(), Stopped> {
        let by_spiffe_id = format!("{}/controller", self.population.own_domain());
        let filter = RegistrationEntryFilter { by_spiffe_id, ..Default::default() };
        self.call(Call::ListEntriesBySpiffeId, self.server.current.list_registration_entries(filter)).await?;
        let mut token = String::new();
        loop {
            let filter = RegistrationEntryFilter::default();
            let page = self.server.current.list_registration_entries_page(filter, &token, LIST_PAGE);
            let (entries, next) = self.call(Call::ListEntries, page).await?;
            if entries.len() < LIST_PAGE.unsigned_abs() as usize {
                return Ok(());
            }
            token = next;
        }
    }

    /// An entry that a controller creates and soon deletes again.
    fn passing_entry(&self, number: u64) -> RegistrationEntry {
        let deployment = &self.population.deployment;
        let number = u32::try_from(number % u64::from(u32::MAX)).unwrap_or(0);
        let parent = &self.population.agents[number as usize % self.population.agents.len()];
        RegistrationEntry {
            entry_id: deployment.id("passing entry", number),
            parent_id: parent.spiffe_id.clone(),
            spiffe_id: format!("{}/passing/{number}", self.population.own_domain()),
            selectors: vec![
                Selector { r#type: "k8s".into(), value: "ns:rollout".into() },
                Selector { r#type: "k8s".into(), value: format!("pod-uid:{number}") },
            ],
            ..Default::default()
        }
    }

    async fn prune(&mut self, what: Prune) -> Result<(), Stopped> {
        const OLD: Duration = Duration::from_secs(12 * 3600);
        let (server, now) = (self.server, now_micros());
        let days_ago = |days: i64| now - days * DAY_SECONDS * 1_000_000;
        match what {
            Prune::Entries => {
                self.call(Call::PruneEntries, server.current.prune_registration_entries(now)).await.map(drop)
            }
            Prune::Nodes => {
                let pruned = server.current.prune_attested_expired_nodes(days_ago(30), false, 1_000);
                self.call(Call::PruneNodes, pruned).await.map(drop)
            }
            Prune::EntryEvents => {
                let pruned = server.current.prune_registration_entry_events(OLD);
                self.call(Call::PruneEntryEvents, pruned).await.map(drop)
            }
            Prune::NodeEvents => {
                let pruned = server.current.prune_attested_node_events(OLD);
                self.call(Call::PruneNodeEvents, pruned).await.map(drop)
            }
            Prune::Journals => {
                let pruned = server.current.prune_ca_journals(days_ago(14) / 1_000_000);
                self.call(Call::PruneJournals, pruned).await.map(drop)
            }
        }
    }
}

fn distinct(keys: impl Iterator<Item = String>) -> Vec<String> {
    let keys: std::collections::BTreeSet<String> = keys.collect();
    keys.into_iter().collect()
}

fn serial(agent: usize, round: u64) -> String {
    format!("{agent}{round:06}")
}

fn in_an_hour() -> i64 {
    now_micros() / 1_000_000 + 3600
}
