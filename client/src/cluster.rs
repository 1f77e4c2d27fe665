//! The nodes that a client knows: which one to ask, and what became of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steeple_wire::admin::v1::ClusterStatusResponse;
use steeple_wire::status::{ErrorKind, LeaderHint};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use crate::dialer::{Dialer, scheme, told};
use crate::error::{Error, is_broken};

/// Nodes that are known at the most: more than a group has, and few enough for answers that make no sense.
const NODES_MAX: usize = 64;

/// A node that failed is left alone for so long at first.
const REST_MIN: Duration = Duration::from_millis(100);

/// A node that fails again and again is left alone for so long at the most.
const REST_MAX: Duration = Duration::from_secs(5);

/// The members are asked for again after so long.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);

/// The members are asked for again after so long when a node failed meanwhile.
const DISCOVERY_INTERVAL_IN_TROUBLE: Duration = Duration::from_secs(1);

/// Which nodes can answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The one that decides.
    Leader,
    /// Any, and best the one in use.
    Current,
    /// Any, each in turn.
    Any,
    /// One of those that the client was told of; the first that can be reached. The answer is about it.
    Told,
}

/// One node.
pub(crate) struct Node {
    address: String,
    channel: Channel,
    /// Whether the client was told of it, and not by another node.
    told: bool,
    /// Whether it was found to belong to the cluster, since it last failed. Addresses get out of date, and somebody else's
    /// node may have one by now.
    checked: AtomicBool,
}

impl Node {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether requests may be sent to it.
    pub(crate) fn is_trusted(&self) -> bool {
        self.told || self.checked.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address)
    }
}

/// All nodes that are known. Clones of a client share them.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// None when nothing but the channels that were handed in may be used.
    dialer: Option<Dialer>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Entry>,
    /// The cluster of the nodes that the client was told of, once they have said it.
    cluster_id: Option<String>,
    /// Address of the node that mutations go to.
    in_use: Option<String>,
    turn: usize,
    discovered_at: Option<Instant>,
    trouble: bool,
}

#[derive(Debug)]
struct Entry {
    node: Arc<Node>,
    failures: u32,
    resting_until: Option<Instant>,
}

impl Entry {
    fn new(address: String, channel: Channel, told: bool) -> Self {
        let checked = AtomicBool::new(false);
        Self { node: Arc::new(Node { address, channel, told, checked }), failures: 0, resting_until: None }
    }

    /// Whether a call may go there.
    fn can(&self, route: Route) -> bool {
        route != Route::Told || self.node.told
    }

    fn is_well(&self, now: Instant) -> bool {
        self.resting_until.is_none_or(|until| until <= now)
    }

    fn rest(&mut self, now: Instant) {
        let rest = REST_MIN.saturating_mul(1 << self.failures.min(16)).min(REST_MAX);
        self.failures = self.failures.saturating_add(1);
        self.resting_until = Some(now + rest);
    }
}

impl Cluster {
    /// Nodes at these addresses, some with a connection already.
    pub(crate) fn dialed(dialer: Dialer, addresses: Vec<(String, Channel)>) -> Self {
        Self::new(Some(dialer), addresses)
    }

    /// Nodes behind channels that somebody else made.
    pub(crate) fn fixed(channels: Vec<(String, Channel)>) -> Self {
        Self::new(None, channels)
    }

    fn new(dialer: Option<Dialer>, nodes: Vec<(String, Channel)>) -> Self {
        let nodes = nodes.into_iter().map(|(address, channel)| Entry::new(address, channel, true)).collect();
        let state = State { nodes, cluster_id: None, in_use: None, turn: 0, discovered_at: None, trouble: false };
        Self { dialer, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many nodes are known.
    pub(crate) fn len(&self) -> usize {
        self.state().nodes.len()
    }

    /// Whether a node is one of those that are known still.
    pub(crate) fn knows(&self, node: &Node) -> bool {
        self.state().position(&node.address).is_some()
    }

    /// The node to ask next, if possible another one than `avoid`.
    pub(crate) fn pick(&self, route: Route, avoid: Option<&str>) -> Result<Arc<Node>, Status> {
        let none = || ErrorKind::Unavailable.status("no address of a node was given");
        self.state().pick(route, avoid, Instant::now()).ok_or_else(none)
    }

    /// Remembers that a node answered.
    pub(crate) fn succeeded(&self, route: Route, node: &Node) {
        self.state().answered(route, &node.address);
    }

    /// Remembers that a node failed; says whether it makes sense to ask another one at once.
    pub(crate) fn failed(&self, route: Route, node: &Node, status: &Status) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(hint) = LeaderHint::of(status) {
            return self.follow(&mut state, node, &hint, now);
        }
        match ErrorKind::of(status) {
            None if is_broken(status) => {
                state.trouble = true;
                state.rest(node, now);
                node.checked.store(false, Ordering::Relaxed);
            }
            // It says itself that another one might do better, for a while.
            Some(ErrorKind::Unavailable) => {
                state.trouble = true;
                // The one in use may still be the only one that decides.
                if route == Route::Any && state.in_use.as_ref() != Some(&node.address) {
                    state.rest(node, now);
                }
            }
            Some(ErrorKind::Overloaded) if route == Route::Any => {}
            None => {
                state.answered(route, &node.address);
                return false;
            }
            Some(_) => return false,
        }
        if matches!(route, Route::Leader | Route::Current) {
            state.leave(&node.address);
        }
        state.has_another(route, node, now)
    }

    /// The cluster that the nodes have to belong to, if that is known.
    pub(crate) fn cluster_id(&self) -> Option<String> {
        self.state().cluster_id.clone()
    }

    /// Remembers which cluster a node belongs to; one of another cluster is forgotten.
    pub(crate) fn check(&self, node: &Node, expected: &str, found: &str) -> bool {
        let belongs = expected == found;
        node.checked.store(belongs, Ordering::Relaxed);
        if !belongs {
            tracing::warn!(?node, found, expected, "the group names a node that belongs to another cluster");
            let mut state = self.state();
            state.leave(&node.address);
            state.nodes.retain(|entry| entry.node.told || entry.node.address != node.address);
        }
        belongs
    }

    /// Remembers that a node could not be asked at all; says whether it makes sense to ask another one at once.
    pub(crate) fn unusable(&self, route: Route, node: &Node) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        state.trouble = true;
        state.leave(&node.address);
        state.rest(node, now);
        node.checked.store(false, Ordering::Relaxed);
        state.has_another(route, node, now)
    }

    /// Goes where a node points to; without a word where, to the next node.
    fn follow(&self, state: &mut State, from: &Node, hint: &LeaderHint, now: Instant) -> bool {
        let address = hint.address.as_ref().and_then(|address| told(address, scheme(&from.address)));
        let Some(address) = address.filter(|address| *address != from.address) else {
            state.trouble = true;
            state.leave(&from.address);
            return false;
        };
        if !self.learn(state, &address) {
            state.leave(&from.address);
            return false;
        }
        state.use_node(&address);
        // A node that just failed may still be named by the others, which have not noticed yet; or it is back and leads.
        state.entry(&address).is_some_and(|entry| {
            entry.resting_until = entry.resting_until.map(|until| until.min(now + REST_MIN));
            entry.is_well(now)
        })
    }

    /// Makes sure that a node is known; fails when it cannot be.
    fn learn(&self, state: &mut State, address: &str) -> bool {
        if state.entry(address).is_some() {
            return true;
        }
        let Some(dialer) = self.dialer.as_ref().filter(|_| state.nodes.len() < NODES_MAX) else { return false };
        match dialer.connect_lazy(address) {
            Ok(channel) => {
                tracing::debug!(address, "learned of a node");
                state.nodes.push(Entry::new(address.to_owned(), channel, false));
                true
            }
            Err(error) => {
                tracing::debug!(address, %error, "was told an address that is none");
                false
            }
        }
    }

    /// Whether it is time to ask for the members, which is then taken as done.
    pub(crate) fn discovery_is_due(&self) -> bool {
        if self.dialer.is_none() {
            return false;
        }
        let mut state = self.state();
        let interval = if state.trouble { DISCOVERY_INTERVAL_IN_TROUBLE } else { DISCOVERY_INTERVAL };
        let now = Instant::now();
        let due = state.discovered_at.is_none_or(|at| now >= at + interval);
        if due {
            (state.discovered_at, state.trouble) = (Some(now), false);
        }
        due
    }

    /// Knows from now on the nodes that the client was told of, and the members that a node names.
    pub(crate) fn discovered(&self, from: &Node, status: &ClusterStatusResponse) {
        let mut state = self.state();
        if from.told {
            state.cluster_id = Some(status.cluster_id.clone());
        }
        let mut members = Vec::new();
        for member in &status.members {
            let Some(address) = told(&member.client_address, scheme(&from.address)) else { continue };
            if self.learn(&mut state, &address) {
                if member.node_id == status.leader_node_id && state.in_use.is_none() {
                    state.in_use = Some(address.clone());
                }
                members.push(address);
            }
        }
        if members.is_empty() {
            return;
        }
        // Others may not have heard yet of the one that decides; a node that does not name itself has left.
        let in_use = state.in_use.clone().filter(|address| *address != from.address);
        state.nodes.retain(|entry| {
            let address = &entry.node.address;
            entry.node.told || members.contains(address) || in_use.as_ref() == Some(address)
        });
        if state.in_use.clone().is_some_and(|address| state.entry(&address).is_none()) {
            state.in_use = None;
        }
    }
}

impl State {
    fn entry(&mut self, address: &str) -> Option<&mut Entry> {
        self.nodes.iter_mut().find(|entry| entry.node.address == address)
    }

    /// A node that answers is well, and one that decides leads.
    fn answered(&mut self, route: Route, address: &str) {
        if let Some(entry) = self.entry(address) {
            (entry.failures, entry.resting_until) = (0, None);
        }
        if route == Route::Leader {
            self.use_node(address);
        }
    }

    /// Leaves a node alone for a while.
    fn rest(&mut self, node: &Node, now: Instant) {
        if let Some(entry) = self.entry(&node.address) {
            entry.rest(now);
        }
    }

    /// Whether there is another node to be asked at once.
    fn has_another(&self, route: Route, node: &Node, now: Instant) -> bool {
        let others = self.nodes.iter().filter(|entry| entry.node.address != node.address && entry.is_well(now));
        others.into_iter().any(|entry| entry.can(route))
    }

    fn use_node(&mut self, address: &str) {
        if self.in_use.as_deref() != Some(address) {
            self.in_use = Some(address.to_owned());
        }
    }

    /// Uses another node than this one, if it was in use.
    fn leave(&mut self, address: &str) {
        if self.in_use.as_deref().is_none_or(|in_use| in_use == address) {
            let next = self.position(address).map_or(0, |position| position + 1);
            let next = self.nodes.get(next % self.nodes.len().max(1));
            self.in_use = next.map(|entry| entry.node.address.clone());
        }
    }

    fn position(&self, address: &str) -> Option<usize> {
        self.nodes.iter().position(|entry| entry.node.address == address)
    }

    fn pick(&mut self, route: Route, avoid: Option<&str>, now: Instant) -> Option<Arc<Node>> {
        let first = match route {
            Route::Leader | Route::Current => self.in_use.as_deref().and_then(|address| self.position(address)),
            Route::Any => {
                self.turn = self.turn.wrapping_add(1);
                Some(self.turn)
            }
            Route::Told => None,
        };
        let count = self.nodes.len();
        let in_order = (0..count).map(|step| &self.nodes[(first.unwrap_or(0) % count + step) % count]);
        let candidates: Vec<&Entry> = in_order.filter(|entry| entry.can(route)).collect();
        let avoided = |entry: &Entry| avoid == Some(entry.node.address());
        let best = candidates.iter().find(|entry| entry.is_well(now) && !avoided(entry));
        // Where none is well, the one that has rested longest.
        let best = best.or_else(|| candidates.iter().min_by_key(|entry| (avoided(entry), entry.resting_until)));
        best.map(|entry| Arc::clone(&entry.node))
    }
}

/// A connection to the first of some addresses that answers, and connections to come to the others.
pub(crate) async fn connect(dialer: &Dialer, addresses: Vec<String>) -> Result<Vec<(String, Channel)>, Error> {
    let mut attempts = tokio::task::JoinSet::new();
    for address in addresses.iter().cloned() {
        let dialer = dialer.clone();
        attempts.spawn(async move { dialer.connect(&address).await.map(|channel| (address, channel)) });
    }
    let mut failure = Error::Unavailable { message: "no address of a node was given".into() };
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok((connected, channel))) => {
                let others = |address: String| {
                    let channel = if address == connected { channel.clone() } else { dialer.connect_lazy(&address)? };
                    Ok((address, channel))
                };
                return addresses.into_iter().map(others).collect();
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = Error::Unavailable { message: "connecting was interrupted".into() },
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use steeple_wire::admin::v1::ClusterMember;

    use super::*;

    fn cluster(addresses: &[&str]) -> Cluster {
        let dialer = Dialer::default();
        let channel = |address: &str| dialer.connect_lazy(address).unwrap();
        let nodes = addresses.iter().map(|address| ((*address).to_owned(), channel(address))).collect();
        Cluster::dialed(dialer, nodes)
    }

    const THREE: [&str; 3] = ["http://a:1", "http://b:1", "http://c:1"];

    fn pick(cluster: &Cluster, route: Route) -> String {
        cluster.pick(route, None).unwrap().address.clone()
    }

    fn fail(cluster: &Cluster, route: Route, status: &Status) -> bool {
        let node = cluster.pick(route, None).unwrap();
        cluster.failed(route, &node, status)
    }

    fn hint(address: Option<&str>) -> Status {
        LeaderHint { node: Some(2), address: address.map(str::to_owned) }.status("text")
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_is_followed_and_remembered() {
        let cluster = cluster(&THREE);
        assert_eq!(pick(&cluster, Route::Leader), "http://a:1");
        assert!(fail(&cluster, Route::Leader, &hint(Some("c:1"))));
        assert_eq!(pick(&cluster, Route::Leader), "http://c:1");
        assert_eq!(pick(&cluster, Route::Current), "http://c:1", "the one in use");
        assert!(fail(&cluster, Route::Leader, &hint(Some("d:1"))), "a node that was not known");
        assert_eq!((pick(&cluster, Route::Leader).as_str(), cluster.len()), ("http://d:1", 4));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_hint_the_others_are_tried_after_a_pause() {
        let cluster = cluster(&THREE);
        let mut asked = Vec::new();
        for _ in 0..4 {
            asked.push(pick(&cluster, Route::Leader));
            assert!(!fail(&cluster, Route::Leader, &hint(None)));
        }
        assert_eq!(asked, ["http://a:1", "http://b:1", "http://c:1", "http://a:1"]);
        assert!(!fail(&cluster, Route::Leader, &hint(Some("b:1"))), "the node names itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_broke_rests_and_comes_back() {
        let cluster = cluster(&THREE);
        let broken = Status::deadline_exceeded("text");
        assert!(fail(&cluster, Route::Leader, &broken), "another one can be asked at once");
        assert_eq!(pick(&cluster, Route::Leader), "http://b:1");
        assert!(!fail(&cluster, Route::Leader, &hint(Some("a:1"))), "the hint is not worth a visit yet");
        let stale: Vec<_> = (0..4).map(|_| pick(&cluster, Route::Any)).collect();
        assert!(!stale.contains(&"http://a:1".to_owned()), "{stale:?}");
        tokio::time::advance(REST_MIN).await;
        assert_eq!(pick(&cluster, Route::Leader), "http://a:1");
        cluster.succeeded(Route::Leader, &cluster.pick(Route::Leader, None).unwrap());
        assert_eq!(cluster.state().nodes[0].failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_cannot_serve_a_stale_read_rests_unless_it_is_in_use() {
        let cluster = cluster(&THREE);
        cluster.succeeded(Route::Leader, &cluster.pick(Route::Leader, None).unwrap());
        let behind = ErrorKind::Unavailable.status("behind");
        let nodes: Vec<_> = cluster.state().nodes.iter().map(|entry| Arc::clone(&entry.node)).collect();
        assert!(cluster.failed(Route::Any, &nodes[1], &behind));
        assert!(cluster.failed(Route::Any, &nodes[0], &behind));
        let asked: Vec<_> = (0..6).map(|_| pick(&cluster, Route::Any)).collect();
        assert!(!asked.contains(&THREE[1].to_owned()), "{asked:?}");
        assert_eq!(pick(&cluster, Route::Leader), THREE[0]);
        tokio::time::advance(REST_MIN).await;
        let asked: Vec<_> = (0..3).map(|_| pick(&cluster, Route::Any)).collect();
        assert!(asked.contains(&THREE[1].to_owned()), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_nodes_that_were_told_of_stand_in_for_one_that_was() {
        let cluster = cluster(&THREE[..1]);
        let node = cluster.pick(Route::Leader, None).unwrap();
        cluster.failed(Route::Leader, &node, &hint(Some("b:1")));
        assert_eq!(cluster.len(), 2);
        assert!(!cluster.failed(Route::Told, &node, &Status::deadline_exceeded("text")));
        assert!(cluster.failed(Route::Any, &node, &Status::deadline_exceeded("text")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_said_to_lead_does_not_rest_long() {
        let cluster = cluster(&THREE);
        let node = cluster.pick(Route::Leader, None).unwrap();
        for _ in 0..10 {
            cluster.failed(Route::Leader, &node, &Status::deadline_exceeded("text"));
        }
        tokio::time::advance(REST_MAX / 2).await;
        assert_ne!(pick(&cluster, Route::Leader), THREE[0]);
        assert!(!fail(&cluster, Route::Leader, &hint(Some("a:1"))));
        tokio::time::advance(REST_MIN / 2).await;
        assert!(!fail(&cluster, Route::Leader, &hint(Some("a:1"))), "saying it again makes it no longer");
        tokio::time::advance(REST_MIN / 2).await;
        assert_eq!(pick(&cluster, Route::Leader), THREE[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn with_all_resting_somebody_is_asked_all_the_same() {
        let cluster = cluster(&THREE[..2]);
        let broken = Status::deadline_exceeded("text");
        assert!(fail(&cluster, Route::Leader, &broken));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!fail(&cluster, Route::Leader, &broken), "nobody is left to be asked at once");
        assert_eq!(pick(&cluster, Route::Leader), "http://a:1", "the one that has rested longest");
        assert!(cluster.pick(Route::Leader, None).is_ok());
        assert!(Cluster::fixed(Vec::new()).pick(Route::Any, None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn stale_reads_go_round() {
        let cluster = cluster(&THREE);
        let mut asked: Vec<_> = (0..6).map(|_| pick(&cluster, Route::Any)).collect();
        asked.sort_unstable();
        assert_eq!(asked, [THREE[0], THREE[0], THREE[1], THREE[1], THREE[2], THREE[2]]);
        let other = cluster.pick(Route::Told, Some("http://a:1")).unwrap();
        assert_eq!(other.address, "http://b:1");
    }

    #[tokio::test(start_paused = true)]
    async fn members_come_and_go_and_those_told_of_stay() {
        let cluster = cluster(&THREE[..1]);
        let status = |addresses: &[&str]| {
            let member = |(number, address): (usize, &&str)| ClusterMember {
                node_id: number as u64 + 1,
                client_address: (*address).to_owned(),
                ..Default::default()
            };
            let members = addresses.iter().enumerate().map(member).collect();
            ClusterStatusResponse { members, leader_node_id: 2, ..Default::default() }
        };
        assert!(cluster.discovery_is_due());
        assert!(!cluster.discovery_is_due());
        let from = cluster.pick(Route::Told, None).unwrap();
        cluster.discovered(&from, &status(&["", "b:1", "c:1", "not an address"]));
        assert_eq!(cluster.len(), 3);
        assert_eq!(pick(&cluster, Route::Leader), "http://b:1");
        assert_eq!(pick(&cluster, Route::Told), "http://a:1");
        cluster.discovered(&from, &status(&["a:1", "b:1"]));
        assert_eq!(cluster.len(), 2);
        cluster.discovered(&from, &status(&[""]));
        assert_eq!(cluster.len(), 2, "a node that knows nothing");
        fail(&cluster, Route::Current, &Status::deadline_exceeded("text"));
        tokio::time::advance(DISCOVERY_INTERVAL_IN_TROUBLE).await;
        assert!(cluster.discovery_is_due());
        let many: Vec<_> = (0..200).map(|number| format!("n{number}:1")).collect();
        cluster.discovered(&from, &status(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(cluster.len() <= NODES_MAX);
    }
}
