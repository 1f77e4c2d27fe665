//! Lists by several conditions hold exactly what meets all of them at the revision that the answer names.

use std::collections::BTreeMap;

use crate::history::{Held, History};
use crate::violation::{Checked, Violation};
use crate::workload::place_of;

/// Checks a list of the entries of a parent and a group.
///
/// # Errors
/// When something is missing in it, is too much, or is not as it was.
pub fn check(history: &History, place: (u64, u64), revision: u64, listed: &BTreeMap<String, Held>) -> Checked {
    let belongs = history.keys.keys().filter(|key| place_of(key) == place);
    let held = belongs.filter_map(|key| Some((key.clone(), history.held(key, revision)?)));
    let expected: BTreeMap<String, Held> = held.collect();
    if *listed == expected {
        return Ok(());
    }
    let found = format!("a list at revision {revision} holds {listed:?}, and should hold {expected:?}");
    Err(Violation::new("lists", found))
}
