//! Whether what a fault takes away from a member can be had from somewhere.
//!
//! A member makes its records from its base snapshot and log, so that one of record store and base snapshot is enough for
//! it. With both lost, and a log that does not reach back to the beginning, it needs the records of another member. Nobody
//! could bring back what is lost everywhere, so no fault does that.

use steeple_engine::ids::LogIndex;

use crate::machine::Machine;
use crate::world::World;

/// What a fault takes away from a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its record store.
    Records,
    /// Its base snapshot.
    Base,
}

/// What a machine has to make records from.
struct Holdings {
    number: usize,
    /// The entry behind which its log begins; `None` when no process runs there.
    log_base: Option<LogIndex>,
    /// The entry up to which its record store is kept for good, if that is of use.
    store: Option<LogIndex>,
    /// The entry up to which its base snapshot holds everything, if that is of use.
    base: Option<LogIndex>,
    /// Whether a process runs there that is to go on doing so.
    may_help: bool,
}

impl Holdings {
    /// Whether it can make its records without any other machine.
    fn suffice(&self) -> bool {
        let log_base = self.log_base.unwrap_or_default();
        self.store.is_some()
            || self.log_base == Some(LogIndex::ZERO)
            || self.base.is_some_and(|covered| covered >= log_base)
    }

    /// Whether it can help one whose log begins behind an entry.
    fn help(&self, log_base: LogIndex) -> bool {
        self.may_help && self.store.max(self.base).is_some_and(|held| held >= log_base)
    }
}

impl Machine {
    fn holdings(&self) -> Holdings {
        let status = self.node.as_ref().map(|node| node.node().status());
        let log_base = self.node.as_ref().map(|node| LogIndex(node.node().log().contiguous_from().0.saturating_sub(1)));
        let flushed = status.map_or(LogIndex::ZERO, |status| status.flushed);
        Holdings {
            number: self.number,
            log_base,
            store: self.keeps_records().then_some(flushed),
            base: self.base_covers(),
            may_help: self.node.is_some() && !self.is_rotten && !self.wiped,
        }
    }
}

impl World {
    fn holdings(&self) -> Vec<Holdings> {
        self.machines.iter().filter(|machine| !machine.retired).map(Machine::holdings).collect()
    }

    /// Whether a machine needs the records of another one.
    pub(crate) fn is_anyone_without_records(&self) -> bool {
        self.holdings().iter().any(|holdings| !holdings.suffice())
    }

    /// Whether a machine may lose something: whoever needs the records of another one then finds somebody who has them.
    pub(crate) fn may_lose(&self, number: usize, lost: Lost) -> bool {
        let mut all = self.holdings();
        for holdings in all.iter_mut().filter(|holdings| holdings.number == number) {
            match lost {
                Lost::Records => holdings.store = None,
                Lost::Base => holdings.base = None,
            }
        }
        let is_helped = |needy: &Holdings| {
            let others = all.iter().filter(|other| other.number != needy.number);
            needy.log_base.is_some_and(|log_base| others.into_iter().any(|other| other.help(log_base)))
        };
        all.iter().filter(|holdings| !holdings.suffice()).all(is_helped)
    }
}
