//! A member whose log is damaged, from the opening of the log until it is whole.
//!
//! Whoever drives it carries questions and entries between members; nothing here waits or sends. The log's disk is that
//! with which the log was opened.

use std::collections::BTreeMap;

use steeple_engine::ids::{LogIndex, NodeId, Term};
use steeple_engine::log::{Entry, FillError, HardState, Hole, HoleKind, LogError, LogWriter};

use super::{Configuration, Obstacle, Question, Repair, Statement, Unsound, Verdict, Wanted};

/// A verdict that changes something is followed by another look, this often at the most: each takes entries away.
const STEPS_MAX: usize = 64;

/// What a damaged member needs from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing more: the log is whole.
    Nothing,
    /// These entries.
    Entries(Vec<Wanted>),
    /// Answers to another round of questions, at once.
    Answers,
    /// A snapshot of one of these members that holds at least so much.
    Snapshot {
        /// Who has one.
        sources: Vec<NodeId>,
        /// What it must hold at the least.
        at_least: LogIndex,
    },
    /// Another round of questions, later.
    Patience(Obstacle),
}

/// A damaged member.
#[derive(Debug)]
pub struct Patient {
    writer: LogWriter,
    repair: Repair,
    configuration: Option<Configuration>,
    /// What was asked for.
    wanted: Vec<Wanted>,
    /// Entries that can only be put back together with others that have not come yet.
    gathered: BTreeMap<LogIndex, Entry>,
    /// Entries put back so far, and their bytes.
    filled: (u64, u64),
}

impl Patient {
    /// Takes over the log of a member. `configuration` is who votes, if that is certain.
    #[must_use]
    pub fn new(writer: LogWriter, configuration: Option<Configuration>) -> Self {
        let repair = Repair::new(writer.identity().node);
        Self { writer, repair, configuration, wanted: Vec::new(), gathered: BTreeMap::new(), filled: (0, 0) }
    }

    /// The log, when it is whole or nothing more is to be done for it.
    #[must_use]
    pub fn into_writer(self) -> LogWriter {
        self.writer
    }

    /// The log, for whoever puts a snapshot in its place.
    pub fn writer_mut(&mut self) -> &mut LogWriter {
        &mut self.writer
    }

    /// The entry behind which the log goes on as the group has it.
    #[must_use]
    pub fn base(&self) -> LogIndex {
        LogIndex(self.writer.reader().contiguous_from().0.saturating_sub(1))
    }

    /// Damage that is left.
    #[must_use]
    pub fn holes(&self) -> &[Hole] {
        self.writer.holes()
    }

    /// Entries put back so far, and their bytes.
    #[must_use]
    pub fn filled(&self) -> (u64, u64) {
        self.filled
    }

    /// What the member says about its log.
    ///
    /// # Errors
    /// When more of the log is damaged than was known.
    pub fn statement(&self) -> Result<Statement, LogError> {
        let HardState { term, commit, .. } = self.writer.hard_state();
        let configuration = self.configuration.clone();
        Ok(Statement { term, leads: false, commit, outline: self.writer.outline()?, configuration })
    }

    /// Answers another member, after taking up its fence.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn answer(&mut self, question: &Question) -> Result<Statement, LogError> {
        self.take_up(question.fence)?;
        self.statement()
    }

    /// A term that nobody gets a vote for from this member.
    fn take_up(&mut self, term: Term) -> Result<(), LogError> {
        let state = self.writer.hard_state();
        if term <= state.term {
            return Ok(());
        }
        self.writer.save_hard_state(HardState { term, vote: None, commit: state.commit })
    }

    /// An entry for another member; `None` when it is not here, or damaged.
    #[must_use]
    pub fn entry(&self, index: LogIndex) -> Option<Entry> {
        self.writer.reader().read(index).ok().flatten()
    }

    /// What to ask all others now. Answers to earlier questions do not count any more.
    ///
    /// # Errors
    /// As [`Patient::statement`].
    pub fn ask(&mut self) -> Result<Question, LogError> {
        let own = self.statement()?;
        Ok(self.repair.begin_round(&own))
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn hear(&mut self, from: NodeId, statement: Statement) -> Result<(), Unsound> {
        self.repair.hear(from, statement)
    }

    /// Does what follows from the answers, and says what is needed next.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn step(&mut self) -> Result<Need, LogError> {
        self.wanted.clear();
        for _ in 0..STEPS_MAX {
            let own = self.statement()?;
            match self.repair.verdict(&own, &self.hopeless()) {
                Verdict::Whole => return Ok(Need::Nothing),
                Verdict::Discard { from } => {
                    tracing::info!(%from, "entries of the damaged log were never committed and are given up");
                    self.gathered.clear();
                    self.writer.discard_from(from)?;
                }
                Verdict::EndsAt { last } => self.writer.settle_end(last)?,
                Verdict::Fetch(wanted) => {
                    self.wanted.clone_from(&wanted);
                    let missing = self.without_gathered(wanted);
                    return Ok(if missing.is_empty() { self.stuck() } else { Need::Entries(missing) });
                }
                Verdict::Fence(term) => {
                    self.take_up(term)?;
                    self.repair.fenced(term);
                    return Ok(Need::Answers);
                }
                Verdict::Snapshot { sources, at_least } => return Ok(Need::Snapshot { sources, at_least }),
                Verdict::Wait(obstacle) => return Ok(Need::Patience(obstacle)),
            }
        }
        Ok(Need::Answers)
    }

    /// Everything that was asked for is here, and does not fit into its place.
    fn stuck(&self) -> Need {
        let first = self.wanted.first().map_or(LogIndex::ZERO, |wanted| wanted.first);
        let last = self.wanted.last().map_or(first, |wanted| wanted.last);
        Need::Patience(Obstacle::NotTaken { first, last })
    }

    fn hopeless(&self) -> Vec<(LogIndex, LogIndex)> {
        // What came with a snapshot and is not replicated is nobody else's entry of that number.
        let replicated_from = self.writer.reader().contiguous_from();
        let is_hopeless = |hole: &&Hole| hole.kind == HoleKind::Hopeless || hole.first < replicated_from;
        let hopeless = self.writer.holes().iter().filter(is_hopeless);
        hopeless.map(|hole| (hole.first, hole.last)).collect()
    }

    /// What has come already and waits for the rest need not come again.
    fn without_gathered(&self, wanted: Vec<Wanted>) -> Vec<Wanted> {
        let rest = wanted.into_iter().filter_map(|mut wanted| {
            while wanted.first <= wanted.last && self.gathered.contains_key(&wanted.first) {
                wanted.first = wanted.first.next();
            }
            (wanted.first <= wanted.last).then_some(wanted)
        });
        rest.collect()
    }

    /// Puts entries back that were asked for; others are passed over. Answers how many were put back or set aside: none
    /// when they are not what was there, and asking for them again at once would bring the same.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn receive(&mut self, entries: Vec<Entry>) -> Result<usize, LogError> {
        let (filled, mut set_aside) = (self.filled.0, Vec::new());
        for entry in entries {
            let index = entry.position.index;
            let is_wanted =
                |wanted: &Wanted| wanted.first <= index && index <= wanted.last && wanted.term == entry.position.term;
            if self.wanted.iter().any(is_wanted) {
                let is_new = self.gathered.insert(index, entry).is_none();
                set_aside.extend(is_new.then_some(index));
            }
        }
        while self.fill_one()? {}
        let filled = usize::try_from(self.filled.0 - filled).unwrap_or(usize::MAX);
        let waiting = set_aside.iter().filter(|index| self.gathered.contains_key(index)).count();
        Ok(filled + waiting)
    }

    /// Entries that were gathered and are missing no more.
    fn forget_filled(&mut self) {
        let holes = self.writer.holes();
        let (kept, filled) = std::mem::take(&mut self.gathered)
            .into_iter()
            .partition(|(index, _)| holes.iter().any(|hole| hole.first <= *index && *index <= hole.last));
        self.gathered = kept;
        let filled: BTreeMap<LogIndex, Entry> = filled;
        let bytes: u64 = filled.values().map(|entry| entry.payload.len() as u64).sum();
        self.filled = (self.filled.0 + filled.len() as u64, self.filled.1 + bytes);
    }

    /// Fills a hole, or the beginning of one, with what has come. Whether there was one.
    fn fill_one(&mut self) -> Result<bool, LogError> {
        for hole in self.writer.holes().to_vec() {
            let mut entries = Vec::new();
            let mut next = hole.first;
            while let Some(entry) = self.gathered.get(&next).filter(|_| next <= hole.last) {
                entries.push(entry.clone());
                next = next.next();
            }
            if entries.is_empty() {
                continue;
            }
            match self.writer.fill(&entries) {
                Ok(taken) => {
                    for entry in &entries[..taken] {
                        self.gathered.remove(&entry.position.index);
                        self.filled = (self.filled.0 + 1, self.filled.1 + entry.payload.len() as u64);
                    }
                    return Ok(true);
                }
                Err(FillError::Incomplete { .. }) => match self.writer.fill_together(hole.first, &self.gathered) {
                    Ok(_) => {
                        self.forget_filled();
                        return Ok(true);
                    }
                    Err(FillError::Log(error)) => return Err(error),
                    // More of it is missing.
                    Err(_) => {}
                },
                Err(FillError::Log(error)) => return Err(error),
                Err(error) => {
                    // A peer sent something else than it said. Another one may do better.
                    tracing::warn!(%error, "an entry from a peer was not taken");
                    entries.iter().for_each(|entry| drop(self.gathered.remove(&entry.position.index)));
                }
            }
        }
        Ok(false)
    }
}
