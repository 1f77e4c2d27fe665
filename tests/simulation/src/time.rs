//! Virtual time, and the clocks that members of a cluster read, which may be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use steeple_engine::ids::Timestamp;
use steeple_server::node::Clock;

use crate::chance::Chance;

/// Microseconds since the beginning of a run.
pub type Instant = u64;

/// Microseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// What the clocks say at the beginning of a run, in microseconds since the Unix epoch.
const EPOCH: i64 = 1_800_000_000 * SECOND as i64;

/// Seconds for which this process has kept processors busy.
#[must_use]
pub fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The time of a run; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct WorldTime(Arc<AtomicU64>);

impl WorldTime {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, now: Instant) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// What a clock says that is right.
pub(crate) fn right_time(world: &WorldTime) -> Timestamp {
    Timestamp(world.now() + EPOCH as u64)
}

/// How much faster or slower than the world the clocks of machines may run that no one sets, of a thousand: any two of them
/// differ by less than the tenth on which leases stand.
const RATE_OFF_MAX: u64 = 40;

/// The clock of one machine: ahead or behind. Beside it there is one that nobody sets, fast or slow.
#[derive(Clone, Debug)]
pub struct MachineClock {
    world: WorldTime,
    offset: Arc<AtomicI64>,
    /// What the other one shows for each thousand microseconds of the world.
    rate: u64,
    /// What it showed at the beginning.
    began: u64,
}

impl MachineClock {
    pub(crate) fn new(world: WorldTime, seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x0c10_c4a7);
        let rate = 1_000 - RATE_OFF_MAX + chance.below(2 * RATE_OFF_MAX + 1);
        Self { world, offset: Arc::default(), rate, began: chance.below(1_000_000 * SECOND) }
    }

    /// Sets the clock wrong by so many microseconds.
    pub(crate) fn jump(&self, by: i64) {
        self.offset.store(by, Ordering::Relaxed);
    }

    /// Sets it right.
    pub(crate) fn set_right(&self) {
        self.offset.store(0, Ordering::Relaxed);
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let now = EPOCH + self.world.now() as i64 + self.offset.load(Ordering::Relaxed);
        Timestamp(u64::try_from(now).unwrap_or(0))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.began + self.world.now() * self.rate / 1_000)
    }
}
