//! Tests of the pipeline over a log that is played by hand, and of replicas over simulated disks and a bad network.

mod cluster;
mod golden;
mod guard;
mod hand;
mod hostile;
mod pipeline;
mod random;
mod rules;
