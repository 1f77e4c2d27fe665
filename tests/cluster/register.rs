//! What a single copy of a record would answer, and whether a history can be that of one.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use crate::history::{Answer, Call, Done, Held};

/// How long the search for an order of one key may take; beyond it, the workload is not fit to be checked.
const SEARCH_MAX: Duration = Duration::from_secs(60);

/// One record: absent, or held with a value and a number of updates.
struct Register;

/// A call with its answer: the specification judges them together.
#[derive(Clone, Copy, Debug)]
struct Operation {
    call: Call,
    answer: Answer,
}

impl Specification for Register {
    type State = Option<Held>;
    type Operation = Operation;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Operation, state: &Self::State) -> (bool, Self::State) {
        let (answer, next) = carry_out(operation.call, *state);
        let fits = operation.answer == answer || operation.answer == Answer::Unknown;
        (fits, if fits { next } else { *state })
    }
}

/// What one copy answers, and what it holds then.
fn carry_out(call: Call, state: Option<Held>) -> (Answer, Option<Held>) {
    match (call, state) {
        (Call::Create(value), None) => (Answer::Created, Some(Held { value, revision: 0 })),
        (Call::Create(_), Some(held)) => (Answer::Exists(held), state),
        (Call::Update(value), Some(held)) => {
            let updated = Held { value, revision: held.revision + 1 };
            (Answer::Updated(updated), Some(updated))
        }
        (Call::Delete, Some(held)) => (Answer::Deleted(held), None),
        (Call::Update(_) | Call::Delete, None) => (Answer::Missing, None),
        (Call::Read, _) => (Answer::Found(state), state),
    }
}

/// Holds each key's history against one copy.
///
/// # Panics
/// When there is a key whose history no single copy can have.
pub(crate) fn assert_linearizable(keys: &BTreeMap<String, Vec<Done>>) {
    for (key, done) in keys {
        assert!(is_linearizable(done), "no single copy answers like this under {key}:\n{}", described(done));
    }
}

/// Whether an order exists in which a single copy answers like this, and in which no call comes before one that was answered
/// before it was made. Calls without answer may have happened at any time after they were made, or never.
pub(crate) fn is_linearizable(done: &[Done]) -> bool {
    if done.is_empty() {
        return true;
    }
    let history = History::from_actions(actions(done));
    let (sender, verdict) = mpsc::channel();
    // Of the search, only that it ends is known, not when.
    std::thread::spawn(move || {
        // Nobody waits any longer once the time is over.
        let _ = sender.send(WGLChecker::<Register>::is_linearizable(history));
    });
    verdict.recv_timeout(SEARCH_MAX).unwrap_or_else(|_| panic!("no order found in time among {} calls", done.len()))
}

/// Calls and answers in the order in which they were. Each call is a process of its own: what orders them is time alone.
fn actions(done: &[Done]) -> Vec<(usize, Action<Operation>)> {
    let mut moments: Vec<(u64, usize, bool)> = Vec::with_capacity(done.len() * 2);
    for (process, done) in done.iter().enumerate() {
        moments.push((done.called_at, process, false));
        moments.push((done.answered_at, process, true));
    }
    moments.sort_unstable();
    moments
        .into_iter()
        .map(|(_, process, is_answer)| {
            let operation = Operation { call: done[process].call, answer: done[process].answer };
            (process, if is_answer { Action::Response(operation) } else { Action::Call(operation) })
        })
        .collect()
}

fn described(done: &[Done]) -> String {
    let mut done = done.to_vec();
    done.sort_unstable_by_key(|done| done.called_at);
    let line = |done: &Done| {
        let until = if done.answered_at == u64::MAX { "open".to_owned() } else { done.answered_at.to_string() };
        format!("  {:>8} to {until:>8}: {:?} -> {:?}", done.called_at, done.call, done.answer)
    };
    done.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call from one moment to another; 0 is never.
    fn done(from: u64, until: u64, call: Call, answer: Answer) -> Done {
        Done { called_at: from, answered_at: if until == 0 { u64::MAX } else { until }, call, answer }
    }

    fn held(value: u64, revision: i64) -> Held {
        Held { value, revision }
    }

    fn found(value: u64, revision: i64) -> Answer {
        Answer::Found(Some(held(value, revision)))
    }

    #[track_caller]
    fn check(expected: bool, history: &[Done]) {
        assert_eq!(is_linearizable(history), expected, "{}", described(history));
    }

    #[test]
    fn one_client_after_the_other() {
        check(
            true,
            &[
                done(1, 2, Call::Read, Answer::Found(None)),
                done(3, 4, Call::Create(1), Answer::Created),
                done(5, 6, Call::Create(2), Answer::Exists(held(1, 0))),
                done(7, 8, Call::Update(3), Answer::Updated(held(3, 1))),
                done(9, 10, Call::Delete, Answer::Deleted(held(3, 1))),
                done(11, 12, Call::Delete, Answer::Missing),
                done(13, 14, Call::Read, Answer::Found(None)),
            ],
        );
    }

    #[test]
    fn a_read_that_is_late_is_caught() {
        let created = done(1, 2, Call::Create(1), Answer::Created);
        let updated = done(3, 6, Call::Update(2), Answer::Updated(held(2, 1)));
        check(true, &[created, updated, done(4, 5, Call::Read, found(1, 0))]);
        check(true, &[created, updated, done(4, 5, Call::Read, found(2, 1))]);
        check(false, &[created, updated, done(7, 8, Call::Read, found(1, 0))]);
    }

    #[test]
    fn two_reads_do_not_go_back() {
        let created = done(1, 2, Call::Create(1), Answer::Created);
        let updated = done(3, 20, Call::Update(2), Answer::Updated(held(2, 1)));
        let (new, old) = (found(2, 1), found(1, 0));
        check(true, &[created, updated, done(4, 5, Call::Read, old), done(6, 7, Call::Read, new)]);
        check(false, &[created, updated, done(4, 5, Call::Read, new), done(6, 7, Call::Read, old)]);
    }

    #[test]
    fn what_was_acknowledged_is_not_lost() {
        let created = done(1, 2, Call::Create(1), Answer::Created);
        let updated = done(3, 4, Call::Update(2), Answer::Updated(held(2, 1)));
        check(false, &[created, updated, done(5, 6, Call::Update(3), Answer::Updated(held(3, 1)))]);
        check(false, &[created, done(5, 6, Call::Read, Answer::Found(None))]);
        check(false, &[created, done(5, 6, Call::Create(2), Answer::Created)]);
    }

    #[test]
    fn what_was_done_twice_is_caught() {
        let created = done(1, 2, Call::Create(1), Answer::Created);
        let updated = done(3, 4, Call::Update(2), Answer::Updated(held(2, 1)));
        check(false, &[created, updated, done(5, 6, Call::Read, found(2, 2))]);
        check(false, &[created, done(3, 0, Call::Update(2), Answer::Unknown), done(5, 6, Call::Read, found(2, 2))]);
    }

    #[test]
    fn what_is_unknown_may_happen_late_or_never_but_only_once() {
        let created = done(1, 2, Call::Create(1), Answer::Created);
        let open = done(3, 0, Call::Update(2), Answer::Unknown);
        let (old, new) = (found(1, 0), found(2, 1));
        check(true, &[created, open, done(5, 6, Call::Read, old)]);
        check(true, &[created, open, done(5, 6, Call::Read, new)]);
        check(true, &[created, open, done(5, 6, Call::Read, old), done(7, 8, Call::Read, new)]);
        check(false, &[created, open, done(5, 6, Call::Read, new), done(7, 8, Call::Read, old)]);
        // Not before it was asked for, though.
        check(false, &[created, done(3, 4, Call::Read, new), done(5, 0, Call::Update(2), Answer::Unknown)]);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_caught() {
        check(false, &[done(1, 2, Call::Create(1), Answer::Created), done(3, 4, Call::Read, found(7, 0))]);
    }

    #[test]
    fn a_long_history_of_many_clients_is_decided_quickly() {
        let mut history = vec![done(0, 1, Call::Create(0), Answer::Created)];
        for value in 1..90_u64 {
            let began = value * 10;
            let revision = i64::try_from(value).expect("a small number");
            // Each update overlaps the next one's beginning and some reads of either value.
            history.push(done(began, began + 14, Call::Update(value), Answer::Updated(held(value, revision))));
            history.push(done(began + 5, began + 9, Call::Read, found(value, revision)));
            history.push(done(began + 2, began + 4, Call::Read, found(value - 1, revision - 1)));
            if value % 30 == 0 {
                history.push(done(began + 1, 0, Call::Delete, Answer::Unknown));
            }
        }
        check(true, &history);
        history.push(done(10_000, 10_001, Call::Read, found(1, 1)));
        check(false, &history);
    }
}
