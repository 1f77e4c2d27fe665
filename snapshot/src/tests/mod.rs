//! A small node that lives while snapshots of it are taken, and what they must be good for.

mod damage;
mod golden;
mod moving;
mod node;
mod restoring;
mod round_trip;
