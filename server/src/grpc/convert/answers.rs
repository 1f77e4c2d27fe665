//! Answers of commands. An answer of another kind than the command's is a bug, and told as one.

use steeple_engine::spire::Answer;
use steeple_engine::spire::notices::{EntryIds, Notice};
use steeple_wire::spire::v1 as wire;
use tonic::Status;

use super::{bundles, entries, federation, imports, journals, nodes};

fn mismatch(wanted: &str) -> Status {
    Status::internal(format!("the store gave another kind of answer than {wanted}"))
}

pub(crate) fn bundle(answer: Answer) -> Result<Option<wire::Bundle>, Status> {
    match answer {
        Answer::Bundle(bundle) => Ok(Some(bundles::to_wire(bundle))),
        _ => Err(mismatch("a bundle")),
    }
}

/// The entry, and whether it was there before.
pub(crate) fn entry(answer: Answer) -> Result<(Option<wire::RegistrationEntry>, bool), Status> {
    match answer {
        Answer::Entry { entry, existing } => Ok((Some(entries::to_wire(entry)), existing)),
        _ => Err(mismatch("an entry")),
    }
}

pub(crate) fn node(answer: Answer) -> Result<Option<wire::AttestedNode>, Status> {
    match answer {
        Answer::Node(node) => Ok(Some(nodes::to_wire(node))),
        _ => Err(mismatch("a node")),
    }
}

pub(crate) fn key(answer: Answer) -> Result<Option<wire::PublicKey>, Status> {
    match answer {
        Answer::Key(key) => Ok(Some(bundles::key_to_wire(key))),
        _ => Err(mismatch("a key")),
    }
}

pub(crate) fn changed(answer: &Answer) -> Result<bool, Status> {
    match answer {
        Answer::Changed(changed) => Ok(*changed),
        _ => Err(mismatch("whether it changed")),
    }
}

pub(crate) fn relationship(answer: Answer) -> Result<Option<wire::FederationRelationship>, Status> {
    match answer {
        Answer::Relationship(relationship) => Ok(Some(federation::to_wire(relationship))),
        _ => Err(mismatch("a federation relationship")),
    }
}

pub(crate) fn journal(answer: Answer) -> Result<Option<wire::CaJournal>, Status> {
    match answer {
        Answer::Journal(journal) => Ok(Some(journals::to_wire(journal))),
        _ => Err(mismatch("a CA journal")),
    }
}

pub(crate) fn import(answer: Answer) -> Result<Option<wire::Import>, Status> {
    match answer {
        Answer::Import(import) => Ok(Some(imports::to_wire(import))),
        _ => Err(mismatch("an import")),
    }
}

/// How many records a batch removed, and whether there are more.
pub(crate) fn batch(answer: &Answer) -> Result<(u64, bool), Status> {
    match answer {
        Answer::Batch { removed, more } => Ok((*removed, *more)),
        _ => Err(mismatch("a batch")),
    }
}

/// Entries that expired.
pub(crate) fn expired_entries(notices: &[Notice]) -> Vec<wire::PrunedEntry> {
    let expired = |notice: &Notice| match notice {
        Notice::ExpiredEntry(ids) => Some(pruned_entry(ids)),
        _ => None,
    };
    notices.iter().filter_map(expired).collect()
}

/// Entries that went with their node.
pub(crate) fn cascaded_entries(notices: &[Notice]) -> Vec<wire::PrunedEntry> {
    let cascaded = |notice: &Notice| match notice {
        Notice::CascadedEntry(ids) => Some(pruned_entry(ids)),
        _ => None,
    };
    notices.iter().filter_map(cascaded).collect()
}

/// CA journals that were pruned.
pub(crate) fn stale_journals(notices: &[Notice]) -> Vec<u64> {
    let stale = |notice: &Notice| match notice {
        Notice::StaleJournal { id } => Some(*id),
        _ => None,
    };
    notices.iter().filter_map(stale).collect()
}

fn pruned_entry(ids: &EntryIds) -> wire::PrunedEntry {
    wire::PrunedEntry {
        spiffe_id: ids.spiffe_id.clone(),
        parent_id: ids.parent_id.clone(),
        entry_id: ids.entry_id.clone(),
    }
}
