//! Namespaces and request ids.

use steeple_client::RequestId;
use steeple_client::types::AttestedNodeFilter;
use steeple_tests::check::{case, refused, status, unsuitable};
use steeple_tests::raw::{self, DATASTORE};
use steeple_tests::records::{NOW, bundle, node};
use steeple_tests::server::{namespace, run, shared};
use steeple_wire::spire::v1 as spire;
use steeple_wire::status::ErrorKind;
use tonic::{Code, Status};

use super::{assert_serves, context};

#[test]
fn unknown_namespaces_are_not_made_on_the_way() {
    run(async {
        let datastore = namespace().await;
        let client = shared().client();
        for name in ["unknown", "", "with space", "ünknown", "test-1/../test-2", "steeple", &"x".repeat(255)] {
            let _case = case(name);
            let unknown = client.namespace(name);
            unsuitable(unknown.fetch_bundle("spiffe://td").await, ErrorKind::NamespaceUnknown);
            unsuitable(unknown.create_bundle(bundle("spiffe://td", &[])).await, ErrorKind::NamespaceUnknown);
            unsuitable(unknown.stream_status().await, ErrorKind::NamespaceUnknown);
        }
        let too_long = client.namespace("x".repeat(256));
        unsuitable(too_long.fetch_bundle("spiffe://td").await, ErrorKind::LimitExceeded);
        let names = client.admin().list_namespaces().await.unwrap();
        assert!(names.iter().all(|namespace| namespace.name.starts_with("test-")), "{names:?}");
        assert_serves(&datastore).await;
    });
}

#[test]
fn names_of_namespaces_are_checked() {
    run(async {
        let admin = shared().client().admin();
        let longest = format!("test-{}", "x".repeat(250));
        admin.create_namespace(longest.as_str()).await.unwrap();
        refused(
            admin.create_namespace(format!("{longest}x")).await,
            Code::InvalidArgument,
            "namespace name has 256 bytes, it must have 1 to 255",
        );
        refused(
            admin.create_namespace("").await,
            Code::InvalidArgument,
            "namespace name has 0 bytes, it must have 1 to 255",
        );
        for name in ["a b", "ä", "a\u{0}", "a\\b", "a:b"] {
            let text = format!("namespace name {name:?} may only contain ASCII letters, digits, '-', '_', '.' and '/'");
            refused(admin.create_namespace(name).await, Code::InvalidArgument, &text);
        }
        let again = admin.create_namespace(longest.as_str()).await;
        assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);
        admin.delete_namespace(longest.as_str()).await.unwrap();
        assert!(admin.delete_namespace(longest).await.unwrap_err().is_not_found());
    });
}

#[test]
fn request_ids_have_sixteen_bytes() {
    run(async {
        let datastore = namespace().await;
        for length in [1, 15, 17, 1_000] {
            let request = spire::CreateAttestedNodeRequest {
                context: context(datastore.name(), &vec![1; length]),
                node: Some(node("n", NOW)),
            };
            let answer: Result<spire::CreateAttestedNodeResponse, _> =
                raw::unary(&shared().channel, DATASTORE, "CreateAttestedNode", &request).await;
            let text = format!("request id has {length} bytes, it must have 16 or none");
            status(answer, Code::InvalidArgument, &text);
        }
        assert_eq!(datastore.count_attested_nodes(AttestedNodeFilter::default()).await.unwrap(), 0);
        assert_serves(&datastore).await;
    });
}

#[test]
fn a_request_id_is_not_used_for_another_request() {
    run(async {
        let datastore = namespace().await;
        let id = RequestId([7; 16]);
        datastore.with_request(id).create_attested_node(node("n", NOW)).await.unwrap();
        let text = unsuitable(
            datastore.with_request(id).create_attested_node(node("m", NOW)).await,
            ErrorKind::RequestIdReused,
        );
        assert!(text.contains(&id.to_string()), "{text}");
        assert_eq!(datastore.count_attested_nodes(AttestedNodeFilter::default()).await.unwrap(), 1);
        assert_serves(&datastore).await;
    });
}

#[test]
fn a_batch_has_limits() {
    run(async {
        let datastore = namespace().await;
        let mutation = |namespace: &str, id: &[u8]| spire::Mutation {
            operation: Some(spire::mutation::Operation::SetNodeSelectors(spire::SetNodeSelectorsRequest {
                context: context(namespace, id),
                spiffe_id: "n".into(),
                selectors: vec![],
            })),
        };
        let batch = async |mutations: Vec<spire::Mutation>| -> Result<spire::BatchResponse, Status> {
            let request = spire::BatchRequest { namespace: datastore.name().into(), mutations };
            raw::unary(&shared().channel, DATASTORE, "Batch", &request).await
        };
        let refusal = batch(vec![mutation("", &[]); 1_001]).await.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::LimitExceeded));
        assert_eq!(refusal.message(), "1001 mutations were given, 1000 are allowed");
        assert_eq!(batch(vec![]).await.unwrap().outcomes, []);
        // What is wrong with one is its own outcome.
        let outcomes = batch(vec![
            spire::Mutation { operation: None },
            mutation("another", &[]),
            mutation("", &[1; 3]),
            mutation(datastore.name(), &[1; 16]),
        ])
        .await
        .unwrap()
        .outcomes;
        let failed: Vec<_> = outcomes
            .into_iter()
            .map(|outcome| match outcome.result.unwrap() {
                spire::mutation_outcome::Result::Failure(failure) => Some(failure.code),
                _ => None,
            })
            .collect();
        let invalid = Some(i32::from(Code::InvalidArgument));
        assert_eq!(failed, [invalid, invalid, invalid, None]);
        assert_serves(&datastore).await;
    });
}
