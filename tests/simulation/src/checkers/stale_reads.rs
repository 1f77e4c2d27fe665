//! Stale reads are monotonic: whoever asks for a revision gets it or a later one, and what is read is what was there at the
//! revision that the answer names.

use crate::history::{Held, History};
use crate::violation::{Checked, Violation};

const NAME: &str = "stale reads";

/// Checks an answer to a session that had seen `seen`.
///
/// # Errors
/// When it is older, or is not what was there.
pub fn check(history: &History, key: &str, seen: u64, revision: u64, held: Option<Held>) -> Checked {
    if revision < seen {
        return Err(Violation::new(
            NAME,
            format!("a session that had seen revision {seen} was answered for {revision}"),
        ));
    }
    let expected = history.held(key, revision);
    if held == expected {
        return Ok(());
    }
    let found = format!("{key} was said to hold {held:?} at revision {revision}, and held {expected:?}");
    Err(Violation::new(NAME, found))
}
