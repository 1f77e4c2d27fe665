//! What a run found to be wrong.

use std::fmt;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker that found it.
    pub checker: &'static str,
    /// What it found.
    pub found: String,
}

impl Violation {
    /// What a checker found.
    #[must_use]
    pub fn new(checker: &'static str, found: impl fmt::Display) -> Self {
        Self { checker, found: found.to_string() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.checker, self.found)
    }
}

impl std::error::Error for Violation {}

/// Whether a property holds.
pub type Checked = Result<(), Violation>;
