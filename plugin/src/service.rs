//! The datastore service: a method for each call, which does it as [`Spire`] says.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::calls::Spire;
use crate::connection::InUse;
use crate::protocol::datastore as v1;
use crate::protocol::datastore::data_store_server::DataStore;

/// Answers calls once it is configured.
pub(crate) struct Service(pub(crate) InUse);

impl Service {
    fn begin(&self, metadata: &MetadataMap) -> Result<Spire, Status> {
        let connection = self.0.get()?;
        let left = timeout(metadata);
        let has_deadline = left.is_some();
        let left = left.unwrap_or(connection.call_timeout).min(TIMEOUT_MAX);
        Ok(Spire { namespace: connection.namespace.with_deadline(left), deadline: Instant::now() + left, has_deadline })
    }
}

/// Longer than any call takes, and short enough to be added to any time.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The header that says how much time a call has.
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// How much time the caller gives, if it says so.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The protocol has eight digits at the most.
    let number: u64 = Some(number).filter(|number| number.len() <= 8)?.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

macro_rules! datastore {
    (
        answered: { $($call:ident: $Request:ident => $Response:ident,)* }
        refused: { $($refused:ident: $RefusedRequest:ident => $RefusedResponse:ident,)* }
    ) => {
        #[tonic::async_trait]
        impl DataStore for Service {
            $(
                async fn $call(&self, request: Request<v1::$Request>) -> Result<Response<v1::$Response>, Status> {
                    let spire = self.begin(request.metadata())?;
                    spire.$call(request.into_inner()).await.map(Response::new).map_err(|failure| spire.status(failure))
                }
            )*
            $(
                async fn $refused(
                    &self,
                    _: Request<v1::$RefusedRequest>,
                ) -> Result<Response<v1::$RefusedResponse>, Status> {
                    Err(Status::unimplemented("events come of what happens, and cannot be written or deleted one by one"))
                }
            )*
        }
    };
}

datastore! {
    answered: {
        append_bundle: AppendBundleRequest => AppendBundleResponse,
        create_bundle: CreateBundleRequest => CreateBundleResponse,
        set_bundle: SetBundleRequest => SetBundleResponse,
        update_bundle: UpdateBundleRequest => UpdateBundleResponse,
        count_bundles: CountBundlesRequest => CountBundlesResponse,
        delete_bundle: DeleteBundleRequest => DeleteBundleResponse,
        fetch_bundle: FetchBundleRequest => FetchBundleResponse,
        list_bundles: ListBundlesRequest => ListBundlesResponse,
        prune_bundle: PruneBundleRequest => PruneBundleResponse,
        taint_x509ca: TaintX509caRequest => TaintX509caResponse,
        revoke_x509ca: RevokeX509caRequest => RevokeX509caResponse,
        taint_jwt_key: TaintJwtKeyRequest => TaintJwtKeyResponse,
        revoke_jwt_key: RevokeJwtKeyRequest => RevokeJwtKeyResponse,
        count_registration_entries: CountRegistrationEntriesRequest => CountRegistrationEntriesResponse,
        create_registration_entry: CreateRegistrationEntryRequest => CreateRegistrationEntryResponse,
        create_or_return_registration_entry:
            CreateOrReturnRegistrationEntryRequest => CreateOrReturnRegistrationEntryResponse,
        delete_registration_entry: DeleteRegistrationEntryRequest => DeleteRegistrationEntryResponse,
        fetch_registration_entry: FetchRegistrationEntryRequest => FetchRegistrationEntryResponse,
        fetch_registration_entries: FetchRegistrationEntriesRequest => FetchRegistrationEntriesResponse,
        list_registration_entries: ListRegistrationEntriesRequest => ListRegistrationEntriesResponse,
        prune_registration_entries: PruneRegistrationEntriesRequest => PruneRegistrationEntriesResponse,
        update_registration_entry: UpdateRegistrationEntryRequest => UpdateRegistrationEntryResponse,
        list_registration_entry_events: ListRegistrationEntryEventsRequest => ListRegistrationEntryEventsResponse,
        prune_registration_entry_events: PruneRegistrationEntryEventsRequest => PruneRegistrationEntryEventsResponse,
        fetch_registration_entry_event: FetchRegistrationEntryEventRequest => FetchRegistrationEntryEventResponse,
        count_attested_nodes: CountAttestedNodesRequest => CountAttestedNodesResponse,
        create_attested_node: CreateAttestedNodeRequest => CreateAttestedNodeResponse,
        delete_attested_node: DeleteAttestedNodeRequest => DeleteAttestedNodeResponse,
        fetch_attested_node: FetchAttestedNodeRequest => FetchAttestedNodeResponse,
        list_attested_nodes: ListAttestedNodesRequest => ListAttestedNodesResponse,
        update_attested_node: UpdateAttestedNodeRequest => UpdateAttestedNodeResponse,
        prune_attested_expired_nodes: PruneAttestedExpiredNodesRequest => PruneAttestedExpiredNodesResponse,
        list_attested_node_events: ListAttestedNodeEventsRequest => ListAttestedNodeEventsResponse,
        prune_attested_node_events: PruneAttestedNodeEventsRequest => PruneAttestedNodeEventsResponse,
        fetch_attested_node_event: FetchAttestedNodeEventRequest => FetchAttestedNodeEventResponse,
        get_node_selectors: GetNodeSelectorsRequest => GetNodeSelectorsResponse,
        list_node_selectors: ListNodeSelectorsRequest => ListNodeSelectorsResponse,
        set_node_selectors: SetNodeSelectorsRequest => SetNodeSelectorsResponse,
        create_join_token: CreateJoinTokenRequest => CreateJoinTokenResponse,
        delete_join_token: DeleteJoinTokenRequest => DeleteJoinTokenResponse,
        fetch_join_token: FetchJoinTokenRequest => FetchJoinTokenResponse,
        prune_join_tokens: PruneJoinTokensRequest => PruneJoinTokensResponse,
        create_federation_relationship: CreateFederationRelationshipRequest => CreateFederationRelationshipResponse,
        fetch_federation_relationship: FetchFederationRelationshipRequest => FetchFederationRelationshipResponse,
        delete_federation_relationship: DeleteFederationRelationshipRequest => DeleteFederationRelationshipResponse,
        list_federation_relationships: ListFederationRelationshipsRequest => ListFederationRelationshipsResponse,
        update_federation_relationship: UpdateFederationRelationshipRequest => UpdateFederationRelationshipResponse,
        set_ca_journal: SetCaJournalRequest => SetCaJournalResponse,
        fetch_ca_journal: FetchCaJournalRequest => FetchCaJournalResponse,
        prune_ca_journals: PruneCaJournalsRequest => PruneCaJournalsResponse,
        list_ca_journals: ListCaJournalsRequest => ListCaJournalsResponse,
    }
    refused: {
        create_registration_entry_event: CreateRegistrationEntryEventRequest => CreateRegistrationEntryEventResponse,
        delete_registration_entry_event: DeleteRegistrationEntryEventRequest => DeleteRegistrationEntryEventResponse,
        create_attested_node_event: CreateAttestedNodeEventRequest => CreateAttestedNodeEventResponse,
        delete_attested_node_event: DeleteAttestedNodeEventRequest => DeleteAttestedNodeEventResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_time_is_read() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(TIMEOUT_HEADER, text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("60S"), Some(Duration::from_secs(60)));
        assert_eq!(read("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!((read("1"), read("S"), read("123456789S"), read("1x")), (None, None, None, None));
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
