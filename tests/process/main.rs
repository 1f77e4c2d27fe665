//! Tests of a real process: it is started, put under load, killed, damaged and started again.
//!
//! `crash` kills a node again and again under concurrent load and compares what it holds with an oracle; `damage` changes
//! its files while it is stopped; `refusals` starts it where it cannot run; `memory` looks at what it takes of the machine's; `examples` runs the
//! examples. What they promise together is in `docs/reliability.md`.
//!
//! Longer, or once more: a failed run prints its seed and keeps the node's files and messages. The seed repeats the workload
//! and when the node is killed, though not to the microsecond.
//!
//! ```sh
//! STEEPLE_TEST_KILLS=1000 STEEPLE_TEST_SEED=7 cargo test -p steeple-tests --test process -- --nocapture crash
//! ```

mod checks;
mod consumer;
mod crash;
mod damage;
mod deployment;
mod examples;
mod load;
mod memory;
mod operation;
mod plugin;
mod records;
mod refusals;
mod steeple;
mod worker;
