//! Tests of the log over the simulated disk.

mod basics;
mod real;
mod support;
