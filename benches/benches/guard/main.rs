//! Whether what is asked of a node all the time takes more instructions than was accepted.
//!
//! ```sh
//! cargo bench -p steeple-benches --bench guard                 # half a minute; fails when something has become dearer
//! cargo bench -p steeple-benches --bench guard -- --accept     # writes benches/guard.json
//! ```
//!
//! Instructions are counted by valgrind's callgrind (Debian: `valgrind`), one process of this program for each case, and only while
//! the case itself runs. Their number depends on the program and the data, on the compiler, the C library, valgrind, and what the
//! processor can do, by which the C library chooses how memory is copied; all of these are in the file, and where they differ the
//! program says so. It does not depend on what else the machine does, how fast it is, or whether its processor has counters. What
//! it does not see: the kernel, waiting, and cache misses.
//!
//! It runs when it is named, and not with all benchmarks: without valgrind it fails.

mod cases;
mod count;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use steeple_benches::accepted::{Accepted, Environment, Extent, Figures, Line};

use crate::cases::{CASES, Case};

/// Instructions of what is asked all the time, beside those that were accepted
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Only cases with this in their name
    #[arg(long)]
    case: Option<String>,
    /// Take what is counted for what is accepted from now on
    #[arg(long, conflicts_with = "case")]
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
    let earlier = match Accepted::read(&arguments.file) {
        Ok(accepted) => Some(accepted),
        // There may be none yet that is to be written.
        Err(_) if arguments.accept && !arguments.file.exists() => None,
        Err(error) => return Err(error),
    };
    let cases: Vec<&Case> =
        CASES.iter().filter(|case| arguments.case.as_ref().is_none_or(|part| case.name.contains(part))).collect();
    if cases.is_empty() {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("no case has this in its name; there are: {}", names.join("; ")));
    }
    let now = Environment::look()?;
    let mut figures = Figures::new();
    for case in cases {
        figures.insert(case.name.to_owned(), count::instructions(case)?);
    }
    if arguments.accept {
        let accepted = Accepted::new(now, figures, earlier.as_ref());
        if let Some(earlier) = &earlier {
            print(&earlier.compare(accepted.figures(), Extent::All));
        }
        accepted.write(&arguments.file)?;
        println!("accepted: {}", arguments.file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(accepted) = earlier else { return Err("nothing was accepted yet".to_owned()) };
    let extent = if arguments.case.is_some() { Extent::Some } else { Extent::All };
    let lines = accepted.compare(&figures, extent);
    print(&lines);
    for (before, now) in accepted.counted_otherwise(&now) {
        println!("the accepted figures were counted with {before}, these with {now}: they may differ for that alone");
    }
    if lines.iter().any(|line| line.verdict.fails(extent)) {
        println!("dearer than accepted by more than {} %, or not to be compared", accepted.allowed_percent);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(lines: &[Line]) {
    println!("{:<28}{:>14}{:>14}{:>10}", "instructions of one", "accepted", "now", "change");
    for line in lines {
        let figure = |figure: Option<f64>| figure.map_or("none".to_owned(), |figure| format!("{figure:.0}"));
        let change = line.percent().map_or(String::new(), |percent| format!("{percent:+.1} %"));
        let (accepted, now) = (figure(line.accepted), figure(line.now));
        println!("{:<28}{accepted:>14}{now:>14}{change:>10}  {}", line.name, line.verdict.words());
    }
}
