//! What can go wrong, and what is drawn next.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Processes are ended with SIGKILL and start again afterwards.
    Kill(Vec<u64>),
    /// A process is asked to end, and starts again.
    Restart(u64),
    /// A process stands still.
    Pause(u64),
    /// Nothing gets through in these directions.
    Cut(&'static str, Vec<(u64, u64)>),
    /// What is sent in these directions is late by so many milliseconds.
    Slow(Vec<(u64, u64)>, u64),
    /// All connections between two nodes break.
    Reset(u64, u64),
    /// A disk takes nothing more.
    FullDisk(u64),
    /// A clock is off by so many milliseconds from now on.
    Clock(u64, i64),
    /// Somebody else is asked to lead.
    Transfer(u64),
    /// A node loses its disk, and another one takes its place.
    Replace(u64),
}

/// What is drawn, how often compared with the others, and for how many milliseconds.
const KINDS: [(Kind, u32, Range<u64>); 17] = [
    (Kind::KillOne, 12, 0..4_000),
    (Kind::KillTwo, 4, 0..3_000),
    (Kind::KillAll, 3, 0..2_000),
    (Kind::Restart, 8, 0..3_000),
    (Kind::Pause, 10, 2_500..7_000),
    (Kind::Hiccup, 4, 100..1_200),
    (Kind::CutOff, 8, 1_000..8_000),
    (Kind::NotHeard, 6, 1_000..8_000),
    (Kind::HearsNothing, 6, 1_000..8_000),
    (Kind::CutBetween, 6, 1_000..8_000),
    (Kind::EverybodyAlone, 4, 1_000..5_000),
    (Kind::Slow, 5, 1_000..8_000),
    (Kind::Reset, 6, 0..1),
    (Kind::FullDisk, 6, 1_000..5_000),
    (Kind::Clock, 6, 0..1),
    (Kind::Transfer, 8, 0..1),
    (Kind::Replace, 3, 0..1),
];

/// How far a clock may be off: little against the time for which requests are remembered.
const CLOCK_OFF_MILLIS_MAX: i64 = 15_000;

/// How late something may be.
const DELAY_MILLIS: Range<u64> = 2..80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KillOne,
    KillTwo,
    KillAll,
    Restart,
    Pause,
    Hiccup,
    CutOff,
    NotHeard,
    HearsNothing,
    CutBetween,
    EverybodyAlone,
    Slow,
    Reset,
    FullDisk,
    Clock,
    Transfer,
    Replace,
}

/// Who there is to choose from.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    /// All that talk to each other.
    pub(super) all: Vec<u64>,
    /// Those to whose process nothing is done already.
    pub(super) free: Vec<u64>,
    /// The one that leads, as far as anybody says.
    pub(super) leader: Option<u64>,
    /// Whether one may be replaced.
    pub(super) may_replace: bool,
}

/// Draws what goes wrong next, and for how long; `None` when that cannot be now.
pub(super) fn draw(random: &mut StdRng, nodes: &Nodes) -> Option<(Fault, Duration)> {
    let weights: u32 = KINDS.iter().map(|(_, weight, _)| weight).sum();
    let mut left = random.random_range(0..weights);
    let (kind, _, millis) = KINDS.iter().find(|(_, weight, _)| {
        let is_it = left < *weight;
        left = left.saturating_sub(*weight);
        is_it
    })?;
    let duration = Duration::from_millis(random.random_range(millis.clone()));
    Some((fault(*kind, random, nodes)?, duration))
}

fn fault(kind: Kind, random: &mut StdRng, nodes: &Nodes) -> Option<Fault> {
    // Whoever leads is the most interesting one.
    let leader = nodes.leader.filter(|_| random.random_bool(0.4));
    let free = leader.filter(|node| nodes.free.contains(node)).or_else(|| one_of(random, &nodes.free));
    let any = leader.filter(|node| nodes.all.contains(node)).or_else(|| one_of(random, &nodes.all))?;
    let others: Vec<u64> = nodes.all.iter().copied().filter(|node| *node != any).collect();
    let other = one_of(random, &others)?;
    let from_any = || others.iter().map(|other| (any, *other));
    let to_any = || others.iter().map(|other| (*other, any));
    let every = || nodes.all.iter().flat_map(|one| nodes.all.iter().map(|two| (*one, *two))).filter(|(a, b)| a != b);
    Some(match kind {
        Kind::KillOne => Fault::Kill(vec![free?]),
        Kind::KillTwo => {
            let rest: Vec<u64> = nodes.free.iter().copied().filter(|node| Some(*node) != free).collect();
            Fault::Kill(vec![free?, one_of(random, &rest)?])
        }
        Kind::KillAll if nodes.free.len() > 2 => Fault::Kill(nodes.free.clone()),
        Kind::KillAll => return None,
        Kind::Restart => Fault::Restart(free?),
        Kind::Pause | Kind::Hiccup => Fault::Pause(free?),
        Kind::CutOff => Fault::Cut("cut off", from_any().chain(to_any()).collect()),
        Kind::NotHeard => Fault::Cut("not heard", from_any().collect()),
        Kind::HearsNothing => Fault::Cut("hears nothing", to_any().collect()),
        Kind::CutBetween => Fault::Cut("cut between two", vec![(any, other), (other, any)]),
        Kind::EverybodyAlone => Fault::Cut("everybody alone", every().collect()),
        Kind::Slow => {
            Fault::Slow(every().filter(|_| random.random_bool(0.5)).collect(), random.random_range(DELAY_MILLIS))
        }
        Kind::Reset => Fault::Reset(any, other),
        Kind::FullDisk => Fault::FullDisk(free?),
        Kind::Clock => Fault::Clock(any, random.random_range(-CLOCK_OFF_MILLIS_MAX..=CLOCK_OFF_MILLIS_MAX)),
        Kind::Transfer => Fault::Transfer(other),
        Kind::Replace if nodes.may_replace => Fault::Replace(free?),
        Kind::Replace => return None,
    })
}

fn one_of(random: &mut StdRng, nodes: &[u64]) -> Option<u64> {
    (!nodes.is_empty()).then(|| nodes[random.random_range(0..nodes.len())])
}

impl Fault {
    /// What kind of fault it is, to be counted.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Kill(nodes) => match nodes.len() {
                1 => "killed",
                2 => "two killed",
                _ => "all killed",
            },
            Self::Restart(_) => "restarted in order",
            Self::Pause(_) => "paused",
            Self::Cut(name, _) => name,
            Self::Slow(..) => "slow network",
            Self::Reset(..) => "connections broken",
            Self::FullDisk(_) => "disk full",
            Self::Clock(..) => "clock jumps",
            Self::Transfer(_) => "leadership handed over",
            Self::Replace(_) => "wiped and replaced",
        }
    }

    /// Whose process it does something to while it lasts.
    pub(super) fn busy(&self) -> Vec<u64> {
        match self {
            Self::Kill(nodes) => nodes.clone(),
            Self::Restart(node) | Self::Pause(node) | Self::FullDisk(node) | Self::Replace(node) => vec![*node],
            _ => Vec::new(),
        }
    }

    /// Whether it is over as soon as it has begun.
    pub(super) fn is_brief(&self) -> bool {
        matches!(self, Self::Reset(..) | Self::Clock(..) | Self::Transfer(_) | Self::Replace(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\t", self.name())?;
        match self {
            Self::Kill(nodes) => write!(formatter, "{nodes:?}"),
            Self::Restart(node)
            | Self::Pause(node)
            | Self::FullDisk(node)
            | Self::Transfer(node)
            | Self::Replace(node) => write!(formatter, "{node}"),
            Self::Cut(_, ways) => write_ways(formatter, ways),
            Self::Slow(ways, millis) => {
                write_ways(formatter, ways)?;
                write!(formatter, " by {millis} ms")
            }
            Self::Reset(one, other) => write!(formatter, "{one} {other}"),
            Self::Clock(node, millis) => write!(formatter, "{node} by {millis} ms"),
        }
    }
}

fn write_ways(formatter: &mut fmt::Formatter<'_>, ways: &[(u64, u64)]) -> fmt::Result {
    let ways: Vec<String> = ways.iter().map(|(from, to)| format!("{from}>{to}")).collect();
    formatter.write_str(&ways.join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    fn three() -> Nodes {
        Nodes { all: vec![1, 2, 5], free: vec![1, 2, 5], leader: Some(2), may_replace: true }
    }

    #[test]
    fn everything_is_drawn_and_the_same_from_the_same_seed() {
        let drawn = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..500).filter_map(|_| draw(&mut random, &three())).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let names: BTreeSet<&str> = drawn(1).iter().map(|(fault, _)| fault.name()).collect();
        // A pause may be long or short.
        assert_eq!(names.len(), KINDS.len() - 1, "{names:?}");
    }

    #[test]
    fn nothing_is_done_to_a_process_that_is_busy() {
        let mut random = StdRng::seed_from_u64(3);
        let nodes = Nodes { free: vec![5], may_replace: false, ..three() };
        for _ in 0..500 {
            let Some((fault, _)) = draw(&mut random, &nodes) else { continue };
            assert!(fault.busy().iter().all(|node| *node == 5), "{fault}");
            assert!(!matches!(fault, Fault::Replace(_)), "{fault}");
        }
    }
}
