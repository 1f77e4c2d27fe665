//! Model check of deciding ahead of commit and of the table of request ids: what a leader answers agrees with what is
//! folded, in every order of events that a small cluster can have.
//!
//! | file | what it is |
//! | --- | --- |
//! | `machine` | the real `Pipeline`, `View` and `RequestLedger`, run again from what a leader has been through |
//! | `cluster` | three nodes, an agreed log, leaders that come and go, clients that repeat; the checker walks through all of it |
//! | `verdict` | what must hold, decided without the code under test |
//! | `mistake` | mistakes that can be put in, each of which the checker must find |
//!
//! The checker is `stateright`. It asks for states that can be copied and compared, which a pipeline over a record store
//! is not. So the state of a leader is the list of what it has been through since it began to lead, and each step runs the
//! real code again from there; equal lists are run once. What is modelled, and not run, is consensus (`raft/src/tests`
//! and the simulator run that) and the little that `server::node::group` does around a pipeline: `cluster` follows it step by step.
//!
//! Consensus is taken for what it promises: there is one agreed log that only grows; a new leader holds all of it and any
//! part of what some earlier leader had beyond; only the newest leader can have its leadership confirmed, or something
//! agreed upon; an earlier one may learn late of either, and goes on believing that it leads until it is told. This allows
//! more than Raft does. Messages of clients may be late, and clients may repeat a request at any time at any leader.
//!
//! More of it, for which there is no time in CI: `STEEPLE_TEST_MODEL=large cargo test --release -p steeple-tests --test model`.

mod cluster;
mod machine;
mod mistake;
mod verdict;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use cluster::{Cluster, Scope};
use machine::{Deed, Key, Order};
use mistake::Mistake;

const CREATE_A: Order = Order { request: 1, deed: Deed::Create, key: Key(0) };
const DELETE_A: Order = Order { request: 2, deed: Deed::Delete, key: Key(0) };
const CREATE_A_TOO: Order = Order { request: 3, deed: Deed::Create, key: Key(0) };
/// Another command under the request id of [`CREATE_A`].
const REUSE: Order = Order { request: 1, deed: Deed::Create, key: Key(1) };

fn is_large() -> bool {
    std::env::var("STEEPLE_TEST_MODEL").is_ok_and(|scope| scope == "large")
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Walks through everything and wants every property to hold, and every case of interest to occur.
fn holds(name: &str, scope: Scope) {
    let started = Instant::now();
    let checker = Cluster::new(scope, None).checker().threads(threads()).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    println!(
        "{name}: {states} states, depth {}, {} runs of the real code, {:?}",
        checker.max_depth(),
        checker.model().machine().runs(),
        started.elapsed()
    );
    assert!(states > 1_000, "{name} has been cut down to {states} states");
}

#[test]
fn two_clients_that_repeat_at_other_leaders_are_answered_what_is_folded() {
    let orders = [(CREATE_A, 2), (DELETE_A, if is_large() { 2 } else { 1 })];
    holds("repeating", Scope { orders: orders.to_vec(), terms: 3, late: 0 });
}

#[test]
fn clients_that_compete_for_a_key_are_answered_what_is_folded() {
    let orders = [(CREATE_A, 1), (CREATE_A_TOO, 1), (DELETE_A, 1)];
    holds("competing", Scope { orders: orders.to_vec(), terms: if is_large() { 3 } else { 2 }, late: 0 });
}

#[test]
fn messages_that_come_late_are_answered_what_is_folded() {
    let orders = [(CREATE_A, if is_large() { 2 } else { 1 }), (DELETE_A, 1)];
    holds("late", Scope { orders: orders.to_vec(), terms: 3, late: 1 });
}

#[test]
fn a_request_id_that_is_used_twice_takes_effect_once() {
    let orders = [(CREATE_A, 1), (REUSE, 2)];
    holds("reused", Scope { orders: orders.to_vec(), terms: 3, late: 0 });
}

#[test]
fn every_mistake_that_is_put_in_is_found() {
    for mistake in Mistake::ALL {
        let started = Instant::now();
        let orders = match mistake {
            Mistake::RejectsUnfolded => vec![(CREATE_A, 1), (CREATE_A_TOO, 1)],
            Mistake::CountsRoundsAnew => vec![(CREATE_A, 1), (DELETE_A, 2)],
            _ => vec![(CREATE_A, 2), (DELETE_A, 2)],
        };
        let scope = Scope { orders, terms: 3, late: 0 };
        let broken: BTreeSet<_> = mistake.breaks().iter().map(|violation| violation.name()).collect();
        let checker = Cluster::new(scope, Some(mistake)).checker().threads(threads());
        let checker = checker.finish_when(HasDiscoveries::AllOf(broken.clone())).spawn_bfs().join();
        let found = checker.discoveries();
        for name in broken {
            let Some(path) = found.get(name) else { panic!("{mistake:?} is not found by `{name}`") };
            let actions = path.clone().into_actions();
            println!("{mistake:?}: `{name}` after {actions:?}, {:?}", started.elapsed());
        }
    }
}
