//! Reads that must be current: a quorum confirms who leads, and the view catches up with what was committed by then.
//!
//! All reads that wait share one round of confirmation. A round may get lost (no leader yet, a message dropped): it is
//! asked for again, under another number, until the reader gives up.

use steeple_engine::ids::LogIndex;
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_raft::ReadIndex;
use tokio::sync::oneshot;

use super::{Failure, Group};
use crate::node::errors::QueryError;

/// Ticks after which a round that has not come back is asked for again.
const REPEAT_TICKS: u64 = 3;

/// Whoever waits to read.
type Reader = oneshot::Sender<Result<(), QueryError>>;

/// Reads on their way.
#[derive(Default)]
pub(in crate::node) struct Reads {
    /// Came since the last round was asked for.
    new: Vec<Reader>,
    /// Asked for: the round, when, and who waits.
    asked: Vec<(u64, u64, Vec<Reader>)>,
    /// Confirmed, and waiting for the view to reach an entry.
    confirmed: Vec<(LogIndex, Vec<Reader>)>,
    rounds: u64,
    ticks: u64,
    /// When the pipeline's round was asked for.
    pipeline_asked: u64,
    /// The newest round of any pipeline: an answer to an earlier leadership must not be taken for one to this.
    pub(super) pipeline_round: u64,
}

impl Reads {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let asked = self.asked.iter().map(|(.., readers)| readers.len());
        let confirmed = self.confirmed.iter().map(|(_, readers)| readers.len());
        self.new.len() + asked.chain(confirmed).sum::<usize>()
    }
}

impl Group {
    pub(super) fn read(&mut self, reader: Reader) {
        if is_planted(Bug::ReadNotConfirmed) && self.decides() {
            return drop(reader.send(Ok(())));
        }
        self.reads.new.push(reader);
    }

    /// Asks a quorum once for everybody who waits.
    pub(super) fn ask_for_confirmation(&mut self) {
        let round = self.leading.as_mut().and_then(|leading| leading.pipeline.take_round());
        if let Some(round) = round {
            self.reads.pipeline_asked = self.reads.ticks;
            self.reads.pipeline_round = round;
            self.replica.read_index(for_pipeline(round));
        }
        if !self.reads.new.is_empty() {
            self.reads.rounds += 1;
            let readers = std::mem::take(&mut self.reads.new);
            self.reads.asked.push((self.reads.rounds, self.reads.ticks, readers));
            self.replica.read_index(for_readers(self.reads.rounds));
        }
    }

    /// Forgets whoever has given up, also while nobody can be answered.
    pub(super) fn forget_readers_who_left(&mut self) {
        let is_there = |reader: &Reader| !reader.is_closed();
        self.reads.new.retain(is_there);
        for (.., readers) in &mut self.reads.asked {
            readers.retain(is_there);
        }
        for (_, readers) in &mut self.reads.confirmed {
            readers.retain(is_there);
        }
        self.reads.confirmed.retain(|(_, readers)| !readers.is_empty());
    }

    /// Asks again for what has not come back.
    pub(super) fn repeat_unconfirmed(&mut self) {
        self.reads.ticks += 1;
        let late = |asked: u64, now: u64| now >= asked + REPEAT_TICKS;
        let now = self.reads.ticks;
        if late(self.reads.pipeline_asked, now)
            && let Some(round) = self.leading.as_ref().and_then(|leading| leading.pipeline.awaits_round())
        {
            self.reads.pipeline_asked = now;
            self.replica.read_index(for_pipeline(round));
        }
        let (again, wait): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reads.asked).into_iter().partition(|(_, asked, _)| late(*asked, now));
        self.reads.asked = wait;
        if !again.is_empty() {
            reached("read: confirmation asked for again");
        }
        self.reads.new.extend(again.into_iter().flat_map(|(.., readers)| readers));
    }

    /// Takes up the answer to a round. A later round confirms all earlier ones as well.
    pub(super) fn confirm(&mut self, read: ReadIndex) -> Result<(), Failure> {
        if let Some(round) = pipeline_round(read.round) {
            let confirmed = self.leading.as_mut().map_or(Ok(()), |leading| leading.pipeline.confirmed(round));
            return confirmed.or_else(|error| self.store_failed_by(error.into()));
        }
        let round = readers_round(read.round);
        let (done, wait): (Vec<_>, Vec<_>) = std::mem::take(&mut self.reads.asked)
            .into_iter()
            .partition(|(asked, ..)| *asked <= round || is_planted(Bug::ReadOfLaterRound));
        self.reads.asked = wait;
        let readers: Vec<_> = done.into_iter().flat_map(|(.., readers)| readers).collect();
        if !readers.is_empty() {
            self.reads.confirmed.push((read.index, readers));
            self.serve_readers();
        }
        Ok(())
    }

    /// Lets those read whose entry is folded.
    pub(super) fn serve_readers(&mut self) {
        let folded = self.core.view.folded().index;
        let ready = |(index, _): &mut (LogIndex, Vec<Reader>)| *index <= folded || is_planted(Bug::ReadBeforeFold);
        for (_, readers) in self.reads.confirmed.extract_if(.., ready) {
            for reader in readers {
                // It may have given up.
                drop(reader.send(Ok(())));
            }
        }
    }
}

/// Rounds of the pipeline and of the readers are counted apart and share one number space.
const fn for_pipeline(round: u64) -> u64 {
    round * 2
}

const fn for_readers(round: u64) -> u64 {
    round * 2 + 1
}

const fn pipeline_round(round: u64) -> Option<u64> {
    if round.is_multiple_of(2) { Some(round / 2) } else { None }
}

const fn readers_round(round: u64) -> u64 {
    round / 2
}
