//! Three nodes as processes on this machine, with default settings, files that are really synced, and connections over
//! loopback: how long writes pause when a node is killed or leadership moved, what three nodes do beside one, and beside
//! three members of etcd where that is installed.
//!
//! ```sh
//! cargo bench -p steeple-benches --bench cluster                 # all parts, about a quarter of an hour
//! cargo bench -p steeple-benches --bench cluster -- pauses
//! cargo bench -p steeple-benches --bench cluster -- throughput --in-flight 64 --turns 5
//! cargo bench -p steeple-benches --bench cluster -- etcd --in-flight 1,16,64,256,1024
//! ```
//!
//! The processes are this program once more, which then is the `steeple` command, or what `--program` names. The
//! tables come first; the last line is all of it as JSON.

mod beside_etcd;
mod etcd;
mod pauses;
mod steady;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

/// Pauses of writing, and throughput, of three nodes
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Part to run: `pauses`, `throughput` or `etcd`; all without
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
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Seconds that each turn takes
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Requests in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    in_flight: Vec<usize>,
    /// Only what has this in its name, beside etcd
    #[arg(long)]
    work: Option<String>,
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
    if arguments.test {
        (arguments.kills, arguments.transfers, arguments.follower_kills) = (1, 1, 1);
        (arguments.turns, arguments.seconds, arguments.in_flight) = (1, 0.2, vec![4]);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut document = json!({});
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
    if arguments.wants("etcd") {
        document["etcd"] = json!(beside_etcd::run(arguments).await);
    }
    println!("\n{document}");
    code
}
