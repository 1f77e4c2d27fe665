//! The `steeple` command.

use std::process::ExitCode;

/// A creation makes about a hundred small allocations, which cost it a quarter less with this one (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    steeple_server::cli::main()
}
