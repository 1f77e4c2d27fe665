//! What clients called and what they were answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is held under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    /// Written by a create or an update; no value is ever written twice.
    pub(crate) value: u64,
    /// Updates since the creation.
    pub(crate) revision: i64,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create(u64),
    Update(u64),
    Delete,
    Read,
}

/// What it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Of a create: done.
    Created,
    /// Of a create: there is one, and it is like this.
    Exists(Held),
    /// Of an update: done, and it is now like this.
    Updated(Held),
    /// Of a delete: done, and it was like this.
    Deleted(Held),
    /// Of an update or a delete: there is none.
    Missing,
    /// Of a read.
    Found(Option<Held>),
    /// Nobody knows; it may still happen.
    Unknown,
}

/// A call with its answer, and when both were. Positions come from one counter: they order what happened in this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) called_at: u64,
    pub(crate) answered_at: u64,
    pub(crate) call: Call,
    pub(crate) answer: Answer,
}

/// Records calls from any number of clients at a time. Clones record into the same history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    position: AtomicU64,
    keys: Mutex<BTreeMap<String, Vec<Done>>>,
}

impl Recorder {
    /// Notes that a call is about to be made.
    pub(crate) fn begin(&self, key: &str, call: Call) -> Begun {
        Begun { recorder: self.clone(), key: key.to_owned(), call, called_at: self.next_position() }
    }

    /// Everything recorded so far, by key.
    pub(crate) fn keys(&self) -> BTreeMap<String, Vec<Done>> {
        self.shared.keys.lock().expect("nobody panicked while recording").clone()
    }

    fn next_position(&self) -> u64 {
        self.shared.position.fetch_add(1, Ordering::SeqCst)
    }
}

/// A call that was made and is not answered yet.
///
/// Dropping it leaves it out of the history: right for reads without answer, and for mutations of which the client promises that nothing
/// happened.
#[must_use]
pub(crate) struct Begun {
    recorder: Recorder,
    key: String,
    call: Call,
    called_at: u64,
}

impl Begun {
    /// Notes the answer.
    pub(crate) fn answered(self, answer: Answer) {
        let answered_at = match answer {
            Answer::Unknown => u64::MAX,
            _ => self.recorder.next_position(),
        };
        let done = Done { called_at: self.called_at, answered_at, call: self.call, answer };
        let mut keys = self.recorder.shared.keys.lock().expect("nobody panicked while recording");
        keys.entry(self.key).or_default().push(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_ordered_by_when_they_were_made_and_answered() {
        let recorder = Recorder::default();
        let slow = recorder.begin("a", Call::Create(1));
        let fast = recorder.clone().begin("a", Call::Read);
        fast.answered(Answer::Found(None));
        slow.answered(Answer::Created);
        recorder.begin("b", Call::Delete).answered(Answer::Unknown);
        drop(recorder.begin("b", Call::Read));
        let keys = recorder.keys();
        let [read, create] = keys["a"][..] else { panic!("{keys:?}") };
        assert!(create.called_at < read.called_at && read.answered_at < create.answered_at, "{keys:?}");
        assert_eq!(keys["b"].len(), 1, "what was dropped is left out");
        assert_eq!(keys["b"][0].answered_at, u64::MAX, "what is open stays open");
    }
}
