//! Tests of a cluster of real processes: nodes are killed, stopped, cut off, filled up and replaced under load, and what
//! came of it is held against what clients were told.
//!
//! | file | what it is |
//! | --- | --- |
//! | `history` | records what clients call and what they are answered, while several do it at a time |
//! | `register` | what a single copy would answer; a published checker decides whether a history could be that of one |
//! | `proxy` | stands before every node and can cut or slow each direction between each two |
//! | `process`, `cluster`, `door` | real nodes, started, killed, paused, wiped; calls to them, one at a time |
//! | `load` | clients that work while things go wrong |
//! | `aftermath` | what must hold afterwards on every node |
//! | `gauges` | what nodes and the kernel tell of queues and memory |
//! | `chaos` | everything at random, for as long as one likes |
//! | `embedded` | a group inside this process, whose nodes are cut off from each other |
//! | the others | what goes wrong, one file for each kind |
//!
//! The checker is `todc-utils` (Wing and Gong, with Lowe's memoisation): its specification is a plain function and it depends on nothing.
//! `stateright` has a tester of its own as well, without memoisation and with a web server and the model checker in its
//! train; the crate called `porcupine` has nothing to do with the Go tool of that name.
//!
//! Longer, or once more:
//!
//! ```sh
//! STEEPLE_TEST_ROUNDS=10 STEEPLE_TEST_SEED=7 cargo test -p steeple-tests --test cluster -- --nocapture
//! ```

mod aftermath;
mod chaos;
mod cluster;
mod compacted;
mod door;
mod embedded;
mod faults;
mod gauges;
mod history;
mod imports;
mod load;
mod lost_majority;
mod members;
mod pressure;
mod process;
mod proxy;
mod register;
mod repair;
mod settings;
mod stores;
mod wiped;
mod writer;
