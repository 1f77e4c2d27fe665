//! `cargo run --release -p steeple-matrix [-- [DIVISOR [SEED]] [--only TEXT] [--case SEED]]`: prints the storage-fault matrix. A
//! divisor above 1 leaves cases out; `--only` takes the experiments whose names contain a text, `--case` one case of them
//! by the seed that a finding names. Ends with an error when something was unsafe, or could have been recovered and was not.

use std::process::ExitCode;

use steeple_matrix::cases::{Selection, matrix};
use steeple_matrix::report::HEADER;

fn selection() -> Result<Selection, String> {
    let mut selection = Selection::default();
    let (mut arguments, mut numbers) = (std::env::args().skip(1), Vec::new());
    let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => selection.only = arguments.next(),
            "--case" => selection.case = Some(number(arguments.next().unwrap_or_default())?),
            _ => numbers.push(number(argument)?),
        }
    }
    selection.divisor = numbers.first().copied().unwrap_or(selection.divisor);
    selection.seed = numbers.get(1).copied().unwrap_or(selection.seed);
    Ok(selection)
}

fn main() -> ExitCode {
    let selection = match selection() {
        Ok(selection) => selection,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let mut bad = false;
    println!("{HEADER}");
    matrix(&selection, &mut |row| {
        println!("{row}");
        row.examples.iter().chain(&row.incomplete).for_each(|example| eprintln!("    {example}"));
        row.causes.iter().for_each(|(cause, cases)| eprintln!("    {cases} not recoverable: {cause}"));
        bad |= row.is_bad();
    });
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
