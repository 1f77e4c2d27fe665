//! One node of Steeple beside PostgreSQL and SQLite that hold SPIRE's schema and are sent the statements of SPIRE's own datastore:
//! the same entries, the same questions, every acknowledged write synced, one side after the other and again.
//!
//! ```sh
//! cargo bench -p steeple-benches --bench sql                                       # 10,000 entries, about five minutes
//! cargo bench -p steeple-benches --bench sql -- --sizes 10000,100000 --json facts.json
//! cargo bench -p steeple-benches --bench sql -- --work create --clients 1,16,64,256 --turns 5
//! ```
//!
//! The node is a process of its own (this program once more) that is called through the client library over loopback; so is
//! PostgreSQL, with the settings of Debian's package; SQLite runs within this process, as it does in SPIRE, and so does another node,
//! which is called through its own functions. A side that is not installed is left out. Before anything is measured all sides have to
//! give the same answers. The table comes first; the last line is all of it as JSON.
//!
//! sqlx has a thread for each connection to SQLite and hands rows over one by one, which makes lists from there about twice as dear as
//! they are in SPIRE; docs/performance.md has SPIRE's own code beside it.

mod bare;
mod connection;
mod databases;
mod embedded;
mod measure;
mod schema;
mod spire;
mod statements;
mod stores;
mod times;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::{Parser, ValueEnum as _, value_parser};
use serde_json::{Value, json};
use steeple_benches::arguments::{at_least_one, positive};
use steeple_benches::interruption::unless_interrupted;
use steeple_benches::machine::Machine;
use steeple_benches::plot::Plot;
use steeple_benches::plot::comparison::rows;
use steeple_benches::scratch_directory;

use crate::bare::Bare;
use crate::connection::Preparing;
use crate::measure::{Comparison, Extent, Limit, compare, limit};
use crate::stores::{CONNECTIONS, Setting, Side, Store};
use crate::workload::{WORK, Work, Workload};

/// Questions of each kind that all sides have to answer alike.
const COMPARED: usize = 2;

/// One node beside PostgreSQL and SQLite with SPIRE's schema and statements
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Numbers of entries
    #[arg(long, value_delimiter = ',', default_values_t = [10_000], value_parser = value_parser!(u64).range(1..))]
    sizes: Vec<u64>,
    /// Clients that ask at a time, each waiting for its answer
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64], value_parser = at_least_one)]
    clients: Vec<usize>,
    /// Turns of each side
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    turns: usize,
    /// Seconds that each turn takes at least
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    seconds: f64,
    /// Only what has one of these in its name
    #[arg(long, value_delimiter = ',')]
    work: Vec<String>,
    /// What is compared
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Side::Steeple, Side::Embedded, Side::Postgres, Side::Sqlite])]
    sides: Vec<Side>,
    /// Entries of a page; SPIRE asks for so many when it loads all
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one)]
    page: usize,
    /// Have SQL statements prepared each time they are sent, as SPIRE has most of its own, and not once by each connection
    #[arg(long)]
    unprepared: bool,
    /// Also write the JSON into this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw throughput and latency over clients into this file; takes several numbers of clients
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
    fn setting(&self) -> Setting {
        let own = || std::env::current_exe().expect("the path of this program");
        Setting {
            program: self.program.clone().unwrap_or_else(own),
            preparing: if self.unprepared { Preparing::EachTime } else { Preparing::Once },
            page: self.page,
        }
    }

    fn wants(&self, work: Work) -> bool {
        self.work.is_empty() || self.work.iter().any(|part| work.name().contains(part))
    }

    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// What was measured at one size.
#[derive(Default)]
struct Measured {
    comparisons: Vec<Comparison>,
    limits: Vec<Limit>,
    stores: Vec<stores::Facts>,
}

fn main() -> ExitCode {
    // As a node: `serve --config FILE`.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return steeple_server::cli::main();
    }
    let mut arguments = Arguments::parse();
    if arguments.test {
        (arguments.turns, arguments.seconds) = (1, 0.1);
        (arguments.sizes, arguments.clients, arguments.page) = (vec![1_000], vec![4], 300);
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
    let machine = Machine::look();
    let mut measured = Measured::default();
    for size in &arguments.sizes {
        measure(arguments, *size, &mut measured).await?;
    }
    let document = json!({
        "machine": machine,
        "sizes": arguments.sizes,
        "turns": arguments.turns,
        "seconds": arguments.seconds,
        "page": arguments.page,
        "statements_prepared": if arguments.unprepared { "each time" } else { "once by each connection" },
        "connections_to_steeple": CONNECTIONS,
        "stores": measured.stores,
        "comparisons": measured.comparisons,
        "limits": measured.limits,
    });
    println!("\n{document}");
    if let Some(file) = &arguments.plot {
        std::fs::write(file, plot(&document)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, format!("{document:#}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// Draws what a document has.
fn plot(document: &Value) -> String {
    let comparisons = document["comparisons"].as_array().map_or(&[][..], Vec::as_slice);
    let sides =
        comparisons.first().and_then(|comparison| comparison["sides"].as_array()).map_or(&[][..], Vec::as_slice);
    let side = |(place, figures): (usize, &Value)| {
        let side = Side::from_str(figures["side"].as_str()?, true).ok()?;
        Some((side.name(), format!("/sides/{place}")))
    };
    let sides: Vec<_> = sides.iter().enumerate().filter_map(side).collect();
    let sides: Vec<_> = sides.iter().map(|(name, pointer)| (*name, pointer.as_str())).collect();
    let mut plot = Plot::new("One node beside databases that hold SPIRE's schema, on one machine", 3);
    rows(&mut plot, comparisons, "/clients", "clients", &sides);
    plot.svg()
}

async fn measure(arguments: &Arguments, size: u64, measured: &mut Measured) -> Result<(), String> {
    let (workload, setting) = (Arc::new(Workload::new(size)), arguments.setting());
    let mut stores = Vec::new();
    for side in &arguments.sides {
        match Store::start(*side, &setting, &workload).await {
            Ok(store) => {
                println!("{}", json!(store.facts));
                measured.stores.push(store.facts.clone());
                stores.push(Arc::new(store));
            }
            Err(reason) => println!("{} is left out: {reason}", side.name()),
        }
    }
    answers_are_equal(&stores, &workload).await?;
    let next: Vec<_> = stores.iter().map(|_| AtomicU64::new(0)).collect();
    for work in WORK.into_iter().filter(|work| arguments.wants(*work)) {
        let clients = if work.is_lone() { &[1][..] } else { &arguments.clients[..] };
        for clients in clients {
            let extent = Extent { turns: arguments.turns, length: arguments.length(), clients: *clients };
            let comparison = compare(&stores, &workload, work, &extent, &next).await?;
            comparison.print(measured.comparisons.is_empty());
            measured.comparisons.push(comparison);
            if work == Work::Create && *clients == 1 {
                let bare = bare(Arc::clone(&workload), extent).await?;
                bare.print();
                measured.limits.push(bare);
            }
        }
    }
    for store in stores {
        if let Some(store) = Arc::into_inner(store) {
            store.close().await;
        }
    }
    Ok(())
}

async fn bare(workload: Arc<Workload>, extent: Extent) -> Result<Limit, String> {
    let write = move || {
        let directory = scratch_directory();
        let mut bare = Bare::new(directory.path(), workload.event_bytes())?;
        limit(&mut bare, &workload, extent.turns, extent.length)
    };
    let limit = tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?;
    limit.map_err(|error: std::io::Error| error.to_string())
}

/// Asks every side some of everything that changes nothing.
async fn answers_are_equal(stores: &[Arc<Store>], workload: &Workload) -> Result<(), String> {
    for work in WORK.into_iter().filter(|work| !matches!(work, Work::Create | Work::Prune)) {
        for request in workload.requests(work).iter().take(COMPARED) {
            let mut first = None;
            for store in stores {
                store.settle().await?;
                let answer = store.ask(0, request).await?.comparable();
                let (side, expected) = first.get_or_insert_with(|| (store.side, answer.clone()));
                if *expected != answer {
                    let (counted, other) = (expected.count(), answer.count());
                    let (side, store) = (side.name(), store.side.name());
                    return Err(format!("{}: {side} answers {counted}, {store} {other}, or they differ", work.name()));
                }
            }
        }
    }
    Ok(())
}
