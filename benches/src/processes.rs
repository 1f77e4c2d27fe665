//! Real nodes with default settings, each in a process of its own: started, killed, started again.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scratch_directory;
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use steeple_client::administration::{ClusterStatusResponse, DigestResponse};
use steeple_client::{Client, Options};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The namespace that everything happens in.
pub const NAMESPACE: &str = "bench";

/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a node with a lot of data may take to start.
const START_MAX: Duration = Duration::from_secs(300);

/// Between two attempts to connect to a node that is starting.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Ports that the kernel does not hand out by itself: a node that is started again needs its own.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A node: its addresses, and its process while there is one.
struct NodeProcess {
    client_address: SocketAddr,
    http_address: SocketAddr,
    peer_address: SocketAddr,
    child: Option<Child>,
}

/// What nodes are told, as a file has it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lines of `node`.
    pub node: String,
    /// Everything else: where there are several nodes, lines of `cluster` come first and without its name.
    pub more: String,
}

/// Nodes numbered from 1, which form a group when there are several.
pub struct Group {
    nodes: Vec<NodeProcess>,
    program: PathBuf,
    /// What the nodes are told beside where they are.
    settings: Settings,
    directory: TempDir,
}

/// An address of this machine that nobody listens at.
pub fn free_address() -> SocketAddr {
    loop {
        let port = rand::rng().random_range(PORTS);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().expect("an address");
        }
    }
}

impl Group {
    /// Starts so many nodes and waits until one leads. `program` is what runs as `steeple`.
    pub async fn start(nodes: usize, program: PathBuf) -> Self {
        Self::start_with(nodes, program, Settings::default()).await
    }

    /// As [`Group::start`], with more settings.
    pub async fn start_with(nodes: usize, program: PathBuf, settings: Settings) -> Self {
        let node = || NodeProcess {
            client_address: free_address(),
            http_address: free_address(),
            peer_address: free_address(),
            child: None,
        };
        let nodes = (0..nodes).map(|_| node()).collect();
        let mut group = Self { nodes, program, settings, directory: scratch_directory() };
        for number in group.numbers() {
            fs::write(group.file(number, "toml"), group.settings(number)).expect("a file");
            group.launch(number);
        }
        group.leader().await;
        group.client().admin().open_namespace(NAMESPACE).await.expect("a namespace");
        group
    }

    /// What a node is told: where it is, and what this group was started with. Everything else is left as it is by default.
    fn settings(&self, number: usize) -> String {
        let node = &self.nodes[number - 1];
        let data = self.data(number);
        let (client, http, peer) = (node.client_address, node.http_address, node.peer_address);
        let mut text = format!("[node]\ndata = {data:?}\nlisten = \"{client}\"\nhttp_listen = \"{http}\"\n");
        text += &self.settings.node;
        if self.nodes.len() > 1 {
            let founder = |(place, node): (usize, &NodeProcess)| {
                format!("{}={}/{}", place + 1, node.peer_address, node.client_address)
            };
            let founders: Vec<_> = self.nodes.iter().enumerate().map(founder).collect();
            text += &format!("[cluster]\nnode = {number}\nlisten = \"{peer}\"\ninitial = {founders:?}\n");
        }
        text + &self.settings.more
    }

    /// The directory of what a node keeps.
    pub fn data(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("node-{number}"))
    }

    fn file(&self, number: usize, extension: &str) -> PathBuf {
        self.directory.path().join(format!("node-{number}.{extension}"))
    }

    /// Numbers of all nodes.
    pub fn numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.nodes.len()
    }

    /// Starts a node that does not run, without waiting for it.
    pub fn launch(&mut self, number: usize) {
        let messages = File::options().create(true).append(true).open(self.file(number, "log")).expect("a file");
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STEEPLE_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--config"]).arg(self.file(number, "toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        self.nodes[number - 1].child = Some(command.spawn().expect("a process"));
    }

    /// Ends a node with SIGKILL, at once.
    pub fn kill(&mut self, number: usize) {
        let mut child = self.nodes[number - 1].child.take().expect("a process");
        child.kill().expect("killing");
        child.wait().expect("an end");
    }

    /// Ends a node as a service manager does, and waits until it has ended.
    pub fn terminate(&mut self, number: usize) {
        self.signal(number, Signal::TERM);
        let mut child = self.nodes[number - 1].child.take().expect("a process");
        let status = child.wait().expect("an end");
        assert!(status.success(), "node {number} ended with {status}, see {}", self.keep());
    }

    /// Stops a node in the middle of what it does; its connections stay.
    pub fn pause(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    /// Lets a node go on that was stopped with [`Group::pause`].
    pub fn resume(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    fn signal(&self, number: usize, signal: Signal) {
        let process = i32::try_from(self.process(number)).ok().and_then(Pid::from_raw).expect("a number of a process");
        kill_process(process, signal).expect("a signal");
    }

    /// Starts a node that does not run, waits until it answers a read, and tells how long that took.
    pub async fn launch_and_wait(&mut self, number: usize) -> Duration {
        let started = Instant::now();
        self.launch(number);
        let address = self.nodes[number - 1].client_address;
        // The client library would wait longer and longer between its attempts.
        while TcpStream::connect(address).await.is_err() {
            assert!(started.elapsed() < START_MAX, "node {number} does not listen, see {}", self.keep());
            tokio::time::sleep(CONNECT_INTERVAL).await;
        }
        let namespace = self.client_of(number).namespace(NAMESPACE).with_deadline(START_MAX);
        namespace.fetch_registration_entry("none").await.expect("a node that answers");
        started.elapsed()
    }

    /// The process of a node that runs.
    pub fn process(&self, number: usize) -> u32 {
        self.nodes[number - 1].child.as_ref().expect("a process").id()
    }

    /// Where a node tells its metrics.
    pub fn http_address(&self, number: usize) -> SocketAddr {
        self.nodes[number - 1].http_address
    }

    /// A client with connections of its own, told of all nodes.
    pub fn client(&self) -> Client {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.client_address.to_string()).collect();
        Client::connect_lazy(addresses).expect("addresses")
    }

    /// A client of one node, which never asks another one.
    pub fn client_of(&self, number: usize) -> Client {
        let address = self.nodes[number - 1].client_address;
        Client::from_channel(Client::endpoint(format!("http://{address}")).expect("an address").connect_lazy())
    }

    /// How the group is in the eyes of one node, if it says so.
    async fn status(&self, number: usize) -> Option<ClusterStatusResponse> {
        const STATUS_MAX: Duration = Duration::from_millis(500);
        self.nodes[number - 1].child.as_ref()?;
        let client = self.client_of(number).with_options(Options::default().with_deadline(STATUS_MAX));
        client.admin().cluster_status().await.ok()
    }

    /// Waits until all nodes that run agree who leads.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.numbers().filter(|number| self.nodes[number - 1].child.is_some());
            let mut said = Vec::new();
            for number in running {
                said.push(self.status(number).await.map_or(0, |status| status.leader_node_id as usize));
            }
            if said[0] != 0 && said.iter().all(|leader| *leader == said[0]) {
                return said[0];
            }
            assert!(Instant::now() < deadline, "nobody leads: {said:?}, see {}", self.keep());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// One that does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.numbers().find(|number| *number != leader).expect("more than one node")
    }

    /// Waits until a node has folded what the leader had folded when this was called.
    pub async fn wait_until_caught_up(&self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        let leader = self.leader().await;
        let target = self.status(leader).await.expect("a leader that answers").folded_log_index;
        while self.status(number).await.is_none_or(|status| status.folded_log_index < target) {
            assert!(Instant::now() < deadline, "node {number} does not catch up, see {}", self.keep());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The digests of all nodes, computed from what they have stored, at one revision.
    pub async fn digests(&self) -> Vec<DigestResponse> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut digests = Vec::new();
            for number in self.numbers() {
                digests.push(self.client_of(number).admin().digest(true).await.expect("a digest"));
            }
            if digests.iter().all(|digest| digest.revision == digests[0].revision) {
                return digests;
            }
            assert!(Instant::now() < deadline, "the nodes are never at one revision: {digests:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Where the files are, which stay when this is called before a panic.
    fn keep(&self) -> String {
        self.directory.path().display().to_string()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
        }
    }
}
