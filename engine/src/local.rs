//! A group without a log: decides, folds and answers at once, in memory, on the caller's thread.
//!
//! For tests, tools and simulations of a domain; nothing in it survives. A real group decides ahead of commit, in
//! `steeple-raft`; this one drives the same transaction, fold and answer.

use std::sync::Arc;

use thiserror::Error;

use crate::code::Code;
use crate::domain::{Answer, AnswerSource, CATALOG, Command, Rejection};
use crate::event::Event;
use crate::ids::{LogIndex, NamespaceId, Timestamp};
use crate::record_store::MemoryStore;
use crate::table::RecordDecodeError;
use crate::transaction::{Entropy, Transaction};
use crate::view::{Committed, Reader, View, ViewError, ViewReader};

/// Events and their view, in memory.
pub struct LocalGroup {
    view: View,
    events: Vec<Arc<Event>>,
    entropy: SeededEntropy,
    now: Timestamp,
}

/// Why a local group did not accept a command.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The domain refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The answer could not be read from the event.
    #[error(transparent)]
    Answer(#[from] RecordDecodeError),
}

impl LocalError {
    /// The status of a rejection.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Rejected(rejection) => Some(rejection.code()),
            Self::View(_) | Self::Answer(_) => None,
        }
    }
}

impl LocalGroup {
    /// A group without events, at `now`, whose random numbers follow from `seed`.
    ///
    /// # Errors
    /// When the view cannot be opened.
    pub fn new(seed: u64, now: Timestamp) -> Result<Self, ViewError> {
        let view = View::open(CATALOG, Arc::new(MemoryStore::new()))?;
        Ok(Self { view, events: Vec::new(), entropy: SeededEntropy::new(seed), now })
    }

    /// Sets the time of the events to come; going backwards has no effect.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Decides a command and, when it is accepted, folds its event.
    ///
    /// # Errors
    /// See [`LocalError`].
    pub fn submit(&mut self, namespace: NamespaceId, command: &Command) -> Result<Answer, LocalError> {
        let (content, source) = {
            let reader = self.view.read();
            let mut transaction = Transaction::new(&reader, CATALOG, namespace, self.now, &mut self.entropy);
            let source: AnswerSource = command.clone().decide(&mut transaction)?;
            (transaction.into_content(), source)
        };
        if content.is_empty() {
            return Ok(source.resolve(&[])?);
        }
        let event = Arc::new(Event {
            revision: self.view.folded().revision.next(),
            time: self.now,
            namespace,
            request: None,
            changes: content.changes,
            items: content.items,
            marks: content.marks,
            answer: source.encode(),
        });
        self.view.fold(&[Committed { index: LogIndex(event.revision.0), event: Arc::clone(&event) }])?;
        let answer = source.resolve(&event.changes)?;
        self.events.push(event);
        Ok(answer)
    }

    /// The state now.
    #[must_use]
    pub fn read(&self) -> ViewReader<'_> {
        self.view.read()
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// All events so far, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// How many events there are; the revision of the newest.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.view.read().revision().0
    }
}

/// Random numbers that follow from a seed (splitmix64); good enough for identities, not for secrets.
#[derive(Clone, Debug)]
pub struct SeededEntropy {
    state: u64,
}

impl SeededEntropy {
    /// The numbers that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn next_bits(&mut self) -> u128 {
        (u128::from(self.next_word()) << 64) | u128::from(self.next_word())
    }
}
