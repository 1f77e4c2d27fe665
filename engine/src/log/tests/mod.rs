//! Tests of the log over the simulated disk.

mod basics;
mod crash;
mod real;
mod support;
