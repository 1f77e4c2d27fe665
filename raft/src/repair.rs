//! Repair of a damaged log with the help of the other members, without I/O.
//!
//! A member whose log has holes stays out of its group: it neither votes nor confirms nor answers reads. It asks the others
//! what their logs hold (a [`Statement`]), and [`Repair::verdict`] says what follows: entries to fetch, entries to give
//! up because they are certainly not committed, or that nothing can be done yet. `docs/repair.md` has the rules and why
//! they are safe. In short:
//!
//! - What was at a damaged place is often known without the entry, by its persist record or the table of terms. The same
//!   index and term are the same entry, so any copy will do.
//! - What others know to be committed is what was there, or what was there does not matter any more.
//! - The log of a leader of our term or a later one holds everything that is committed. So does the longest of the logs of
//!   a majority *of the others* that have all taken up a term of ours (the *fence*), so that nothing can be
//!   committed any more with what we confirmed earlier.

use std::collections::{BTreeMap, BTreeSet};

use steeple_engine::ids::{LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{Outline, Run};
use steeple_engine::simulation::{Bug, is_planted};
use thiserror::Error;

use crate::membership::Membership;

mod patient;
#[cfg(test)]
mod tests;

pub use self::patient::{Need, Patient};

/// Rounds of questions without a leader before a fence is asked for, which would take a leader down.
pub const ROUNDS_BEFORE_FENCE: u32 = 5;

/// Positions beyond this are nonsense, and adding to them could overflow.
const COUNT_MAX: u64 = 1 << 62;

/// Who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The voters.
    pub voters: BTreeSet<u64>,
    /// Those of the configuration that is being left; empty outside of joint consensus.
    pub voters_outgoing: BTreeSet<u64>,
}

impl Configuration {
    /// The voters of a membership.
    #[must_use]
    pub fn of(membership: &Membership) -> Self {
        Self { voters: membership.voters.clone(), voters_outgoing: membership.voters_outgoing.clone() }
    }

    /// Whether these members, of whom `own` does not count, are a majority of all voters, in both halves of a joint
    /// configuration. Then every majority that `own` was part of has one of them in it, and without them there is none.
    #[must_use]
    pub fn is_majority_without(&self, own: NodeId, members: &BTreeSet<u64>) -> bool {
        let has_majority = |voters: &BTreeSet<u64>| {
            let counted = voters.iter().filter(|voter| **voter != own.0 && members.contains(voter)).count();
            counted + usize::from(is_planted(Bug::RepairQuorumTooLow)) > voters.len() / 2
        };
        has_majority(&self.voters) && (self.voters_outgoing.is_empty() || has_majority(&self.voters_outgoing))
    }
}

/// What a member that repairs its log asks the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The first entry that it wants to know about.
    pub from: LogIndex,
    /// A term to be taken up before the answer; zero for none.
    pub fence: Term,
}

/// What a member says about its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Its term, as far as it is durable.
    pub term: Term,
    /// Whether it leads that term.
    pub leads: bool,
    /// Everything up to here is committed.
    pub commit: LogIndex,
    /// Its log.
    pub outline: Outline,
    /// Who votes; absent when the member cannot tell for certain, or is not certain that it has forgotten nothing.
    pub configuration: Option<Configuration>,
}

/// A statement that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a statement about a log that contradicts itself")]
pub struct Unsound;

impl Statement {
    /// Whether it makes sense. What a peer says is looked at before it is believed.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self) -> Result<(), Unsound> {
        let (mut index, mut term) = (self.outline.base.index, self.outline.base.term);
        let mut is_sound = self.term.0 <= COUNT_MAX && self.commit.0 <= COUNT_MAX && index.0 <= COUNT_MAX;
        for run in &self.outline.runs {
            is_sound &= run.first > index && run.last >= run.first && run.last.0 <= COUNT_MAX;
            is_sound &= run.term.is_none_or(|found| found >= term && found.0 <= COUNT_MAX);
            is_sound &= !run.intact || run.term.is_some();
            (index, term) = (run.last, run.term.unwrap_or(term));
        }
        if is_sound { Ok(()) } else { Err(Unsound) }
    }

    /// Term and index of the end of the log.
    fn end(&self) -> (Term, LogIndex) {
        let last = self.outline.last();
        (self.outline.term(last).unwrap_or_default(), last)
    }
}

/// Entries to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first one.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// The term of all of them.
    pub term: Term,
    /// Who has them.
    pub sources: Vec<NodeId>,
}

/// What a damaged log needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is whole.
    Whole,
    /// The entry `from` and all after it were never committed and never will be: they are cut off.
    Discard {
        /// The first of them.
        from: LogIndex,
    },
    /// No entry that matters lay behind `last`.
    EndsAt {
        /// The last one.
        last: LogIndex,
    },
    /// These entries are to be put back.
    Fetch(Vec<Wanted>),
    /// A term to take up durably; then all are asked again, with the fence.
    Fence(Term),
    /// The others have these entries in a snapshot only.
    Snapshot {
        /// Who has one.
        sources: Vec<NodeId>,
        /// What it must hold at the least.
        at_least: LogIndex,
    },
    /// Nothing can be done now.
    Wait(Obstacle),
}

/// Why nothing can be done now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Obstacle {
    /// Nobody that was heard of has the entries.
    #[error("entries {first} to {last} are damaged, and none of the {heard} members that answer has an intact copy")]
    NoCopy {
        /// The first one.
        first: LogIndex,
        /// The last one.
        last: LogIndex,
        /// Members that answered.
        heard: usize,
    },
    /// Members that have the entries did not hand them out, or what they handed out does not fit.
    #[error("entries {first} to {last} are damaged, and what the members that have them handed out does not fit")]
    NotTaken {
        /// The first one.
        first: LogIndex,
        /// The last one.
        last: LogIndex,
    },
    /// It is not known which entries they were.
    #[error(
        "what entries {first} to {last} were cannot be told yet: no leader is known, and the {heard} members that answer are \
         not a majority that is certain of its logs"
    )]
    Undecided {
        /// The first one.
        first: LogIndex,
        /// The last one.
        last: LogIndex,
        /// Members that answered.
        heard: usize,
    },
    /// Others say that something else is committed than what was committed here.
    #[error("entry {index} is committed here, and another one in its place elsewhere")]
    Contradiction {
        /// The entry.
        index: LogIndex,
    },
}

/// The repair of one log.
#[derive(Debug)]
pub struct Repair {
    id: NodeId,
    answers: BTreeMap<NodeId, Statement>,
    /// A term that was taken up during this repair, and durably.
    fence: Option<Term>,
    rounds: u32,
}

impl Repair {
    /// Begins; nothing is known of the others.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self { id, answers: BTreeMap::new(), fence: None, rounds: 0 }
    }

    /// Forgets the answers, which get old, and says what to ask all others.
    pub fn begin_round(&mut self, own: &Statement) -> Question {
        self.answers.clear();
        self.rounds = self.rounds.saturating_add(1);
        // From before the first damage, so that terms can be compared in front of it too.
        let first = own.outline.damaged().map(|run| run.first).min().unwrap_or(own.outline.last());
        Question { from: LogIndex(first.0.saturating_sub(1)), fence: self.fence.unwrap_or_default() }
    }

    /// Takes the answer of a member.
    ///
    /// # Errors
    /// When it makes no sense; it does not count then.
    pub fn hear(&mut self, from: NodeId, statement: Statement) -> Result<(), Unsound> {
        statement.check()?;
        if from != self.id {
            self.answers.insert(from, statement);
        }
        Ok(())
    }

    /// Members that have answered.
    #[must_use]
    pub fn heard(&self) -> usize {
        self.answers.len()
    }

    /// The term asked for by [`Verdict::Fence`] is durable.
    pub fn fenced(&mut self, term: Term) {
        self.fence = Some(term);
    }

    /// What follows from the answers. `own` is what this member says about its own log now; `hopeless` are entries that
    /// cannot be put back one by one.
    #[must_use]
    pub fn verdict(&self, own: &Statement, hopeless: &[(LogIndex, LogIndex)]) -> Verdict {
        if own.outline.is_whole() {
            return Verdict::Whole;
        }
        Judgement { own, hopeless, answers: &self.answers, authority: self.authority(own) }.verdict().unwrap_or_else(
            |obstacle| match (&obstacle, self.fence_to_take(own)) {
                (Obstacle::NoCopy { .. } | Obstacle::Undecided { .. }, Some(term)) => Verdict::Fence(term),
                _ => Verdict::Wait(obstacle),
            },
        )
    }

    /// A member whose log holds everything that is committed.
    fn authority(&self, own: &Statement) -> Option<&Statement> {
        let certain = || self.answers.values().filter(|answer| answer.outline.is_certain());
        let leader = certain().filter(|answer| answer.leads && answer.term >= own.term);
        leader.max_by_key(|answer| answer.term).or_else(|| {
            let fence = self.fence?;
            let fenced = self.eligible(own, fence);
            let members = fenced.iter().map(|(node, _)| node.0).collect();
            let is_majority = own.configuration.as_ref()?.is_majority_without(self.id, &members);
            fenced.into_iter().map(|(_, answer)| answer).filter(|_| is_majority).max_by_key(|answer| answer.end())
        })
    }

    /// Members that have taken up a term and are certain about everything in their logs.
    fn eligible(&self, own: &Statement, fence: Term) -> Vec<(NodeId, &Statement)> {
        let agrees = |answer: &Statement| {
            answer.term >= fence && answer.outline.is_certain() && answer.configuration == own.configuration
        };
        self.answers.iter().filter(|(_, answer)| agrees(answer)).map(|(node, answer)| (*node, answer)).collect()
    }

    /// The term to ask everybody to take up, if that could help and was not done yet.
    fn fence_to_take(&self, own: &Statement) -> Option<Term> {
        let configuration = own.configuration.as_ref()?;
        let members = self.eligible(own, Term(0)).iter().map(|(node, _)| node.0).collect();
        let could_help = configuration.is_majority_without(self.id, &members);
        let is_led = self.answers.values().any(|answer| answer.leads && answer.term >= own.term);
        if self.fence.is_some() || self.rounds <= ROUNDS_BEFORE_FENCE || is_led || !could_help {
            return None;
        }
        let known = self.answers.values().map(|answer| answer.term).max().unwrap_or_default().max(own.term);
        Some(Term(known.0 + 1)).filter(|term| term.0 < COUNT_MAX)
    }
}

/// Neighbouring damaged entries of which everybody knows the same.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: LogIndex,
    last: LogIndex,
    term: Option<Term>,
}

/// One look at everything that is known.
struct Judgement<'a> {
    own: &'a Statement,
    hopeless: &'a [(LogIndex, LogIndex)],
    answers: &'a BTreeMap<NodeId, Statement>,
    authority: Option<&'a Statement>,
}

impl Judgement<'_> {
    fn verdict(&self) -> Result<Verdict, Obstacle> {
        let pieces = self.identified_pieces();
        if let Some(from) = self.first_conflict(&pieces) {
            return self.discard(from);
        }
        if let Some(authority) = self.authority.filter(|_| !self.own.outline.end_known) {
            return Ok(Verdict::EndsAt { last: authority.outline.last().max(self.own.outline.last()) });
        }
        let wanted: Vec<Wanted> = pieces.iter().filter_map(|piece| self.wanted(piece)).collect();
        if !wanted.is_empty() {
            return Ok(Verdict::Fetch(wanted));
        }
        if let Some(from) = self.end_of_authority(&pieces) {
            return self.discard(from);
        }
        if let Some(verdict) = self.snapshot(&pieces) {
            return Ok(verdict);
        }
        Err(self.obstacle(&pieces))
    }

    /// Nothing that is committed is ever given up, whatever others say.
    fn discard(&self, from: LogIndex) -> Result<Verdict, Obstacle> {
        if from <= self.own.commit {
            return Err(Obstacle::Contradiction { index: from });
        }
        Ok(Verdict::Discard { from })
    }

    /// The damaged entries, with the terms that they are known to have had.
    fn identified_pieces(&self) -> Vec<Piece> {
        let damaged: Vec<Run> = self.own.outline.damaged().copied().collect();
        let pieces = damaged.iter().flat_map(|run| self.pieces_of(run));
        pieces.map(|piece| Piece { term: piece.term.or_else(|| self.identify(&piece)), ..piece }).collect()
    }

    /// A run, cut wherever something changes in what anybody knows.
    fn pieces_of(&self, run: &Run) -> Vec<Piece> {
        let mut starts = BTreeSet::from([run.first]);
        for answer in self.answers.values() {
            starts.insert(answer.commit.next());
            starts.insert(answer.outline.base.index.next());
            starts.insert(answer.outline.base.index);
            starts.extend(answer.outline.runs.iter().flat_map(|known| [known.first, known.last.next()]));
        }
        starts.extend(self.hopeless.iter().flat_map(|(first, last)| [*first, last.next()]));
        let starts: Vec<LogIndex> =
            starts.into_iter().filter(|start| *start >= run.first && *start <= run.last).collect();
        let ends = starts.iter().skip(1).map(|next| LogIndex(next.0 - 1)).chain([run.last]);
        starts.iter().zip(ends).map(|(first, last)| Piece { first: *first, last, term: run.term }).collect()
    }

    /// Which term damaged entries had, if that follows from the rest.
    fn identify(&self, piece: &Piece) -> Option<Term> {
        let before = self.known_before(piece.first);
        let Some(behind) = self.known_behind(piece.last) else { return self.adopt(piece) };
        if before == Some(behind.term) {
            return before;
        }
        // Whoever has the same entry behind them has the same entries before that.
        let same = self.answers.values().filter(|answer| answer.outline.term(behind.index) == Some(behind.term));
        same.filter_map(|answer| answer.outline.term(piece.first)).next()
    }

    /// Which entries come in the place of some that nothing is known of, and nothing that is known came after.
    fn adopt(&self, piece: &Piece) -> Option<Term> {
        let knows = |answer: &&Statement| answer.commit >= piece.last;
        let committed = self.answers.values().filter(knows).chain(self.authority);
        committed.filter_map(|answer| answer.outline.term(piece.first)).next()
    }

    fn known_before(&self, index: LogIndex) -> Option<Term> {
        let runs = self.own.outline.runs.iter().rev().filter(|run| run.last < index);
        let base = Some(self.own.outline.base).filter(|base| base.index > LogIndex::ZERO).map(|base| base.term);
        runs.filter_map(|run| run.term).next().or(base)
    }

    fn known_behind(&self, index: LogIndex) -> Option<LogPosition> {
        let mut runs = self.own.outline.runs.iter().filter(|run| run.first > index);
        runs.find_map(|run| Some(LogPosition { index: run.first, term: run.term? }))
    }

    /// The first entry of this log in whose place another one is committed, or stands in a log that holds everything
    /// that is committed; or which follows on damage that such a log has and does not have itself.
    fn first_conflict(&self, pieces: &[Piece]) -> Option<LogIndex> {
        // Where a snapshot with history from a rewritten log was taken over, a place may have another number here than there.
        let comparable = pieces.iter().filter(|piece| !self.is_hopeless(piece));
        let identified = comparable.map(|piece| (piece.first, piece.last, piece.term));
        let intact = self.own.outline.runs.iter().filter(|run| run.intact).map(|run| (run.first, run.last, run.term));
        let known: Vec<(LogIndex, LogIndex, Term)> =
            identified.chain(intact).filter_map(|(first, last, term)| Some((first, last, term?))).collect();
        let committed = self.answers.values().map(|answer| (answer, answer.commit));
        let authorities = committed.chain(self.authority.map(|authority| (authority, authority.outline.last())));
        let conflicts = authorities.filter_map(|(answer, up_to)| first_difference(&known, &answer.outline, up_to));
        conflicts.chain(self.unfounded(pieces)).min()
    }

    /// Entries behind unknown ones, and behind the end of the authority's log: what is put in the place of the unknown
    /// ones need not be what they followed on.
    fn unfounded(&self, pieces: &[Piece]) -> Option<LogIndex> {
        let authority = self.authority?;
        let unknown = pieces.iter().find(|piece| piece.term.is_none())?;
        let behind = self.known_behind(unknown.last)?;
        (unknown.first <= authority.outline.last() && behind.index > authority.outline.last()).then_some(behind.index)
    }

    fn wanted(&self, piece: &Piece) -> Option<Wanted> {
        let term = piece.term.filter(|_| !self.is_hopeless(piece))?;
        let holds = |answer: &Statement| answer.outline.holds(piece.first, term);
        let sources: Vec<NodeId> =
            self.answers.iter().filter(|(_, answer)| holds(answer)).map(|(node, _)| *node).collect();
        (!sources.is_empty()).then_some(Wanted { first: piece.first, last: piece.last, term, sources })
    }

    fn is_hopeless(&self, piece: &Piece) -> bool {
        self.hopeless.iter().any(|(first, last)| *first <= piece.last && piece.first <= *last)
    }

    /// Damaged entries behind the end of a log that holds everything that is committed.
    fn end_of_authority(&self, pieces: &[Piece]) -> Option<LogIndex> {
        let last = self.authority?.outline.last();
        pieces.iter().map(|piece| piece.first).find(|first| *first > last)
    }

    /// Entries that others have purged, or that cannot be put back one by one.
    fn snapshot(&self, pieces: &[Piece]) -> Option<Verdict> {
        let piece = pieces.iter().find(|piece| {
            self.is_hopeless(piece) || self.answers.values().any(|answer| answer.outline.base.index >= piece.first)
        })?;
        let has_it = |answer: &Statement| answer.commit >= piece.last;
        let sources: Vec<NodeId> =
            self.answers.iter().filter(|(_, answer)| has_it(answer)).map(|(node, _)| *node).collect();
        // What was confirmed here must not be lost with the log that the snapshot replaces.
        let at_least = self.own.outline.last();
        let is_complete = self.own.outline.end_known && !sources.is_empty();
        is_complete.then_some(Verdict::Snapshot { sources, at_least })
    }

    fn obstacle(&self, pieces: &[Piece]) -> Obstacle {
        let heard = self.answers.len();
        let end = self.own.outline.last().next();
        match pieces.iter().find(|piece| piece.term.is_none()) {
            Some(unknown) => Obstacle::Undecided { first: unknown.first, last: unknown.last, heard },
            None if !self.own.outline.end_known => Obstacle::Undecided { first: end, last: end, heard },
            None => {
                let first = pieces.first().map_or(end, |piece| piece.first);
                Obstacle::NoCopy { first, last: pieces.last().map_or(end, |piece| piece.last), heard }
            }
        }
    }
}

/// The first index up to `up_to` at which two logs are known to have entries of different terms.
fn first_difference(known: &[(LogIndex, LogIndex, Term)], other: &Outline, up_to: LogIndex) -> Option<LogIndex> {
    let mut first = None;
    let base = Run { first: other.base.index, last: other.base.index, term: Some(other.base.term), intact: false };
    let others = other.runs.iter().chain((other.base.index > LogIndex::ZERO).then_some(&base));
    for run in others {
        let Some(term) = run.term else { continue };
        for (from, to, own) in known {
            let (start, end) = (run.first.max(*from), run.last.min(*to).min(up_to));
            if start <= end && *own != term && first.is_none_or(|first| start < first) {
                first = Some(start);
            }
        }
    }
    first
}
