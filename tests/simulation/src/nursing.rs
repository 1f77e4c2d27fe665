//! Members whose logs are damaged, until these are whole: questions, answers and entries travel over the network like
//! everything else.

use std::sync::Arc;

use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::Entry;
use steeple_raft::{Need, Question, Statement, Wanted};
use steeple_server::node::stepped::SteppedPatient;
use steeple_server::peer::repair::WantedEntries;
use steeple_server::peer::{HandshakeError, Introduction, WantedSnapshot};
use tokio::sync::oneshot;

use crate::network::{Fetch, machine_of};
use crate::time::{MILLISECOND, SECOND};
use crate::violation::{Checked, Violation};
use crate::world::{Event, World};

/// Time between two rounds of questions.
const ROUND: u64 = 400 * MILLISECOND;

/// What members tell each other to repair a log.
#[derive(Clone, Debug)]
pub(crate) enum Aid {
    /// What does the log hold? With the number of the round.
    Asks(Question, u64),
    /// It holds this; the answer in a round.
    Tells(Box<(Introduction, Statement)>, u64),
    /// These entries are wanted.
    Wants(WantedEntries),
    /// Here they are.
    Hands(Vec<Entry>),
}

/// Statements on their way out of members: whose, and for whom.
pub(crate) type AidMailbox = Arc<parking_lot::Mutex<Vec<(usize, usize, Aid)>>>;

impl World {
    /// A damaged member begins a round: it does what follows from the answers to the last one, and asks again.
    pub(crate) fn nurse(&mut self, number: usize, life: u32) -> Checked {
        if self.machines[number].life != life || self.machines[number].patient.is_none() {
            return Ok(());
        }
        let pause = ROUND + self.chance.below(ROUND / 4);
        self.put(pause, Event::Nurse(number, life));
        if self.machines[number].paused_until > self.time.now() || self.take_over_while_damaged(number)? {
            return Ok(());
        }
        if self.fetch_records(number) {
            return Ok(());
        }
        self.treat(number)?;
        let Some(patient) = &self.machines[number].patient else { return Ok(()) };
        let asked = patient.ask().map(|question| (question, patient.peers()));
        self.machines[number].rounds += 1;
        let round = self.machines[number].rounds;
        match asked {
            Ok((Some(question), peers)) => {
                peers.into_iter().for_each(|peer| self.send_aid(number, machine_of(peer), Aid::Asks(question, round)));
                Ok(())
            }
            Ok((None, _)) => Ok(()),
            Err(error) => self.fail_patient(number, &error),
        }
    }

    /// Does what follows from what a damaged member has heard.
    fn treat(&mut self, number: usize) -> Checked {
        let Some(patient) = &self.machines[number].patient else { return Ok(()) };
        match patient.step() {
            Ok(Need::Nothing) => {
                self.counters.branch("log: repaired from peers");
                self.discharge(number)
            }
            Ok(Need::Entries(wanted)) => {
                wanted.iter().for_each(|wanted| self.want(number, wanted));
                Ok(())
            }
            Ok(Need::Snapshot { .. }) if self.machines[number].fetching.is_some() => Ok(()),
            Ok(Need::Snapshot { sources, at_least }) => {
                let Some(source) = self.chance.choose(&sources).copied() else { return Ok(()) };
                self.fetch_for_patient(number, source, at_least);
                Ok(())
            }
            Ok(Need::Answers) => Ok(()),
            Ok(Need::Patience(obstacle)) => {
                self.trace.explain(|| format!("member {number} cannot repair its log yet: {obstacle}"));
                Ok(())
            }
            Err(error) => self.fail_patient(number, &error),
        }
    }

    /// Lets a member whose log is whole fetch the records that it has lost; whether it is one.
    fn fetch_records(&mut self, number: usize) -> bool {
        let machine = &self.machines[number];
        let Some(patient) = machine.patient.as_ref().filter(|patient| machine.lacks_records && patient.is_whole())
        else {
            return false;
        };
        if machine.fetching.is_none() {
            let (peers, minimum) = (patient.peers(), patient.base());
            if let Some(source) = self.chance.choose(&peers).copied() {
                self.fetch_for_patient(number, source, minimum);
            }
        }
        true
    }

    fn fetch_for_patient(&mut self, number: usize, source: NodeId, minimum: LogIndex) {
        let (answer, fetched) = oneshot::channel();
        self.machines[number].fetching = Some(fetched);
        self.fetch(number, Fetch { from: machine_of(source), wanted: WantedSnapshot { minimum }, answer });
    }

    fn want(&mut self, number: usize, wanted: &Wanted) {
        let range = WantedEntries { first: wanted.first, last: wanted.last, term: wanted.term };
        if let Some(source) = self.chance.choose(&wanted.sources).copied() {
            self.send_aid(number, machine_of(source), Aid::Wants(range));
        }
    }

    /// Puts the snapshot that a damaged member has fetched in the place of its log, if there is one; whether there was.
    fn take_over_while_damaged(&mut self, number: usize) -> Result<bool, Violation> {
        let machine = &mut self.machines[number];
        let Some(fetching) = &mut machine.fetching else { return Ok(false) };
        let fetched = match fetching.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return Ok(false),
            fetched => fetched,
        };
        machine.fetching = None;
        let Some(bytes) = fetched.ok().and_then(Result::ok).and_then(|fetched| fetched.memory()) else {
            return Ok(false);
        };
        let replaced = machine.patient.as_ref().map_or(Ok(()), |patient| patient.take_over(bytes));
        machine.may_rebuild = true;
        match replaced {
            Ok(()) => {
                self.counters.branch(match self.machines[number].lacks_records {
                    true => "records: fetched by a member that had lost its base snapshot as well",
                    false => "log: replaced by a snapshot because peers have purged what is missing",
                });
                self.discharge(number)?;
            }
            // The next start goes on from the snapshot, or repairs again.
            Err(error) => self.fail_patient(number, &error)?,
        }
        Ok(true)
    }

    /// The log is whole: the process goes on to start.
    fn discharge(&mut self, number: usize) -> Checked {
        let machine = &mut self.machines[number];
        if let Some(patient) = machine.patient.take()
            && let Err(error) = patient.close()
        {
            return self.fail_patient(number, &error);
        }
        self.put(10 * MILLISECOND, Event::Start(number));
        Ok(())
    }

    /// Repairing has failed, which may only be because of the disk; the process is started again.
    fn fail_patient(&mut self, number: usize, error: &dyn std::fmt::Display) -> Checked {
        if self.machines[number].has_lost_power() {
            let life = self.machines[number].life;
            return self.lose_power(number, life);
        }
        let machine = &mut self.machines[number];
        self.trace.explain(|| format!("member {number} does not get on with its damaged log: {error}"));
        let is_explained = machine.is_full || machine.dying.is_some();
        if !is_explained {
            return Err(Violation::new("repair", format!("member {number}: {error}")));
        }
        machine.crash(CrashLoss::Nothing, &mut self.chance);
        self.put(SECOND, Event::Start(number));
        Ok(())
    }

    fn send_aid(&mut self, from: usize, to: usize, aid: Aid) {
        let way = match &aid {
            // A call needs both directions.
            Aid::Asks(..) | Aid::Wants(_) if self.network.is_cut(to, from) => Vec::new(),
            _ => self.network.delays(from, to, &mut self.counters),
        };
        let life = self.machines.get(from).map_or(0, |machine| machine.life);
        for delay in way {
            self.put(delay, Event::Aid { from, to, life, aid: Box::new(aid.clone()) });
        }
    }

    /// What members tell each other arrives.
    pub(crate) fn take_aid(&mut self, from: usize, to: usize, life: u32, aid: Aid) -> Checked {
        self.note("aid", &[from as u64, to as u64]);
        // The connection of a process that has ended is closed.
        if self.machines.get(from).is_none_or(|machine| machine.life != life) || !self.are_introduced(from, to) {
            return Ok(());
        }
        match aid {
            Aid::Asks(question, round) => self.answer_aid(from, to, question, round),
            Aid::Wants(wanted) => {
                let machine = &self.machines[to];
                let of_patient = machine.patient.as_ref().map(|patient| patient.entries(wanted));
                let entries = of_patient.or_else(|| machine.node.as_ref().map(|node| node.entries(wanted)));
                if let Some(entries) = entries {
                    self.send_aid(to, from, Aid::Hands(entries));
                }
                Ok(())
            }
            // Whoever answers late is not waited for, and what an earlier process was told says nothing.
            Aid::Tells(_, round) if self.machines[to].rounds != round => Ok(()),
            Aid::Tells(told, _) => {
                let (introduction, statement) = *told;
                if let Some(patient) = &self.machines[to].patient
                    && let Err(reason) = patient.hear(&introduction, statement)
                {
                    self.trace.explain(|| format!("member {to} does not believe member {from}: {reason}"));
                }
                Ok(())
            }
            Aid::Hands(entries) => {
                let Some(patient) = &self.machines[to].patient else { return Ok(()) };
                match patient.receive(entries) {
                    Ok(0) => Ok(()),
                    Ok(_) => self.treat(to),
                    Err(error) => self.fail_patient(to, &error),
                }
            }
        }
    }

    fn answer_aid(&mut self, from: usize, to: usize, question: Question, round: u64) -> Checked {
        let Some(introduction) = self.introduction_of(to) else { return Ok(()) };
        if let Some(patient) = &self.machines[to].patient {
            return match patient.answer(&question) {
                Ok(Some(statement)) => {
                    self.send_aid(to, from, Aid::Tells(Box::new((introduction, statement)), round));
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => self.fail_patient(to, &error),
            };
        }
        let machine = &mut self.machines[to];
        let Some(node) = &machine.node else { return Ok(()) };
        let (described, mailbox) = (node.describe_log(question), Arc::clone(&self.told));
        machine.serve(Box::pin(async move {
            if let Some(statement) = described.await {
                mailbox.lock().push((to, from, Aid::Tells(Box::new((introduction, statement)), round)));
            }
        }));
        while self.machines[to].poll_served() {}
        self.schedule(to);
        Ok(())
    }

    /// Sends on what members have told.
    pub(crate) fn take_told(&mut self) {
        let told = std::mem::take(&mut *self.told.lock());
        for (from, to, aid) in told {
            self.send_aid(from, to, aid);
        }
    }

    fn introduction_of(&self, number: usize) -> Option<Introduction> {
        let machine = self.machines.get(number)?;
        machine.patient.as_ref().map(SteppedPatient::introduction).or_else(|| machine.introduction())
    }

    /// Whether two processes of which one at least is damaged let each other in.
    fn are_introduced(&self, one: usize, other: usize) -> bool {
        let admits = |by: usize, whom: &Introduction| {
            let machine = &self.machines[by];
            let admitted = match (&machine.patient, machine.sink()) {
                (Some(patient), _) => patient.admit(whom),
                (None, Some(sink)) => sink.admit(whom),
                (None, None) => return false,
            };
            matches!(admitted, Ok(()) | Err(HandshakeError::NotAdmitted(_)))
        };
        let (Some(first), Some(second)) = (self.introduction_of(one), self.introduction_of(other)) else {
            return false;
        };
        admits(other, &first) && admits(one, &second)
    }
}
