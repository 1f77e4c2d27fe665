//! State machine safety: no two members fold different entries at the same index (Ongaro and Ousterhout 2014, figure 3).

use crate::history::{Committed, History};
use crate::violation::{Checked, Violation};

const NAME: &str = "state machine safety";

/// Compares an entry that a member has folded with what another one has folded at that index. Entries that nobody has
/// folded before must come without a gap.
///
/// # Errors
/// When they differ.
pub fn check(history: &History, member: usize, index: u64, entry: &Committed) -> Checked {
    match history.entry(index) {
        Some(known) if known == entry => Ok(()),
        Some(known) => Err(Violation::new(
            NAME,
            format!("member {member} folded {entry:?} at index {index}, where another one folded {known:?}"),
        )),
        None if index == history.entries.len() as u64 + 1 => Ok(()),
        None => Err(Violation::new(
            NAME,
            format!("member {member} folded index {index} before anyone folded what is before it"),
        )),
    }
}
