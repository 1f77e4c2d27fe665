//! What the benchmarks share: a generator of realistic entries, groups filled with them, and a clock of CPU time.
//!
//! `cargo bench -p steeple-benches -- --test` runs every benchmark once on little data. Figures worth reading come from
//! the sizes named in `docs/performance.md`, which are set by [`SIZES_VARIABLE`].

pub mod accepted;
pub mod appending;
pub mod arguments;
pub mod asking;
pub mod bare_file;
pub mod cpu_time;
pub mod deployment;
pub mod interruption;
pub mod machine;
pub mod messages;
pub mod plot;
pub mod population;
pub mod processes;
pub mod running;
pub mod spread;
pub mod usage;

use std::path::PathBuf;

use tempfile::TempDir;

/// The one that is delivered.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Environment variable with the numbers of entries to measure at, separated by commas.
pub const SIZES_VARIABLE: &str = "STEEPLE_BENCH_SIZES";

/// Environment variable with the directory for files; it should be on the kind of disk that a node would use.
pub const DIRECTORY_VARIABLE: &str = "STEEPLE_BENCH_DIR";

/// Entries when [`SIZES_VARIABLE`] is not set: enough to run every path, little enough for a check in passing.
const SIZE_DEFAULT: u64 = 1000;

/// The numbers of entries to measure at.
///
/// # Panics
/// When the variable holds anything but numbers.
#[must_use]
pub fn sizes() -> Vec<u64> {
    let Ok(text) = std::env::var(SIZES_VARIABLE) else { return vec![SIZE_DEFAULT] };
    text.split(',').map(|size| size.trim().parse().expect("sizes are numbers separated by commas")).collect()
}

/// A new directory for files, removed when dropped.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn scratch_directory() -> TempDir {
    let parent = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix("steeple-bench-").tempdir_in(parent).expect("a directory for files")
}
