//! How much of the load is due when.

use std::time::Duration;

/// Steps of equal length: in the first one the smallest share of the load is due, in the last one all of it.
///
/// Schedules are made in *full time*, in which all of the load is always due; it passes more slowly than the clock while
/// only a share is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    steps: u32,
    step_micros: u64,
}

impl Pace {
    /// A run of this length in so many steps; at least one.
    pub(super) fn new(duration: Duration, steps: u32) -> Self {
        let steps = steps.max(1);
        let step_micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) / u64::from(steps);
        Self { steps, step_micros: step_micros.clamp(1, MICROS_MAX) }
    }

    pub(super) fn steps(self) -> u32 {
        self.steps
    }

    /// How long one step takes.
    pub(super) fn step(self) -> Duration {
        Duration::from_micros(self.step_micros)
    }

    /// How long the run takes.
    pub(super) fn duration(self) -> Duration {
        self.step() * self.steps
    }

    /// The share that is due in a step, counted from 0.
    pub(super) fn share(self, step: u32) -> f64 {
        f64::from(step + 1) / f64::from(self.steps)
    }

    /// The step at a moment of the run.
    pub(super) fn step_at(self, moment: Duration) -> u32 {
        let step = u64::try_from(moment.as_micros()).unwrap_or(u64::MAX) / self.step_micros;
        u32::try_from(step).unwrap_or(u32::MAX).min(self.steps - 1)
    }

    /// The moment of the run at which so much full time has passed; none behind the end of the run.
    pub(super) fn moment(self, full_micros: u64) -> Option<Duration> {
        let mut left = full_micros;
        for step in 0..u64::from(self.steps) {
            let length = self.step_micros * (step + 1) / u64::from(self.steps);
            if left < length {
                let within = left * u64::from(self.steps) / (step + 1);
                return Some(Duration::from_micros(step * self.step_micros + within));
            }
            left -= length;
        }
        None
    }
}

/// A month: longer than any run, and short enough to be multiplied.
const MICROS_MAX: u64 = 31 * 24 * 3600 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_one_step_full_time_is_the_clock() {
        let pace = Pace::new(Duration::from_secs(10), 1);
        assert_eq!(pace.moment(2_500_000), Some(Duration::from_millis(2_500)));
        assert_eq!(pace.moment(10_000_000), None);
        assert_eq!(pace.step_at(Duration::from_secs(99)), 0);
    }

    #[test]
    fn every_step_has_a_larger_share_of_what_is_due() {
        let pace = Pace::new(Duration::from_secs(40), 4);
        let mut due = [0_u32; 4];
        // Ten a second of full time.
        for number in 0_u32.. {
            let Some(moment) = pace.moment(u64::from(number) * 100_000) else { break };
            due[pace.step_at(moment) as usize] += 1;
        }
        assert_eq!(due, [25, 50, 75, 100]);
        assert_eq!([0, 1, 2, 3].map(|step| pace.share(step)), [0.25, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn moments_never_go_back() {
        let pace = Pace::new(Duration::from_millis(777), 7);
        let moments: Vec<_> = (0..).map_while(|micros| pace.moment(micros * 1_013)).collect();
        assert!(moments.is_sorted() && moments.len() > 300, "{}", moments.len());
        assert!(moments.iter().all(|moment| *moment < pace.duration()));
    }
}
