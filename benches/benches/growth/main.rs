//! What a node costs as it grows: one node as a process of its own, with more and more entries, retained events, namespaces
//! and consumers of tails.
//!
//! ```sh
//! cargo bench -p steeple-benches --bench growth                              # all parts, a quarter of an hour, 2 GiB of memory
//! cargo bench -p steeple-benches --bench growth -- entries --sizes 1000000
//! cargo bench -p steeple-benches --bench growth -- entries,consumers --json growth.json --plot growth.svg
//! ```
//!
//! The node is this program once more, which then is the `steeple` command, or what `--program` names, and is called through
//! the client library over loopback. Its settings are the defaults but for how long it remembers requests and history: a minute,
//! and not 10 minutes and a day, after which it may give log files back. So the program waits a minute wherever a compaction or
//! a start is measured (`--no-waiting` does not, and then both mean less). The tables come first; the last line is all of it as JSON.

mod ask;
mod consumers;
mod entries;
mod events;
mod namespaces;
mod pictures;
mod subject;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum, value_parser};
use serde::Serialize;
use serde_json::{Value, json};
use steeple_benches::arguments::{at_least_one, positive};
use steeple_benches::interruption::unless_interrupted;
use steeple_benches::machine::Machine;

/// What is made to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Entries,
    Events,
    Namespaces,
    Consumers,
}

/// What a node costs as it grows
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// What is made to grow
    #[arg(value_enum, value_delimiter = ',', default_values_t = [Part::Entries, Part::Events, Part::Namespaces, Part::Consumers])]
    parts: Vec<Part>,
    /// Numbers of entries; 10,000,000 take about 20 GB of disk and as much memory as ten times 1,000,000
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000], value_parser = value_parser!(u64).range(1..))]
    sizes: Vec<u64>,
    /// Numbers of retained events, rising
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100_000, 1_000_000])]
    events: Vec<u64>,
    /// Numbers of namespaces
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000], value_parser = value_parser!(u64).range(1..))]
    namespaces: Vec<u64>,
    /// Numbers of consumers of everything; a node takes 1,024 by default
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100, 1_000])]
    consumers: Vec<usize>,
    /// Entries while anything else grows
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u64).range(1..))]
    entries: u64,
    /// Clients that ask at a time, each waiting for its answer
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16], value_parser = at_least_one)]
    clients: Vec<usize>,
    /// Seconds that each question is asked for
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Do not wait until requests and history may be forgotten
    #[arg(long)]
    no_waiting: bool,
    /// Also write the JSON into this file; what it says about other parts stays
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw what the JSON says into this file
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Measure nothing, and draw what is in the JSON file
    #[arg(long, requires_all = ["json", "plot"])]
    draw_only: bool,
    /// What runs as `steeple`
    #[arg(long)]
    program: Option<PathBuf>,
    /// A little of everything, to see that it works
    #[arg(long)]
    test: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| std::env::current_exe().expect("the path of this program"))
    }

    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> ExitCode {
    // As a node: `serve --config FILE`.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return steeple_server::cli::main();
    }
    let mut arguments = Arguments::parse();
    if arguments.test {
        (arguments.sizes, arguments.events, arguments.entries) = (vec![1_000], vec![0, 1_000], 1_000);
        (arguments.namespaces, arguments.consumers) = (vec![1, 5], vec![0, 5]);
        (arguments.clients, arguments.seconds, arguments.no_waiting) = (vec![2], 0.2, true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(unless_interrupted(run(&arguments))).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    let mut document = earlier(arguments.json.as_deref())?;
    for part in arguments.parts.iter().filter(|_| !arguments.draw_only) {
        let machine = Machine::look();
        let (name, measured) = match part {
            Part::Entries => ("entries", points(entries::run(arguments).await)?),
            Part::Events => ("events", points(events::run(arguments).await)?),
            Part::Namespaces => ("namespaces", points(namespaces::run(arguments).await)?),
            Part::Consumers => ("consumers", points(consumers::run(arguments).await)?),
        };
        document[name] = json!({ "machine": machine, "seconds": arguments.seconds, "points": measured });
        if let Some(file) = &arguments.json {
            std::fs::write(file, format!("{document:#}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    println!("\n{document}");
    if let Some(file) = &arguments.plot {
        std::fs::write(file, pictures::plot(&document)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn points<T: Serialize>(measured: Result<Vec<T>, steeple_client::Error>) -> Result<Value, String> {
    let measured = measured.map_err(|error| error.to_string())?;
    serde_json::to_value(measured).map_err(|error| error.to_string())
}

/// What a file says already; nothing when there is none.
fn earlier(file: Option<&Path>) -> Result<Value, String> {
    let Some(file) = file.filter(|file| file.exists()) else { return Ok(json!({})) };
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let document: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    if document.is_object() { Ok(document) } else { Err(failed(&"is not about growth")) }
}
