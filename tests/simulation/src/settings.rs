//! What a run is made of: drawn from its seed, so that every run is another mixture of faults.

use crate::chance::Chance;
use crate::script::Script;
use crate::time::{MILLISECOND, SECOND};

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// For tests that run always: about twenty simulated seconds.
    Short,
    /// For measuring and searching: about two simulated minutes.
    Long,
}

/// The settings of a run. Times are in microseconds; mean intervals of 0 mean "never".
#[derive(Clone, Debug)]
pub struct Settings {
    /// What everything follows from.
    pub seed: u64,
    /// Founders of the cluster.
    pub members: u64,
    /// Clients that call it.
    pub clients: u64,
    /// Consumers that follow its streams.
    pub consumers: u64,
    /// Keys that the clients compete for.
    pub keys: u64,
    /// Mean pause of a client between two operations.
    pub think: u64,
    /// How long faults are injected.
    pub faulty: u64,
    /// A tick of the members.
    pub tick: u64,
    /// Mean delay of a message.
    pub delay: u64,
    /// Messages lost, of a thousand.
    pub loss: u64,
    /// Messages that arrive twice, of a thousand.
    pub duplication: u64,
    /// Messages that take a hundred times as long, of a thousand.
    pub reordering: u64,
    /// Mean time that a sync takes.
    pub sync: u64,
    /// How long members remember a request. Clients repeat them for a part of that, and clocks differ by a part of it.
    pub window: u64,
    /// Whether base snapshots are damaged, and record stores are not lost.
    pub spoils_base: bool,
    /// Whether leaders answer reads from leases.
    pub lease_reads: bool,
    /// Calls that come again some time after they were answered, of a thousand.
    pub repetition: u64,
    /// What the run is led through, if it is.
    pub script: Option<Script>,
    /// Mean intervals of faults.
    pub intervals: Intervals,
}

/// Declares the intervals, each with how it is drawn: present in so many of a thousand runs, from and to so many seconds.
macro_rules! intervals {
    ($($(#[$doc:meta])* $name:ident: $present:literal, $from:literal, $to:literal;)*) => {
        /// Mean intervals of what happens to a cluster.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Intervals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Intervals {
            /// Each kind is there in some runs only: what is always there hides what it makes impossible.
            fn of(chance: &mut Chance) -> Self {
                let mut seconds = |present: u64, from: u64, to: u64| {
                    let interval = chance.between(from, to) * SECOND;
                    if chance.happens(present) { interval } else { 0 }
                };
                Self { $($name: seconds($present, $from, $to),)* }
            }

            /// The names of all kinds.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The interval of a kind; `None` when there is none of that name.
            pub fn by_name(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

intervals! {
    /// A machine loses its power or a process is killed.
    crash: 700, 2, 20;
    /// A process stands still for a while.
    pause: 400, 2, 20;
    /// The network falls apart.
    partition: 600, 2, 15;
    /// A clock jumps.
    clock_jump: 300, 3, 20;
    /// A disk becomes slow for a while.
    slow_disk: 300, 3, 20;
    /// A process is asked to stop, and started again.
    stop: 300, 4, 30;
    /// A record store is flushed.
    flush: 700, 1, 5;
    /// Space is given back.
    compact: 600, 2, 10;
    /// Leadership is handed over.
    transfer: 300, 2, 15;
    /// A member is added, promoted or removed.
    membership: 400, 2, 15;
    /// A disk is full for a while.
    full_disk: 150, 8, 40;
    /// A sync fails.
    failed_sync: 150, 8, 40;
    /// A write fails half-way.
    failed_write: 150, 8, 40;
    /// A record store fails.
    failed_store: 150, 8, 40;
    /// Several machines lose their power at once.
    blackout: 200, 5, 30;
    /// Several members get other roles at once.
    joint_change: 250, 3, 15;
    /// A record store is lost with its process, or a base snapshot damaged.
    lost_records: 250, 5, 30;
    /// A disk is lost with all that is on it.
    wipe: 200, 5, 30;
    /// What was durable in a log is damaged.
    rot: 300, 2, 15;
    /// A member is stopped, and started with the next version of the program.
    upgrade: 250, 2, 10;
}

/// What is left out of a run, to find out what it needs to fail.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Kinds of [`Intervals`], and `loss`, `duplication`, `reordering` and `repetition`.
    pub without: Vec<String>,
    /// Faults are injected for so many seconds only.
    pub seconds: Option<u64>,
}

impl Cuts {
    /// Everything that can be left out.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let mut names = Intervals::NAMES.to_vec();
        names.extend(["loss", "duplication", "reordering", "repetition"]);
        names
    }
}

impl Settings {
    /// These without what is cut. Names that nothing has are passed over.
    #[must_use]
    pub fn cut(mut self, cuts: &Cuts) -> Self {
        for name in &cuts.without {
            match name.as_str() {
                "loss" => self.loss = 0,
                "duplication" => self.duplication = 0,
                "reordering" => self.reordering = 0,
                "repetition" => self.repetition = 0,
                name => drop(self.intervals.by_name(name).map(|interval| *interval = 0)),
            }
        }
        self.faulty = cuts.seconds.map_or(self.faulty, |seconds| self.faulty.min(seconds * SECOND));
        self
    }

    /// How long after its beginning an operation may still reach a member. A leader lets it wait for up to two elections until its
    /// term is opened, clocks may be apart by a fifth of the window, and its request must still be remembered then.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.window / 8 * 3
    }

    /// The settings that follow from a seed.
    #[must_use]
    pub fn of(seed: u64, length: Length) -> Self {
        let mut chance = Chance::new(seed ^ 0x5e77_1465);
        let members = *chance.pick(&[3, 3, 3, 3, 3, 5, 2, 1]);
        let faulty = match length {
            Length::Short => chance.between(10, 25) * SECOND,
            Length::Long => chance.between(60, 180) * SECOND,
        };
        Self {
            seed,
            members,
            clients: chance.between(2, 6),
            consumers: chance.between(1, 3),
            keys: chance.between(2, 8),
            think: *chance.pick(&[50, 100, 300, 1_000]) * MILLISECOND,
            faulty,
            tick: 100 * MILLISECOND,
            delay: *chance.pick(&[200, 1_000, 5_000, 20_000]),
            loss: *chance.pick(&[0, 0, 5, 20, 100]),
            duplication: *chance.pick(&[0, 0, 5, 50]),
            reordering: *chance.pick(&[0, 0, 5, 50]),
            sync: *chance.pick(&[100, 500, 2_000, 10_000]),
            window: *chance.pick(&[4, 4, 20, 60]) * SECOND,
            spoils_base: !seed.is_multiple_of(2),
            lease_reads: seed / 2 % 3 < 2,
            repetition: *chance.pick(&[0, 0, 20, 100]),
            script: None,
            intervals: Intervals::of(&mut chance),
        }
    }
}
