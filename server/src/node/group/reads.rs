//! Reads that must be current: a quorum confirms who leads, and the view catches up with what was committed by then.
//!
//! All reads that wait share one round of confirmation. A round may get lost (no leader yet, a message dropped): it is
//! asked for again, under another number, until the reader gives up.
//!
//! Where leases are used, a round that came back answers the reads of some time to come as well ([`super::lease`]).

use steeple_engine::ids::LogIndex;
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_raft::ReadIndex;
use tokio::sync::oneshot;

use super::lease::{Hold, Lease, Standing};
use super::{Failure, Group};
use crate::node::errors::QueryError;

/// Ticks after which a round that has not come back is asked for again.
const REPEAT_TICKS: u64 = 3;

/// Whoever waits to read.
type Reader = oneshot::Sender<Result<(), QueryError>>;

/// A round that was asked for.
struct Asked {
    round: u64,
    /// The tick in which it was.
    since: u64,
    /// What a lease would stand on that comes of it.
    standing: Option<Standing>,
    /// Who waits for it; nobody when it is to renew a lease.
    readers: Vec<Reader>,
}

/// Reads on their way.
#[derive(Default)]
pub(in crate::node) struct Reads {
    /// Came since the last round was asked for.
    new: Vec<Reader>,
    asked: Vec<Asked>,
    /// Confirmed, and waiting for the view to reach an entry.
    confirmed: Vec<(LogIndex, Vec<Reader>)>,
    pub(super) lease: Option<Lease>,
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
        let asked = self.asked.iter().map(|asked| asked.readers.len());
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
            let standing = self.standing();
            if standing.is_none_or(|standing| self.is_to_be_asked(standing)) {
                self.ask_for_readers(standing);
            }
        }
    }

    fn ask_for_readers(&mut self, standing: Option<Standing>) {
        self.reads.rounds += 1;
        let readers = std::mem::take(&mut self.reads.new);
        let (round, since) = (self.reads.rounds, self.reads.ticks);
        self.reads.asked.push(Asked { round, since, standing, readers });
        self.replica.read_index(for_readers(round));
    }

    /// Answers reads from the lease, if there is one; whether a quorum has to be asked nevertheless, for them or for what
    /// comes next.
    fn is_to_be_asked(&mut self, standing: Standing) -> bool {
        let hold = self.reads.lease.map_or(Hold::Over, |lease| lease.covers(standing));
        if hold == Hold::Over {
            return true;
        }
        reached("read: answered from a lease");
        let readers = std::mem::take(&mut self.reads.new);
        self.reads.confirmed.push((self.replica.committed(), readers));
        self.serve_readers();
        let renews = hold == Hold::Ending && self.reads.asked.is_empty();
        if renews {
            reached("lease: the next one asked for before its end");
        }
        renews
    }

    /// Forgets whoever has given up, also while nobody can be answered.
    pub(super) fn forget_readers_who_left(&mut self) {
        let is_there = |reader: &Reader| !reader.is_closed();
        self.reads.new.retain(is_there);
        for asked in &mut self.reads.asked {
            asked.readers.retain(is_there);
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
            std::mem::take(&mut self.reads.asked).into_iter().partition(|asked| late(asked.since, now));
        self.reads.asked = wait;
        if !again.is_empty() {
            reached("read: confirmation asked for again");
        }
        self.reads.new.extend(again.into_iter().flat_map(|asked| asked.readers));
    }

    /// Takes up the answer to a round. A later round confirms all earlier ones as well.
    pub(super) fn confirm(&mut self, read: ReadIndex) -> Result<(), Failure> {
        if let Some(round) = pipeline_round(read.round) {
            if let Some(leading) = &mut self.leading {
                leading.pipeline.confirmed(round);
            }
            return Ok(());
        }
        let round = readers_round(read.round);
        let (done, wait): (Vec<_>, Vec<_>) = std::mem::take(&mut self.reads.asked)
            .into_iter()
            .partition(|asked| asked.round <= round || is_planted(Bug::ReadOfLaterRound));
        self.reads.asked = wait;
        // The last of them was asked for last.
        let standing = match is_planted(Bug::LeaseFromAnswer) {
            true => self.standing(),
            false => done.last().and_then(|asked| asked.standing),
        };
        if let Some(standing) = standing {
            self.reads.lease = Some(Lease::after(self.reads.lease, standing));
            self.publish_lease();
        }
        let readers: Vec<_> = done.into_iter().flat_map(|asked| asked.readers).collect();
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
