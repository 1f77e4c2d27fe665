//! What a simulator sees and changes of the code it runs: which rare branches were reached, and bugs that are put back on
//! purpose.
//!
//! Without the feature `simulation` nothing of it is there: marks do nothing and no bug can be planted. With it, both
//! belong to the thread, so that tests do not disturb each other.

/// A bug that can be put back into the code, to show that the checkers of the simulator find it.
///
/// Each of them is a few lines where it belongs, behind [`is_planted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The log says that a write is durable without syncing it.
    WriteNotSynced,
    /// The log does not keep term and vote.
    VoteNotKept,
    /// Messages that depend on a write leave before it is durable.
    MessagesBeforeWrite,
    /// What waits for the disk behind a write counts as durable with it.
    LaterWriteIsDurable,
    /// A snapshot is taken over whether it is needed or not.
    SnapshotNotNeeded,
    /// A mutation is answered when it is proposed.
    AnswerBeforeFold,
    /// A rejection is answered without a quorum's word that the node still leads.
    RejectionNotConfirmed,
    /// A new leader decides before it has folded what was committed before it.
    TermNotOpened,
    /// A leader answers reads without asking anybody.
    ReadNotConfirmed,
    /// A read is served as soon as it is confirmed, however far the view is.
    ReadBeforeFold,
    /// The word of a quorum counts for reads that were asked for after it.
    ReadOfLaterRound,
    /// Requests that followers fold are not remembered.
    RequestsOfOthersForgotten,
    /// Requests are not recalled at start.
    RequestsNotRecalled,
    /// Stream numbers are given without regard to what is decided and not yet folded.
    StreamNumberBeforeCommit,
    /// An event takes the time of the clock, although that may have gone back.
    TimeGoesBack,
    /// A tail takes what comes next for what comes after what it last saw, also when that was pruned.
    TailSkipsPruned,
    /// A tail says that it has handed out what it has only read.
    TailAheadOfDelivery,
    /// Segments are purged that the record store or its rebuild still needs.
    PurgedTooEarly,
    /// The base snapshot counts as published before it is.
    BaseNotPublished,
    /// The digest forgets what a change replaces.
    DigestKeepsReplaced,
    /// A follower leaves out the stream rows of an event.
    StreamRowsLeftOut,
    /// The first of the changes of an event is not folded by followers.
    ChangeNotFolded,
    /// A leader answers reads as long as it thinks that it leads.
    LeaseReads,
    /// Nobody leaves a joint configuration.
    JointConfigurationNotLeft,
    /// A change of members is not stored with the records.
    MembershipNotKept,
    /// Entries that another leader replaces stay in the log.
    SuffixNotCut,
    /// Revisions are given without regard to what is decided and not yet folded.
    RevisionBeforeCommit,
    /// Records are numbered without regard to what is decided and not yet folded.
    SequenceBeforeCommit,
    /// A leader that loses its place says that nothing has happened of what it had proposed.
    UnknownToldAsUndone,
    /// Records count as flushed that are not.
    FlushNotDone,
    /// A low-water mark rises one item further than what was pruned.
    MarkBeyondRows,
    /// The removal of what a stream has given up takes the oldest item that it keeps as well.
    RowsRemovedAtMark,
    /// A tail begins with the item that its cursor names, not behind it.
    TailRepeatsItem,
    /// A repeated request is answered with the event before its own.
    RepetitionAnswersBefore,
    /// An index keeps what a change takes out of it.
    IndexKeepsRemoved,
    /// A list by several conditions leaves one of them out.
    IntersectionBranchMissed,
    /// How far the records are folded is stored before the records are.
    FoldedIndexApart,
    /// A member whose disk was wiped is let in like any other.
    WipedNodeVotes,
    /// The log keeps the term, and not for whom the vote was.
    VoteForgotten,
    /// A start in the middle of a change of members forgets those that are on their way out.
    OutgoingVotersForgotten,
    /// A rejection does not wait for the undecided events that it saw.
    RejectionBeforeFold,
    /// What is decided and not yet folded is forgotten with what is folded.
    OverlayDroppedTooEarly,
    /// A new leader does not look at the time of the newest event.
    TimeForgottenAtElection,
    /// Requests are remembered for a part of the time only.
    RequestsForgottenEarly,
    /// How far a stream is numbered is not stored.
    StreamCounterNotKept,
    /// The name of a new segment is not made durable.
    DirectoryNotSynced,
    /// A file that is used again is told from its earlier life by nothing.
    GenerationReused,
    /// Votes are asked for and counted before the own one is durable.
    VoteCountedBeforeDurable,
    /// A leader that was deposed goes on answering for what it proposed.
    PipelineKeptOverTerms,
    /// What is found at a start is taken for durable, synced or not.
    FoundTakenForDurable,
    /// A sync that failed is tried again, and what comes of that is believed.
    FailedSyncRepeated,
    /// Requests are not recalled when a snapshot is taken over.
    SnapshotForgetsRequests,
    /// A change of members takes effect before anybody who starts again would know that it is committed.
    MembersBeforeCommit,
    /// The answer to a read of an earlier life of the process counts.
    ReadOfEarlierRun,
    /// What a torn write has left is taken for an entry.
    TornFrameTaken,
    /// Damage to what was durable is cut off like an unfinished write.
    DamageCutOff,
    /// One member too few decides that an entry was never committed.
    RepairQuorumTooLow,
    /// What the first member supports is used, whether the others support it or not.
    FeaturesRaisedTooEarly,
    /// A member is let in that does not support what the group uses.
    OlderMemberAdmitted,
    /// What follows on a committed change of members is confirmed by who would not know after a crash that it is committed.
    CommitOfChangeForgotten,
    /// Votes are given to whoever asks, however lately the leader was heard.
    VotesNotGuarded,
    /// A process that has just started votes as if the one before had confirmed nothing.
    GuardForgottenAtStart,
    /// A leader that hands over keeps its lease.
    LeaseKeptOverTransfer,
    /// A lease is counted from when a quorum has answered, not from when it was asked.
    LeaseFromAnswer,
    /// A lease is used while there are members that do not guard their votes.
    LeaseBeforeFeatures,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 65] = [
        Self::WriteNotSynced,
        Self::VoteNotKept,
        Self::MessagesBeforeWrite,
        Self::LaterWriteIsDurable,
        Self::SnapshotNotNeeded,
        Self::AnswerBeforeFold,
        Self::RejectionNotConfirmed,
        Self::TermNotOpened,
        Self::ReadNotConfirmed,
        Self::ReadBeforeFold,
        Self::ReadOfLaterRound,
        Self::RequestsOfOthersForgotten,
        Self::RequestsNotRecalled,
        Self::StreamNumberBeforeCommit,
        Self::TimeGoesBack,
        Self::TailSkipsPruned,
        Self::TailAheadOfDelivery,
        Self::PurgedTooEarly,
        Self::BaseNotPublished,
        Self::DigestKeepsReplaced,
        Self::StreamRowsLeftOut,
        Self::ChangeNotFolded,
        Self::LeaseReads,
        Self::JointConfigurationNotLeft,
        Self::MembershipNotKept,
        Self::SuffixNotCut,
        Self::RevisionBeforeCommit,
        Self::SequenceBeforeCommit,
        Self::UnknownToldAsUndone,
        Self::FlushNotDone,
        Self::MarkBeyondRows,
        Self::RowsRemovedAtMark,
        Self::TailRepeatsItem,
        Self::RepetitionAnswersBefore,
        Self::IndexKeepsRemoved,
        Self::IntersectionBranchMissed,
        Self::FoldedIndexApart,
        Self::WipedNodeVotes,
        Self::VoteForgotten,
        Self::OutgoingVotersForgotten,
        Self::RejectionBeforeFold,
        Self::OverlayDroppedTooEarly,
        Self::TimeForgottenAtElection,
        Self::RequestsForgottenEarly,
        Self::StreamCounterNotKept,
        Self::DirectoryNotSynced,
        Self::GenerationReused,
        Self::VoteCountedBeforeDurable,
        Self::PipelineKeptOverTerms,
        Self::FoundTakenForDurable,
        Self::FailedSyncRepeated,
        Self::SnapshotForgetsRequests,
        Self::MembersBeforeCommit,
        Self::ReadOfEarlierRun,
        Self::TornFrameTaken,
        Self::DamageCutOff,
        Self::RepairQuorumTooLow,
        Self::FeaturesRaisedTooEarly,
        Self::OlderMemberAdmitted,
        Self::CommitOfChangeForgotten,
        Self::VotesNotGuarded,
        Self::GuardForgottenAtStart,
        Self::LeaseKeptOverTransfer,
        Self::LeaseFromAnswer,
        Self::LeaseBeforeFeatures,
    ];
}

#[cfg(feature = "simulation")]
mod marks {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static REACHED: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Puts a bug back for this thread, in the place of any other; `None` takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether a bug was put back.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Marks a rare branch as reached.
    pub fn reached(branch: &'static str) {
        REACHED.with_borrow_mut(|reached| *reached.entry(branch).or_default() += 1);
    }

    /// How often each branch was reached by this thread since the last call.
    #[must_use]
    pub fn take_reached() -> BTreeMap<&'static str, u64> {
        REACHED.take()
    }
}

#[cfg(not(feature = "simulation"))]
mod marks {
    use super::Bug;

    /// No bug can be planted.
    #[must_use]
    #[inline(always)]
    pub const fn is_planted(_: Bug) -> bool {
        false
    }

    /// Marks nothing.
    #[inline(always)]
    pub const fn reached(_: &'static str) {}
}

pub use marks::*;
