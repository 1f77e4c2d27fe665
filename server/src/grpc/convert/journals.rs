//! CA journals.

use steeple_engine::spire::journals::records::Journal;
use steeple_wire::spire::v1 as wire;

pub(crate) fn from_wire(journal: wire::CaJournal) -> Journal {
    let wire::CaJournal { id, active_x509_authority_id, data } = journal;
    Journal { id, data, active_x509_authority_id }
}

pub(crate) fn to_wire(journal: Journal) -> wire::CaJournal {
    let Journal { id, data, active_x509_authority_id } = journal;
    wire::CaJournal { id, active_x509_authority_id, data }
}
