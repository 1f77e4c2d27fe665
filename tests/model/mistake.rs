//! Mistakes that can be put in, as one could make them in the code that drives a pipeline, or in the pipeline itself.

use crate::verdict::Violation;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A rejection is answered once the leadership is confirmed, whatever becomes of what it saw.
    RejectsUnfolded,
    /// A rejection waits for what it saw, and nobody is asked whether this node still leads.
    AsksNoQuorum,
    /// Each leadership counts its rounds of confirmation from the beginning, so that an answer to an earlier one fits.
    CountsRoundsAnew,
    /// An acceptance is answered, with its revision, when it is proposed.
    NumbersBeforeCommit,
    /// What was proposed in an earlier term, and lost, is still laid over the view.
    KeepsOverlay,
    /// A new leader knows only the requests that it has carried out itself.
    ForgetsRequests,
    /// A new leader begins to decide before it has folded what earlier ones have left.
    DecidesBeforeFolding,
    /// Whoever waits for a proposal when leadership ends is told that nothing happened.
    TakesLostForUndone,
    /// Another leader's entry is folded while the pipeline goes on, and taken for the own one at this place.
    FoldsBeforeSteppingDown,
}

impl Mistake {
    pub(crate) const ALL: [Self; 9] = [
        Self::RejectsUnfolded,
        Self::AsksNoQuorum,
        Self::CountsRoundsAnew,
        Self::NumbersBeforeCommit,
        Self::KeepsOverlay,
        Self::ForgetsRequests,
        Self::DecidesBeforeFolding,
        Self::TakesLostForUndone,
        Self::FoldsBeforeSteppingDown,
    ];

    /// What it leads to.
    pub(crate) fn breaks(self) -> &'static [Violation] {
        match self {
            Self::RejectsUnfolded | Self::AsksNoQuorum | Self::CountsRoundsAnew => &[Violation::RejectionWrong],
            Self::NumbersBeforeCommit => &[Violation::AcceptanceNotFolded],
            Self::KeepsOverlay | Self::DecidesBeforeFolding => &[Violation::OverlayWrong, Violation::NumbersWrong],
            Self::ForgetsRequests => &[Violation::CarriedOutTwice],
            Self::TakesLostForUndone => &[Violation::UndoneTookEffect],
            Self::FoldsBeforeSteppingDown => &[Violation::ViewsDiffer],
        }
    }
}
