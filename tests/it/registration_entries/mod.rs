mod attributes;
mod creation;
mod deletion;
mod federation;
mod fetching;
mod listing;
mod pruning;
mod update;

use steeple_client::types::{CreateRegistrationEntryRequest, RegistrationEntry};
use steeple_client::{Namespace, Operation};

/// Creates an entry as part of a batch.
pub(crate) fn create_operation(entry: RegistrationEntry) -> Operation {
    Operation::CreateRegistrationEntry(CreateRegistrationEntryRequest { context: None, entry: Some(entry) })
}

/// Carries out any number of operations, all of which have to succeed.
pub(crate) async fn batch(datastore: &Namespace, operations: Vec<Operation>) {
    for chunk in operations.chunks(1_000) {
        for outcome in datastore.batch(chunk.to_vec()).await {
            outcome.answer.expect("an answer");
        }
    }
}
