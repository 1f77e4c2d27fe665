//! Sending many mutations with several messages under way.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use steeple_client::types::mutation_outcome::Result as Answer;
use steeple_client::{Error, Namespace, Operation, Outcome};
use tokio::task::{JoinError, JoinSet};

use crate::cli::exit::CommandError;

/// Mutations that one thing takes at the most.
const OPERATIONS_MAX: usize = 2;

/// Sends mutations.
pub(super) struct Driver {
    pub(super) namespace: Namespace,
    /// Mutations in one message, at least [`OPERATIONS_MAX`].
    pub(super) batch: usize,
    /// Messages under way at a time.
    pub(super) in_flight: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Mutations carried out.
    pub(super) done: u64,
    /// Those among them whose record was there before.
    pub(super) already_there: u64,
    /// The longest time in which no mutation was acknowledged.
    pub(super) longest_pause: Duration,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.already_there += other.already_there;
        self.longest_pause = self.longest_pause.max(other.longest_pause);
    }
}

impl Driver {
    /// Makes the mutations of `count` things and sends them; stops at the first that fails.
    pub(super) async fn run(
        &self,
        name: &'static str,
        count: u32,
        make: impl Fn(u32) -> Vec<Operation>,
    ) -> Result<Totals, CommandError> {
        let bar = progress_bar(name, count);
        let (mut flights, mut totals, mut next) = (JoinSet::new(), Totals::default(), 0);
        let mut last_landed = Instant::now();
        while next < count || !flights.is_empty() {
            while next < count && flights.len() < self.in_flight {
                let (things, operations) = self.batch(&mut next, count, &make);
                let namespace = self.namespace.clone();
                flights.spawn(async move { (things, namespace.batch(operations).await) });
            }
            if let Some(landed) = flights.join_next().await {
                let (things, outcomes) = landed.map_err(failed_flight)?;
                let landed_at = Instant::now();
                totals += Totals { longest_pause: landed_at - last_landed, ..settle(outcomes)? };
                last_landed = landed_at;
                bar.inc(things);
            }
        }
        bar.finish_and_clear();
        Ok(totals)
    }

    /// The next message, and how many things it is about.
    fn batch(&self, next: &mut u32, count: u32, make: &impl Fn(u32) -> Vec<Operation>) -> (u64, Vec<Operation>) {
        let (mut operations, mut things) = (Vec::with_capacity(self.batch), 0);
        while *next < count && operations.len() + OPERATIONS_MAX <= self.batch {
            operations.extend(make(*next));
            *next += 1;
            things += 1;
        }
        (things, operations)
    }
}

fn failed_flight(error: JoinError) -> CommandError {
    CommandError::Failed(format!("a batch was not sent: {error}"))
}

/// Sums up the outcomes of a message.
fn settle(outcomes: Vec<Outcome>) -> Result<Totals, Error> {
    let mut totals = Totals::default();
    for outcome in outcomes {
        totals.done += 1;
        match outcome.answer {
            Ok(Answer::CreateOrReturnRegistrationEntry(answer)) => totals.already_there += u64::from(answer.existing),
            Ok(_) => {}
            Err(error) if error.is_already_exists() => totals.already_there += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(totals)
}

fn progress_bar(name: &'static str, count: u32) -> ProgressBar {
    let template = "{prefix:8} {wide_bar} {pos}/{len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count.into()).with_style(style).with_prefix(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pauses_the_longest_counts_and_of_mutations_all() {
        let mut totals = Totals { done: 3, already_there: 1, longest_pause: Duration::from_secs(2) };
        totals += Totals { done: 4, already_there: 0, longest_pause: Duration::from_secs(1) };
        assert_eq!(totals, Totals { done: 7, already_there: 1, longest_pause: Duration::from_secs(2) });
    }
}
