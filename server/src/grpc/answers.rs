//! What a datastore answers with: the messages of the protocol, and those of them that are encoded in part.

pub(crate) use steeple_wire::packed::{
    BatchResponse, FetchRegistrationEntriesResponse, ListRegistrationEntriesResponse, StreamRegistrationEntriesResponse,
};
pub(crate) use steeple_wire::spire::v1::*;
