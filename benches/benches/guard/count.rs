//! Counting instructions with valgrind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use steeple_benches::scratch_directory;

use crate::cases::{Case, MARK};

/// Instructions of one call of a case.
pub(crate) fn instructions(case: &Case) -> Result<f64, String> {
    let directory = scratch_directory();
    let (counts, messages) = (directory.path().join("counts"), directory.path().join("messages"));
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg("--collect-atstart=no").arg(format!("--toggle-collect=*{MARK}*"));
    command.arg(argument("--callgrind-out-file", &counts)).arg(argument("--log-file", &messages));
    command.arg(program).arg("--counted").arg(case.name).arg(case.times.to_string());
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(|error| format!("valgrind (Debian: apt-get install valgrind): {error}"))?;
    if !status.success() {
        let messages = fs::read_to_string(&messages).unwrap_or_default();
        return Err(format!("{}: {status} under valgrind\n{messages}", case.name));
    }
    let counts = fs::read_to_string(&counts).map_err(|error| error.to_string())?;
    match total(&counts) {
        Some(total) if total > 0 => Ok(total as f64 / (case.times * case.calls) as f64),
        _ => Err(format!("{}: valgrind counted nothing: is the program without symbols?", case.name)),
    }
}

fn argument(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// The sum at the end of what callgrind writes.
fn total(counts: &str) -> Option<u64> {
    counts.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}
