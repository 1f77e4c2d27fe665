//! What waits is bounded.

use crate::violation::{Checked, Violation};

const NAME: &str = "queues";

/// Checks how much of something waits.
///
/// # Errors
/// When it is more than allowed.
pub fn check(what: &str, waiting: usize, limit: usize) -> Checked {
    if waiting <= limit {
        return Ok(());
    }
    Err(Violation::new(NAME, format!("{waiting} {what} wait, {limit} may")))
}
