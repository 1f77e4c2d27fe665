//! Virtual time, and the clocks that members of a cluster read, which may be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use steeple_engine::ids::Timestamp;
use steeple_server::node::Clock;

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

/// The clock of one machine: ahead or behind, fast or slow.
#[derive(Clone, Debug)]
pub struct MachineClock {
    world: WorldTime,
    offset: Arc<AtomicI64>,
}

impl MachineClock {
    pub(crate) fn new(world: WorldTime) -> Self {
        Self { world, offset: Arc::default() }
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
}
