//! The `steeple` command, built beside the tests that kill it: the same one call as the program that is shipped, with a clock
//! that tests can shift.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use steeple_engine::ids::Timestamp;
use steeple_server::node::{Clock, NodeParts, SystemClock};

/// As the program that is shipped has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names the file that says by how many microseconds the clock is off, which is looked at again and again.
const CLOCK_FILE_VARIABLE: &str = "TEST_CLOCK_FILE";

/// Names the data directory when the process is to be the node of an example.
const CRASH_RECOVERY_VARIABLE: &str = "TEST_CRASH_RECOVERY_DATA";

#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../../server/examples/crash_recovery.rs"]
mod crash_recovery;

/// The machine's clock, off by what a file says.
struct ShiftedClock {
    file: PathBuf,
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let shift = std::fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Timestamp(SystemClock.now().0.saturating_add_signed(shift))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

/// The node of the example that kills its node.
fn serve_example(data: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(crash_recovery::serve_on(data)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    if let Some(data) = std::env::var_os(CRASH_RECOVERY_VARIABLE) {
        return serve_example(Path::new(&data));
    }
    match std::env::var_os(CLOCK_FILE_VARIABLE) {
        Some(file) => steeple_server::cli::main_with(NodeParts {
            clock: Arc::new(ShiftedClock { file: file.into() }),
            ..NodeParts::default()
        }),
        None => steeple_server::cli::main(),
    }
}
