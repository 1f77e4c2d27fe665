//! What a node does whose record store fails while it runs: at a flush, at a read, when something is folded.
//!
//! Nothing that the store says counts from then on, and it is not used again. Log and vote are right all the while, so the
//! replica goes on voting and confirming like one whose records are wrong ([`super::astray`]), and like there the records
//! are made anew beside the old ones: from base snapshot and log, or, when these do not reach back far enough, from a
//! snapshot of the leader. What is committed meanwhile is not folded but left in the log; it is folded from there once the
//! new records are in use. A node alone does the same, and commands wait for it.
//!
//! A store that has failed may keep its memory and its open files until the process ends, so this is done a few times
//! only; then the process ends, and its next start tries what is on the disk.

use std::ops::ControlFlow;
use std::sync::Arc;

use steeple_engine::ids::LogIndex;
use steeple_engine::log::Entry;
use steeple_engine::simulation::reached;
use steeple_engine::view::ViewError;
use steeple_raft::PipelineError;

use super::{Failure, Group};
use crate::node::core::Core;

/// Failures of record stores, and of attempts to make one, that a run goes on after.
const FAILURES_MAX: u32 = 8;

/// Entries that are taken out of the log at once when what has waited is folded.
const FOLD_PIECE: usize = 256;

/// The store in use has failed.
#[derive(Debug)]
pub(super) struct FailedStore {
    /// The first committed entry that is not folded.
    next: LogIndex,
    /// The last one.
    last: LogIndex,
}

impl Failure {
    /// What the record store says, if it is to blame.
    pub(super) fn of_store(&self) -> Option<String> {
        match self {
            Self::View(ViewError::Store(error)) | Self::Pipeline(PipelineError::View(ViewError::Store(error))) => {
                Some(error.to_string())
            }
            _ => None,
        }
    }
}

impl Group {
    /// Somebody who works with the records has found that their store fails.
    pub(super) fn store_failed_in(&mut self, core: &Arc<Core>, error: &str) -> Result<(), Failure> {
        if Arc::ptr_eq(core, &self.core) { self.store_failed(error) } else { Ok(()) }
    }

    /// Folds, unless that has to wait until there is another record store.
    pub(super) fn fold(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        let Some(last) = entries.last().map(|entry| entry.position.index) else { return Ok(()) };
        if self.astray.failed.is_none() {
            match self.fold_now(&entries) {
                Err(failure) => self.store_failed_by(failure)?,
                Ok(()) => return Ok(()),
            }
        }
        if let Some(failed) = &mut self.astray.failed {
            failed.last = failed.last.max(last);
        }
        Ok(())
    }

    /// Goes on without the record store, if that is what has failed.
    pub(super) fn store_failed_by(&mut self, failure: Failure) -> Result<(), Failure> {
        let error = failure.of_store().ok_or(failure)?;
        self.store_failed(&error)
    }

    pub(super) fn store_failed(&mut self, error: &str) -> Result<(), Failure> {
        if self.astray.failed.is_some() {
            return Ok(());
        }
        reached("records: their store failed in the middle of a run");
        metrics::counter!("steeple_record_store_failures_total").increment(1);
        tracing::error!(error, "the record store has failed: nothing is read from it any more, and it is made anew");
        let folded = self.core.view.folded().index;
        self.astray.failed = Some(FailedStore { next: folded.next(), last: folded });
        self.astray.need_other_records();
        self.count_failure(error)?;
        self.begin_astray();
        self.mend_records();
        Ok(())
    }

    /// Gives up when it was tried too often.
    pub(super) fn count_failure(&mut self, error: &str) -> Result<(), Failure> {
        self.astray.failures += 1;
        if self.astray.failures > FAILURES_MAX { Err(Failure::Records(error.to_owned())) } else { Ok(()) }
    }

    /// Folds what was committed while there was no store to fold into.
    pub(super) fn fold_what_waited(&mut self) -> Result<(), Failure> {
        let Some(FailedStore { mut next, last }) = self.astray.failed.take() else { return Ok(()) };
        while next <= last && self.astray.failed.is_none() {
            let mut piece = Vec::new();
            self.core.log.scan(next, &mut |entry| {
                if entry.position.index <= last {
                    piece.push(entry);
                }
                let is_full =
                    piece.len() == FOLD_PIECE || piece.last().is_none_or(|entry| entry.position.index == last);
                if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            let Some(end) = piece.last().map(|entry| entry.position.index) else { break };
            next = end.next();
            self.fold(piece)?;
        }
        if let Some(failed) = &mut self.astray.failed {
            failed.last = failed.last.max(last);
        }
        Ok(())
    }
}
