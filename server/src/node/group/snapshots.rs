//! Taking over a snapshot of the leader, when its log does not reach back to where this one ends.
//!
//! The offer comes with Raft's messages; the snapshot itself is fetched beside them, checked and loaded beside the state
//! in use, and only then takes its place. By then it may not be needed any more: it is taken over only if it holds more
//! than is committed here, and the log does not hold its last entry, so that nothing that this node has confirmed to
//! anyone is lost with the log that it replaces. From there until the log is filled the replica rests: it hears and says
//! nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::ids::{LogPosition, Term};
use steeple_engine::log::LogWriter;
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_raft::SnapshotOffer;
use steeple_snapshot::publish::partial_path;

use super::lease::guarded;
use super::{Failure, Group, Message};
use crate::node::install::{self, Arrived, InstallError, Installation};
use crate::node::log_writer::Task;
use crate::node::{Shared, open};
use crate::peer::{FetchedSnapshot, WantedSnapshot};

/// Where a snapshot that is being taken over stands.
#[derive(Default, PartialEq, Eq)]
pub(super) enum Takeover {
    #[default]
    None,
    /// It is fetched, checked and loaded, or the records are being made anew.
    Preparing,
    /// The log is being filled; the replica rests.
    Filling,
}

impl Group {
    pub(in crate::node) fn is_taking_over(&self) -> bool {
        self.takeover != Takeover::None
    }

    /// Whether the replica must neither hear nor say anything: its log is being replaced, or it is not certain yet that it
    /// has not confirmed things that it has forgotten.
    pub(super) fn rests(&self) -> bool {
        self.takeover == Takeover::Filling || !self.shared.roster.is_confirmed()
    }

    /// Fetches what the leader offers, unless that is under way. The leader repeats its offer.
    pub(super) fn fetch(&mut self, offer: SnapshotOffer) {
        if self.is_taking_over() {
            return;
        }
        let (Some(transport), Some(inbox)) = (&self.transport, self.shared.inbox_sender()) else { return };
        tracing::info!(from = %offer.from, index = %offer.holds.index, "the leader's log begins too late: fetching a snapshot");
        let (target, is_kept) = target(&self.shared);
        // Not what the leader has by now: what was begun to be fetched may do as well, if the leader's log goes on there.
        let wanted = WantedSnapshot { minimum: self.replica.committed().next() };
        let fetching = transport.fetch_snapshot(offer.from, wanted, target.clone());
        let shared = Arc::clone(&self.shared);
        self.takeover = Takeover::Preparing;
        self.shared.work.spawn(async move {
            let prepared = match fetching.await {
                Err(error) => Err(format!("it was not fetched: {error}")),
                Ok(fetched) => {
                    let alone = install::alone(&shared).await;
                    let work = Arc::clone(&shared.work);
                    let prepare = move || Installation::prepare(shared, arrived(fetched, target, is_kept)?, alone);
                    let prepared = work.blocking(prepare).await;
                    prepared.map_err(|error| error.to_string()).and_then(|done| done.map_err(|error| error.to_string()))
                }
            };
            // A group that has stopped needs none.
            drop(inbox.send(Message::Prepared(prepared.map(Box::new))).await);
        });
    }

    /// Replaces the log by that of a snapshot which has been loaded, if it is still needed.
    pub(super) fn take_over(&mut self, prepared: Result<Box<Installation>, String>) -> Result<(), Failure> {
        self.takeover = Takeover::None;
        let mut installation = match prepared {
            Ok(installation) => installation,
            Err(error) => {
                metrics::counter!("steeple_snapshots_failed_total").increment(1);
                tracing::warn!(error, "a snapshot was not taken over; the leader offers it again if it is needed");
                return Ok(());
            }
        };
        let manifest = installation.manifest();
        let end = LogPosition { term: manifest.term.unwrap_or(Term(0)), index: manifest.state.index };
        if !self.replica.needs(end) {
            reached("snapshot: not needed any more");
            tracing::info!(index = %end.index, "a snapshot is not needed any more");
            return Ok(());
        }
        let Some(inbox) = self.shared.inbox_sender() else { return Ok(()) };
        self.takeover = Takeover::Filling;
        self.stop_leading();
        let fill = move |writer: &mut LogWriter| {
            let filled = installation.fill_log(writer);
            // A group that has stopped leaves it to the next start.
            drop(inbox.blocking_send(Message::Filled(installation, filled)));
        };
        self.hand_to_log(Task::Run(Box::new(fill)))
    }

    /// Goes on from a snapshot whose log has been filled.
    pub(super) fn finish_takeover(
        &mut self,
        installation: Installation,
        filled: Result<LogPosition, InstallError>,
    ) -> Result<(), Failure> {
        self.takeover = Takeover::None;
        match filled {
            Err(InstallError::Overtaken { .. }) => return Ok(()),
            Err(error) => return Err(Failure::Install(error.to_string())),
            Ok(_) => {}
        }
        let state = self.replica.handed_out();
        let missing = || Failure::Install("its log was not filled".into());
        let installed = installation.finish().ok_or_else(missing)?;
        metrics::counter!("steeple_snapshots_installed_total").increment(1);
        tracing::info!(index = %installed.position.index, "goes on from a snapshot");
        let options = &self.shared.options;
        let replica = open::replica(options, self.id, &installed.core, state, self.shared.random.number())
            .map_err(|error| Failure::Install(error.to_string()))?;
        self.replica = guarded(replica, &self.shared);
        if !is_planted(Bug::SnapshotForgetsRequests) {
            self.requests = installed.requests;
        }
        self.core = installed.core;
        self.writing.clear();
        self.connect();
        // Its records are those of the member that sent it.
        self.replaced_by_leader();
        self.serve_readers();
        Ok(())
    }
}

/// A place for snapshots that arrive at a node without a directory: one for its whole run, so that what has arrived of one
/// is there for the next attempt, and gone with the node.
pub(in crate::node) struct Scratch(PathBuf);

impl Scratch {
    pub(in crate::node) fn new(random: u128) -> Self {
        Self(std::env::temp_dir().join(format!("steeple-snapshot-{random:032x}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nothing to remove unless something was fetched.
        drop(fs::remove_file(&self.0));
        if let Ok(partial) = partial_path(&self.0) {
            drop(fs::remove_file(partial));
        }
    }
}

/// Where a snapshot arrives, and whether it stays there.
pub(super) fn target(shared: &Shared) -> (PathBuf, bool) {
    match shared.core().base.incoming_path() {
        Some(path) => (path, true),
        None => (shared.scratch.0.clone(), false),
    }
}

/// What has been fetched, as whoever loads it wants it.
pub(super) fn arrived(fetched: FetchedSnapshot, target: PathBuf, is_kept: bool) -> Result<Arrived, InstallError> {
    if let Some(bytes) = fetched.memory() {
        return Ok(Arrived::Memory(bytes));
    }
    fetched.publish()?;
    if is_kept {
        return Ok(Arrived::File(target));
    }
    let bytes = Bytes::from(fs::read(&target)?);
    fs::remove_file(&target)?;
    Ok(Arrived::Memory(bytes))
}
