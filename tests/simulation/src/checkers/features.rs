//! Nobody meets what it does not know: what a newer version brings is used only once every member supports it, and whoever
//! does not is told nothing from there on.

use crate::violation::{Checked, Violation};

const NAME: &str = "features";

/// Checks a member that has folded as far as its group uses the features of a version.
///
/// # Errors
/// When it supports less: entries that follow may hold what it cannot read.
pub fn check_folded(member: usize, supported: u32, active: u32) -> Checked {
    if active <= supported {
        return Ok(());
    }
    let found = format!("member {member} supports version {supported}, and has folded that version {active} is used");
    Err(Violation::new(NAME, found))
}

/// Checks a message that is let in, of a member whose group uses the features of a version.
///
/// # Errors
/// When who takes it supports less.
pub fn check_message(from: usize, to: usize, active: u32, supported: u32) -> Checked {
    if active <= supported {
        return Ok(());
    }
    let found =
        format!("member {from}, whose group uses version {active}, speaks to member {to}, which supports {supported}");
    Err(Violation::new(NAME, found))
}
