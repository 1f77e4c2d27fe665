//! Folding what is committed, on a leader and on a follower alike, and comparing the members' records now and then.
//!
//! A leader proposes a *check* from time to time. Whoever folds it notes the digest of its records at exactly that entry;
//! the check after it carries the digest that the leader had noted. A replica that noted another one has gone astray
//! ([`super::astray`]).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::{Entry, EntryKind};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::view::{Committed, FoldedPosition};

use super::astray::Finding;
use super::{Failure, Group};

/// What a replica held when it folded a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::node) struct Noted {
    version: u32,
    pub(super) index: u64,
    revision: u64,
    pub(super) digest: String,
}

/// What a check says besides: up to where the members have the committed log on their disks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Held {
    #[serde(default)]
    held: BTreeMap<u64, u64>,
}

/// A check as the leader proposes it.
#[derive(Debug, Serialize)]
struct Proposed<'a> {
    #[serde(flatten)]
    noted: Option<&'a Noted>,
    #[serde(flatten)]
    held: Held,
}

/// Entries before the last one that are looked through for checks when a node starts.
const RECALLED_ENTRIES: u64 = 10_000;

/// Checks folded and proposed.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// At the newest check folded since the start.
    noted: Option<Noted>,
    ticks: u64,
    /// How far the view was when the last check was proposed.
    proposed_at: LogIndex,
}

impl Noted {
    /// What records are that are folded up to here.
    pub(in crate::node) fn of(folded: FoldedPosition) -> Self {
        Self { version: 1, index: folded.index.0, revision: folded.revision.0, digest: folded.digest.to_string() }
    }
}

impl Checks {
    /// Other records are served from now on: the next check compares nothing.
    pub(super) fn forget(&mut self) {
        self.noted = None;
    }
}

impl Group {
    /// Folds entries in order. They become visible together, except that a change of members and a check end a batch.
    pub(super) fn fold_now(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let Some(last) = entries.last().map(|entry| entry.position.index) else { return Ok(()) };
        let started = Instant::now();
        let mut batch = Vec::with_capacity(entries.len());
        let mut own = self.proposed_up_to(last, entries.len()).into_iter().peekable();
        for entry in entries {
            let index = entry.position.index;
            if index <= self.core.view.folded().index {
                self.pass_over(entry)?;
                continue;
            }
            match entry.kind {
                EntryKind::Event => {
                    while own.next_if(|(proposed, _)| *proposed < index).is_some() {}
                    let proposed = own.next_if(|(proposed, _)| *proposed == index).map(|(_, event)| event);
                    batch.push(Committed { index, event: self.event_of(entry, proposed)? });
                }
                EntryKind::Empty => {}
                EntryKind::Membership => {
                    self.fold_events(&mut batch)?;
                    self.fold_membership(entry)?;
                }
                EntryKind::Check => {
                    self.fold_events(&mut batch)?;
                    self.core.view.note_folded(index);
                    self.fold_check(entry);
                }
            }
        }
        self.fold_events(&mut batch)?;
        self.core.view.note_folded(last);
        self.replica.applied(last);
        self.resume_changes(last);
        if let Some(leading) = &mut self.leading {
            leading.pipeline.folded(last)?;
        }
        self.shared.folded.send_replace(self.core.view.folded().revision);
        self.serve_readers();
        metrics::histogram!("steeple_fold_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// The events that this leader proposed up to an entry, so that they need not be decoded; `count` of them at the most, as a
    /// rule.
    fn proposed_up_to(&self, last: LogIndex, count: usize) -> Vec<(LogIndex, Arc<Event>)> {
        let Some(leading) = &self.leading else { return Vec::new() };
        let mut proposed = Vec::with_capacity(count);
        let up_to_last = leading.pipeline.proposed().take_while(|(index, _)| *index <= last);
        proposed.extend(up_to_last.map(|(index, event)| (index, Arc::clone(event))));
        proposed
    }

    fn event_of(&self, entry: &Entry, proposed: Option<Arc<Event>>) -> Result<Arc<Event>, Failure> {
        let own_term = self.leading.as_ref().map(|leading| leading.term);
        match proposed.filter(|_| own_term == Some(entry.position.term)) {
            Some(event) => Ok(event),
            None => {
                let index = entry.position.index;
                let mut event = Event::decode(&entry.payload).map_err(|source| Failure::Event { index, source })?;
                if is_planted(Bug::ChangeNotFolded) && entry.tag.is_multiple_of(5) && !event.changes.is_empty() {
                    event.changes.remove(0);
                }
                Ok(Arc::new(event))
            }
        }
    }

    /// Takes up what a view does not say that holds the entry already, because its records came from further ahead.
    fn pass_over(&mut self, entry: &Entry) -> Result<(), Failure> {
        let index = entry.position.index;
        match entry.kind {
            EntryKind::Event => {
                let event = self.event_of(entry, None)?;
                self.requests.remember(&event);
                self.core.recent.push(event);
            }
            EntryKind::Membership => {
                self.apply_membership(entry)?;
                self.follow_membership(index);
            }
            // What the records were at that entry is not known.
            EntryKind::Check => self.checks.forget(),
            EntryKind::Empty => {}
        }
        Ok(())
    }

    fn fold_events(&mut self, batch: &mut Vec<Committed>) -> Result<(), Failure> {
        #[cfg(test)]
        self.fold_wrongly(batch);
        self.core.view.fold(batch)?;
        if batch.iter().any(|committed| !committed.event.marks.is_empty()) {
            self.shared.given_up.notify_one();
        }
        for Committed { event, .. } in batch.drain(..) {
            if !is_planted(Bug::RequestsOfOthersForgotten) || self.decides() {
                self.requests.remember(&event);
            }
            self.core.recent.push(event);
        }
        Ok(())
    }

    fn fold_membership(&mut self, entry: &Entry) -> Result<(), Failure> {
        let index = entry.position.index;
        self.apply_membership(entry)?;
        let membership = self.replica.membership().encode();
        if !is_planted(Bug::MembershipNotKept) {
            self.core.view.fold_membership(index, &membership)?;
        }
        tracing::info!(%index, members = %String::from_utf8_lossy(&membership), "the members of the group have changed");
        self.follow_membership(index);
        Ok(())
    }

    /// Lets the replica go on with other members: once, also when the view could not take the entry up and has it again.
    fn apply_membership(&mut self, entry: &Entry) -> Result<(), Failure> {
        let index = entry.position.index;
        if index > self.membership_applied {
            self.replica.apply_membership(entry).map_err(|source| Failure::Membership { index, source })?;
            self.membership_applied = index;
        }
        Ok(())
    }

    fn follow_membership(&mut self, index: LogIndex) {
        self.connect();
        self.settle_changes(index);
        self.settle_astray_alone();
    }

    /// Compares what the leader noted at the check before with what was noted here, and notes what there is now.
    fn fold_check(&mut self, entry: &Entry) {
        self.note_held(entry);
        let folded = self.core.view.folded();
        let before = self.checks.noted.replace(Noted::of(folded));
        let Ok(leaders) = serde_json::from_slice::<Noted>(&entry.payload) else { return };
        match before.filter(|own| own.index == leaders.index) {
            Some(own) if own == leaders => self.agreed(),
            Some(own) => {
                reached("check: records differ from the leader's");
                self.disagreed(Finding { own, leaders });
            }
            None => {}
        }
    }

    fn note_held(&self, check: &Entry) {
        let Held { held } = serde_json::from_slice(&check.payload).unwrap_or_default();
        self.shared.roster.note_held(held.into_iter().map(|(node, index)| (NodeId(node), LogIndex(index))));
    }

    /// Looks for what the newest checks said of the members, so that it is known from the start.
    pub(super) fn recall_held(&self) {
        let (log, folded) = (&self.core.log, self.core.view.folded().index);
        let from = LogIndex(folded.0.saturating_sub(RECALLED_ENTRIES)).max(log.first());
        let recalled = log.scan(from, &mut |entry| {
            if entry.position.index > folded {
                return ControlFlow::Break(());
            }
            if entry.kind == EntryKind::Check {
                self.note_held(&entry);
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = recalled {
            tracing::warn!(%error, "what the members had confirmed is not known before the next check");
        }
    }

    /// Up to where each member has the committed log on its disk, as far as this leader knows.
    fn held(&self) -> Held {
        let (committed, folded) = (self.replica.committed(), self.core.view.folded().index);
        let others = self.replica.progress().into_iter();
        let others = others.map(|progress| (progress.node.0, progress.matched.min(committed).0));
        Held { held: others.chain([(self.id.0, folded.0)]).collect() }
    }

    /// Proposes a check when one is due and there is something to compare.
    pub(super) fn tick_checks(&mut self) {
        self.checks.ticks += 1;
        if !self.checks.ticks.is_multiple_of(self.shared.options.cluster.check_ticks.max(1))
            || self.leading.is_none()
            || self.is_alone()
        {
            return;
        }
        let folded = self.core.view.folded();
        if folded.index <= self.checks.proposed_at.next() {
            return;
        }
        let proposed = Proposed { noted: self.checks.noted.as_ref(), held: self.held() };
        // Never empty, which would make it an empty entry.
        let payload = serde_json::to_vec(&proposed).unwrap_or_else(|_| b"{}".to_vec());
        if let Ok(position) = self.replica.propose(EntryKind::Check, folded.revision.0, Bytes::from(payload)) {
            self.checks.proposed_at = position.index;
        }
    }
}

#[cfg(test)]
impl Group {
    /// Folds the event of one revision wrongly, when a test asks for that.
    fn fold_wrongly(&self, batch: &mut [Committed]) {
        let wrong = self.shared.fold_wrongly_at.load(std::sync::atomic::Ordering::SeqCst);
        for committed in batch.iter_mut().filter(|committed| committed.event.revision.0 == wrong) {
            let mut event = Event::clone(&committed.event);
            event.changes.clear();
            committed.event = Arc::new(event);
        }
    }
}
