//! The `steeple` command, built beside the tests that kill it: the same one call as the program that is shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    steeple_server::cli::main()
}
