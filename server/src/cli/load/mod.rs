//! `steeple load`: fills a namespace with a generated deployment.

mod deployment;
mod dice;
mod drive;

use clap::Args;
use serde_json::json;

use super::connection::Target;
use super::exit::CommandError;
use super::instant::{now_micros, parse_instant};
use deployment::Deployment;
use drive::{Driver, Totals};

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Number of agents
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    agents: u32,
    /// Number of entries
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    entries: u32,
    /// Seed: the same one gives the same deployment
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Name of the trust domain
    #[arg(long, value_name = "NAME", default_value = "prod.example")]
    trust_domain: String,
    /// Instant that expiries are counted from
    #[arg(long, value_name = "WHEN", default_value = "now", value_parser = parse_instant)]
    base_time: i64,
    /// Mutations in one message
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    batch: u16,
    /// Messages under way at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    in_flight: u16,
    /// Make sure that the namespace exists first
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: LoadArgs) -> Result<(), CommandError> {
    let deployment = Deployment {
        seed: arguments.seed,
        agents: arguments.agents,
        entries: arguments.entries,
        trust_domain: arguments.trust_domain.clone(),
        base_seconds: arguments.base_time / 1_000_000,
    };
    if arguments.open {
        arguments.target.connection.admin().await?.open_namespace(&arguments.target.namespace).await?;
    }
    let driver = Driver {
        namespace: arguments.target.open().await?,
        batch: arguments.batch.into(),
        in_flight: arguments.in_flight.into(),
    };
    let began = now_micros();
    let mut totals = Totals::default();
    totals += driver.run("bundles", deployment.bundle_count(), |number| vec![deployment.bundle(number)]).await?;
    totals += driver.run("agents", arguments.agents, |number| deployment.agent(number)).await?;
    totals += driver.run("entries", arguments.entries, |number| vec![deployment.entry(number)]).await?;
    finish(&arguments, totals, now_micros() - began)
}

fn finish(arguments: &LoadArgs, totals: Totals, elapsed_micros: i64) -> Result<(), CommandError> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let (done, seconds) = (totals.done as f64, elapsed_micros.max(1) as f64 / 1e6);
    let document = json!({
        "agents": arguments.agents,
        "entries": arguments.entries,
        "seed": arguments.seed,
        "mutations": totals.done,
        "already_there": totals.already_there,
        "seconds": seconds,
        "mutations_per_second": done / seconds,
        "longest_pause_seconds": totals.longest_pause.as_secs_f64(),
    });
    let repeated = if totals.already_there > 0 {
        format!(" ({} were there already)", totals.already_there)
    } else {
        String::new()
    };
    let sentence = format!(
        "loaded {} agents and {} entries: {} mutations in {seconds:.1} s, {:.0} a second{repeated}; longest pause \
         without an acknowledged mutation {:.2} s",
        arguments.agents,
        arguments.entries,
        totals.done,
        done / seconds,
        totals.longest_pause.as_secs_f64()
    );
    arguments.target.output().say(&document, &sentence)
}
