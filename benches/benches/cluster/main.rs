//! Three nodes as processes on this machine, with default settings, files that are really synced, and connections over
//! loopback: how long writes pause when a node is killed or leadership moved, what three nodes do beside one, what they do when
//! one of them is dead, stopped or has a slow disk, and what beside three members of etcd where that is installed.
//!
//! ```sh
//! cargo bench -p steeple-benches --bench cluster                 # all parts, about a quarter of an hour
//! cargo bench -p steeple-benches --bench cluster -- pauses
//! cargo bench -p steeple-benches --bench cluster -- throughput --in-flight 64 --turns 5
//! cargo bench -p steeple-benches --bench cluster -- impaired --in-flight 64
//! cargo bench -p steeple-benches --bench cluster -- etcd --in-flight 1,16,64,256,1024 --json etcd.json --plot etcd.svg
//! ```
//!
//! The processes are this program once more, which then is the `steeple` command, or what `--program` names. The
//! tables come first; the last line is all of it as JSON.

mod beside_etcd;
mod etcd;
mod impaired;
mod pauses;
mod pictures;
mod slow_disk;
mod steady;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, value_parser};
use serde_json::{Value, json};
use steeple_benches::arguments::{at_least_one, positive};
use steeple_benches::interruption::unless_interrupted;
use steeple_benches::machine::Machine;

/// Pauses of writing, and throughput, of three nodes in health and in trouble
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Part to run: `pauses`, `throughput`, `impaired` or `etcd`; all without
    part: Option<String>,
    /// SIGKILLs of the leader
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Transfers of leadership
    #[arg(long, default_value_t = 30)]
    transfers: usize,
    /// SIGKILLs of a follower
    #[arg(long, default_value_t = 10)]
    follower_kills: usize,
    /// Turns of one node and of three
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    turns: usize,
    /// Seconds that each turn takes
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Requests in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256], value_parser = at_least_one)]
    in_flight: Vec<usize>,
    /// Only what has this in its name, beside etcd
    #[arg(long)]
    work: Option<String>,
    /// Memory that each of our nodes takes beforehand, beside etcd (`node.reserved_memory`)
    #[arg(long)]
    reserved_memory: Option<String>,
    /// Writes a second that a slow disk is good for
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..))]
    slow_writes: u32,
    /// Also write the JSON, with facts about the machine, into this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw throughput and latency over requests in flight into this file: those beside etcd, or those of one node and three
    #[arg(long)]
    plot: Option<PathBuf>,
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

    fn wants(&self, part: &str) -> bool {
        self.part.as_ref().is_none_or(|wanted| part.contains(wanted.as_str()))
    }
}

fn main() -> ExitCode {
    // As a node: `serve --config FILE`.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return steeple_server::cli::main();
    }
    let mut arguments = Arguments::parse();
    if arguments.reserved_memory.is_some() && arguments.part.as_deref() != Some("etcd") {
        eprintln!("--reserved-memory goes with the part `etcd`");
        return ExitCode::FAILURE;
    }
    if arguments.test {
        (arguments.kills, arguments.transfers, arguments.follower_kills) = (1, 1, 1);
        (arguments.turns, arguments.seconds, arguments.in_flight) = (1, 0.2, vec![4]);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (document, code) = match runtime.block_on(unless_interrupted(measure(&arguments))) {
        Ok(measured) => measured,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n{document}");
    let write = |file: &Option<PathBuf>, text: &dyn Fn() -> String| match file {
        Some(file) => std::fs::write(file, text()).map_err(|error| format!("{}: {error}", file.display())),
        None => Ok(()),
    };
    let written = write(&arguments.json, &|| format!("{document:#}\n"))
        .and_then(|()| write(&arguments.plot, &|| pictures::plot(&document)));
    match written {
        Ok(()) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> (Value, ExitCode) {
    let mut code = ExitCode::SUCCESS;
    let mut document = json!({ "machine": Machine::look(), "turns": arguments.turns, "seconds": arguments.seconds });
    if arguments.wants("pauses") {
        let pauses = pauses::run(arguments).await;
        pauses.print();
        if !pauses.holds() {
            code = ExitCode::FAILURE;
        }
        document["pauses"] = json!(pauses);
    }
    if arguments.wants("throughput") {
        document["throughput"] = json!(throughput::run(arguments).await);
    }
    if arguments.wants("impaired") {
        document["impaired"] = json!(impaired::run(arguments).await);
    }
    if arguments.wants("etcd") {
        document["etcd"] = json!(beside_etcd::run(arguments).await);
    }
    (document, code)
}
