//! Records, and answers about them, that are too large.

use steeple_client::Namespace;
use steeple_client::types::{
    AdditionalAttributes, AttestedNode, Bundle, CaJournal, FederationRelationship, RegistrationEntry,
    RegistrationEntryFilter as Filter,
};
use steeple_server::node::NodeOptions;
use steeple_tests::check::{case, unsuitable};
use steeple_tests::records::{NOW, bundle, entry, key, letters, node, selector, web_relationship};
use steeple_tests::server::{Server, namespace, run};
use steeple_wire::status::ErrorKind;

use super::{assert_serves, many, texts};

#[test]
fn entries_have_limits() {
    run(async {
        let datastore = namespace().await;
        let good = || entry("p", "w", letters("A"));
        let long = |bytes: usize| "x".repeat(bytes);
        let rows = [
            (
                "SPIFFE ID",
                RegistrationEntry { spiffe_id: long(2_049), ..good() },
                "SPIFFE ID is 2049 bytes long, 2048 are allowed",
            ),
            (
                "parent ID",
                RegistrationEntry { parent_id: long(2_049), ..good() },
                "parent ID is 2049 bytes long, 2048 are allowed",
            ),
            ("hint", RegistrationEntry { hint: long(1_025), ..good() }, "hint is 1025 bytes long, 1024 are allowed"),
            (
                "selector type",
                RegistrationEntry { selectors: vec![selector(&long(1_025), "")], ..good() },
                "selector type is 1025 bytes long, 1024 are allowed",
            ),
            (
                "selector value",
                RegistrationEntry { selectors: vec![selector("", &long(16_385))], ..good() },
                "selector value is 16385 bytes long, 16384 are allowed",
            ),
            (
                "selectors",
                RegistrationEntry { selectors: many(10_001), ..good() },
                "10001 selectors were given, 10000 are allowed",
            ),
            (
                "DNS name",
                RegistrationEntry { dns_names: vec![long(1_025)], ..good() },
                "DNS name is 1025 bytes long, 1024 are allowed",
            ),
            (
                "DNS names",
                RegistrationEntry { dns_names: texts(10_001), ..good() },
                "10001 DNS names were given, 10000 are allowed",
            ),
            (
                "federated trust domain",
                RegistrationEntry { federates_with: vec![long(2_049)], ..good() },
                "federated trust domain ID is 2049 bytes long, 2048 are allowed",
            ),
            (
                "federated trust domains",
                RegistrationEntry { federates_with: texts(10_001), ..good() },
                "10001 federated trust domains were given, 10000 are allowed",
            ),
        ];
        let stored = datastore.create_registration_entry(entry("p", "stored", letters("A"))).await.unwrap();
        for (name, entry, text) in rows {
            let _case = case(name);
            let created = datastore.create_registration_entry(entry.clone()).await;
            assert_eq!(unsuitable(created, ErrorKind::LimitExceeded), text);
            let update = RegistrationEntry { entry_id: stored.entry_id.clone(), ..entry };
            let updated = datastore.update_registration_entry(update, None).await;
            assert_eq!(unsuitable(updated, ErrorKind::LimitExceeded), text);
        }
        // Everything at its limit is too much together.
        let values = (0..100).map(|number| selector("t", &format!("{number}{}", long(16_000)))).collect();
        let large = RegistrationEntry { selectors: values, ..good() };
        let text = unsuitable(datastore.create_registration_entry(large).await, ErrorKind::LimitExceeded);
        assert!(text.starts_with("registration entry is ") && text.ends_with(" 1048576 are allowed"), "{text}");
        // At the limits it is stored.
        let largest = RegistrationEntry {
            spiffe_id: long(2_048),
            parent_id: long(2_048),
            hint: long(1_024),
            entry_id: long(255),
            selectors: [many(9_999), vec![selector(&long(1_024), &long(16_384))]].concat(),
            dns_names: [texts(9_999), vec![long(1_024)]].concat(),
            additional_attributes: Some(AdditionalAttributes { jwt_svid_include_jti: true, ..Default::default() }),
            ..good()
        };
        let created = datastore.create_registration_entry(largest).await.unwrap();
        let fetched = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
        assert!(fetched.unwrap() == created);
        assert_serves(&datastore).await;
    });
}

#[test]
fn nodes_have_limits() {
    run(async {
        let datastore = namespace().await;
        let long = "x".repeat(2_049);
        let rows = [
            ("SPIFFE ID", AttestedNode { spiffe_id: long.clone(), ..node("n", NOW) }),
            ("attestation data type", AttestedNode { attestation_data_type: long.clone(), ..node("n", NOW) }),
            ("certificate serial number", AttestedNode { cert_serial_number: long.clone(), ..node("n", NOW) }),
            ("new certificate serial number", AttestedNode { new_cert_serial_number: long.clone(), ..node("n", NOW) }),
            ("agent version", AttestedNode { agent_version: long.clone(), ..node("n", NOW) }),
        ];
        for (name, node) in rows {
            let _case = case(name);
            let text = format!("{name} is 2049 bytes long, 2048 are allowed");
            assert_eq!(unsuitable(datastore.create_attested_node(node).await, ErrorKind::LimitExceeded), text);
        }
        for (selectors, text) in [
            (many(10_001), "10001 selectors were given, 10000 are allowed"),
            (vec![selector(&"x".repeat(1_025), "")], "selector type is 1025 bytes long, 1024 are allowed"),
        ] {
            let set = datastore.set_node_selectors("n", selectors).await;
            assert_eq!(unsuitable(set, ErrorKind::LimitExceeded), text);
        }
        unsuitable(datastore.set_node_selectors(long, vec![]).await, ErrorKind::LimitExceeded);
        let largest = node(&"x".repeat(2_048), NOW);
        let largest = AttestedNode { cert_serial_number: "y".repeat(2_048), ..largest };
        assert_eq!(datastore.create_attested_node(largest.clone()).await.unwrap(), largest);
        datastore.set_node_selectors(largest.spiffe_id.as_str(), many(10_000)).await.unwrap();
        assert_eq!(datastore.get_node_selectors(largest.spiffe_id).await.unwrap().len(), 10_000);
        assert_serves(&datastore).await;
    });
}

#[test]
fn bundles_have_limits() {
    run(async {
        let datastore = namespace().await;
        let long = |bytes: usize| "x".repeat(bytes);
        let elements = vec![Default::default(); 65_537];
        let rows = [
            ("trust domain", bundle(&long(2_049), &[]), "trust_domain_id is 2049 bytes long, 2048 are allowed"),
            (
                "root CAs",
                Bundle { root_cas: elements, ..bundle("spiffe://td", &[]) },
                "65537 root_cas were given, 65536 are allowed",
            ),
            (
                "key ID",
                Bundle { jwt_signing_keys: vec![key(&long(2_049), 0)], ..bundle("spiffe://td", &[]) },
                "kid is 2049 bytes long, 2048 are allowed",
            ),
        ];
        for (name, given, text) in rows {
            let _case = case(name);
            for answer in [
                datastore.create_bundle(given.clone()).await,
                datastore.set_bundle(given.clone()).await,
                datastore.append_bundle(given.clone()).await,
            ] {
                assert_eq!(unsuitable(answer, ErrorKind::LimitExceeded), text);
            }
        }
        assert_serves(&datastore).await;
    });
}

/// A node whose log has files of the usual size.
async fn with_large_log() -> (Server, Namespace) {
    let options = NodeOptions { log: NodeOptions::default().log, ..NodeOptions::in_memory() };
    let server = Server::start(options).await;
    let datastore = server.namespace().await;
    (server, datastore)
}

#[test]
fn a_bundle_as_a_whole_has_a_limit() {
    run(async {
        let (server, datastore) = with_large_log().await;
        let mut large = bundle("spiffe://td", &[1]);
        large.root_cas[0].der_bytes = vec![7; 16_777_216];
        let text = unsuitable(datastore.create_bundle(large.clone()).await, ErrorKind::LimitExceeded);
        assert!(text.starts_with("bundle is ") && text.ends_with(" 16777215 are allowed"), "{text}");
        // Appending does not get around it.
        large.root_cas[0].der_bytes.truncate(9_000_000);
        datastore.create_bundle(large.clone()).await.unwrap();
        large.root_cas[0].der_bytes[0] = 8;
        unsuitable(datastore.append_bundle(large.clone()).await, ErrorKind::LimitExceeded);
        // The largest there may be, replaced by another one.
        for byte in [1, 2] {
            large.root_cas[0].der_bytes = vec![byte; 16_777_000];
            datastore.set_bundle(large.clone()).await.unwrap();
            assert!(datastore.fetch_bundle("spiffe://td").await.unwrap() == Some(large.clone()));
        }
        assert_serves(&datastore).await;
        server.node.stop().await;
    });
}

/// What no file of the log has room for is refused, and does not bring the node down.
#[test]
fn a_mutation_has_to_fit_into_a_file_of_the_log() {
    run(async {
        let mut options = NodeOptions::in_memory();
        options.log.segment_bytes = 2 << 20;
        options.log.segment_entries = 1 << 10;
        let server = Server::start(options).await;
        let datastore = server.namespace().await;
        let journal = |bytes| CaJournal { data: vec![7; bytes], ..Default::default() };
        let text = unsuitable(datastore.set_ca_journal(journal(2 << 20)).await, ErrorKind::LimitExceeded);
        assert!(text.starts_with("the change takes 2097"), "{text}");
        let stored = datastore.set_ca_journal(journal(1 << 20)).await.unwrap();
        // Before and after together are too much.
        unsuitable(
            datastore.set_ca_journal(CaJournal { id: stored.id, ..journal(1 << 20) }).await,
            ErrorKind::LimitExceeded,
        );
        assert_serves(&datastore).await;
        server.node.stop().await;
    });
}

#[test]
fn other_records_have_limits() {
    run(async {
        let (server, datastore) = with_large_log().await;
        let long = |bytes: usize| "x".repeat(bytes);
        let limit = ErrorKind::LimitExceeded;
        let token = datastore.create_join_token(long(2_049), NOW).await;
        assert_eq!(unsuitable(token, limit), "token is 2049 bytes long, 2048 are allowed");
        datastore.create_join_token(long(2_048), NOW).await.unwrap();

        let journal = CaJournal { active_x509_authority_id: long(2_049), ..Default::default() };
        let text = unsuitable(datastore.set_ca_journal(journal).await, limit);
        assert_eq!(text, "active_x509_authority_id is 2049 bytes long, 2048 are allowed");
        let journal = CaJournal { data: vec![0; 16_777_216], ..Default::default() };
        let text = unsuitable(datastore.set_ca_journal(journal).await, limit);
        assert_eq!(text, "data is 16777216 bytes long, 16777215 are allowed");

        let url = FederationRelationship { bundle_endpoint_url: long(8_193), ..web_relationship("td.org") };
        let text = unsuitable(datastore.create_federation_relationship(url).await, limit);
        assert_eq!(text, "bundle_endpoint_url is 8193 bytes long, 8192 are allowed");
        let domain = web_relationship(&long(2_049));
        unsuitable(datastore.create_federation_relationship(domain).await, limit);
        let mut large = bundle("spiffe://td.org", &[1]);
        large.root_cas[0].der_bytes = vec![7; 8 << 20];
        let relationship = FederationRelationship { trust_domain_bundle: Some(large), ..web_relationship("td.org") };
        let text = unsuitable(datastore.create_federation_relationship(relationship).await, limit);
        assert!(text.starts_with("trust_domain_bundle is ") && text.ends_with(" 8388608 are allowed"), "{text}");
        assert_eq!(datastore.fetch_bundle("spiffe://td.org").await.unwrap(), None);
        assert_serves(&datastore).await;
        server.node.stop().await;
    });
}

/// A list that does not fit into a message is refused, and the streaming call delivers it.
#[test]
fn answers_have_a_size_limit() {
    use tokio_stream::StreamExt;
    run(async {
        // Of its own, so that nobody else waits for these megabytes.
        let server = Server::start(NodeOptions::in_memory()).await;
        let datastore = server.namespace().await;
        let value = "x".repeat(16_000);
        for number in 0..70 {
            let selectors = (0..62).map(|part| selector(&part.to_string(), &value)).collect();
            datastore.create_registration_entry(entry("p", &format!("w{number}"), selectors)).await.unwrap();
        }
        let text = unsuitable(datastore.list_registration_entries(Filter::default()).await, ErrorKind::AnswerTooLarge);
        assert!(text.contains("63 MiB") && text.contains("StreamRegistrationEntries"), "{text}");
        let mut stream = datastore.stream_registration_entries(Filter::default()).await.unwrap();
        let mut received = 0;
        while let Some(entry) = stream.next().await {
            assert_eq!(entry.unwrap().spiffe_id, format!("w{received}"));
            received += 1;
        }
        assert_eq!(received, 70);
        assert_serves(&datastore).await;
        server.node.stop().await;
    });
}
