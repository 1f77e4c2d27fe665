//! Runs simulated clusters from seeds, and says what happened to them.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use steeple_engine::simulation::Bug;
use steeple_simulation::settings::Cuts;
use steeple_simulation::{Length, runs};

/// Simulated clusters of the real code.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs clusters from seeds: any number of them, each a cluster with other faults.
    Simulate(Simulate),
    /// Puts bugs back into the code, one after the other, and tells which run finds each of them.
    Bugs(Bugs),
    /// Looks for a smaller run with the same failure: without kinds of faults, and shorter.
    Shrink(Shrink),
}

#[derive(clap::Args)]
struct Simulate {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Short runs, as the tests have them.
    #[arg(long)]
    short: bool,
    /// Print each step of each run.
    #[arg(long)]
    trace: bool,
    /// Go on after a run that has found something.
    #[arg(long)]
    keep_going: bool,
    /// Leave a kind of fault out.
    #[arg(long)]
    without: Vec<String>,
    /// Inject faults for so many seconds only.
    #[arg(long)]
    seconds: Option<u64>,
}

#[derive(clap::Args)]
struct Shrink {
    /// The seed of a run that fails.
    seed: u64,
    /// It was a short one.
    #[arg(long)]
    short: bool,
}

#[derive(clap::Args)]
struct Bugs {
    /// Only this one, as it is named in the code.
    #[arg(long)]
    only: Option<String>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs at the most for each of them.
    #[arg(long, default_value_t = 2_000)]
    runs: u64,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Simulate(arguments) => simulate(&arguments),
        Command::Bugs(arguments) => find_bugs(&arguments),
        Command::Shrink(arguments) => shrink(&arguments),
    }
}

fn find_bugs(arguments: &Bugs) -> ExitCode {
    // What a planted bug makes the code panic over is found, and need not be shown.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    let wanted = |bug: &Bug| arguments.only.as_ref().is_none_or(|name| *name == format!("{bug:?}"));
    for bug in Bug::ALL.into_iter().filter(wanted) {
        let began = Instant::now();
        let found = runs::find(bug, arguments.from, arguments.runs);
        let seconds = began.elapsed().as_secs_f64();
        match found {
            Some(found) => {
                let first_line = found.violation.found.lines().next().unwrap_or_default().to_owned();
                println!(
                    "{bug:?}: run {} (seed {}), {seconds:.1} s, by {}: {first_line}",
                    found.runs, found.seed, found.violation.checker
                );
            }
            None => {
                missed += 1;
                println!("{bug:?}: NOT FOUND in {} runs, {seconds:.1} s", arguments.runs);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn simulate(arguments: &Simulate) -> ExitCode {
    let length = if arguments.short { Length::Short } else { Length::Long };
    let cuts = Cuts { without: arguments.without.clone(), seconds: arguments.seconds };
    let (began, mut counters, mut found) = (Instant::now(), steeple_simulation::counters::Counters::default(), 0);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let outcome = runs::run_with(seed, length, arguments.trace, None, &cuts);
        counters.add(&outcome.counters);
        if arguments.trace {
            eprintln!("seed {seed}: {:016x}", outcome.digest);
        }
        if let Some(violation) = outcome.violation {
            found += 1;
            println!("{}\n", runs::Failed { seed, length, violation });
            if !arguments.keep_going {
                break;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    print!("{counters}");
    let simulated = counters.simulated_micros as f64 / 1e6;
    println!("{seconds:.1} s of work, {:.0} simulated cluster seconds for each of them", simulated / seconds.max(1e-9));
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn shrink(arguments: &Shrink) -> ExitCode {
    let length = if arguments.short { Length::Short } else { Length::Long };
    let Some((cuts, violation)) = runs::shrink(arguments.seed, length, None) else {
        println!("seed {} finds nothing", arguments.seed);
        return ExitCode::SUCCESS;
    };
    let failed = runs::Failed { seed: arguments.seed, length, violation };
    let mut options: Vec<String> = cuts.without.iter().map(|name| format!("--without {name}")).collect();
    options.extend(cuts.seconds.map(|seconds| format!("--seconds {seconds}")));
    println!("{failed} {}", options.join(" "));
    ExitCode::FAILURE
}
