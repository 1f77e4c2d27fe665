//! Everything that a client sends comes back as it was.

use proptest::prelude::*;
use prost::Message;
use steeple_engine::ids::{Sequence, TableId};
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::selectors::Match;
use steeple_engine::spire::{federation::records::StoredRelationship, nodes::queries::NodeWithSelectors, tables};
use steeple_wire::events::v1::record::Record as Kind;
use steeple_wire::events::v1::{Change, Collection, Record};
use steeple_wire::packed;
use steeple_wire::spire::v1 as wire;

use super::{bundles, entries, federation, filters, journals, nodes, records, tokens};

/// Reads a stored record as tails show it, and checks that it is encoded like that.
fn shown(table: TableId, sequence: Sequence, body: &[u8]) -> Option<Record> {
    let record = records::to_wire(table, sequence, body).unwrap();
    let mut encoded = Vec::new();
    records::put(&mut encoded, 2, table, sequence, body).unwrap();
    let change = Change { after: record.clone(), ..Change::default() };
    assert_eq!(encoded, change.encode_to_vec());
    record
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..8)
}

fn text() -> impl Strategy<Value = String> {
    "[a-z:/.\u{e9}]{0,8}"
}

fn selectors() -> impl Strategy<Value = Vec<wire::Selector>> {
    proptest::collection::vec((text(), text()).prop_map(|(r#type, value)| wire::Selector { r#type, value }), 0..4)
}

fn keys() -> impl Strategy<Value = Vec<wire::PublicKey>> {
    let key = (bytes(), text(), any::<i64>(), any::<bool>(), bytes()).prop_map(
        |(pkix_bytes, kid, not_after, tainted_key, unknown_fields)| wire::PublicKey {
            pkix_bytes,
            kid,
            not_after,
            tainted_key,
            unknown_fields,
        },
    );
    proptest::collection::vec(key, 0..3)
}

prop_compose! {
    fn certificate()(der_bytes in bytes(), tainted_key in any::<bool>(), unknown_fields in bytes()) -> wire::Certificate {
        wire::Certificate { der_bytes, tainted_key, unknown_fields }
    }
}

prop_compose! {
    fn bundle()(
        trust_domain_id in text(),
        root_cas in proptest::collection::vec(certificate(), 0..3),
        jwt_signing_keys in keys(),
        wit_signing_keys in keys(),
        refresh_hint in any::<i64>(),
        sequence_number in any::<u64>(),
        unknown_fields in bytes(),
    ) -> wire::Bundle {
        wire::Bundle {
            trust_domain_id, root_cas, jwt_signing_keys, refresh_hint, sequence_number, wit_signing_keys, unknown_fields,
        }
    }
}

prop_compose! {
    fn entry()(
        texts in [text(), text(), text(), text()],
        selectors in selectors(),
        lists in [proptest::collection::vec(text(), 0..3), proptest::collection::vec(text(), 0..3)],
        ttls in any::<[i32; 2]>(),
        flags in any::<[bool; 3]>(),
        numbers in any::<[i64; 3]>(),
        attributes in proptest::option::of((any::<[bool; 2]>(), bytes())),
    ) -> wire::RegistrationEntry {
        let [parent_id, spiffe_id, entry_id, hint] = texts;
        let [federates_with, dns_names] = lists;
        wire::RegistrationEntry {
            selectors, parent_id, spiffe_id, entry_id, hint, federates_with, dns_names,
            x509_svid_ttl: ttls[0], jwt_svid_ttl: ttls[1],
            admin: flags[0], downstream: flags[1], store_svid: flags[2],
            entry_expiry: numbers[0], revision_number: numbers[1], created_at: numbers[2],
            additional_attributes: attributes.map(|(flags, unknown_fields)| wire::AdditionalAttributes {
                disable_x509_svid_prefetch: flags[0], jwt_svid_include_jti: flags[1], unknown_fields,
            }),
        }
    }
}

prop_compose! {
    fn node()(
        texts in [text(), text(), text(), text(), text()],
        times in any::<[i64; 2]>(),
        can_reattest in any::<bool>(),
    ) -> wire::AttestedNode {
        let [spiffe_id, attestation_data_type, cert_serial_number, new_cert_serial_number, agent_version] = texts;
        wire::AttestedNode {
            spiffe_id, attestation_data_type, cert_serial_number, cert_not_after: times[0], new_cert_serial_number,
            new_cert_not_after: times[1], selectors: Vec::new(), can_reattest, agent_version,
        }
    }
}

prop_compose! {
    fn relationship()(
        texts in [text(), text(), text(), text()],
        trust_domain_bundle in proptest::option::of(bundle()),
    ) -> wire::FederationRelationship {
        let [trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id] = texts;
        wire::FederationRelationship {
            trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id, trust_domain_bundle,
        }
    }
}

proptest! {
    #[test]
    fn bundles_come_back(bundle in bundle()) {
        let inside = bundles::from_wire(bundle.clone());
        let record = shown(tables::BUNDLES, Sequence(1), &inside.encode()).unwrap();
        prop_assert_eq!(records::key(&record), bundle.trust_domain_id.clone());
        prop_assert_eq!(record.record, Some(Kind::Bundle(bundle.clone())));
        prop_assert_eq!(bundles::to_wire(inside), bundle);
    }

    #[test]
    fn entries_come_back(entry in entry()) {
        let inside = entries::from_wire(entry.clone());
        let record = shown(tables::ENTRIES, Sequence(1), &inside.encode()).unwrap();
        prop_assert_eq!(records::key(&record), entry.entry_id.clone());
        prop_assert_eq!(record.record, Some(Kind::RegistrationEntry(entry.clone())));
        prop_assert_eq!(entries::to_wire(inside), entry);
    }

    #[test]
    fn stored_entries_are_encoded_as_their_messages_are(written in proptest::collection::vec(entry(), 0..3)) {
        let mut encoded = Vec::new();
        for entry in &written {
            let stored = entries::from_wire(entry.clone()).encode();
            entries::put(&mut encoded, packed::ENTRIES, Entry::view(&stored).unwrap());
        }
        let message = wire::ListRegistrationEntriesResponse { entries: written, pagination: None };
        prop_assert_eq!(encoded, message.encode_to_vec());
    }

    #[test]
    fn nodes_come_back_with_selectors_where_asked(node in node(), selectors in selectors()) {
        let inside = nodes::from_wire(wire::AttestedNode { selectors: selectors.clone(), ..node.clone() });
        let record = shown(tables::NODES, Sequence(1), &inside.encode()).unwrap();
        prop_assert_eq!(record.record, Some(Kind::AttestedNode(node.clone())));
        prop_assert_eq!(nodes::to_wire(inside.clone()), node.clone());
        let whole = NodeWithSelectors { node: inside, selectors: filters::selectors_from_wire(selectors.clone()) };
        prop_assert_eq!(nodes::with_selectors_to_wire(whole), wire::AttestedNode { selectors, ..node });
    }

    #[test]
    fn relationships_come_back_and_are_shown_without_bundle(relationship in relationship()) {
        let inside = federation::from_wire(relationship.clone());
        prop_assert_eq!(federation::to_wire(inside.clone()), relationship.clone());
        let stored = StoredRelationship {
            trust_domain: inside.trust_domain.clone(),
            bundle_endpoint_url: inside.bundle_endpoint_url,
            bundle_endpoint_profile: "https_spiffe".into(),
            endpoint_spiffe_id: inside.endpoint_spiffe_id,
        };
        let record = shown(tables::FEDERATION, Sequence(1), &stored.encode()).unwrap();
        let Some(Kind::FederationRelationship(shown)) = record.record else { panic!("another kind") };
        prop_assert_eq!(shown.trust_domain, relationship.trust_domain);
        prop_assert_eq!(shown.endpoint_spiffe_id, relationship.endpoint_spiffe_id);
        prop_assert_eq!(shown.trust_domain_bundle, None);
    }

    #[test]
    fn journals_and_tokens_come_back(id in any::<u64>(), data in bytes(), name in text(), expires_at in any::<i64>()) {
        let journal = wire::CaJournal { id, active_x509_authority_id: name.clone(), data };
        let inside = journals::from_wire(journal.clone());
        let record = shown(tables::CA_JOURNALS, Sequence(id), &inside.encode()).unwrap();
        prop_assert_eq!(records::key(&record), id.to_string());
        prop_assert_eq!(record.record, Some(Kind::CaJournal(journal.clone())));
        prop_assert_eq!(journals::to_wire(inside), journal);
        let token = wire::JoinToken { token: name, expires_at };
        let inside = tokens::from_wire(token.clone());
        prop_assert_eq!(shown(tables::JOIN_TOKENS, Sequence(1), &inside.encode()), None);
        prop_assert_eq!(tokens::to_wire(inside), token);
    }
}

#[test]
fn filters_keep_what_was_asked() {
    let selectors = vec![wire::Selector { r#type: "unix".into(), value: "uid:1".into() }];
    let filter = wire::RegistrationEntryFilter {
        by_parent_id: "p".into(),
        by_spiffe_id: "s".into(),
        by_hint: "h".into(),
        by_selectors: Some(wire::BySelectors { r#match: 3, selectors: selectors.clone() }),
        by_federates_with: Some(wire::ByFederatesWith { r#match: 1, trust_domain_ids: vec!["t".into()] }),
        by_downstream: Some(false),
    };
    let inside = filters::entries_from_wire(Some(filter)).unwrap();
    assert_eq!((inside.parent_id.as_str(), inside.spiffe_id.as_str(), inside.hint.as_str()), ("p", "s", "h"));
    assert_eq!(inside.selectors.map(|filter| filter.matching), Some(Match::Any));
    assert_eq!(inside.federates_with, Some((Match::Subset, vec!["t".into()])));
    assert_eq!(inside.downstream, Some(false));

    let empty = wire::ByFederatesWith { r#match: 9, trust_domain_ids: vec![] };
    let filter = wire::RegistrationEntryFilter { by_federates_with: Some(empty), ..Default::default() };
    assert_eq!(filters::entries_from_wire(Some(filter)).unwrap().federates_with, None);
    assert_eq!(filters::entries_from_wire(None).unwrap(), Default::default());

    let filter = wire::AttestedNodeFilter {
        by_banned: Some(true),
        by_expires_before_micros: 1_500_000,
        valid_at_micros: 2_000_000,
        by_selectors: Some(wire::BySelectors { r#match: 7, selectors }),
        ..Default::default()
    };
    let refused = filters::nodes_from_wire(Some(filter.clone())).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let inside = filters::nodes_from_wire(Some(wire::AttestedNodeFilter { by_selectors: None, ..filter })).unwrap();
    assert_eq!((inside.banned, inside.expires_before, inside.valid_at), (Some(true), 2, 2));
}

#[test]
fn every_collection_has_a_table_and_none_shows_tokens() {
    for number in 1..=6 {
        let collection = Collection::try_from(number).unwrap();
        let table = records::table(collection).unwrap();
        assert_eq!(records::collection(table), Some(collection));
    }
    assert_eq!(records::collection(tables::JOIN_TOKENS), None);
}
