//! Tests of a real process: it is started, put under load, killed, damaged and started again.
//!
//! `crash` kills a node again and again under concurrent load and compares what it holds with an oracle; `damage` changes
//! its files while it is stopped; `refusals` starts it where it cannot run; `examples` runs the examples. What they promise together is in
//! `docs/reliability.md`.

mod checks;
mod consumer;
mod crash;
mod damage;
mod deployment;
mod examples;
mod operation;
mod records;
mod refusals;
mod steeple;
mod worker;
