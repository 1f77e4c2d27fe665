//! The published checker of linearizability over the contested keys: it knows nothing of revisions, and searches for an
//! order in which a single copy answers like this.

use std::collections::BTreeMap;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use crate::history::Held;
use crate::time::Instant;
use crate::violation::{Checked, Violation};
use crate::workload::Call;

/// Calls of one key that are searched at the most; a search takes time that grows with what is open at once.
const CALLS_MAX: usize = 120;

/// Calls without an answer among them at the most.
const OPEN_MAX: usize = 5;

/// What a call to a key was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Of a create: done.
    Created,
    /// Of a create: there is one, and it is like this.
    Exists(Held),
    /// Of an update: done, and it is now like this.
    Updated(Held),
    /// Of a delete: done, and it was like this.
    Deleted(Held),
    /// Of an update or a delete: there is none.
    Missing,
    /// Of a read.
    Found(Option<Held>),
    /// Nobody knows; it may still happen.
    Unknown,
}

/// What a call to a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create(i64),
    Update(i64),
    Delete,
    Read,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    asked: Asked,
    answered: Answered,
}

/// One call, and when it was made and answered.
#[derive(Clone, Copy, Debug)]
struct Done {
    began: Instant,
    ended: Instant,
    operation: Operation,
}

/// One record: absent, or held.
struct Register;

impl Specification for Register {
    type State = Option<Held>;
    type Operation = Operation;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Operation, state: &Self::State) -> (bool, Self::State) {
        let (expected, next) = carry_out(operation.asked, *state);
        let fits = operation.answered == expected || operation.answered == Answered::Unknown;
        (fits, if fits { next } else { *state })
    }
}

/// What a single copy answers, and what it holds then.
fn carry_out(asked: Asked, state: Option<Held>) -> (Answered, Option<Held>) {
    match (asked, state) {
        (Asked::Read, _) => (Answered::Found(state), state),
        (Asked::Create(_), Some(held)) => (Answered::Exists(held), state),
        (Asked::Create(value), None) => (Answered::Created, Some(Held { value, updates: 0 })),
        (Asked::Update(value), Some(held)) => {
            let next = Held { value, updates: held.updates + 1 };
            (Answered::Updated(next), Some(next))
        }
        (Asked::Delete, Some(held)) => (Answered::Deleted(held), None),
        (Asked::Update(_) | Asked::Delete, None) => (Answered::Missing, None),
    }
}

/// Calls to keys, in the order of their answers.
#[derive(Default)]
pub struct Recorder {
    keys: BTreeMap<String, Vec<Done>>,
}

impl Recorder {
    /// Notes an answer. Calls that are not about a key are left out.
    pub fn answered(&mut self, call: &Call, began: Instant, ended: Instant, answered: Answered) {
        let Some(key) = call.key() else { return };
        let asked = match call {
            Call::Create(_, value) => Asked::Create(*value),
            Call::Update(_, value) => Asked::Update(*value),
            Call::Delete(_) => Asked::Delete,
            Call::Read(_) => Asked::Read,
            _ => return,
        };
        let done = Done { began, ended, operation: Operation { asked, answered } };
        self.keys.entry(key.to_owned()).or_default().push(done);
    }

    /// Notes that a call will not be answered; `uncertain` says that it may have been carried out.
    pub fn unanswered(&mut self, call: &Call, began: Instant, uncertain: bool) {
        if uncertain && call.command().is_some() {
            self.answered(call, began, Instant::MAX, Answered::Unknown);
        }
    }

    /// Searches for an order of each key that is not too much for it.
    ///
    /// # Errors
    /// When there is none.
    pub fn check(&self) -> Checked {
        for (key, done) in &self.keys {
            let open = done.iter().filter(|done| done.ended == Instant::MAX).count();
            if open > OPEN_MAX || done.len() > CALLS_MAX {
                continue;
            }
            if !WGLChecker::<Register>::is_linearizable(History::from_actions(actions(done))) {
                let lines: Vec<String> = done.iter().map(|done| format!("{done:?}")).collect();
                let found = format!("no single copy answers like this under {key}:\n  {}", lines.join("\n  "));
                return Err(Violation::new("linearizability (search)", found));
            }
        }
        Ok(())
    }
}

/// Calls and answers in the order in which they were. Each call is a process of its own; an answer comes before a call of
/// the same moment only when it was given before, so calls go first.
fn actions(done: &[Done]) -> Vec<(usize, Action<Operation>)> {
    let mut moments: Vec<(Instant, bool, usize)> = Vec::with_capacity(done.len() * 2);
    for (process, done) in done.iter().enumerate() {
        moments.push((done.began, false, process));
        moments.push((done.ended, true, process));
    }
    moments.sort_unstable();
    let action = |(_, is_answer, process): (Instant, bool, usize)| {
        let operation = done[process].operation;
        (process, if is_answer { Action::Response(operation) } else { Action::Call(operation) })
    };
    moments.into_iter().map(action).collect()
}
