//! Members that repair their logs: whom they ask, what they fetch from whom, and what becomes of them.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::{Entry, LogError};
use steeple_raft::{Need, Question, Statement, Wanted};
use steeple_server::node::stepped::SteppedPatient;
use steeple_server::peer::Introduction;
use steeple_server::peer::repair::WantedEntries;

use super::member::Doing;
use super::{Nodes, STEPS_MAX, poll};

/// How often the questions of one round may lead to something new.
const TREATMENTS_MAX: usize = 100;

impl Nodes {
    /// One round of questions of a member that repairs itself, and what follows from the answers.
    pub(super) fn repair(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !matches!(member.doing, Doing::Repairing(_)) {
            return;
        }
        let Doing::Repairing(mut repairing) = std::mem::replace(&mut member.doing, Doing::Stopped) else { return };
        let treated = match repairing.lacks_records {
            true => Ok(self.fetch_base(id, &repairing.patient)),
            false => self.treat(id, &repairing.patient),
        };
        let Some(member) = self.members.get_mut(&id) else { return };
        match treated {
            Err(error) => member.doing = Doing::Refusing(error.to_string()),
            Ok(Some(obstacle)) => {
                repairing.obstacle = obstacle;
                member.doing = Doing::Repairing(repairing);
            }
            Ok(None) => match repairing.patient.close() {
                Ok(()) => self.start(id),
                Err(error) => member.doing = Doing::Refusing(error.to_string()),
            },
        }
    }

    /// `None` when the log is whole, else what is in the way.
    fn treat(&mut self, id: u64, patient: &SteppedPatient) -> Result<Option<String>, LogError> {
        self.ask_all(id, patient)?;
        for _ in 0..TREATMENTS_MAX {
            match patient.step()? {
                Need::Nothing => return Ok(None),
                Need::Answers => self.ask_all(id, patient)?,
                Need::Patience(obstacle) => return Ok(Some(obstacle.to_string())),
                Need::Snapshot { at_least, .. } => return Ok(self.fetch_snapshot(id, patient, at_least)),
                Need::Entries(wanted) => {
                    let mut taken = 0;
                    for wanted in wanted {
                        let source = wanted.sources[self.chance.below(wanted.sources.len() as u64) as usize];
                        let entries = self.entries_of(source.0, &wanted);
                        self.fetched.0 += entries.len() as u64;
                        self.fetched.1 += entries.iter().map(|entry| entry.payload.len() as u64).sum::<u64>();
                        taken += patient.receive(entries)?;
                    }
                    if taken == 0 {
                        return Ok(Some("what was fetched does not fit".into()));
                    }
                }
            }
        }
        Ok(Some("it goes on".into()))
    }

    fn fetch_base(&mut self, id: u64, patient: &SteppedPatient) -> Option<String> {
        self.fetch_snapshot(id, patient, patient.base())
    }

    /// `None` when a snapshot was taken over, else what is in the way.
    fn fetch_snapshot(&mut self, id: u64, patient: &SteppedPatient, minimum: LogIndex) -> Option<String> {
        let mut last = "nobody has a snapshot".to_owned();
        for from in self.ids().into_iter().filter(|from| *from != id) {
            let fetched: Arc<Mutex<Option<Result<Bytes, String>>>> = Arc::default();
            let arrived = Arc::clone(&fetched);
            let serving = self.serve(from, id, minimum, move |outcome| *arrived.lock() = Some(outcome));
            self.serving.extend(serving);
            self.settle();
            let outcome = fetched.lock().take().unwrap_or_else(|| Err("it takes long".into()));
            match outcome.and_then(|snapshot| patient.take_over(snapshot)) {
                Ok(()) => {
                    self.snapshots += 1;
                    return None;
                }
                Err(reason) => {
                    last = format!("a snapshot that reaches entry {minimum} is needed; member {from}: {reason}")
                }
            }
        }
        Some(last)
    }

    fn ask_all(&mut self, id: u64, patient: &SteppedPatient) -> Result<(), LogError> {
        let Some(question) = patient.ask()? else { return Ok(()) };
        for other in self.ids().into_iter().filter(|other| *other != id) {
            if let Some((who, statement)) = self.answer_of(other, question) {
                // Another data directory than the group knows says nothing.
                drop(patient.hear(&who, statement));
            }
        }
        Ok(())
    }

    fn answer_of(&mut self, id: u64, question: Question) -> Option<(Introduction, Statement)> {
        let member = self.members.get(&id)?;
        if let Doing::Repairing(repairing) = &member.doing {
            return Some((repairing.patient.introduction(), repairing.patient.answer(&question).ok()??));
        }
        let who = member.introduction()?;
        let mut answering = Box::pin(member.running()?.describe_log(question));
        for _ in 0..STEPS_MAX {
            if let Some(answer) = poll(answering.as_mut()) {
                return Some((who, answer?));
            }
            if !self.work(id) {
                break;
            }
        }
        None
    }

    fn entries_of(&self, id: u64, wanted: &Wanted) -> Vec<Entry> {
        let range = WantedEntries { first: wanted.first, last: wanted.last, term: wanted.term };
        match self.members.get(&id).map(|member| &member.doing) {
            Some(Doing::Running(node)) => node.entries(range),
            Some(Doing::Repairing(repairing)) => repairing.patient.entries(range),
            _ => Vec::new(),
        }
    }
}
