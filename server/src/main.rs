//! The `steeple` command.

fn main() {}
