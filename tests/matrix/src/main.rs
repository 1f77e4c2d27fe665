//! `cargo run --release -p steeple-matrix [-- DIVISOR [SEED]]`: prints the storage-fault matrix. A divisor above 1 leaves
//! cases out. Ends with an error when something was unsafe, or could have been recovered and was not.

use std::process::ExitCode;

use steeple_matrix::cases::matrix;
use steeple_matrix::report::HEADER;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (divisor, seed) = (numbers.first().copied().unwrap_or(1), numbers.get(1).copied().unwrap_or(1));
    let mut bad = false;
    println!("{HEADER}");
    matrix(divisor, seed, &mut |row| {
        println!("{row}");
        row.examples.iter().chain(&row.incomplete).for_each(|example| eprintln!("    {example}"));
        bad |= row.is_bad();
    });
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
