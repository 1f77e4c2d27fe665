//! What must hold, worked out from the agreed log and the orders alone.

use crate::machine::{Attempt, Deed, Machine, Order, Reply, Slot};

/// What can be found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    AcceptanceNotFolded,
    RejectionWrong,
    CarriedOutTwice,
    RepetitionWrong,
    UndoneTookEffect,
    NumbersWrong,
    ViewsDiffer,
    OverlayWrong,
}

impl Violation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AcceptanceNotFolded => {
                "what is answered as accepted is in every later folded state, with this answer"
            }
            Self::RejectionWrong => "what is refused was refusable at a moment between question and answer",
            Self::CarriedOutTwice => "a request id takes effect at most once",
            Self::RepetitionWrong => "all acceptances of a request id name one event",
            Self::UndoneTookEffect => "what is said not to have happened never does",
            Self::NumbersWrong => "revisions and stream numbers have no holes, and time does not go back",
            Self::ViewsDiffer => "a leader that folds its own events holds what others hold",
            Self::OverlayWrong => "what lies over the view is what this leader has proposed and not folded",
        }
    }

    const fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Violations(u8);

impl Violations {
    pub(crate) fn check(&mut self, holds: bool, violation: Violation) {
        if !holds {
            self.0 |= violation.bit();
        }
    }

    pub(crate) fn has(self, violation: Violation) -> bool {
        self.0 & violation.bit() != 0
    }
}

/// The agreed log, and who ordered what is in it.
pub(crate) struct Record<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) agreed: &'a [Slot],
    /// The order of each client.
    pub(crate) orders: &'a [Order],
}

impl Record<'_> {
    fn order(&self, attempt: Attempt) -> Order {
        self.orders[usize::from(attempt.client)]
    }

    fn carried_out<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = Order> + 'a {
        slots.iter().filter_map(|slot| slot.attempt).map(|attempt| self.order(attempt))
    }

    /// Whether an answer that is given now is right. The client began to ask when `since` entries were agreed upon.
    pub(crate) fn judge(&self, violations: &mut Violations, attempt: Attempt, since: usize, reply: Reply) {
        let order = self.order(attempt);
        match reply {
            Reply::Accepted { event, is_source_right } => {
                let is_there =
                    self.agreed.iter().any(|slot| slot.event == Some(event) && slot.attempt == Some(attempt));
                violations.check(is_there && is_source_right, Violation::AcceptanceNotFolded);
            }
            Reply::Repeated { revision } => {
                let place = self.agreed.iter().filter(|slot| slot.event.is_some()).nth(as_place(revision));
                let caused = place.and_then(|slot| slot.attempt).map(|attempt| self.order(attempt));
                violations.check(caused == Some(order), Violation::RepetitionWrong);
            }
            Reply::Reused => {
                let is_other = |other: Order| other.request == order.request && other != order;
                violations.check(self.carried_out(self.agreed).any(is_other), Violation::RepetitionWrong);
            }
            Reply::Rejected { revision } | Reply::Unchanged { revision } => {
                let is_refusal = matches!(reply, Reply::Rejected { .. });
                let is_right = |moment: usize| {
                    let before = &self.agreed[..moment];
                    revision == revision_of(before) && self.would_be_refused(order, before, is_refusal)
                };
                violations.check((since..=self.agreed.len()).any(is_right), Violation::RejectionWrong);
            }
            Reply::Undone => {
                let has_happened = self.agreed.iter().any(|slot| slot.attempt == Some(attempt));
                violations.check(!has_happened, Violation::UndoneTookEffect);
            }
            Reply::Unknown => {}
        }
    }

    /// Whether an order would have changed nothing in this state: because it is refused, or because it is so already.
    fn would_be_refused(&self, order: Order, before: &[Slot], is_refusal: bool) -> bool {
        let newest = self.carried_out(before).filter(|other| other.key == order.key).last();
        let is_there = newest.is_some_and(|other| other.deed == Deed::Create);
        let is_known = self.carried_out(before).any(|other| other.request == order.request);
        let is_as_expected = match order.deed {
            Deed::Create => is_there && !is_refusal,
            Deed::Delete => !is_there && is_refusal,
        };
        is_as_expected && !is_known
    }

    /// Whether the log may go on with its last entry.
    pub(crate) fn judge_newest(&self, violations: &mut Violations, undone: &[Attempt]) {
        let Some((newest, before)) = self.agreed.split_last() else { return };
        if let Some(attempt) = newest.attempt {
            violations.check(!undone.contains(&attempt), Violation::UndoneTookEffect);
            let request = self.order(attempt).request;
            let is_new = self.carried_out(before).all(|other| other.request != request);
            violations.check(is_new, Violation::CarriedOutTwice);
        }
        violations.check(self.numbers_go_on(newest, before), Violation::NumbersWrong);
    }

    fn numbers_go_on(&self, newest: &Slot, before: &[Slot]) -> bool {
        let Some(number) = newest.event else { return true };
        let event = self.machine.event(number);
        let earlier: Vec<_> =
            before.iter().filter_map(|slot| slot.event).map(|number| self.machine.event(number)).collect();
        let items = earlier.iter().flat_map(|event| &event.items).count() as u64;
        let is_next_item = |(place, item): (u64, &steeple_engine::event::StreamItem)| item.sequence.0 == items + place;
        event.revision.0 == earlier.len() as u64 + 1
            && (1..).zip(&event.items).all(is_next_item)
            && earlier.last().is_none_or(|last| last.time <= event.time)
    }
}

fn revision_of(agreed: &[Slot]) -> u64 {
    agreed.iter().filter(|slot| slot.event.is_some()).count() as u64
}

fn as_place(revision: u64) -> usize {
    usize::try_from(revision).map_or(usize::MAX, |revision| revision.wrapping_sub(1))
}
