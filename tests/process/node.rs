//! The `steeple` command, built beside the tests that kill it: the same one call as the program that is shipped, with a clock
//! that tests can shift.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use steeple_engine::ids::Timestamp;
use steeple_server::node::{Clock, NodeParts, SystemClock};

/// Names the file that says by how many microseconds the clock is off, which is looked at again and again.
const CLOCK_FILE_VARIABLE: &str = "TEST_CLOCK_FILE";

/// The machine's clock, off by what a file says.
struct ShiftedClock {
    file: PathBuf,
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let shift = std::fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Timestamp(SystemClock.now().0.saturating_add_signed(shift))
    }
}

fn main() -> ExitCode {
    match std::env::var_os(CLOCK_FILE_VARIABLE) {
        Some(file) => steeple_server::cli::main_with(NodeParts {
            clock: Arc::new(ShiftedClock { file: file.into() }),
            ..NodeParts::default()
        }),
        None => steeple_server::cli::main(),
    }
}
