//! Runs simulated clusters from seeds, and says what happened to them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use steeple_engine::simulation::Bug;
use steeple_simulation::search::{Search, Seeds};
use steeple_simulation::settings::Cuts;
use steeple_simulation::time::processor_seconds;
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
    /// How many seeds, or which ones: `1000`, or `5000..6000`. Without it 100, or as many as there are minutes for.
    #[arg(long)]
    seeds: Option<Seeds>,
    /// The first one, when their number is given.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Begin no run after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Put what was counted into this file.
    #[arg(long)]
    json: Option<PathBuf>,
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
        let began = processor_seconds();
        let found = runs::find(bug, arguments.from, arguments.runs);
        let seconds = processor_seconds() - began;
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
    let seeds = match (&arguments.seeds, arguments.minutes) {
        (Some(Seeds::Range(range)), _) => range.clone(),
        (Some(Seeds::Count(count)), _) => arguments.from..arguments.from.saturating_add(*count),
        (None, None) => arguments.from..arguments.from.saturating_add(100),
        (None, Some(_)) => arguments.from..u64::MAX,
    };
    let cuts = Cuts { without: arguments.without.clone(), seconds: arguments.seconds };
    let search = Search {
        length: if arguments.short { Length::Short } else { Length::Long },
        is_whole: cuts.without.is_empty() && cuts.seconds.is_none(),
        cuts,
        seeds: seeds.clone(),
        minutes: arguments.minutes,
        threads: arguments.threads,
        prints: arguments.trace,
        keeps_going: arguments.keep_going,
    };
    let report = search.run();
    print!("{}", report.counters);
    println!("{}", report.summary());
    if let Some(path) = &arguments.json
        && let Err(error) = std::fs::write(path, report.json())
    {
        eprintln!("{} cannot be written: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
