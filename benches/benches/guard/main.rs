//! Whether what is asked of a node all the time takes more instructions than was accepted.
//!
//! ```sh
//! cargo bench -p steeple-benches --bench guard                 # a minute or two; fails when something has become dearer
//! cargo bench -p steeple-benches --bench guard -- --accept     # writes benches/guard.json
//! ```
//!
//! Instructions are counted by valgrind's callgrind (Debian: `valgrind`), one process of this program for each case, and only while
//! the case itself runs. Their number depends on the program, the compiler and the data, and not on what else the machine
//! does, how fast it is, or whether its processor has counters. What it does not see: the kernel, waiting, and cache misses.

mod accepted;
mod cases;
mod count;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::accepted::{Accepted, Verdict};
use crate::cases::CASES;

/// Instructions of what is asked all the time, beside those that were accepted
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Only cases with this in their name
    #[arg(long)]
    case: Option<String>,
    /// Take what is counted for what is accepted from now on
    #[arg(long)]
    accept: bool,
    /// The file of accepted figures
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.json"))]
    file: PathBuf,
    /// Run each case once and count nothing, to see that it works
    #[arg(long)]
    test: bool,
    /// Run one case so often, between marks that the counter looks for
    #[arg(long, hide = true, num_args = 2)]
    counted: Option<Vec<String>>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some([name, times]) = arguments.counted.as_deref() {
        let case = CASES.iter().find(|case| case.name == *name).expect("a case");
        case.run(times.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if arguments.test {
        CASES.iter().for_each(|case| case.run(1));
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let mut accepted = Accepted::read(&arguments.file)?;
    let mut code = ExitCode::SUCCESS;
    println!("{:<28}{:>14}{:>14}{:>10}", "instructions of one", "accepted", "now", "change");
    for case in CASES.iter().filter(|case| arguments.case.as_ref().is_none_or(|part| case.name.contains(part))) {
        let now = count::instructions(case)?;
        let (before, verdict) = accepted.judge(case.name, now);
        let (text, change) = match before {
            Some(before) => (format!("{before:.0}"), format!("{:+.1} %", (now / before - 1.0) * 100.0)),
            None => ("none".to_owned(), String::new()),
        };
        println!("{:<28}{text:>14}{now:>14.0}{change:>10}  {}", case.name, verdict.words());
        if verdict == Verdict::Worse && !arguments.accept {
            code = ExitCode::FAILURE;
        }
        accepted.figures.insert(case.name.to_owned(), now.round());
    }
    if arguments.accept {
        accepted.write(&arguments.file)?;
        println!("accepted: {}", arguments.file.display());
    } else if code == ExitCode::FAILURE {
        println!("dearer than accepted by more than {} %", accepted.allowed_percent);
    }
    Ok(code)
}
