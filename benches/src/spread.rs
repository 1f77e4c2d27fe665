//! What many measured times come to.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// Times in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    times: Vec<Duration>,
}

impl Spread {
    /// The spread of these times.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { times }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The shortest time that at least `percent` of 100 do not exceed; zero when there is none at all.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.times.len() * percent).div_ceil(100).max(1);
        self.times.get(rank - 1).copied().unwrap_or_default()
    }

    /// The shortest.
    #[must_use]
    pub fn min(&self) -> Duration {
        self.times.first().copied().unwrap_or_default()
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }
}

/// Milliseconds: shortest, median, nine of ten, longest.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for time in [self.min(), self.percentile(50), self.percentile(90), self.max()] {
            write!(formatter, "{:>9.1}", milliseconds(time))?;
        }
        Ok(())
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Spread", 5)?;
        object.serialize_field("count", &self.count())?;
        object.serialize_field("min_ms", &milliseconds(self.min()))?;
        object.serialize_field("median_ms", &milliseconds(self.percentile(50)))?;
        object.serialize_field("p90_ms", &milliseconds(self.percentile(90)))?;
        object.serialize_field("max_ms", &milliseconds(self.max()))?;
        object.end()
    }
}

/// A time as people read it, to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// The turn in the middle by what it got done a second; of an even number the slower of the two in the middle.
///
/// All figures of a row come from this one turn. A median of each figure on its own puts figures of different turns beside each
/// other, as the throughput of a slow turn and the latencies of a fast one, which no turn ever showed.
///
/// # Panics
/// When there is no turn.
pub fn middle_turn<T>(turns: &[T], per_second: impl Fn(&T) -> f64) -> &T {
    let mut ascending: Vec<_> = turns.iter().collect();
    ascending.sort_by(|one, other| per_second(one).total_cmp(&per_second(other)));
    ascending.get(ascending.len().saturating_sub(1) / 2).expect("at least one turn")
}

/// The longest time between two of these moments, in ascending order, that was not over by `from`: how long it was, and when it
/// was over.
#[must_use]
pub fn longest_silence(moments: &[Duration], from: Duration) -> Option<(Duration, Duration)> {
    let silences = moments.windows(2).filter(|pair| pair[1] >= from);
    silences.map(|pair| (pair[1] - pair[0], pair[1])).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: &[u64]) -> Vec<Duration> {
        milliseconds.iter().map(|time| Duration::from_millis(*time)).collect()
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let spread = Spread::of(times(&[5, 1, 4, 2, 3, 6, 7, 8, 9, 10]));
        let percentiles = [50, 90, 91, 100].map(|percent| spread.percentile(percent).as_millis());
        assert_eq!(percentiles, [5, 9, 10, 10]);
        assert_eq!((spread.min().as_millis(), spread.max().as_millis(), spread.count()), (1, 10, 10));
        assert_eq!(Spread::default().percentile(50), Duration::ZERO);
        assert_eq!(Spread::of(times(&[7])).percentile(1).as_millis(), 7);
    }

    #[test]
    fn all_figures_come_from_the_turn_in_the_middle() {
        // Answers a second of one client, and the 99th percentile of their times in milliseconds. The smaller figure of each on its
        // own would be 20 a second, which is 50 ms each, with a 99th percentile of 8 ms.
        let middle = |turns: &[(f64, f64)]| *middle_turn(turns, |turn| turn.0);
        assert_eq!(middle(&[(200.0, 8.0), (20.0, 90.0)]), (20.0, 90.0));
        assert_eq!(middle(&[(20.0, 90.0), (200.0, 8.0)]), (20.0, 90.0));
        assert_eq!(middle(&[(300.0, 30.0), (100.0, 10.0), (200.0, 90.0)]), (200.0, 90.0));
        assert_eq!(middle(&[(4.0, 1.0), (1.0, 2.0), (3.0, 3.0), (2.0, 4.0)]), (2.0, 4.0));
        assert_eq!(middle(&[(7.0, 1.0)]), (7.0, 1.0));
    }

    #[test]
    fn a_silence_counts_when_it_reaches_beyond_the_moment() {
        let moments = times(&[0, 500, 510, 700, 705]);
        let silence = |from| longest_silence(&moments, Duration::from_millis(from));
        let expected = |length, end| Some((Duration::from_millis(length), Duration::from_millis(end)));
        assert_eq!(silence(500), expected(500, 500));
        assert_eq!(silence(501), expected(190, 700));
        assert_eq!(silence(701), expected(5, 705));
        assert_eq!(silence(706), None);
    }
}
