//! What a snapshot is taken of.

use std::borrow::Borrow;
use std::ops::ControlFlow;
use std::sync::Arc;

use steeple_engine::ids::{LogIndex, Term};
use steeple_engine::log::{Entry, LogError, LogReader};
use steeple_engine::record_store::RecordStoreError;
use steeple_engine::view::{FoldedPosition, StoreKey, View};
use thiserror::Error;

use crate::manifest::LogBase;

/// Receives pairs until it breaks off.
pub type PairVisitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Receives entries until it breaks off.
pub type EntryVisitor<'a> = &'a mut dyn FnMut(Entry) -> ControlFlow<()>;

/// What a view had reached when pairs were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAt {
    /// How far it was folded.
    pub folded: FoldedPosition,
    /// The members of the group there, as the view keeps them.
    pub membership: Option<Arc<[u8]>>,
}

/// A view and its log, read in steps while both go on.
pub trait SnapshotSource {
    /// Visits the pairs of the record store with a key of at least `from`, in key order, until `visit` breaks off. All
    /// of them, and the position and membership returned, belong to the same moment. Neither of these is among the pairs.
    ///
    /// # Errors
    /// When the record store fails.
    fn read_pairs(&self, from: &[u8], visit: PairVisitor<'_>) -> Result<ReadAt, SourceError>;

    /// Where the log begins now.
    fn log_base(&self) -> LogBase;

    /// The term of the entry with this index, also of the one before the first; `None` when the log does not know it.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn term(&self, index: LogIndex) -> Result<Option<Term>, SourceError>;

    /// Visits the entries that the log holds from `from` on, in order, until `visit` breaks off.
    ///
    /// # Errors
    /// When the log is damaged or cannot be read.
    fn read_entries(&self, from: LogIndex, visit: EntryVisitor<'_>) -> Result<(), SourceError>;
}

/// Why what a snapshot is taken of could not be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] RecordStoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl<S: SnapshotSource + ?Sized> SnapshotSource for &S {
    fn read_pairs(&self, from: &[u8], visit: PairVisitor<'_>) -> Result<ReadAt, SourceError> {
        (**self).read_pairs(from, visit)
    }

    fn log_base(&self) -> LogBase {
        (**self).log_base()
    }

    fn term(&self, index: LogIndex) -> Result<Option<Term>, SourceError> {
        (**self).term(index)
    }

    fn read_entries(&self, from: LogIndex, visit: EntryVisitor<'_>) -> Result<(), SourceError> {
        (**self).read_entries(from, visit)
    }
}

/// A view and the log that it is folded from, borrowed or shared (`&View` as well as `Arc<View>`).
#[derive(Clone, Debug)]
pub struct LiveSource<V, L> {
    /// The view.
    pub view: V,
    /// Its log.
    pub log: L,
}

impl<V: Borrow<View>, L: Borrow<LogReader>> SnapshotSource for LiveSource<V, L> {
    fn read_pairs(&self, from: &[u8], visit: PairVisitor<'_>) -> Result<ReadAt, SourceError> {
        let view = self.view.borrow();
        let (_, to) = StoreKey::everything();
        // As long as the reader lives, nothing is folded.
        let reader = view.read();
        view.store().scan(from, &to, visit)?;
        Ok(ReadAt { folded: reader.folded(), membership: reader.membership().cloned() })
    }

    fn log_base(&self) -> LogBase {
        let log = self.log.borrow();
        LogBase { position: log.base(), revision: log.base_tag().into() }
    }

    fn term(&self, index: LogIndex) -> Result<Option<Term>, SourceError> {
        Ok(self.log.borrow().term(index)?)
    }

    fn read_entries(&self, from: LogIndex, visit: EntryVisitor<'_>) -> Result<(), SourceError> {
        Ok(self.log.borrow().scan(from, visit)?)
    }
}
