use steeple_client::types::{AttestedNode, AttestedNodeMask, UpdateAttestedNodeRequest, UpdateAttestedNodeResponse};
use steeple_client::types::{CreateAttestedNodeRequest, CreateAttestedNodeResponse};
use steeple_tests::check::{case, not_found, status};
use steeple_tests::raw;
use steeple_tests::records::{NOW, node_event_ids};
use steeple_tests::server::{namespace, run, shared};
use steeple_wire::common::v1::RequestContext;
use tonic::Code;

const NONE: AttestedNodeMask = AttestedNodeMask {
    attestation_data_type: false,
    cert_serial_number: false,
    cert_not_after: false,
    new_cert_serial_number: false,
    new_cert_not_after: false,
    can_reattest: false,
    agent_version: false,
};

fn stored() -> AttestedNode {
    AttestedNode {
        spiffe_id: "spiffe-id".into(),
        attestation_data_type: "attestation-data-type".into(),
        cert_serial_number: "cert-serial-number-1".into(),
        cert_not_after: NOW,
        new_cert_serial_number: "new-cert-serial-number".into(),
        new_cert_not_after: NOW + 100,
        can_reattest: true,
        agent_version: "1.0.0".into(),
        selectors: vec![],
    }
}

fn update() -> AttestedNode {
    AttestedNode {
        spiffe_id: "spiffe-id".into(),
        attestation_data_type: "another-type".into(),
        cert_serial_number: "cert-serial-number-2".into(),
        cert_not_after: NOW + 1,
        new_cert_serial_number: "new-cert-serial-number-2".into(),
        new_cert_not_after: NOW + 101,
        can_reattest: false,
        agent_version: "2.0.0".into(),
        selectors: vec![],
    }
}

#[test]
fn test_update_attested_node() {
    run(async {
        let some = AttestedNodeMask { cert_serial_number: true, new_cert_not_after: true, ..NONE };
        let cases = [
            ("update attested node with all false mask", Some(NONE), stored()),
            (
                "update attested node with mask set only some fields: 'CertSerialNumber', 'NewCertNotAfter'",
                Some(some),
                AttestedNode {
                    cert_serial_number: update().cert_serial_number,
                    new_cert_not_after: update().new_cert_not_after,
                    ..stored()
                },
            ),
            (
                "update attested node with nil mask",
                None,
                AttestedNode { attestation_data_type: stored().attestation_data_type, ..update() },
            ),
            (
                "update attested node agent version only",
                Some(AttestedNodeMask { agent_version: true, ..NONE }),
                AttestedNode { agent_version: "2.0.0".into(), ..stored() },
            ),
            // What the suite does not cover.
            (
                "can_reattest only",
                Some(AttestedNodeMask { can_reattest: true, ..NONE }),
                AttestedNode { can_reattest: false, ..stored() },
            ),
            (
                "the attestation type never changes",
                Some(AttestedNodeMask { attestation_data_type: true, ..NONE }),
                stored(),
            ),
            (
                "expiry and new serial number",
                Some(AttestedNodeMask { cert_not_after: true, new_cert_serial_number: true, ..NONE }),
                AttestedNode {
                    cert_not_after: NOW + 1,
                    new_cert_serial_number: update().new_cert_serial_number,
                    ..stored()
                },
            ),
        ];
        for (name, mask, expected) in cases {
            let _case = case(name);
            let datastore = namespace().await;
            datastore.create_attested_node(stored()).await.unwrap();
            assert_eq!(datastore.update_attested_node(update(), mask).await.unwrap(), expected);
            assert_eq!(datastore.fetch_attested_node("spiffe-id").await.unwrap(), Some(expected));
            assert_eq!(node_event_ids(&datastore).await, [1, 2]);
        }

        let _case = case("update non-existing attested node");
        let datastore = namespace().await;
        not_found(datastore.update_attested_node(update(), None).await);
        assert_eq!(node_event_ids(&datastore).await, [0u64; 0]);
    });
}

/// Section 9.9: empty serial numbers ban, and the "new" fields are cleared by leaving them empty.
#[test]
fn banning_and_activation() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(stored()).await.unwrap();
        let request = AttestedNode {
            spiffe_id: "spiffe-id".into(),
            cert_serial_number: "new-cert-serial-number".into(),
            cert_not_after: NOW + 100,
            can_reattest: true,
            ..Default::default()
        };
        let activation = AttestedNodeMask { attestation_data_type: false, agent_version: false, ..every() };
        let active = datastore.update_attested_node(request, Some(activation)).await.unwrap();
        let expected = AttestedNode {
            cert_serial_number: "new-cert-serial-number".into(),
            cert_not_after: NOW + 100,
            new_cert_serial_number: String::new(),
            new_cert_not_after: 0,
            ..stored()
        };
        assert_eq!(active, expected);
        let ban = AttestedNodeMask { cert_serial_number: true, new_cert_serial_number: true, ..NONE };
        let request = AttestedNode { spiffe_id: "spiffe-id".into(), ..Default::default() };
        let banned = datastore.update_attested_node(request, Some(ban)).await.unwrap();
        assert_eq!(banned, AttestedNode { cert_serial_number: String::new(), ..expected });
        for (by_banned, count) in [(true, 1), (false, 0)] {
            let filter = steeple_client::types::AttestedNodeFilter { by_banned: Some(by_banned), ..Default::default() };
            assert_eq!(datastore.count_attested_nodes(filter).await.unwrap(), count);
        }
    });
}

fn every() -> AttestedNodeMask {
    AttestedNodeMask {
        attestation_data_type: true,
        cert_serial_number: true,
        cert_not_after: true,
        new_cert_serial_number: true,
        new_cert_not_after: true,
        can_reattest: true,
        agent_version: true,
    }
}

#[test]
fn a_request_needs_a_node() {
    run(async {
        let datastore = namespace().await;
        let context = || Some(RequestContext { namespace: datastore.name().into(), request_id: vec![] });
        let text = "datastore-sql: invalid request: missing attested node";
        let request = CreateAttestedNodeRequest { context: context(), node: None };
        let created: Result<CreateAttestedNodeResponse, _> =
            raw::unary(&shared().channel, raw::DATASTORE, "CreateAttestedNode", &request).await;
        status(created, Code::InvalidArgument, text);
        let request = UpdateAttestedNodeRequest { context: context(), node: None, mask: None };
        let updated: Result<UpdateAttestedNodeResponse, _> =
            raw::unary(&shared().channel, raw::DATASTORE, "UpdateAttestedNode", &request).await;
        status(updated, Code::InvalidArgument, text);
        assert_eq!(node_event_ids(&datastore).await, [0u64; 0]);
    });
}
