//! Log lines that operators of SPIRE know (7.10, 9.7, 9.8, 13).
//!
//! Deciding writes no log: it may happen twice, or come to nothing. Whoever answers the caller gets the lines from the
//! command and from what the committed event changed.

use super::entries::records::Entry;
use super::{Command, entries, journals, nodes, tables};
use crate::event::Change;
use crate::table::RecordDecodeError;

/// One line at information level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An entry was pruned.
    ExpiredEntry(EntryIds),
    /// An entry went with its node.
    CascadedEntry(EntryIds),
    /// Nodes were pruned.
    ExpiredNodes {
        /// How many.
        count: usize,
    },
    /// A CA journal was pruned.
    StaleJournal {
        /// Its id.
        id: u64,
    },
}

/// How a line names an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryIds {
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// Its parent.
    pub parent_id: String,
    /// Its id.
    pub entry_id: String,
}

impl Notice {
    /// The text of the line.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Self::ExpiredEntry(_) => "Pruned an expired registration",
            Self::CascadedEntry(_) => "Cascade-deleted registration entry on attested node deletion",
            Self::ExpiredNodes { .. } => "Pruned expired agents",
            Self::StaleJournal { .. } => "Pruned stale CA journal record",
        }
    }

    /// The fields of the line.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::ExpiredEntry(ids) | Self::CascadedEntry(ids) => vec![
                ("spiffe_id", ids.spiffe_id.clone()),
                ("parent_id", ids.parent_id.clone()),
                ("entry_id", ids.entry_id.clone()),
            ],
            Self::ExpiredNodes { count } => vec![("count", count.to_string())],
            Self::StaleJournal { id } => vec![("ca_journal_id", id.to_string())],
        }
    }
}

/// The lines for a command that came to these changes; none for most commands.
///
/// # Errors
/// When a body cannot be read.
pub fn notices(command: &Command, changes: &[Change]) -> Result<Vec<Notice>, RecordDecodeError> {
    match command {
        Command::Entry(entries::Command::Prune { .. }) => deleted_entries(changes, Notice::ExpiredEntry),
        Command::Node(nodes::Command::Delete { .. }) => deleted_entries(changes, Notice::CascadedEntry),
        Command::Node(nodes::Command::Prune { .. }) => {
            let mut lines = deleted_entries(changes, Notice::CascadedEntry)?;
            let count = deletions(changes).filter(|(change, _)| change.table == tables::NODES).count();
            if count > 0 {
                lines.push(Notice::ExpiredNodes { count });
            }
            Ok(lines)
        }
        Command::Journal(journals::Command::Prune { .. }) => {
            Ok(deletions(changes).map(|(change, _)| Notice::StaleJournal { id: change.sequence.0 }).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn deletions(changes: &[Change]) -> impl Iterator<Item = (&Change, &[u8])> {
    changes
        .iter()
        .filter(|change| change.after.is_none())
        .filter_map(|change| change.before.as_deref().map(|before| (change, before)))
}

fn deleted_entries(changes: &[Change], notice: fn(EntryIds) -> Notice) -> Result<Vec<Notice>, RecordDecodeError> {
    deletions(changes)
        .filter(|(change, _)| change.table == tables::ENTRIES)
        .map(|(_, before)| {
            let entry = Entry::view(before)?;
            Ok(notice(EntryIds {
                spiffe_id: entry.spiffe_id.to_string(),
                parent_id: entry.parent_id.to_string(),
                entry_id: entry.entry_id.to_string(),
            }))
        })
        .collect()
}
