//! What each method of each service takes.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Right;

/// What a caller has to be allowed for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing beyond being let in.
    Nothing,
    /// Any role, that of a peer included: what is told is neither about records nor about namespaces, and a node that joins
    /// asks for it.
    AnyRole,
    /// A right in the namespace that the request names. The request's own handler finds out which that is; see
    /// [`super::check_namespace`].
    Namespace(Right),
    /// Everything.
    Admin,
    /// Being a node of the group.
    Peer,
}

const EVENTS: Permission = Permission::Namespace(Right::Events);
const READ: Permission = Permission::Namespace(Right::Read);
const WRITE: Permission = Permission::Namespace(Right::Write);

/// Every method that a node serves: service, permission, names. A method that is not here is not served to anybody.
const METHODS: &[(&str, Permission, &[&str])] = &[
    ("grpc.health.v1.Health", Permission::Nothing, &["Check", "Watch"]),
    ("grpc.reflection.v1.ServerReflection", Permission::AnyRole, &["ServerReflectionInfo"]),
    ("steeple.admin.v1.Admin", Permission::AnyRole, &["Status", "ClusterStatus"]),
    ("steeple.admin.v1.Admin", WRITE, &["OpenNamespace"]),
    (
        "steeple.admin.v1.Admin",
        Permission::Admin,
        &[
            "AddMember",
            "ChangeAddress",
            "Compact",
            "DeleteNamespace",
            "Digest",
            "ListNamespaces",
            "LogStatistics",
            "PromoteMember",
            "RemoveMember",
            "SaveSnapshot",
            "TransferLeader",
        ],
    ),
    ("steeple.events.v1.Events", EVENTS, &["Bootstrap", "History", "ListItems", "StateAt", "StreamStatus", "Tail"]),
    ("steeple.peer.v1.Peer", Permission::Peer, &["Exchange", "Snapshot", "DescribeLog", "FetchEntries"]),
    (
        "steeple.spire.v1.Datastore",
        READ,
        &[
            "CountAttestedNodes",
            "CountBundles",
            "CountRegistrationEntries",
            "FetchAttestedNode",
            "FetchAttestedNodeEvent",
            "FetchAttestedNodes",
            "FetchBundle",
            "FetchCAJournal",
            "FetchEventBounds",
            "FetchFederationRelationship",
            "FetchImport",
            "FetchJoinToken",
            "FetchRegistrationEntries",
            "FetchRegistrationEntry",
            "FetchRegistrationEntryEvent",
            "GetNodeSelectors",
            "ListAttestedNodeEvents",
            "ListAttestedNodes",
            "ListBundles",
            "ListCAJournals",
            "ListFederationRelationships",
            "ListNodeSelectors",
            "ListRegistrationEntries",
            "ListRegistrationEntryEvents",
            "StreamAttestedNodeEvents",
            "StreamAttestedNodes",
            "StreamNodeSelectors",
            "StreamRegistrationEntries",
            "StreamRegistrationEntryEvents",
        ],
    ),
    (
        "steeple.spire.v1.Datastore",
        WRITE,
        &[
            "AppendBundle",
            "Batch",
            "CreateAttestedNode",
            "CreateBundle",
            "CreateFederationRelationship",
            "CreateJoinToken",
            "CreateOrReturnRegistrationEntry",
            "CreateRegistrationEntry",
            "DeleteAttestedNode",
            "DeleteBundle",
            "DeleteFederationRelationship",
            "DeleteJoinToken",
            "DeleteRegistrationEntry",
            "ImportRecords",
            "ListJoinTokens",
            "PruneAttestedExpiredNodes",
            "PruneAttestedNodeEvents",
            "PruneBundle",
            "PruneCAJournals",
            "PruneJoinTokens",
            "PruneRegistrationEntries",
            "PruneRegistrationEntryEvents",
            "RevokeJWTKey",
            "RevokeX509CA",
            "SetBundle",
            "SetCAJournal",
            "SetNodeSelectors",
            "StreamBatches",
            "TaintJWTKey",
            "TaintX509CA",
            "UpdateAttestedNode",
            "UpdateBundle",
            "UpdateFederationRelationship",
            "UpdateRegistrationEntry",
        ],
    ),
];

/// The permission of a path such as `/steeple.admin.v1.Admin/Status`; none for what no node serves.
#[must_use]
pub fn permission(path: &str) -> Option<Permission> {
    static BY_PATH: LazyLock<HashMap<String, Permission>> = LazyLock::new(|| {
        let rows = METHODS.iter().flat_map(|(service, permission, methods)| {
            methods.iter().map(move |method| (format!("/{service}/{method}"), *permission))
        });
        rows.collect()
    });
    BY_PATH.get(path).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn paths(descriptors: &[u8]) -> impl Iterator<Item = String> {
        let files = FileDescriptorSet::decode(descriptors).unwrap().file;
        files.into_iter().flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let name = format!("/{package}.{}", service.name());
                service.method.into_iter().map(move |method| format!("{name}/{}", method.name()))
            })
        })
    }

    #[test]
    fn the_table_names_every_method_that_is_served_once_and_no_other() {
        let served = paths(steeple_wire::DESCRIPTORS)
            .chain(paths(tonic_health::pb::FILE_DESCRIPTOR_SET))
            .chain(paths(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET));
        let served: BTreeSet<_> = served.collect();
        let listed: Vec<_> = METHODS
            .iter()
            .flat_map(|(service, _, methods)| methods.iter().map(move |method| format!("/{service}/{method}")))
            .collect();
        assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), served);
        assert_eq!(listed.len(), served.len(), "a method is listed twice");
    }

    #[test]
    fn paths_are_taken_exactly() {
        assert_eq!(permission("/steeple.admin.v1.Admin/Compact"), Some(Permission::Admin));
        for path in [
            "",
            "/",
            "steeple.admin.v1.Admin/Compact",
            "/steeple.admin.v1.Admin/compact",
            "/steeple.admin.v1.Admin/Compact/",
            "//steeple.admin.v1.Admin/Compact",
            "/steeple.admin.v1.Admin/",
            "/steeple.admin.v1.Admin/CreateBundle",
        ] {
            assert_eq!(permission(path), None, "{path:?}");
        }
    }
}
