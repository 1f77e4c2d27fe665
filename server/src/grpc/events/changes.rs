//! Changes of events, as consumers see them.

use steeple_engine::event::{Change, Event};
use steeple_wire::events::v1 as wire;
use steeple_wire::packed::{put_count, put_message};
use tonic::Status;

use crate::grpc::convert::records;
use crate::grpc::errors;

/// Numbers of a change's fields.
mod fields {
    pub(super) const BEFORE: u32 = 1;
    pub(super) const AFTER: u32 = 2;
    pub(super) const PREVIOUS_REVISION: u32 = 3;
}

/// The change at a position of an event; none where it may not be shown.
pub(super) fn at(event: &Event, position: u16) -> Result<Option<wire::Change>, Status> {
    match event.changes.get(usize::from(position)) {
        Some(change) => to_wire(change),
        None => Ok(None),
    }
}

/// A change; none where it may not be shown.
pub(super) fn to_wire(change: &Change) -> Result<Option<wire::Change>, Status> {
    if records::collection(change.table).is_none() {
        return Ok(None);
    }
    let record = |body: &Option<Vec<u8>>| match body {
        Some(body) => records::to_wire(change.table, change.sequence, body).map_err(|error| errors::failed(&error)),
        None => Ok(None),
    };
    Ok(Some(wire::Change {
        before: record(&change.before)?,
        after: record(&change.after)?,
        previous_revision: change.previous.map_or(0, |previous| previous.0),
    }))
}

/// Writes what [`at`] makes, if anything, as a field of a message.
pub(super) fn put_at(bytes: &mut Vec<u8>, number: u32, event: &Event, position: u16) -> Result<(), Status> {
    let change = event.changes.get(usize::from(position));
    let Some(change) = change.filter(|change| records::collection(change.table).is_some()) else { return Ok(()) };
    put_message(bytes, number, |bytes| {
        for (number, body) in [(fields::BEFORE, &change.before), (fields::AFTER, &change.after)] {
            if let Some(body) = body {
                let put = records::put(bytes, number, change.table, change.sequence, body);
                put.map_err(|error| errors::failed(&error))?;
            }
        }
        put_count(bytes, fields::PREVIOUS_REVISION, change.previous.map_or(0, |previous| previous.0));
        Ok(())
    })
}

/// The request id of an event, or nothing.
pub(super) fn request_id(event: &Event) -> Vec<u8> {
    event.request.map(|stamp| stamp.id.0.to_vec()).unwrap_or_default()
}
