//! `steeple load --profile spire`: calls as SPIRE servers make them, at the times at which they would.
//!
//! The load is open: what is due is due, however long the last call took, and a call's time is counted from then. A
//! datastore that falls behind is seen to fall behind.

mod pace;
mod plot;
mod population;
mod report;
mod schedule;
mod server;
mod tally;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use steeple_client::Namespace;
use tokio::sync::Semaphore;

use super::deployment::Deployment;
use crate::cli::exit::CommandError;
use crate::cli::instant::parse_duration;
use pace::Pace;
use population::Population;
use report::Report;
use schedule::{AgentCalls, Due, Mix, SYNC_INTERVAL};
use server::{Server, Work};
use tally::{Place, Results, Tally};

/// Whose calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    /// Those of SPIRE servers
    Spire,
}

/// How calls are made.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Profile")]
pub(super) struct ReplayArgs {
    /// Make the calls of SPIRE servers once the deployment is there
    #[arg(long, value_enum)]
    pub(super) profile: Option<Profile>,
    /// How long
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, requires = "profile")]
    duration: Duration,
    /// Raise the load to all of it in so many steps
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "profile")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    steps: u32,
    /// SPIRE servers
    #[arg(long, value_name = "NUMBER", default_value_t = 3, requires = "profile")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    servers: u16,
    /// What the sync of an agent asks of the datastore
    #[arg(long, value_enum, default_value_t, requires = "profile")]
    agent_calls: AgentCalls,
    /// Let agents sync so often that all of the load is so many calls a second
    #[arg(long, value_name = "NUMBER", requires = "profile")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    calls_per_second: Option<u32>,
    /// Calls under way at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 2_048, requires = "profile")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    calls_in_flight: u32,
    /// A call that is answered so long after it was due is late
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration, requires = "profile")]
    on_time: Duration,
    /// What could not be begun so long after it was due is left out
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration, requires = "profile")]
    patience: Duration,
    /// The deployment is there already
    #[arg(long, requires = "profile")]
    pub(super) no_fill: bool,
    /// Write the results to a file, as JSON
    #[arg(long, value_name = "FILE", requires = "profile")]
    json: Option<PathBuf>,
    /// Draw the results into a file, as SVG
    #[arg(long, value_name = "FILE", requires = "profile")]
    plot: Option<PathBuf>,
}

/// Work that begins so soon after it was due is in time: timers and the scheduler of this program are no better.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// A longer run would need another kind of report.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// Makes the calls of SPIRE servers, and says what became of them. `open` connects one server.
pub(super) async fn run<Opening>(
    arguments: &ReplayArgs,
    deployment: Deployment,
    timeout: Duration,
    open: impl Fn() -> Opening,
) -> Result<Report, CommandError>
where
    Opening: Future<Output = Result<Namespace, CommandError>>,
{
    let duration = arguments.duration;
    if duration < Duration::from_secs(1) || duration > DURATION_MAX {
        return Err(CommandError::Usage("--duration: between 1s and 24h".into()));
    }
    let population = Population::of(deployment);
    let (servers, agent_calls) = (arguments.servers.into(), arguments.agent_calls);
    let mut mix = Mix { seed: population.deployment.seed, servers, agent_calls, sync_interval: SYNC_INTERVAL };
    if let Some(calls) = arguments.calls_per_second {
        let raised = mix.with_calls_per_second(calls.into(), &population);
        mix = raised.map_err(|reason| CommandError::Usage(format!("--calls-per-second: {reason}")))?;
    }
    let mut connected = Vec::new();
    for _ in 0..servers {
        let namespace = open().await?;
        // The first call on a connection pays for it.
        let namespace = namespace.with_deadline(timeout);
        connected.push(Arc::new(Server::start(namespace).await?));
    }
    let pace = Pace::new(duration, arguments.steps);
    let replay = Replay {
        servers: connected,
        population: Arc::new(population),
        mix,
        pace,
        in_flight: arguments.calls_in_flight,
        on_time: arguments.on_time,
        patience: arguments.patience,
        farewell: timeout,
    };
    let busy_before = busy();
    let (results, waited) = replay.run().await;
    let cpu = busy().zip(busy_before).map(|(after, before)| after.saturating_sub(before));
    Ok(replay.report(results, waited, cpu))
}

impl ReplayArgs {
    /// Writes the files that were asked for.
    pub(super) fn write(&self, report: &Report) -> Result<(), CommandError> {
        let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| {
            let Some(path) = path else { return Ok(()) };
            std::fs::write(path, text()).map_err(|source| CommandError::File {
                action: "write",
                path: path.display().to_string(),
                source,
            })
        };
        write(&self.json, &|| format!("{:#}\n", report.json()))?;
        write(&self.plot, &|| plot::svg(report))
    }
}

/// A run that is about to begin.
struct Replay {
    servers: Vec<Arc<Server>>,
    population: Arc<Population>,
    mix: Mix,
    pace: Pace,
    in_flight: u32,
    on_time: Duration,
    patience: Duration,
    /// How long to wait for the last answers.
    farewell: Duration,
}

impl Replay {
    /// Makes all calls. Also tells how long nothing could be begun because too much was under way.
    async fn run(&self) -> (Results, Duration) {
        let bar = progress_bar(self.pace.duration());
        let places = Arc::new(Semaphore::new(self.in_flight as usize));
        let began = Instant::now();
        let tally = Arc::new(Tally::new(began, self.pace, self.on_time));
        let mut waited = Duration::ZERO;
        for due in self.mix.schedule(&self.population, self.pace) {
            let due_at = began + due.at;
            if due_at > Instant::now() {
                tokio::time::sleep_until(due_at.into()).await;
                bar.set_position(due.at.as_secs());
            }
            let permit = match Arc::clone(&places).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    let full_since = Instant::now();
                    let permit = Arc::clone(&places).acquire_owned().await;
                    waited += full_since.elapsed();
                    // Nobody closes the semaphore.
                    let Ok(permit) = permit else { break };
                    permit
                }
            };
            self.begin(due, due_at, &tally, permit);
        }
        bar.finish_and_clear();
        // What has no answer by then counts as unanswered.
        drop(tokio::time::timeout(self.farewell, places.acquire_many(self.in_flight)).await);
        (tally.results(), waited)
    }

    fn begin(&self, due: Due, due_at: Instant, tally: &Arc<Tally>, permit: tokio::sync::OwnedSemaphorePermit) {
        let place = Place { activity: due.activity.number(), at: due.at };
        let late = due_at.elapsed();
        if late > self.patience {
            tally.missed(place, due.activity.calls(&self.population, self.mix.agent_calls));
            return;
        }
        let Some(server) = self.servers.get(due.server).map(Arc::clone) else { return };
        let (tally, population, agent_calls) = (Arc::clone(tally), Arc::clone(&self.population), self.mix.agent_calls);
        let due_at = if late <= TIMER_SLACK { due_at + late } else { due_at };
        tokio::spawn(async move {
            let work = Work {
                server: &server,
                population: &population,
                agent_calls,
                tally: &tally,
                place,
                due: due_at,
                made: 0,
            };
            work.run(due.activity).await;
            drop(permit);
        });
    }

    fn report(&self, results: Results, waited: Duration, cpu: Option<Duration>) -> Report {
        let deployment = &self.population.deployment;
        Report {
            agents: deployment.agents,
            workloads: deployment.entries,
            seed: deployment.seed,
            mix: self.mix,
            pace: self.pace,
            on_time: self.on_time,
            calls_per_second: self.mix.calls_per_second(&self.population),
            results,
            waited,
            cpu,
        }
    }
}

fn progress_bar(duration: Duration) -> ProgressBar {
    let template = "{prefix:8} {wide_bar} {pos}/{len} s";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(duration.as_secs()).with_style(style).with_prefix("calls")
}

/// Time that this process has spent on processors so far, where the system tells.
fn busy() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name in parentheses may hold anything; behind it come fields without spaces, of which the 12th and 13th
    // count hundredths of a second.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
