//! How large things may be. The contract leaves most sizes open; a store must not.
//!
//! The limits are far above what is seen in the field. What the reference limits more narrowly (255 characters in
//! most columns of two of its databases) is allowed here.

use thiserror::Error;

use crate::view::MAX_MARK_SPAN;

/// Of SPIFFE IDs, parent ids and trust domain ids.
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// Of an entry id; part of the contract.
pub const ENTRY_ID_BYTES_MAX: usize = 255;
/// Of a hint.
pub const HINT_BYTES_MAX: usize = 1024;
/// Of additional attributes in serialized form; part of the contract.
pub const ADDITIONAL_ATTRIBUTES_BYTES_MAX: usize = 65_535;
/// Of a selector's type.
pub const SELECTOR_TYPE_BYTES_MAX: usize = 1024;
/// Of a selector's value.
pub const SELECTOR_VALUE_BYTES_MAX: usize = 16 * 1024;
/// Selectors of one entry or node, or of one filter.
pub const SELECTORS_MAX: usize = 10_000;
/// Of a DNS name.
pub const DNS_NAME_BYTES_MAX: usize = 1024;
/// DNS names of one entry.
pub const DNS_NAMES_MAX: usize = 10_000;
/// Trust domains that one entry federates with, or that one filter names.
pub const FEDERATES_WITH_MAX: usize = 10_000;
/// Of a node's attestation type, serial numbers and agent version, each.
pub const NODE_TEXT_BYTES_MAX: usize = 2048;
/// Of an entry, node or list of node selectors as stored: its parts may not all be at their limits at once.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Keys of one bulk fetch, or SPIFFE IDs of one filter.
pub const KEYS_MAX: usize = 100_000;

/// Records that one event of a prune removes when the command does not say.
pub const PRUNE_STEP_DEFAULT: usize = 1000;
/// Records that one event of a prune removes at the most.
pub const PRUNE_STEP_MAX: usize = 10_000;
// Changes of an event are numbered with 16 bits.
const _: () = assert!(PRUNE_STEP_MAX + 2 < u16::MAX as usize && PRUNE_NODES_MAX <= PRUNE_STEP_MAX);

/// Items of a stream that one event of a prune gives up at the most, and when the command does not say. That moves a mark
/// and costs the same however many they are; the limit is there because snapshots refuse an event that gives up more than
/// [`MAX_MARK_SPAN`], in case it is folded by a build that removes the rows while it folds.
pub const PRUNE_ITEMS_MAX: u64 = 1_000_000;
const _: () = assert!(PRUNE_ITEMS_MAX <= MAX_MARK_SPAN);

/// Nodes that one call of a prune removes when it does not say; part of the contract.
pub const PRUNE_NODES_DEFAULT: usize = 1000;
/// Nodes that one call of a prune removes at the most.
pub const PRUNE_NODES_MAX: usize = 5000;
/// Stored bytes after which an event that removes many records takes no more.
pub const PRUNE_STEP_BYTES: usize = 4 * 1024 * 1024;
/// Entries that go together with their node in one event. More of them go in events of their own first.
pub const CASCADE_MAX: usize = 1000;

/// Records in one batch of an import.
pub const IMPORT_BATCH_MAX: usize = 1000;
/// Of an import's own description of its source.
pub const IMPORT_SOURCE_BYTES_MAX: usize = 1024;

/// A limit that was exceeded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// One thing is too long.
    #[error("{what} is {bytes} bytes long, {max} are allowed")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There are too many of one kind.
    #[error("{count} {what} were given, {max} are allowed")]
    TooMany {
        /// What they are.
        what: &'static str,
        /// Their number.
        count: usize,
        /// The limit.
        max: usize,
    },
}

/// Checks the length of one thing.
///
/// # Errors
/// When it is above `max`.
pub fn check_bytes(what: &'static str, bytes: usize, max: usize) -> Result<(), Error> {
    if bytes > max { Err(Error::TooLong { what, bytes, max }) } else { Ok(()) }
}

/// Checks a number of things.
///
/// # Errors
/// When it is above `max`.
pub fn check_count(what: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max { Err(Error::TooMany { what, count, max }) } else { Ok(()) }
}

/// Bounds what one event removes, by number and by size.
#[derive(Clone, Copy, Debug)]
pub struct StepBudget {
    records_left: usize,
    bytes_left: usize,
    untouched: bool,
}

impl StepBudget {
    /// Room for so many records, and for [`PRUNE_STEP_BYTES`] of them.
    #[must_use]
    pub fn new(records: usize) -> Self {
        Self { records_left: records, bytes_left: PRUNE_STEP_BYTES, untouched: true }
    }

    /// What a command's own limit comes to: 0 stands for the default.
    #[must_use]
    pub fn of_command(limit: u32) -> Self {
        Self::new(step_records(limit))
    }

    /// Records that still fit.
    #[must_use]
    pub fn records_left(&self) -> usize {
        self.records_left
    }

    /// Whether anything still fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.records_left > 0 && self.bytes_left > 0
    }

    /// Takes room for a record that goes in any case.
    pub fn spend(&mut self, bytes: usize) {
        self.records_left = self.records_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.untouched = false;
    }

    /// Takes room for one record; tells whether there was any. The first record always fits.
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = self.records_left > 0 && (self.untouched || bytes <= self.bytes_left);
        if fits {
            self.spend(bytes);
        }
        fits
    }
}

/// Records of one step for a command's own limit: 0 stands for the default.
#[must_use]
pub fn step_records(limit: u32) -> usize {
    match usize::try_from(limit).unwrap_or(PRUNE_STEP_MAX) {
        0 => PRUNE_STEP_DEFAULT,
        limit => limit.min(PRUNE_STEP_MAX),
    }
}

/// Items of a stream that one event gives up, for a command's own limit: 0 stands for as many as there may be.
#[must_use]
pub fn step_items(limit: u32) -> u64 {
    match u64::from(limit) {
        0 => PRUNE_ITEMS_MAX,
        limit => limit.min(PRUNE_ITEMS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        assert_eq!(check_bytes("hint", 1024, 1024), Ok(()));
        assert_eq!(
            check_bytes("hint", 1025, 1024).map_err(|error| error.to_string()),
            Err("hint is 1025 bytes long, 1024 are allowed".to_owned())
        );
        assert_eq!(check_count("selectors", 3, 3), Ok(()));
        assert_eq!(
            check_count("selectors", 4, 3).map_err(|error| error.to_string()),
            Err("4 selectors were given, 3 are allowed".to_owned())
        );
    }

    #[test]
    fn a_step_always_takes_one_record_and_then_what_fits() {
        let mut budget = StepBudget::new(3);
        assert!(budget.take(PRUNE_STEP_BYTES * 2), "a record above the bound must not block a prune for ever");
        assert!(!budget.take(1));
        let mut budget = StepBudget::new(2);
        assert!(budget.take(1) && budget.take(1) && !budget.take(1));
    }

    #[test]
    fn what_goes_in_any_case_takes_room_too() {
        let mut budget = StepBudget::new(2);
        budget.spend(1);
        assert!(budget.has_room());
        budget.spend(PRUNE_STEP_BYTES);
        assert!(!budget.has_room() && !budget.take(1));
    }

    #[test]
    fn zero_means_the_default_step() {
        assert_eq!(step_records(0), PRUNE_STEP_DEFAULT);
        assert_eq!(step_records(7), 7);
        assert_eq!(step_records(u32::MAX), PRUNE_STEP_MAX);
        assert_eq!((step_items(0), step_items(7), step_items(u32::MAX)), (PRUNE_ITEMS_MAX, 7, PRUNE_ITEMS_MAX));
    }
}
