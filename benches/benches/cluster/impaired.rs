//! Three nodes of which a follower is dead, stopped, or has a slow disk, beside the same three in health: in turns.

use std::time::Duration;

use serde::Serialize;
use steeple_benches::processes::Group;
use steeple_benches::spread::middle_turn;

use crate::Arguments;
use crate::slow_disk::SlowDisk;
use crate::throughput::{Asked, Side, Work};

/// What was aimed at: throughput, and the 99th percentile, of an impaired group by those of a healthy one.
const THROUGHPUT_MIN: f64 = 0.8;
const P99_MAX: f64 = 2.0;

/// What is wrong with a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Dead,
    Stopped,
    SlowDisk,
}

const TROUBLES: [Trouble; 3] = [Trouble::Dead, Trouble::Stopped, Trouble::SlowDisk];

/// What keeps a follower in trouble.
enum Impaired {
    Dead,
    Stopped,
    SlowDisk(SlowDisk),
}

/// Of the turn in the middle by throughput.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// In all turns.
    failed: u64,
    /// The turns, in order.
    turns_per_second: Vec<f64>,
    turns_p99_ms: Vec<f64>,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    trouble: String,
    work: &'static str,
    in_flight: usize,
    healthy: Figures,
    impaired: Figures,
    /// The impaired turn in the middle, whose figures are here as well, by the mean of the healthy ones before and after it.
    throughput_ratio: f64,
    p99_ratio: f64,
    /// How long the follower took to have everything again, after the last turn in trouble.
    caught_up_seconds: f64,
}

/// Measures all troubles.
pub(crate) async fn run(arguments: &Arguments) -> Vec<Comparison> {
    let mut side = Side::start(3, arguments).await;
    let mut comparisons: Vec<Comparison> = Vec::new();
    for trouble in TROUBLES {
        for in_flight in &arguments.in_flight {
            let comparison = compare(&mut side, trouble, *in_flight, arguments).await;
            comparison.print(comparisons.is_empty());
            comparisons.push(comparison);
        }
    }
    comparisons
}

/// Healthy, impaired, healthy, impaired, ..., healthy.
async fn compare(side: &mut Side, trouble: Trouble, in_flight: usize, arguments: &Arguments) -> Comparison {
    let length = Duration::from_secs_f64(arguments.seconds);
    let work = Work::CreateEntry;
    let mut healthy = vec![side.ask(work, in_flight, length).await];
    let (mut impaired, mut means, mut caught_up) = (Vec::new(), trouble.name().to_owned(), Duration::ZERO);
    for _ in 0..arguments.turns {
        let follower = side.group.follower().await;
        let cause = trouble.begin(&mut side.group, follower, arguments.slow_writes);
        if let Impaired::SlowDisk(disk) = &cause {
            means = format!("{}, {}", trouble.name(), disk.means);
        }
        impaired.push(side.ask(work, in_flight, length).await);
        let ended = std::time::Instant::now();
        cause.end(&mut side.group, follower);
        side.group.wait_until_caught_up(follower).await;
        caught_up = ended.elapsed();
        healthy.push(side.ask(work, in_flight, length).await);
    }
    let turns: Vec<_> = impaired.iter().zip(healthy.windows(2)).collect();
    let (turn, around) = middle_turn(&turns, |(turn, _)| turn.per_second);
    let beside = |figure: fn(&Asked) -> f64| figure(turn) / f64::midpoint(figure(&around[0]), figure(&around[1]));
    Comparison {
        trouble: means,
        work: work.name(),
        in_flight,
        throughput_ratio: beside(|turn| turn.per_second),
        p99_ratio: beside(|turn| turn.p99_ms),
        healthy: Figures::of(&healthy),
        impaired: Figures::of(&impaired),
        caught_up_seconds: caught_up.as_secs_f64(),
    }
}

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead (SIGKILL)",
            Self::Stopped => "stopped (SIGSTOP)",
            Self::SlowDisk => "slow disk",
        }
    }

    fn begin(self, group: &mut Group, follower: usize, writes_per_second: u32) -> Impaired {
        match self {
            Self::Dead => {
                group.kill(follower);
                Impaired::Dead
            }
            Self::Stopped => {
                group.pause(follower);
                Impaired::Stopped
            }
            Self::SlowDisk => {
                let (process, data) = (group.process(follower), group.data(follower));
                Impaired::SlowDisk(SlowDisk::start(process, &data, writes_per_second))
            }
        }
    }
}

impl Impaired {
    fn end(self, group: &mut Group, follower: usize) {
        match self {
            Self::Dead => group.launch(follower),
            Self::Stopped => group.resume(follower),
            Self::SlowDisk(disk) => drop(disk),
        }
    }
}

impl Figures {
    fn of(turns: &[Asked]) -> Self {
        let all = |figure: fn(&Asked) -> f64| turns.iter().map(figure).collect::<Vec<_>>();
        let middle = middle_turn(turns, |turn| turn.per_second);
        Self {
            per_second: middle.per_second,
            p50_ms: middle.p50_ms,
            p99_ms: middle.p99_ms,
            failed: turns.iter().map(|turn| turn.failed).sum(),
            turns_per_second: all(|turn| turn.per_second),
            turns_p99_ms: all(|turn| turn.p99_ms),
        }
    }
}

impl Comparison {
    fn print(&self, first: bool) {
        if first {
            println!("\na follower in trouble; {}; milliseconds", self.work);
            print!("{:<52}{:>10}", "", "in flight");
            for name in ["healthy", "impaired"] {
                print!("{name:>10}{:>9}{:>9} |", "p50", "p99");
            }
            println!("{:>8}{:>8}{:>16}", "ratio", "of p99", "caught up in s");
        }
        print!("{:<52}{:>10}", self.trouble, self.in_flight);
        for figures in [&self.healthy, &self.impaired] {
            print!("{:>10.0}{:>9.2}{:>9.2} |", figures.per_second, figures.p50_ms, figures.p99_ms);
        }
        print!("{:>8.2}{:>8.2}{:>16.2}", self.throughput_ratio, self.p99_ratio, self.caught_up_seconds);
        let is_met = self.throughput_ratio >= THROUGHPUT_MIN && self.p99_ratio <= P99_MAX;
        println!("  {}", if is_met { "" } else { "aim MISSED" });
        let failed = self.healthy.failed + self.impaired.failed;
        if failed > 0 {
            println!("  {failed} requests failed");
        }
    }
}
