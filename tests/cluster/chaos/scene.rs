//! Lets things go wrong, and mends them.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use steeple_client::administration::{AddMemberRequest, ClusterStatusResponse, MemberRole};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::faults::{Fault, Nodes, draw};
use super::journal::Journal;
use crate::cluster::Cluster;
use crate::door::Door;
use crate::settings::PATIENCE;

/// Members of the group.
const MEMBERS: u64 = 3;

/// Things that go wrong at a time, and the milliseconds between two.
const AT_A_TIME: usize = 3;
const BETWEEN_MILLIS: std::ops::Range<u64> = 200..4_000;

/// Between two looks at what is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a node may take to end in good order, whatever else goes wrong.
const STOP_MAX: Duration = Duration::from_secs(45);

/// How long one step of a change of members may take before it is tried elsewhere.
const STEP_MAX: Duration = Duration::from_secs(4);

/// How a process ends when its disk is full.
const FAILED: i32 = 1;

/// The signal that asks a process to stop.
const SIGTERM: i32 = 15;

/// Something that goes wrong now.
struct Active {
    fault: Fault,
    began: Instant,
    until: Instant,
}

/// A change of members that is under way.
struct Replacing {
    old: u64,
    new: u64,
    task: JoinHandle<()>,
}

impl Drop for Replacing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A group in which things go wrong.
pub(super) struct Scene {
    cluster: Cluster,
    members: Vec<u64>,
    /// Ways in to all who may decide.
    doors: watch::Sender<Vec<(u64, Door)>>,
    active: Vec<Active>,
    replacing: Option<Replacing>,
    pub(super) journal: Journal,
}

impl Scene {
    pub(super) async fn start(settings: &str, journal: Journal) -> Self {
        let cluster = Cluster::start_with(MEMBERS, settings).await;
        let members: Vec<u64> = (1..=MEMBERS).collect();
        let doors = watch::Sender::new(cluster.doors_of(&members));
        Self { cluster, members, doors, active: Vec::new(), replacing: None, journal }
    }

    /// Ways in to all members, also to those that will be there later.
    pub(super) fn doors(&self) -> watch::Receiver<Vec<(u64, Door)>> {
        self.doors.subscribe()
    }

    /// Addresses of all members for clients.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|number| self.cluster.node(*number).client_address.to_string()).collect()
    }

    pub(super) fn assert_nobody_panicked(&self) {
        self.cluster.assert_nobody_panicked();
    }

    /// Lets things go wrong for so long.
    pub(super) async fn rage(&mut self, duration: Duration, random: &mut StdRng) {
        let (end, mut next) = (Instant::now() + duration, Instant::now());
        while Instant::now() < end {
            if Instant::now() >= next && self.active.len() < AT_A_TIME {
                let nodes = self.nodes().await;
                if let Some((fault, duration)) = draw(random, &nodes) {
                    self.begin(fault, duration, random).await;
                    next = Instant::now() + Duration::from_millis(random.random_range(BETWEEN_MILLIS));
                }
            }
            self.end_what_is_over(Instant::now());
            self.take_note_of_the_replaced().await;
            self.assert_nobody_ended();
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Mends everything.
    pub(super) async fn mend(&mut self) {
        let began = Instant::now();
        while !self.active.is_empty() {
            // Whoever ends in good order may take a while.
            self.end_what_is_over(began + PATIENCE);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.cluster.network.heal();
        self.journal.note("everything is mended");
    }

    /// Waits until all members serve and are those that they should be.
    pub(super) async fn settle(&mut self) {
        let began = Instant::now();
        while self.replacing.is_some() {
            self.take_note_of_the_replaced().await;
            assert!(began.elapsed() < PATIENCE, "nobody is replaced\n{}", self.cluster.last_messages());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        for number in self.members.clone() {
            self.cluster.wait_until_serving(number).await;
            let members = self.members.clone();
            self.cluster.wait_for_group(number, |group| group.ready && voters(group) == members).await;
        }
        self.cluster.leader_among(&self.members).await;
        self.assert_nobody_ended();
    }

    /// Who there is now.
    async fn nodes(&self) -> Nodes {
        let busy: Vec<u64> = self.active.iter().flat_map(|active| active.fault.busy()).collect();
        let lost = self.replacing.as_ref().map(|replacing| replacing.old);
        let there = |number: &u64| Some(*number) != lost;
        let all: Vec<u64> = self.members.iter().copied().filter(there).collect();
        let free: Vec<u64> = all.iter().copied().filter(|number| !busy.contains(number)).collect();
        let mut leader = None;
        for number in &free {
            leader =
                self.cluster.status(*number).await.map(|status| status.leader_node_id).filter(|leader| *leader != 0);
            if leader.is_some() {
                break;
            }
        }
        let joining = self.replacing.iter().map(|replacing| replacing.new);
        Nodes { all: all.into_iter().chain(joining).collect(), free, leader, may_replace: self.replacing.is_none() }
    }

    async fn begin(&mut self, fault: Fault, duration: Duration, random: &mut StdRng) {
        self.journal.fault(&fault, duration);
        match &fault {
            Fault::Kill(nodes) => nodes.iter().for_each(|number| self.cluster.node_mut(*number).kill()),
            Fault::Restart(number) => self.cluster.node(*number).ask_to_stop(),
            Fault::Pause(number) => self.cluster.node(*number).pause(),
            Fault::Cut(_, ways) => ways.iter().for_each(|(from, to)| self.cluster.network.cut(*from, *to)),
            Fault::Slow(ways, millis) => {
                let delay = Duration::from_millis(*millis);
                ways.iter().for_each(|(from, to)| self.cluster.network.delay(*from, *to, delay));
            }
            Fault::Reset(one, other) => self.cluster.network.reset(*one, *other),
            Fault::FullDisk(number) => self.cluster.node(*number).refuse_writes_behind(0),
            Fault::Clock(number, millis) => self.cluster.node(*number).shift_clock(millis * 1_000),
            Fault::Transfer(number) => self.hand_over(*number),
            Fault::Replace(number) => self.replace(*number, random.random_bool(0.5)).await,
        }
        if !fault.is_brief() {
            let began = Instant::now();
            self.active.push(Active { fault, began, until: began + duration });
        }
    }

    /// Asks for another leader, which may or may not come to pass.
    fn hand_over(&self, to: u64) {
        for (_, door) in self.cluster.doors_of(&self.members) {
            tokio::spawn(async move { drop(door.client(STEP_MAX).admin().transfer_leader(to).await) });
        }
    }

    /// A node loses everything, and another one takes its place.
    async fn replace(&mut self, old: u64, remove_first: bool) {
        self.cluster.lose(old);
        let new = self.cluster.prepare().await;
        self.cluster.launch(new);
        let member = AddMemberRequest {
            node_id: new,
            peer_address: self.cluster.address(new).to_string(),
            client_address: self.cluster.node(new).client_address.to_string(),
            as_learner: true,
        };
        let there: Vec<u64> = self.members.iter().copied().filter(|number| *number != old).collect();
        // The new one may lead as soon as it has a vote, before the old one is out.
        let doors = self.cluster.doors_of(&[&there[..], &[new]].concat());
        self.doors.send_replace(doors.clone());
        self.replacing =
            Some(Replacing { old, new, task: tokio::spawn(change_members(doors, old, member, remove_first)) });
    }

    async fn take_note_of_the_replaced(&mut self) {
        if !self.replacing.as_ref().is_some_and(|replacing| replacing.task.is_finished()) {
            return;
        }
        let mut replacing = self.replacing.take().expect("there is one");
        (&mut replacing.task).await.expect("a change of members");
        self.members.retain(|number| *number != replacing.old);
        self.members.push(replacing.new);
        self.journal.note(&format!("{} has taken the place of {}", replacing.new, replacing.old));
    }

    /// Ends what is over by then.
    fn end_what_is_over(&mut self, by: Instant) {
        let active = std::mem::take(&mut self.active);
        let (over, goes_on): (Vec<Active>, Vec<Active>) = active.into_iter().partition(|active| active.until <= by);
        self.active = goes_on;
        for active in over {
            if !self.end(&active) {
                self.active.push(active);
            }
        }
    }

    /// Mends what went wrong. `false` when that takes longer.
    fn end(&mut self, active: &Active) -> bool {
        match &active.fault {
            Fault::Kill(nodes) => nodes.iter().for_each(|number| self.cluster.launch(*number)),
            Fault::Restart(number) => return self.start_after_stopping(*number, active.began),
            Fault::Pause(number) => self.cluster.node(*number).resume(),
            Fault::Cut(_, ways) => self.mend_ways(ways),
            Fault::Slow(ways, _) => {
                ways.iter().for_each(|(from, to)| self.cluster.network.delay(*from, *to, Duration::ZERO));
            }
            Fault::FullDisk(number) => self.start_after_a_full_disk(*number),
            Fault::Reset(..) | Fault::Clock(..) | Fault::Transfer(_) | Fault::Replace(_) => {}
        }
        true
    }

    fn mend_ways(&self, ways: &[(u64, u64)]) {
        let still_cut = |way: &(u64, u64)| {
            self.active.iter().any(|active| matches!(&active.fault, Fault::Cut(_, ways) if ways.contains(way)))
        };
        for (from, to) in ways.iter().filter(|way| !still_cut(way)) {
            self.cluster.network.mend(*from, *to);
        }
    }

    fn start_after_stopping(&mut self, number: u64, asked: Instant) -> bool {
        let Some(status) = self.cluster.node_mut(number).ended() else {
            let said = || self.cluster.last_messages();
            assert!(asked.elapsed() < STOP_MAX, "node {number} does not stop\n{}", said());
            return false;
        };
        let before_it_listened = status.signal() == Some(SIGTERM) && !self.cluster.node(number).has_spoken();
        let said = || self.cluster.last_messages();
        assert!(status.success() || before_it_listened, "node {number} stopped with {status}\n{}", said());
        self.cluster.launch(number);
        true
    }

    /// A node that had nothing to write has not noticed: it is ended, as an operator would who makes room.
    fn start_after_a_full_disk(&mut self, number: u64) {
        match self.cluster.node_mut(number).ended() {
            Some(status) => assert_eq!(status.code(), Some(FAILED), "{status}\n{}", self.cluster.last_messages()),
            None => {
                self.journal.note(&format!("{number} went on with a full disk"));
                self.cluster.node_mut(number).kill();
            }
        }
        self.cluster.launch(number);
    }

    /// No process ends by itself, unless its disk is full.
    fn assert_nobody_ended(&mut self) {
        let busy: Vec<u64> = self.active.iter().flat_map(|active| active.fault.busy()).collect();
        let joining: Vec<u64> = self.replacing.iter().map(|replacing| replacing.new).collect();
        for number in self.members.clone().into_iter().chain(joining).filter(|number| !busy.contains(number)) {
            if let Some(status) = self.cluster.node_mut(number).ended() {
                panic!("node {number} ended by itself with {status}\n{}", self.cluster.last_messages());
            }
        }
    }
}

fn voters(group: &ClusterStatusResponse) -> Vec<u64> {
    group.members.iter().filter(|member| member.role() == MemberRole::Voter).map(|member| member.node_id).collect()
}

/// Puts one member in the place of another, step by step, however often a step fails or is forgotten.
async fn change_members(doors: Vec<(u64, Door)>, old: u64, new: AddMemberRequest, remove_first: bool) {
    loop {
        for (_, door) in &doors {
            let step = change_a_step(door, old, &new, remove_first);
            if tokio::time::timeout(STEP_MAX, step).await == Ok(true) {
                return;
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Takes the step that comes next, as this node sees the group; whether none is left.
async fn change_a_step(door: &Door, old: u64, new: &AddMemberRequest, remove_first: bool) -> bool {
    let admin = door.client(STEP_MAX).admin();
    let Ok(group) = admin.cluster_status().await else { return false };
    let role = |number| group.members.iter().find(|member| member.node_id == number).map(|member| member.role());
    // What fails, or comes to nothing, is seen the next time.
    match (role(old), role(new.node_id)) {
        (None, Some(MemberRole::Voter)) => return true,
        (Some(_), found) if remove_first || found == Some(MemberRole::Voter) => {
            drop(admin.remove_member(old).await);
        }
        (_, None) => drop(admin.add_member(new.clone()).await),
        (_, Some(_)) => drop(admin.promote_member(new.node_id).await),
    }
    false
}
