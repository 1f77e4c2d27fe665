//! What SPIRE servers have to do, and when: it follows from the seed alone, never from how fast it is done.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use clap::ValueEnum;

use super::pace::Pace;
use super::population::Population;
use crate::cli::load::dice::Dice;

/// What an agent's sync makes its server ask of the datastore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum AgentCalls {
    /// Servers keep entries in a cache that follows events, as today
    #[default]
    Cached,
    /// Servers keep nothing: each sync looks for the agent's entries, and for those below them
    Uncached,
}

/// One thing that a server does, in one call of the datastore or several, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// An agent asks for its entries and bundles.
    Sync { agent: usize },
    /// A server looks for its own bundle, which it keeps for a second.
    OwnBundle,
    /// A server brings its cache up to date.
    CacheTick,
    /// An agent that is known attests again.
    Attestation { agent: usize, round: u64 },
    /// An agent attests with a join token and goes away again.
    Newcomer { number: u64 },
    /// An agent renews its certificate.
    Renewal { agent: usize, round: u64 },
    /// A controller looks at all entries.
    ControllerList,
    /// A controller creates an entry.
    ControllerCreate { number: u64 },
    /// A controller deletes an entry that one created a round before.
    ControllerDelete { number: u64 },
    /// A server prunes.
    Prune(Prune),
    /// A server looks for federation relationships.
    FederationConfig,
    /// A server looks whether the datastore is well.
    Health,
}

/// What is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prune {
    Entries,
    Nodes,
    EntryEvents,
    NodeEvents,
    Journals,
}

const PRUNES: [Prune; 5] = [Prune::Entries, Prune::Nodes, Prune::EntryEvents, Prune::NodeEvents, Prune::Journals];

/// Names of activities, in the order of [`Activity::number`].
pub(super) const ACTIVITIES: [&str; 10] = [
    "agent sync",
    "own bundle",
    "cache tick",
    "attestation",
    "renewal",
    "controller list",
    "controller change",
    "prune",
    "federation config",
    "health",
];

impl Activity {
    /// Which of [`ACTIVITIES`] it is.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Sync { .. } => 0,
            Self::OwnBundle => 1,
            Self::CacheTick => 2,
            Self::Attestation { .. } | Self::Newcomer { .. } => 3,
            Self::Renewal { .. } => 4,
            Self::ControllerList => 5,
            Self::ControllerCreate { .. } | Self::ControllerDelete { .. } => 6,
            Self::Prune(_) => 7,
            Self::FederationConfig => 8,
            Self::Health => 9,
        }
    }

    /// How many calls it takes at the least.
    pub(super) fn calls(self, population: &Population, agent_calls: AgentCalls) -> u64 {
        match self {
            Self::Sync { agent } => sync_calls(population, agent, agent_calls),
            Self::OwnBundle
            | Self::ControllerCreate { .. }
            | Self::ControllerDelete { .. }
            | Self::Prune(_)
            | Self::FederationConfig => 1,
            Self::CacheTick | Self::Attestation { .. } => 4,
            Self::Newcomer { .. } => 7,
            Self::Renewal { .. } => 3,
            Self::ControllerList => 2 + u64::from(population.deployment.entries) / u64::from(LIST_PAGE.unsigned_abs()),
            Self::Health => 2,
        }
    }
}

/// Entries on one page of a controller's list.
pub(super) const LIST_PAGE: i32 = 500;

fn sync_calls(population: &Population, agent: usize, agent_calls: AgentCalls) -> u64 {
    let agent = &population.agents[agent];
    let federated = agent.federated.len() as u64;
    match agent_calls {
        AgentCalls::Cached => 2 + federated,
        AgentCalls::Uncached => 5 + agent.workloads.len() as u64 + federated,
    }
}

/// One activity with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Since the beginning of the run.
    pub(super) at: Duration,
    /// Which server does it.
    pub(super) server: usize,
    pub(super) activity: Activity,
}

const SECOND: u64 = 1_000_000;

/// How often an agent syncs, unless the load is to be greater.
pub(super) const SYNC_INTERVAL: u64 = 5 * SECOND;
const OWN_BUNDLE_INTERVAL: u64 = SECOND;
const CACHE_TICK_INTERVAL: u64 = 5 * SECOND;
const FEDERATION_INTERVAL: u64 = 10 * SECOND;
const HEALTH_INTERVAL: u64 = 60 * SECOND;
/// Certificates live an hour and are renewed after half of it.
const RENEWAL_INTERVAL: u64 = 1_800 * SECOND;
/// Every so often, some of the agents start again at once, as in a rollout.
const STORM_INTERVAL: u64 = 30 * SECOND;
/// Of so many agents one.
const STORM_ONE_OF: usize = 50;
/// Of those that attest in a storm, one of so many is new.
const NEWCOMER_ONE_OF: u32 = 10;
const CONTROLLERS: usize = 4;
const CONTROLLER_INTERVAL: u64 = 10 * SECOND;
/// Of so many entries a controller replaces one in a burst.
const BURST_ONE_OF: u32 = 500;
/// Servers prune every five minutes to eight hours. Here it is one prune after the other, so that a short run has them all.
const PRUNE_INTERVAL: u64 = 15 * SECOND;

/// What makes up the load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    pub(super) seed: u64,
    pub(super) servers: usize,
    pub(super) agent_calls: AgentCalls,
    /// Microseconds between two syncs of an agent.
    pub(super) sync_interval: u64,
}

impl Mix {
    /// With agents that sync so often that the whole load comes to this many calls a second.
    ///
    /// # Errors
    /// When the rest of the load is as much already.
    pub(super) fn with_calls_per_second(mut self, calls: f64, population: &Population) -> Result<Self, String> {
        let rest = self.calls_per_second(population) - self.sync_calls_per_second(population);
        let wanted = calls - rest;
        if wanted < 1.0 {
            return Err(format!("everything but the agents' syncs comes to {rest:.0} calls a second already"));
        }
        let factor = self.sync_calls_per_second(population) / wanted;
        let interval = self.sync_interval as f64 * factor;
        // At the least a microsecond, and never longer than a month.
        self.sync_interval = (interval as u64).clamp(1, 31 * 24 * 3600 * SECOND);
        Ok(self)
    }

    fn sync_calls_per_second(&self, population: &Population) -> f64 {
        let agents = 0..population.agents.len();
        let calls: u64 = agents.map(|agent| sync_calls(population, agent, self.agent_calls)).sum();
        per_second(calls, self.sync_interval)
    }

    /// Calls that are due in a second when all of the load is, at the least.
    pub(super) fn calls_per_second(&self, population: &Population) -> f64 {
        let others = self.sources(population).into_iter().skip(1).map(|source| {
            let calls = (0..source.offsets.len()).map(|place| source.activity(0, place).1);
            let calls: u64 = calls.map(|activity| activity.calls(population, self.agent_calls)).sum();
            per_second(calls, source.interval)
        });
        self.sync_calls_per_second(population) + others.sum::<f64>()
    }

    /// Everything that is due in a run.
    pub(super) fn schedule(&self, population: &Population, pace: Pace) -> Schedule {
        let sources = self.sources(population);
        let heads = sources.iter().enumerate().map(|(number, source)| Reverse((source.next(), number))).collect();
        Schedule { sources, heads, pace }
    }

    /// What recurs. The agents' syncs come first.
    fn sources(&self, population: &Population) -> Vec<Source> {
        let agents = population.agents.len();
        let mut sources = vec![self.spread("sync", agents, self.sync_interval, |agent, _| Activity::Sync { agent })];
        sources
            .push(self.spread("renewal", agents, RENEWAL_INTERVAL, |agent, round| Activity::Renewal { agent, round }));
        for server in 0..self.servers {
            if self.agent_calls == AgentCalls::Cached {
                sources.push(self.of_server(server, "bundle", OWN_BUNDLE_INTERVAL, |_| Activity::OwnBundle));
                sources.push(self.of_server(server, "tick", CACHE_TICK_INTERVAL, |_| Activity::CacheTick));
            }
            let config = |_| Activity::FederationConfig;
            sources.push(self.of_server(server, "federation", FEDERATION_INTERVAL, config));
            sources.push(self.of_server(server, "health", HEALTH_INTERVAL, |_| Activity::Health));
        }
        sources.push(self.storm(agents));
        for controller in 0..CONTROLLERS {
            let list = |_| Activity::ControllerList;
            sources.push(self.of_server(controller % self.servers, "controller", CONTROLLER_INTERVAL, list));
        }
        sources.push(self.burst(population.deployment.entries));
        let prune = |round: u64| Activity::Prune(PRUNES[(round % PRUNES.len() as u64) as usize]);
        sources.push(self.of_server(0, "prune", PRUNE_INTERVAL, prune));
        sources
    }

    /// What every agent does once in an interval, each at a time of its own.
    fn spread(
        &self,
        name: &str,
        agents: usize,
        interval: u64,
        activity: impl Fn(usize, u64) -> Activity + 'static,
    ) -> Source {
        let phase = |agent: usize| (Dice::new(self.seed, name, agent as u32).next() % interval, agent);
        let mut order: Vec<(u64, usize)> = (0..agents).map(phase).collect();
        order.sort_unstable();
        let (offsets, order): (Vec<u64>, Vec<usize>) = order.into_iter().unzip();
        let servers = self.servers;
        let make = move |round, place: usize| (order[place] % servers, activity(order[place], round));
        Source { interval, phase: 0, offsets, at: (0, 0), make: Box::new(make) }
    }

    /// What a server does once in an interval.
    fn of_server(
        &self,
        server: usize,
        name: &str,
        interval: u64,
        activity: impl Fn(u64) -> Activity + 'static,
    ) -> Source {
        let phase = Dice::new(self.seed, name, server as u32).next() % interval;
        let make = move |round, _| (server, activity(round));
        Source { interval, phase, offsets: vec![0], at: (0, 0), make: Box::new(make) }
    }

    /// Many agents attest at one moment.
    fn storm(&self, agents: usize) -> Source {
        let (servers, seed) = (self.servers, self.seed);
        let size = agents.div_ceil(STORM_ONE_OF);
        let make = move |round: u64, place: usize| {
            let number = round * size as u64 + place as u64;
            let mut dice = Dice::new(seed ^ number, "storm", place as u32);
            let agent = (dice.next() % agents as u64) as usize;
            let activity = if dice.below(NEWCOMER_ONE_OF) == 0 {
                Activity::Newcomer { number }
            } else {
                Activity::Attestation { agent, round }
            };
            (agent % servers, activity)
        };
        Source {
            interval: STORM_INTERVAL,
            phase: STORM_INTERVAL / 4,
            offsets: vec![0; size],
            at: (0, 0),
            make: Box::new(make),
        }
    }

    /// Controllers create entries at one moment, and delete those of the burst before.
    fn burst(&self, entries: u32) -> Source {
        let servers = self.servers;
        let size = entries.div_ceil(BURST_ONE_OF).max(1) as usize;
        let make = move |round: u64, place: usize| {
            let number = (round + 1) * size as u64 + (place / 2) as u64;
            let activity = if place.is_multiple_of(2) {
                Activity::ControllerCreate { number }
            } else {
                // The first burst deletes what an earlier run left.
                Activity::ControllerDelete { number: number - size as u64 }
            };
            (place % servers, activity)
        };
        let offsets = vec![0; 2 * size];
        Source {
            interval: CONTROLLER_INTERVAL,
            phase: CONTROLLER_INTERVAL / 2,
            offsets,
            at: (0, 0),
            make: Box::new(make),
        }
    }
}

fn per_second(count: u64, interval: u64) -> f64 {
    count as f64 * SECOND as f64 / interval as f64
}

/// Something that recurs: in every interval, one activity at each offset.
struct Source {
    interval: u64,
    phase: u64,
    /// Ascending.
    offsets: Vec<u64>,
    /// Round and place that come next.
    at: (u64, usize),
    make: Box<dyn Fn(u64, usize) -> (usize, Activity)>,
}

impl Source {
    /// When it comes next, in full time.
    fn next(&self) -> u64 {
        let offset = self.offsets.get(self.at.1).copied().unwrap_or(u64::MAX / 2);
        self.phase.saturating_add(self.at.0.saturating_mul(self.interval)).saturating_add(offset)
    }

    fn activity(&self, round: u64, place: usize) -> (usize, Activity) {
        (self.make)(round, place)
    }

    fn take(&mut self) -> (usize, Activity) {
        let taken = self.activity(self.at.0, self.at.1);
        self.at.1 += 1;
        if self.at.1 >= self.offsets.len() {
            self.at = (self.at.0 + 1, 0);
        }
        taken
    }
}

/// Everything that is due, in order.
pub(super) struct Schedule {
    sources: Vec<Source>,
    /// When each source comes next.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    pace: Pace,
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let Reverse((full_micros, number)) = self.heads.pop()?;
        let at = self.pace.moment(full_micros)?;
        let source = &mut self.sources[number];
        let (server, activity) = source.take();
        self.heads.push(Reverse((source.next(), number)));
        Some(Due { at, server, activity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::deployment::Deployment;

    fn population(agents: u32, entries: u32) -> Population {
        let trust_domain = "prod.example".into();
        Population::of(Deployment { seed: 1, agents, entries, trust_domain, base_seconds: 1_700_000_000 })
    }

    fn mix(seed: u64, agent_calls: AgentCalls) -> Mix {
        Mix { seed, servers: 3, agent_calls, sync_interval: SYNC_INTERVAL }
    }

    fn minute() -> Pace {
        Pace::new(Duration::from_secs(60), 1)
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let population = population(20, 100);
        let due = |seed| mix(seed, AgentCalls::Cached).schedule(&population, minute()).collect::<Vec<_>>();
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
        assert!(due(1).is_sorted_by_key(|due| due.at));
        assert!(due(1).iter().all(|due| due.server < 3 && due.at < Duration::from_secs(60)));
    }

    #[test]
    fn everything_comes_as_often_as_it_should() {
        let population = population(100, 1_000);
        let mut counts = [0_u32; ACTIVITIES.len()];
        let mut syncs = vec![0_u32; 100];
        for due in mix(3, AgentCalls::Cached).schedule(&population, minute()) {
            counts[due.activity.number()] += 1;
            if let Activity::Sync { agent } = due.activity {
                syncs[agent] += 1;
            }
        }
        assert!(syncs.iter().all(|count| *count == 12), "{syncs:?}");
        // Servers: bundles each second, ticks every five. Two storms of two agents. Six bursts of two and two entries.
        assert_eq!(counts[..4], [1_200, 180, 36, 4]);
        assert_eq!(counts[5..], [24, 24, 4, 18, 3]);
        assert!((1..=8).contains(&counts[4]), "{} renewals of 100 agents in 1 of 30 minutes", counts[4]);
    }

    #[test]
    fn without_caches_agents_ask_more_and_servers_nothing_for_themselves() {
        let population = population(100, 1_000);
        let rate = |agent_calls| mix(3, agent_calls).calls_per_second(&population);
        assert!(rate(AgentCalls::Uncached) > 3.0 * rate(AgentCalls::Cached), "{}", rate(AgentCalls::Uncached));
        let mut schedule = mix(3, AgentCalls::Uncached).schedule(&population, minute());
        assert!(!schedule.any(|due| matches!(due.activity, Activity::OwnBundle | Activity::CacheTick)));
    }

    #[test]
    fn the_load_can_be_raised_to_a_rate() {
        let population = population(100, 1_000);
        let raised = mix(3, AgentCalls::Cached).with_calls_per_second(2_000.0, &population).unwrap();
        assert!((raised.calls_per_second(&population) - 2_000.0).abs() < 20.0);
        let calls: u64 = raised
            .schedule(&population, Pace::new(Duration::from_secs(10), 1))
            .map(|due| due.activity.calls(&population, AgentCalls::Cached))
            .sum();
        assert!((19_000..=21_000).contains(&calls), "{calls}");
        assert!(mix(3, AgentCalls::Cached).with_calls_per_second(1.0, &population).is_err());
    }
}
