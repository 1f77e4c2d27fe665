//! What a replica does whose records are not those of the leader: a check has shown it (see [`super::fold`]).
//!
//! It reads nothing out, decides nothing and does not lead until its records have been made anew: from its own base
//! snapshot and log, and when that gives the same again, or cannot be done, from a snapshot of the leader. Its log and
//! its vote are right all the while, so it goes on voting and confirming. A mark beside the base snapshot survives a
//! crash; the next start begins where this run ended.
//!
//! The leader's digest is taken for the right one, with one exception: a replica that has folded the whole log from the
//! first entry on once more, and found what it had, keeps its records. Then it is the leader who must fold again, which
//! it does once another node leads. And a replica that differs again although it had taken the leader's records does not
//! start over: it says so, and waits for somebody to look.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::simulation::reached;

use super::failed_store::FailedStore;
use super::fold::Noted;
use super::snapshots::{Takeover, arrived, target};
use super::{Failure, Group, Message};
use crate::node::install::{self, InstallError, Rebuilding};
use crate::node::work::CutOff;
use crate::peer::WantedSnapshot;

/// Ticks until records are fetched again after that has failed.
const AGAIN_TICKS: u32 = 20;

/// What was found at a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::node) struct Finding {
    /// The records here.
    pub(super) own: Noted,
    /// The records of the leader.
    pub(super) leaders: Noted,
}

/// What the records turn out to be when the log is folded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum Verdict {
    /// They are those of the leader now.
    Mended,
    /// The whole log gives what this replica had: the leader's are wrong.
    OwnAreRight,
    /// It cannot be told, or they are wrong still.
    NotMended,
}

impl Finding {
    /// What a replica finds that has other records than a leader with these.
    #[cfg(test)]
    pub(in crate::node) fn of_leader(leaders: steeple_engine::view::FoldedPosition) -> Self {
        let leaders = Noted::of(leaders);
        let mut own = leaders.clone();
        own.digest.clear();
        Self { own, leaders }
    }

    /// The entry at which the two were compared.
    pub(in crate::node) fn index(&self) -> LogIndex {
        LogIndex(self.own.index)
    }

    /// Judges records that were made from what this node has. `is_whole` says that they come from the log alone.
    pub(in crate::node) fn judge(&self, found: &Noted, is_whole: bool) -> Verdict {
        if *found == self.leaders {
            Verdict::Mended
        } else if is_whole && *found == self.own {
            Verdict::OwnAreRight
        } else {
            Verdict::NotMended
        }
    }
}

/// Whether the records are right, as far as anybody knows.
#[derive(Debug, Default)]
pub(super) struct Astray {
    stage: Stage,
    /// How the records were mended, since the last check that found nothing.
    mended: Option<Mended>,
    /// Ticks until the next attempt.
    wait: u32,
    /// The store has failed, so that nothing can be folded into it.
    pub(super) failed: Option<FailedStore>,
    /// How often one has failed in this run, or could not be made.
    pub(super) failures: u32,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Sound,
    /// They are to be made anew from what is here. Nothing was found wrong with them when their store has failed.
    Rebuild(Option<Finding>),
    /// They are to be made anew from the leader's.
    Fetch(Option<Finding>),
    /// That did not help.
    GivenUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mended {
    FromOwn,
    FromLeader,
    OwnAreRight,
}

impl Astray {
    /// A replica that was astray when it was stopped, and could not be mended by what it has.
    pub(super) fn since(finding: Option<Finding>) -> Self {
        Self { stage: finding.map_or(Stage::Sound, |finding| Stage::Fetch(Some(finding))), ..Self::default() }
    }

    /// Other records are needed, whatever is wrong with these.
    pub(super) fn need_other_records(&mut self) {
        if matches!(self.stage, Stage::Sound | Stage::GivenUp) {
            self.stage = Stage::Rebuild(None);
        }
    }
}

impl Group {
    /// Begins with what an earlier run has found, if that could not be mended at the start.
    pub(in crate::node) fn found_astray(mut self, finding: Option<Finding>) -> Self {
        self.astray = Astray::since(finding);
        self
    }

    pub(super) fn is_astray(&self) -> bool {
        !matches!(self.astray.stage, Stage::Sound)
    }

    /// The records here and the leader's were equal at a check.
    pub(super) fn agreed(&mut self) {
        self.astray.mended = None;
    }

    /// The records here and the leader's differed at a check.
    pub(super) fn disagreed(&mut self, finding: Finding) {
        metrics::counter!("steeple_divergence_total").increment(1);
        let (own, leaders) = (&finding.own, &finding.leaders);
        tracing::error!(?own, ?leaders, "this replica's records are not those of the leader");
        if self.is_astray() || self.is_only_voter() {
            return;
        }
        self.astray.stage = match self.astray.mended {
            None => Stage::Rebuild(Some(finding.clone())),
            Some(Mended::FromOwn) => Stage::Fetch(Some(finding.clone())),
            Some(Mended::FromLeader) => Stage::GivenUp,
            Some(Mended::OwnAreRight) => {
                tracing::error!(
                    "the whole log gives the records of this replica, so that the leader's are wrong: move leadership to \
                     another node, and the one that leads now makes its records anew"
                );
                return;
            }
        };
        self.stop_serving(&finding);
        self.mend_records();
    }

    /// From now on nobody sees the records, and none of them decides anything.
    fn stop_serving(&mut self, finding: &Finding) {
        if let Err(error) = self.core.base.mark_astray(finding) {
            tracing::error!(%error, "a restart would not know that the records are wrong");
        }
        self.begin_astray();
        if matches!(self.astray.stage, Stage::GivenUp) {
            tracing::error!(
                "the records differ again, although they were fetched from a leader: either this node or the one that \
                 leads computes wrongly. It answers no reads and does not lead. Move leadership to another node and restart \
                 this one; if it still differs, replace it"
            );
        }
    }

    /// Refuses reads, and the lead.
    pub(super) fn begin_astray(&mut self) {
        self.shared.diverged.store(self.is_astray(), Ordering::SeqCst);
        metrics::gauge!("steeple_diverged").set(f64::from(u8::from(self.is_astray())));
        self.replica.abstain(self.is_astray());
        if self.is_astray() {
            self.stop_leading();
        }
    }

    /// Does what is next to get the right records, unless something is under way.
    pub(super) fn mend_records(&mut self) {
        if self.is_taking_over() || self.astray.wait > 0 {
            return;
        }
        match &self.astray.stage {
            Stage::Sound | Stage::GivenUp => {}
            Stage::Rebuild(finding) => self.rebuild_records(finding.clone()),
            Stage::Fetch(finding) => self.fetch_records(finding.as_ref().map(Finding::index)),
        }
    }

    pub(super) fn tick_astray(&mut self) {
        self.astray.wait = self.astray.wait.saturating_sub(1);
        self.mend_records();
    }

    fn rebuild_records(&mut self, finding: Option<Finding>) {
        tracing::warn!("making the records anew from base snapshot and log");
        let Some(inbox) = self.shared.inbox_sender() else { return };
        self.takeover = Takeover::Preparing;
        let shared = Arc::clone(&self.shared);
        self.shared.work.spawn(async move {
            let alone = install::alone(&shared).await;
            let work = Arc::clone(&shared.work);
            let rebuilt = work.blocking(move || Rebuilding::prepare(shared, finding.as_ref(), alone)).await;
            drop(inbox.send(Message::Rebuilt(flat(rebuilt).map(Box::new))).await);
        });
    }

    /// Whose records to take: those of the leader. Where nothing was found wrong with the records, and only their store has
    /// failed, those of any member will do. There may be no leader without that: who has lost its records does not stand
    /// for election, and it may be the only one whose log is long enough.
    fn holder_of_records(&self, may_be_anyone: bool) -> Option<NodeId> {
        let is_other = |node: &NodeId| *node != self.id;
        let leader = self.replica.leadership().leader.filter(is_other);
        let members = || -> Vec<NodeId> {
            self.replica.membership().members.keys().copied().map(NodeId).filter(is_other).collect()
        };
        let anyone = || {
            let members = members();
            let place = (self.astray.failures as usize).checked_rem(members.len())?;
            members.get(place).copied()
        };
        leader.or_else(|| if may_be_anyone { anyone() } else { None })
    }

    /// Asks another member for its records: at least up to where a check has found something, if one has. Any that the log
    /// goes on behind will do.
    fn fetch_records(&mut self, checked: Option<LogIndex>) {
        let holder = self.holder_of_records(checked.is_none());
        let (Some(holder), Some(transport), Some(inbox)) = (holder, &self.transport, self.shared.inbox_sender()) else {
            return;
        };
        tracing::warn!(from = %holder, "making the records anew from a snapshot of another member");
        let log_base = LogIndex(self.core.log.contiguous_from().0.saturating_sub(1));
        let minimum = checked.unwrap_or_default().max(log_base);
        let (target, is_kept) = target(&self.shared);
        let fetching = transport.fetch_snapshot(holder, WantedSnapshot { minimum }, target.clone());
        let shared = Arc::clone(&self.shared);
        self.takeover = Takeover::Preparing;
        self.shared.work.spawn(async move {
            let rebuilt = match fetching.await {
                Err(error) => Err(format!("no snapshot was fetched: {error}")),
                Ok(fetched) => {
                    let alone = install::alone(&shared).await;
                    let work = Arc::clone(&shared.work);
                    let prepare = move || Rebuilding::from_peer(shared, arrived(fetched, target, is_kept)?, alone);
                    flat(work.blocking(prepare).await)
                }
            };
            drop(inbox.send(Message::Rebuilt(rebuilt.map(Box::new))).await);
        });
    }

    /// Serves from the records that were made anew, or tries what is left to try.
    pub(super) fn finish_rebuilding(&mut self, rebuilt: Result<Box<Rebuilding>, String>) -> Result<(), Failure> {
        self.takeover = Takeover::None;
        let mended = match rebuilt.as_ref().map(|rebuilding| rebuilding.verdict()) {
            Ok(Verdict::OwnAreRight) => Mended::OwnAreRight,
            _ if matches!(self.astray.stage, Stage::Fetch(_)) => Mended::FromLeader,
            _ => Mended::FromOwn,
        };
        match rebuilt.and_then(|rebuilding| rebuilding.finish().map_err(|error| error.to_string())) {
            Ok(core) => {
                self.stop_leading();
                self.core = core;
                self.fold_what_waited()?;
                if self.astray.failed.is_some() {
                    // The new store has failed as well.
                    self.astray.wait = AGAIN_TICKS;
                    return Ok(());
                }
                reached("records: made anew while the node ran");
                self.settle_astray(mended);
                self.serve_readers();
                self.open_term()
            }
            Err(error) => {
                tracing::warn!(error, "the records were not made anew this way");
                if self.astray.failed.is_some() {
                    self.count_failure(&error)?;
                }
                let has_others = self.transport.is_some() && !self.is_only_voter();
                match std::mem::take(&mut self.astray.stage) {
                    Stage::Rebuild(finding) if has_others || finding.is_some() => {
                        self.astray.stage = Stage::Fetch(finding);
                    }
                    stage => {
                        // There may be nobody to fetch them from, and what was in the way here may be gone.
                        let is_stuck = self.astray.failed.is_some() && matches!(stage, Stage::Fetch(None));
                        self.astray.stage = if is_stuck { Stage::Rebuild(None) } else { stage };
                        self.astray.wait = AGAIN_TICKS;
                    }
                }
                self.mend_records();
                Ok(())
            }
        }
    }

    /// A snapshot of the leader has taken the place of all that this node had.
    pub(super) fn replaced_by_leader(&mut self) {
        if self.is_astray() {
            self.settle_astray(Mended::FromLeader);
        }
        self.checks.forget();
    }

    fn settle_astray(&mut self, mended: Mended) {
        self.astray = Astray { mended: Some(mended), failures: self.astray.failures, ..Astray::default() };
        // What was noted was noted of the old records.
        self.checks.forget();
        if let Err(error) = self.core.base.unmark_astray() {
            tracing::warn!(%error, "the next start makes the records anew once more");
        }
        self.begin_astray();
        match mended {
            Mended::OwnAreRight => tracing::error!(
                "the whole log gives the records that this replica had, and it serves them again: the leader's are wrong. \
                 Move leadership to another node, and the one that leads now makes its records anew"
            ),
            Mended::FromOwn | Mended::FromLeader => tracing::info!("the records were made anew and are served again"),
        }
    }

    /// The only one who votes has nobody to compare its records with, and nobody else could lead.
    pub(super) fn settle_astray_alone(&mut self) {
        if self.is_astray() && self.astray.failed.is_none() && self.is_only_voter() {
            tracing::error!(
                "the records differed from those of a leader that is no member any more; they are served as they are"
            );
            self.settle_astray(Mended::FromOwn);
        }
    }

    fn is_only_voter(&self) -> bool {
        let membership = self.replica.membership();
        let is_own = |voter: &u64| NodeId(*voter) == self.id;
        membership.voters.contains(&self.id.0)
            && membership.voters.iter().chain(&membership.voters_outgoing).all(is_own)
    }
}

fn flat<T>(done: Result<Result<T, InstallError>, CutOff>) -> Result<T, String> {
    done.map_err(|error| error.to_string()).and_then(|done| done.map_err(|error| error.to_string()))
}
