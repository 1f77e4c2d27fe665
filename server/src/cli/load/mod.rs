//! `steeple load`: fills a namespace with a generated deployment, and makes the calls of its servers.

mod deployment;
mod dice;
mod drive;
mod profile;

use clap::Args;
use serde_json::json;

use super::connection::Target;
use super::exit::CommandError;
use super::instant::{now_micros, parse_instant};
use super::output::Output;
use deployment::Deployment;
use drive::{Driver, Totals};
use profile::{Profile, ReplayArgs};

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Number of agents [default: 1000, or 3500 with a profile]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    agents: Option<u32>,
    /// Number of entries [default: 10000, or 31000 with a profile]
    #[arg(long, alias = "workloads", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    entries: Option<u32>,
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
    replay: ReplayArgs,
    #[command(flatten)]
    target: Target,
}

/// What is loaded unless it is said otherwise: without a profile, and with that of the largest deployment of SPIRE of
/// which the number of calls is known.
const USUAL: (u32, u32) = (1_000, 10_000);
const USUAL_OF_SPIRE: (u32, u32) = (3_500, 31_000);

pub(super) fn run(arguments: LoadArgs) -> Result<(), CommandError> {
    match arguments.replay.profile {
        None => super::talk(fill_only(arguments)),
        // Making calls is work for more than one processor.
        Some(Profile::Spire) => super::talk_on_all_processors(replay(arguments)),
    }
}

async fn fill_only(arguments: LoadArgs) -> Result<(), CommandError> {
    let deployment = arguments.deployment();
    let began = now_micros();
    let totals = arguments.fill(&deployment).await?;
    let (document, sentence) = filled(&deployment, totals, now_micros() - began);
    arguments.target.output().say(&document, &sentence)
}

async fn replay(arguments: LoadArgs) -> Result<(), CommandError> {
    let deployment = arguments.deployment();
    if !arguments.replay.no_fill {
        let began = now_micros();
        let totals = arguments.fill(&deployment).await?;
        let (document, sentence) = filled(&deployment, totals, now_micros() - began);
        if arguments.target.output() == Output::Table {
            arguments.target.output().say(&document, &sentence)?;
        }
    }
    let target = &arguments.target;
    let report = profile::run(&arguments.replay, deployment, target.connection.timeout, || target.open()).await?;
    arguments.replay.write(&report)?;
    target.output().say(&report.json(), &report.text())
}

impl LoadArgs {
    fn deployment(&self) -> Deployment {
        let (agents, entries) = if self.replay.profile.is_some() { USUAL_OF_SPIRE } else { USUAL };
        Deployment {
            seed: self.seed,
            agents: self.agents.unwrap_or(agents),
            entries: self.entries.unwrap_or(entries),
            trust_domain: self.trust_domain.clone(),
            base_seconds: self.base_time / 1_000_000,
        }
    }

    /// Makes sure that everything is there.
    async fn fill(&self, deployment: &Deployment) -> Result<Totals, CommandError> {
        if self.open {
            self.target.connection.admin().await?.open_namespace(&self.target.namespace).await?;
        }
        let driver =
            Driver { namespace: self.target.open().await?, batch: self.batch.into(), in_flight: self.in_flight.into() };
        fill_with(&driver, deployment).await
    }
}

async fn fill_with(driver: &Driver, deployment: &Deployment) -> Result<Totals, CommandError> {
    let mut totals = Totals::default();
    totals += driver.run("bundles", deployment.bundle_count(), |number| vec![deployment.bundle(number)]).await?;
    totals += driver.run("agents", deployment.agents, |number| deployment.agent(number)).await?;
    totals += driver.run("entries", deployment.entries, |number| vec![deployment.entry(number)]).await?;
    Ok(totals)
}

/// What is said of a deployment that is there, for programs and for people.
fn filled(deployment: &Deployment, totals: Totals, elapsed_micros: i64) -> (serde_json::Value, String) {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let (done, seconds) = (totals.done as f64, elapsed_micros.max(1) as f64 / 1e6);
    let document = json!({
        "agents": deployment.agents,
        "entries": deployment.entries,
        "seed": deployment.seed,
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
        deployment.agents,
        deployment.entries,
        totals.done,
        done / seconds,
        totals.longest_pause.as_secs_f64()
    );
    (document, sentence)
}
