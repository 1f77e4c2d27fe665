//! The lease of a leader: for how long it may answer reads without asking anybody.
//!
//! A round of confirmation that comes back says that a quorum has heard the leader after the round was asked for. Each of
//! these voters has given its word not to help anybody else to lead for some time, measured by its own clock
//! (`steeple_raft`, the guard of votes). The leader measures a shorter time by its own, from before the question. Until that
//! is over no entry can have been committed but by this leader, and what it knows to be committed is all that anybody was
//! told of.
//!
//! While the first part of a lease lasts, reads do not even come to the group's thread: they find in a [`PublishedLease`]
//! which entry they have to see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steeple_engine::ids::LogIndex;
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_raft::{LeaseGround, Replica};

use super::Group;
use crate::node::Shared;
use crate::node::options::{Clock, ClusterOptions, VOTES_GUARDED_FROM};

/// From this part of a lease on, a read has the next one asked for, so that reads which keep coming never wait.
const RENEWED_FROM_PERCENT: u32 = 50;

/// What a round of confirmation stands on: asked for by a leader of this ground, at this time of its monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    ground: LeaseGround,
    at: Duration,
    /// How long a lease is.
    lasts: Duration,
}

/// How sure a leader may be at some moment that nobody else leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It has to ask.
    Over,
    /// It is sure, and should ask soon.
    Ending,
    /// It is sure.
    Firm,
}

/// The newest round that has come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease(Standing);

impl Lease {
    /// The lease that is there after a round has come back which was asked for with this standing.
    pub(super) fn after(before: Option<Self>, asked: Standing) -> Self {
        match before {
            Some(Self(newest)) if newest.ground == asked.ground && newest.at > asked.at => Self(newest),
            _ => Self(asked),
        }
    }

    /// Whether it covers what is asked with this standing.
    pub(super) fn covers(self, now: Standing) -> Hold {
        match now.at {
            _ if self.0.ground != now.ground || now.at >= self.0.at + self.0.lasts => Hold::Over,
            at if at >= self.firm_until() => Hold::Ending,
            _ => Hold::Firm,
        }
    }

    fn firm_until(self) -> Duration {
        self.0.at + self.0.lasts * RENEWED_FROM_PERCENT / 100
    }
}

/// What reads on any thread know of the lease.
///
/// The group's thread writes it before anything leaves this node of what follows from what it has taken up: a vote, an order
/// to another member to stand for election, a change of members, word that an entry is committed. So whoever finds a lease
/// here reads at a moment at which nobody else can lead, and finds an entry that covers all that anybody has been told of
/// until then. Whether the lease is over is to be asked of the clock after it was found, and the entry is to be read after
/// that: later ones are as good.
#[derive(Debug, Default)]
pub(in crate::node) struct PublishedLease {
    /// The end of the part in which nobody need ask for the next one, in nanoseconds of the monotonic clock; zero for none.
    firm_until: AtomicU64,
    committed: AtomicU64,
}

impl PublishedLease {
    /// The entry that a read must see which came before this call; `None` when the group has to be asked.
    pub(in crate::node) fn read_index(&self, clock: &dyn Clock) -> Option<LogIndex> {
        let firm_until = self.firm_until.load(Ordering::SeqCst);
        if firm_until == 0 || nanoseconds(clock.monotonic()) >= firm_until {
            return None;
        }
        reached("read: answered from a lease without asking the group");
        Some(LogIndex(self.committed.load(Ordering::SeqCst)))
    }

    fn publish(&self, firm_until: Option<Duration>, committed: LogIndex) {
        self.committed.store(committed.0, Ordering::SeqCst);
        self.firm_until.store(firm_until.map_or(0, nanoseconds), Ordering::SeqCst);
    }
}

/// Of a monotonic clock; enough for centuries.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// For how long a voter that has heard a leader helps nobody else to lead: what an election takes to begin at the least.
fn guarded_for(cluster: &ClusterOptions) -> Duration {
    cluster.tick.saturating_mul(u32::try_from(cluster.replica.election_ticks).unwrap_or(u32::MAX))
}

/// A replica that guards its votes. Every one does, whether leases are used or not: others may use them, and may have been
/// told to since this one was started. One that says that it does not support it is a stand-in for an older build.
pub(super) fn guarded(mut replica: Replica, shared: &Shared) -> Replica {
    let cluster = &shared.options.cluster;
    if cluster.features >= VOTES_GUARDED_FROM {
        replica.guard_votes(guarded_for(cluster), shared.clock.monotonic());
    }
    replica
}

impl Group {
    /// What a round would stand on that is asked for now, or a read that has come; `None` where leases are not used.
    ///
    /// The time is taken when this is called: after the reads came for which it is asked, and before their round leaves.
    pub(super) fn standing(&self) -> Option<Standing> {
        let (lasts, ground) = self.shared.options.cluster.lease.zip(self.ground())?;
        Some(Standing { ground, at: self.shared.clock.monotonic(), lasts })
    }

    fn ground(&self) -> Option<LeaseGround> {
        let leading = self.leading.as_ref()?;
        let all_guard = self.replica.membership().features() >= VOTES_GUARDED_FROM;
        if !all_guard && !is_planted(Bug::LeaseBeforeFeatures) {
            return None;
        }
        self.replica.lease_ground().filter(|ground| ground.term() == leading.term)
    }

    /// Tells reads on other threads of the lease, or that there is none any more; see [`PublishedLease`] for when.
    pub(super) fn publish_lease(&self) {
        if self.shared.options.cluster.lease.is_none() {
            return;
        }
        let ground = self.ground();
        let lease = self.reads.lease.filter(|lease| Some(lease.0.ground) == ground);
        self.shared.lease.publish(lease.map(Lease::firm_until), self.replica.committed());
    }
}
