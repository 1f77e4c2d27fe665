//! What was acknowledged survives: it is committed when it is answered, and stays.

use steeple_engine::domain::Answer;
use steeple_engine::ids::RequestId;
use steeple_server::node::Accepted;

use crate::history::History;
use crate::violation::{Checked, Violation};

const NAME: &str = "acknowledged writes";

/// What was acknowledged.
#[derive(Default)]
pub struct Acknowledged {
    newest: u64,
}

impl Acknowledged {
    /// Checks an answer to a mutation. `changed` says that it must be an event of its own.
    ///
    /// # Errors
    /// When no member has folded the event that it speaks of, or that one belongs to another request.
    pub fn check(&mut self, history: &History, request: RequestId, accepted: &Accepted, changed: bool) -> Checked {
        let revision = accepted.revision.0;
        self.newest = self.newest.max(revision);
        if revision > history.revision() {
            let found = format!("request {request} was answered with revision {revision}, which nobody has folded");
            return Err(Violation::new(NAME, found));
        }
        let is_final = accepted.answer.progress().is_none_or(|(_, more)| !more);
        if !changed || !is_final {
            return Ok(());
        }
        match history.event(revision).and_then(|event| event.request) {
            Some(stamp) if stamp.id == request => Ok(()),
            other => {
                let found = format!("request {request} was answered with revision {revision}, which is of {other:?}");
                Err(Violation::new(NAME, found))
            }
        }
    }

    /// Checks, once the cluster has converged, that a member holds everything.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_held(&self, member: usize, revision: u64) -> Checked {
        if revision >= self.newest {
            return Ok(());
        }
        let found = format!("member {member} ends at revision {revision}, and {} was acknowledged", self.newest);
        Err(Violation::new(NAME, found))
    }
}

/// Whether an answer says that something was changed by the request itself.
#[must_use]
pub fn tells_of_a_change(answer: &Answer) -> bool {
    use steeple_engine::spire::Answer as Spire;
    match answer {
        Answer::Spire(Spire::Entry { existing, .. }) => !existing,
        Answer::Spire(Spire::Nothing | Spire::Changed(_) | Spire::Progress { .. } | Spire::Batch { .. })
        | Answer::Namespace(_) => false,
        Answer::Spire(_) => true,
    }
}
