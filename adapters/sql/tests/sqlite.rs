//! Databases of every schema that can be read, with all that they may hold.

use std::path::Path;

use steeple_sql::{Error, Found, Location, Source, ZoneOffset, fixture};
use steeple_wire::spire::v1::imported_record::Record;
use steeple_wire::spire::v1::{
    AttestedNode, CaJournal, FederationRelationship, ImportedRecord, JoinToken, NodeSelectors, RegistrationEntry,
    Selector,
};

async fn open(path: &Path) -> Result<Source, Error> {
    Source::open(&Location::Sqlite(path.to_owned()), ZoneOffset::default()).await
}

async fn read(path: &Path) -> Vec<Found> {
    let mut source = open(path).await.unwrap();
    let mut all = Vec::new();
    source
        .read(async |found| {
            all.push(found);
            Ok::<(), Error>(())
        })
        .await
        .unwrap();
    source.close().await;
    all
}

async fn records(path: &Path) -> Vec<Record> {
    let of = |found| match found {
        Found::Record(ImportedRecord { record }) => record,
        _ => None,
    };
    read(path).await.into_iter().filter_map(of).collect()
}

fn selector(kind: &str, value: &str) -> Selector {
    Selector { r#type: kind.into(), value: value.into() }
}

fn entries() -> [RegistrationEntry; 3] {
    let first = RegistrationEntry {
        entry_id: "first".into(),
        spiffe_id: "spiffe://td/first".into(),
        parent_id: "spiffe://td/agent".into(),
        selectors: vec![selector("unix", "uid:2"), selector("unix", "uid:1")],
        dns_names: vec!["b.example".into(), "a.example".into()],
        federates_with: vec!["spiffe://td".into(), "spiffe://web.example".into()],
        x509_svid_ttl: 600,
        jwt_svid_ttl: 30,
        admin: true,
        entry_expiry: 1_900_000_000,
        revision_number: 7,
        hint: "hint".into(),
        // Half a second and more counts as the next one.
        created_at: 1_788_258_031,
        ..Default::default()
    };
    let bare = RegistrationEntry { entry_id: "bare".into(), ..Default::default() };
    let last = RegistrationEntry {
        entry_id: "Last".into(),
        spiffe_id: "spiffe://td/last".into(),
        parent_id: "spiffe://td/agent".into(),
        selectors: vec![selector("k8s", "ns:x")],
        downstream: true,
        store_svid: true,
        ..Default::default()
    };
    [first, bare, last]
}

fn nodes() -> [AttestedNode; 2] {
    let banned = AttestedNode {
        spiffe_id: "spiffe://td/banned".into(),
        attestation_data_type: "join_token".into(),
        cert_not_after: 1_788_258_030,
        ..Default::default()
    };
    let agent = AttestedNode {
        spiffe_id: "spiffe://td/agent".into(),
        attestation_data_type: "x509pop".into(),
        cert_serial_number: "123456789012345678901234567890".into(),
        cert_not_after: 1_788_258_030,
        new_cert_serial_number: "77".into(),
        new_cert_not_after: 1_788_344_430,
        can_reattest: true,
        ..Default::default()
    };
    [banned, agent]
}

#[tokio::test]
async fn every_schema_says_the_same() {
    let relationship = |name: &str, url: &str, profile: &str, id: &str| {
        Record::FederationRelationship(FederationRelationship {
            trust_domain: name.into(),
            bundle_endpoint_url: url.into(),
            bundle_endpoint_profile: profile.into(),
            endpoint_spiffe_id: id.into(),
            trust_domain_bundle: None,
        })
    };
    let selectors = |id: &str, selectors| Record::NodeSelectors(NodeSelectors { spiffe_id: id.into(), selectors });
    let mut expected: Vec<Record> = fixture::bundles().into_iter().map(Record::Bundle).collect();
    expected.push(relationship("web.example", "https://web.example/b", "https_web", ""));
    let url = "not-valid-endpoint-url%";
    expected.push(relationship("spiffe.example", url, "https_spiffe", "spiffe://spiffe.example/server"));
    expected.extend(entries().map(Record::RegistrationEntry));
    expected.extend(nodes().map(Record::AttestedNode));
    expected.push(selectors("spiffe://td/agent", vec![selector("a", "2"), selector("a", "1")]));
    expected.push(selectors("spiffe://td/nobody", vec![selector("b", "1")]));
    for (token, expires_at) in [("t-1", 1_700_000_000), ("t-2", 1_900_000_000)] {
        expected.push(Record::JoinToken(JoinToken { token: token.into(), expires_at }));
    }
    for (id, data) in [(2, vec![0x0a, 0]), (7, vec![])] {
        let active_x509_authority_id = format!("authority-{id}");
        expected.push(Record::CaJournal(CaJournal { id, active_x509_authority_id, data }));
    }
    for schema in [23, 24, 25] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("datastore.sqlite3");
        fixture::create(&path, schema).await.unwrap();
        assert_eq!(records(&path).await, expected, "schema {schema}");
    }
}

#[tokio::test]
async fn columns_of_newer_schemas_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("datastore.sqlite3");
    fixture::create(&path, 25).await.unwrap();
    let update = "UPDATE attested_node_entries SET agent_version = '1.15.3' WHERE id = 4;
        UPDATE registered_entries SET additional_attributes = X'0801' WHERE id = 3;";
    fixture::execute(&path, update).await.unwrap();
    let all = records(&path).await;
    let version = all.iter().find_map(|record| match record {
        Record::AttestedNode(node) if node.can_reattest => Some(node.agent_version.as_str()),
        _ => None,
    });
    assert_eq!(version, Some("1.15.3"));
    let attributes = all.iter().find_map(|record| match record {
        Record::RegistrationEntry(entry) => entry.additional_attributes.clone(),
        _ => None,
    });
    assert!(attributes.unwrap().disable_x509_svid_prefetch);
}

#[tokio::test]
async fn many_entries_are_read_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("datastore.sqlite3");
    fixture::create(&path, 25).await.unwrap();
    fixture::add_entries(&path, 2_500).await.unwrap();
    let entries = records(&path).await.into_iter().filter_map(|record| match record {
        Record::RegistrationEntry(entry) => Some(entry),
        _ => None,
    });
    let entries: Vec<_> = entries.skip(3).collect();
    assert_eq!(entries.len(), 2_500);
    for (place, entry) in entries.iter().enumerate() {
        assert_eq!(entry.entry_id, format!("entry-{}", place + 1));
        assert_eq!(entry.selectors, [selector("unix", &format!("uid:{}", place + 1))]);
    }
}

#[tokio::test]
async fn what_belongs_to_nothing_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("datastore.sqlite3");
    fixture::create(&path, 25).await.unwrap();
    let orphans: Vec<_> = read(&path).await.into_iter().filter(|found| !matches!(found, Found::Record(_))).collect();
    let expected = [("selectors", 1), ("dns_names", 1), ("federated_registration_entries", 2)];
    assert_eq!(orphans, expected.map(|(table, rows)| Found::Orphans { table, rows }));
}

#[tokio::test]
async fn rows_that_are_no_records_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("datastore.sqlite3");
    fixture::create(&path, 25).await.unwrap();
    let damage = "UPDATE bundles SET data = X'ffff' WHERE id = 1;
        UPDATE bundles SET trust_domain = 'spiffe://other' WHERE id = 2;
        UPDATE registered_entries SET ttl = 3000000000 WHERE id = 1;
        UPDATE registered_entries SET created_at = 'soon' WHERE id = 3;
        UPDATE attested_node_entries SET expires_at = 'later' WHERE id = 2;";
    fixture::execute(&path, damage).await.unwrap();
    let told: Vec<String> = read(&path)
        .await
        .into_iter()
        .filter_map(|found| match found {
            Found::Unreadable { what, reason } => Some(format!("{what}: {reason}")),
            _ => None,
        })
        .collect();
    for (text, part) in told.iter().zip([
        "row 1 of bundles: its data is no bundle",
        "row 2 of bundles: it stands under \"spiffe://other\"",
        "row 1 of registered_entries: its ttl is 3000000000",
        "row 3 of registered_entries: its created_at is \"soon\"",
        "row 2 of attested_node_entries: its expires_at is \"later\"",
    ]) {
        assert!(text.starts_with(part), "{text}");
    }
    assert_eq!(told.len(), 5, "{told:?}");
}

#[tokio::test]
async fn other_databases_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = async |name: &str| open(&directory.path().join(name)).await.map(drop).unwrap_err().to_string();
    assert!(refusal("none").await.starts_with("there is no file"));
    assert!(!directory.path().join("none").exists(), "a file was made");
    std::fs::write(directory.path().join("text"), "certainly no database, but long enough to look like one").unwrap();
    assert!(refusal("text").await.starts_with("cannot open SQLite"));
    fixture::execute(&directory.path().join("other"), "CREATE TABLE t (i INTEGER)").await.unwrap();
    assert!(refusal("other").await.contains("is no database of a SPIRE server"));
    for (schema, part) in [(22, "let a SPIRE server of version 1.15 start"), (26, "a newer SPIRE server")] {
        let name = format!("schema-{schema}");
        fixture::create(&directory.path().join(&name), schema).await.unwrap();
        assert!(refusal(&name).await.contains(part));
    }
    fixture::create(&directory.path().join("empty"), 25).await.unwrap();
    fixture::execute(&directory.path().join("empty"), "DELETE FROM migrations").await.unwrap();
    assert!(refusal("empty").await.contains("migrations has 0 rows"));
}

#[tokio::test]
async fn the_source_is_as_it_was_when_it_was_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("datastore.sqlite3");
    fixture::create(&path, 25).await.unwrap();
    let mut source = open(&path).await.unwrap();
    fixture::execute(&path, "DELETE FROM join_tokens").await.unwrap();
    let tokens = source.counts().await.unwrap().into_iter().find(|count| count.table == "join_tokens");
    assert_eq!(tokens.map(|count| count.rows), Some(2));
    source.close().await;
    let mut source = open(&path).await.unwrap();
    let tokens = source.counts().await.unwrap().into_iter().find(|count| count.table == "join_tokens");
    assert_eq!(tokens.map(|count| count.rows), Some(0));
}
