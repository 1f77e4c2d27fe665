//! A group of real nodes, and the network between them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steeple_client::administration::{ClusterStatusResponse, StatusResponse};
use tempfile::TempDir;

use crate::aftermath::{Kept, examine};
use crate::door::{Door, NAMESPACE};
use crate::load::{Load, Told};
use crate::process::{NodeProcess, steeple, steeple_does};
use crate::proxy::{Network, process_of};
use crate::settings::PATIENCE;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long a node may take to say how it is.
const STATUS_MAX: Duration = Duration::from_millis(500);

/// Small files, so that a test that writes little has many of them.
pub(crate) const SMALL_FILES: &str =
    "[log]\nsegment_bytes = \"1MiB\"\nsegment_entries = 512\n[tracing]\nlevel = \"info\"\n";

/// The same, of a group in which leaders answer reads from leases: what every node is told follows on its section `cluster`.
pub(crate) fn with_leases(settings: &str) -> String {
    format!("lease_reads = true\n{settings}")
}

/// A node of the group, with the address by which the others know it.
struct Member {
    process: NodeProcess,
    address: std::net::SocketAddr,
    /// Whether it was among the first.
    founder: bool,
    /// It is no member any more and never comes back.
    gone: bool,
}

/// Nodes numbered from 1. Their files are kept for a look when a test fails.
pub(crate) struct Cluster {
    members: Vec<Member>,
    pub(crate) network: Network,
    processes: Arc<Mutex<Vec<(u64, u32)>>>,
    settings: String,
    origin: Origin,
    directory: Option<TempDir>,
}

/// How a group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// One node that will never have others.
    Alone,
    /// Several that are told of each other.
    Together,
    /// One node with a restored data directory, which others join.
    Restored,
}

impl Cluster {
    /// Starts a group of as many nodes and waits until one leads.
    pub(crate) async fn start(nodes: u64) -> Self {
        Self::start_with(nodes, SMALL_FILES).await
    }

    /// As [`Cluster::start`], with other settings.
    pub(crate) async fn start_with(nodes: u64, settings: &str) -> Self {
        let mut cluster = Self::empty(settings, if nodes == 1 { Origin::Alone } else { Origin::Together });
        for _ in 0..nodes {
            cluster.add_member(true).await;
        }
        for number in 1..=nodes {
            cluster.launch(number);
        }
        for number in 1..=nodes {
            cluster.wait_until_serving(number).await;
        }
        let leader = cluster.leader().await;
        cluster
            .client(leader)
            .admin()
            .open_namespace(NAMESPACE)
            .await
            .unwrap_or_else(|error| panic!("no namespace: {error}\n{}", cluster.last_messages()));
        for number in cluster.numbers() {
            // A read that tolerates old answers may otherwise be told that there is no such namespace yet.
            cluster.client(number).admin().list_namespaces().await.expect("a current answer");
        }
        cluster
    }

    /// Starts a group of one on what a snapshot holds, and waits until it leads.
    pub(crate) async fn restore(snapshot: &Path) -> Self {
        let mut cluster = Self::empty(SMALL_FILES, Origin::Restored);
        let number = cluster.add_member(true).await;
        let (file, data) = (text(snapshot), text(&cluster.node(number).data()));
        steeple_does(&["snapshot", "restore", &file, "--data", &data]).await;
        cluster.restart(number).await;
        cluster.leader().await;
        cluster
    }

    fn empty(settings: &str, origin: Origin) -> Self {
        let processes = Arc::<Mutex<Vec<(u64, u32)>>>::default();
        let known = Arc::clone(&processes);
        let callers = move |address| process_of(address, &known.lock().expect("no panic"));
        Self {
            members: Vec::new(),
            network: Network::new(Arc::new(callers)),
            processes,
            settings: settings.to_owned(),
            origin,
            directory: Some(tempfile::Builder::new().prefix("steeple-cluster-").tempdir().expect("a directory")),
        }
    }

    /// A place for a file.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.as_ref().expect("kept until dropped").path().join(name)
    }

    /// A node that is to join the group. It is not started, and no member yet.
    pub(crate) async fn prepare(&mut self) -> u64 {
        self.add_member(false).await
    }

    async fn add_member(&mut self, founder: bool) -> u64 {
        let root = self.directory.as_ref().expect("kept until dropped").path();
        let process = NodeProcess::new(self.members.len() as u64 + 1, root);
        let number = process.number;
        let address = self.network.stand_before(number, process.peer_listen).await;
        self.members.push(Member { process, address, founder, gone: false });
        number
    }

    /// Numbers of all nodes that there ever were.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        (1..=self.members.len() as u64).collect()
    }

    fn member(&self, number: u64) -> &Member {
        &self.members[usize::try_from(number).expect("a small number") - 1]
    }

    /// A node.
    pub(crate) fn node(&self, number: u64) -> &NodeProcess {
        &self.member(number).process
    }

    /// A node.
    pub(crate) fn node_mut(&mut self, number: u64) -> &mut NodeProcess {
        &mut self.members[usize::try_from(number).expect("a small number") - 1].process
    }

    /// The address by which the others know a node.
    pub(crate) fn address(&self, number: u64) -> std::net::SocketAddr {
        self.member(number).address
    }

    /// Ends a node for good: its files are lost, and nobody is sent to it any more.
    pub(crate) fn lose(&mut self, number: u64) {
        self.node_mut(number).kill();
        std::fs::remove_dir_all(self.node(number).data()).expect("its files");
        self.members[usize::try_from(number).expect("a small number") - 1].gone = true;
    }

    /// Ways in to these nodes.
    pub(crate) fn doors_of(&self, numbers: &[u64]) -> Vec<(u64, Door)> {
        numbers.iter().map(|number| (*number, self.node(*number).door.clone())).collect()
    }

    /// Ways in to all nodes, in their order.
    pub(crate) fn doors(&self) -> Vec<Door> {
        self.members.iter().map(|member| member.process.door.clone()).collect()
    }

    /// The client library, on one node alone.
    pub(crate) fn client(&self, number: u64) -> steeple_client::Client {
        self.node(number).door.client(PATIENCE)
    }

    /// Adds a node that runs to the group, through the command line.
    pub(crate) async fn add(&self, number: u64, more: &[&str]) {
        let (number_text, peers) = (number.to_string(), self.address(number).to_string());
        let clients = self.node(number).client_address.to_string();
        let add = ["add", &number_text, "--peer-address", &peers, "--client-address", &clients];
        self.change(&[&add, more].concat()).await;
    }

    /// Gives a learner a vote as soon as it has caught up.
    pub(crate) async fn promote(&self, number: u64) {
        let number = number.to_string();
        let promoted = async {
            while !self.try_to_change(&["promote", &number]).await.status.success() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let promoted = tokio::time::timeout(PATIENCE, promoted).await;
        assert!(promoted.is_ok(), "node {number} is not promoted\n{}", self.last_messages());
    }

    /// Changes the group, through the command line.
    pub(crate) async fn change(&self, arguments: &[&str]) {
        let output = self.try_to_change(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.last_messages());
    }

    /// As [`Cluster::change`], which may be refused.
    pub(crate) async fn try_to_change(&self, arguments: &[&str]) -> Output {
        let running = self.members.iter().filter(|member| member.process.process().is_some());
        let endpoints: Vec<String> = running.map(|member| member.process.client_address.to_string()).collect();
        steeple(&[&["cluster"], arguments, &["--endpoint", &endpoints.join(",")]].concat()).await
    }

    /// Starts a node that does not run, without waiting for it.
    pub(crate) fn launch(&mut self, number: u64) {
        let section = self.section(number);
        let settings = self.settings.clone();
        self.node_mut(number).launch(&section, &settings);
        let process = self.node(number).process().expect("a process");
        let mut processes = self.processes.lock().expect("no panic");
        processes.retain(|(node, _)| *node != number);
        processes.push((number, process));
    }

    /// What a node is told about its group; nothing when it is alone.
    fn section(&self, number: u64) -> String {
        if self.origin == Origin::Alone {
            return String::new();
        }
        let quoted = |words: Vec<String>| format!("[{}]", words.join(", "));
        let founders = self.members.iter().filter(|member| member.founder);
        let others = match self.member(number).founder {
            true if self.origin == Origin::Restored => String::new(),
            true => {
                let name = |member: &Member| {
                    let (node, peers, clients) = (member.process.number, member.address, member.process.client_address);
                    format!("\"{node}={peers}/{clients}\"")
                };
                format!("initial = {}", quoted(founders.map(name).collect()))
            }
            false => {
                let others = self.members.iter().filter(|member| !member.gone && member.process.number != number);
                let clients = others.map(|member| format!("\"{}\"", member.process.client_address));
                format!("join = {}", quoted(clients.collect()))
            }
        };
        let advertise = format!("advertise = \"{}\"\n", self.address(number));
        let client = format!("client_advertise = \"{}\"\n", self.node(number).client_address);
        let listen = format!("listen = \"{}\"\n", self.node(number).peer_listen);
        format!("[cluster]\nnode = {number}\n{listen}{advertise}{client}{others}")
    }

    /// Waits until a node answers.
    pub(crate) async fn wait_until_serving(&mut self, number: u64) {
        self.node_mut(number).wait_until_serving().await;
    }

    /// Starts a node that does not run, and waits until it answers.
    pub(crate) async fn restart(&mut self, number: u64) {
        self.launch(number);
        self.wait_until_serving(number).await;
    }

    /// What a node knows of the group, if it says so.
    pub(crate) async fn group(&self, number: u64) -> Option<ClusterStatusResponse> {
        self.node(number).process()?;
        let group = async { self.node(number).door.client(STATUS_MAX).admin().cluster_status().await.ok() };
        tokio::time::timeout(STATUS_MAX, group).await.ok()?
    }

    /// Waits until a node says of the group what it should.
    pub(crate) async fn wait_for_group(&self, number: u64, is_so: impl Fn(&ClusterStatusResponse) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let group = self.group(number).await;
            if group.as_ref().is_some_and(&is_so) {
                return;
            }
            assert!(Instant::now() < deadline, "node {number} says {group:?}\n{}", self.last_messages());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// How a node is, if it says so.
    pub(crate) async fn status(&self, number: u64) -> Option<StatusResponse> {
        self.node(number).process()?;
        let status = async { self.node(number).door.client(STATUS_MAX).admin().status().await.ok() };
        tokio::time::timeout(STATUS_MAX, status).await.ok()?
    }

    /// Waits until a node says that it leads, and all others that answer say so too.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_among(&self.numbers()).await
    }

    /// As [`Cluster::leader`], looking only at these.
    pub(crate) async fn leader_among(&self, numbers: &[u64]) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut said = Vec::new();
            for number in numbers {
                said.extend(self.status(*number).await.map(|status| (*number, status.leader_node_id)));
            }
            if let Some((_, leader)) = said.first()
                && said.iter().all(|(_, other)| other == leader)
                && said.iter().any(|(node, _)| node == leader)
            {
                return *leader;
            }
            assert!(Instant::now() < deadline, "nobody leads: {said:?}\n{}", self.last_messages());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// One that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        self.numbers().into_iter().find(|number| *number != leader).expect("more than one node")
    }

    /// Lets nothing through between a node and all others, in both directions.
    pub(crate) fn isolate(&self, number: u64) {
        self.mute(number);
        self.deafen(number);
    }

    /// Lets nothing through from a node.
    pub(crate) fn mute(&self, number: u64) {
        for other in self.numbers() {
            self.network.cut(number, other);
        }
    }

    /// Lets nothing through to a node.
    pub(crate) fn deafen(&self, number: u64) {
        for other in self.numbers() {
            self.network.cut(other, number);
        }
    }

    /// Ends the load and holds everything against it: all nodes must run and reach each other.
    pub(crate) async fn examine(&self, load: Load) -> Told {
        let (recorder, told) = load.end().await;
        examine(&self.doors_of(&self.numbers()), &recorder, &told, Kept::Everything).await;
        told
    }

    /// No thread or task of a node broke off for a reason that cannot be, which need not end the node.
    pub(crate) fn assert_nobody_panicked(&self) {
        for number in self.numbers() {
            assert_eq!(self.node(number).said("panicked at"), 0, "node {number}:\n{}", self.node(number).messages());
        }
    }

    /// The end of what each node said.
    pub(crate) fn last_messages(&self) -> String {
        self.members
            .iter()
            .map(|member| format!("--- node {}\n{}\n", member.process.number, member.process.last_messages()))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            println!("{}\nfiles of the nodes are kept in {}", self.last_messages(), directory.keep().display());
        }
    }
}

/// A path as a word of a command line.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a readable path").to_owned()
}
