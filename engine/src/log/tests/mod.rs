//! Tests of the log over the simulated disk, and one over a real one.

mod astray;
mod basics;
mod concurrent;
mod crash;
mod damage;
mod events;
mod golden;
mod holes;
mod hostile;
mod lost_end;
mod model;
mod old_content;
mod real;
mod support;
