//! Requests that nobody means well: oversized, malformed, hostile. Each gets a status, and the node goes on serving.

use bytes::Bytes;
use prost::Message;
use prost_types::FileDescriptorSet;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use steeple_client::types::{
    AdditionalAttributes, AttestedNode, AttestedNodeFilter, Bundle, CaJournal, FederationRelationship, MatchBehavior,
    RegistrationEntry, RegistrationEntryFilter as Filter, Selector,
};
use steeple_client::{Client, Namespace, RequestId, TailOptions, TailStart};
use steeple_server::node::NodeOptions;
use steeple_tests::check::{case, not_found, refused, status, unsuitable};
use steeple_tests::raw::{self, ADMIN, DATASTORE, EVENTS};
use steeple_tests::records::{
    NOW, bundle, by_federates_with, by_selectors, entry, key, letters, node, selector, web_relationship,
};
use steeple_tests::server::{Server, namespace, run, shared};
use steeple_wire::common::v1::{ReadContext, RequestContext};
use steeple_wire::events::v1 as events;
use steeple_wire::spire::v1 as spire;
use steeple_wire::status::ErrorKind;
use steeple_wire::{DESCRIPTORS, MESSAGE_BYTES_MAX};
use tonic::{Code, Status};

/// The node takes a mutation and shows it.
async fn assert_serves(datastore: &Namespace) {
    let name = format!("spiffe://{}", RequestId::random());
    datastore.create_bundle(bundle(&name, &[1])).await.unwrap();
    assert_eq!(datastore.fetch_bundle(name.as_str()).await.unwrap(), Some(bundle(&name, &[1])));
}

fn context(namespace: &str, request_id: &[u8]) -> Option<RequestContext> {
    Some(RequestContext { namespace: namespace.into(), request_id: request_id.to_vec() })
}

fn read_context(datastore: &Namespace) -> Option<ReadContext> {
    Some(ReadContext { namespace: datastore.name().into(), ..Default::default() })
}

async fn bytes(service: &str, method: &str, request: impl Into<Bytes>) -> Result<(), Status> {
    raw::unary_bytes(&shared().channel, service, method, request).await.map(drop)
}

#[track_caller]
fn fails(result: Result<(), Status>, code: Code) -> Status {
    let status = result.expect_err("a status");
    assert_eq!(status.code(), code, "{status}");
    status
}

// ---- bytes that are no message

#[test]
fn strings_have_to_be_utf8() {
    run(async {
        let datastore = namespace().await;
        let name = datastore.name().as_bytes();
        let mut head = vec![0x0a, u8::try_from(name.len() + 2).unwrap(), 0x0a, u8::try_from(name.len()).unwrap()];
        head.extend_from_slice(name);
        // Field 2, two bytes that are no UTF-8.
        let wrong = [head.as_slice(), &[0x12, 2, 0xff, 0xfe]].concat();
        for method in
            ["FetchBundle", "FetchRegistrationEntry", "FetchAttestedNode", "FetchJoinToken", "DeleteJoinToken"]
        {
            let _case = case(method);
            fails(bytes(DATASTORE, method, wrong.clone()).await, Code::Internal);
        }
        assert_serves(&datastore).await;
    });
}

#[test]
fn cut_and_mangled_messages_are_refused() {
    run(async {
        let datastore = namespace().await;
        let request = spire::CreateRegistrationEntryRequest {
            context: context(datastore.name(), &[]),
            entry: Some(entry("parent", "workload", letters("ABC"))),
        };
        let whole = request.encode_to_vec();
        for (name, wrong) in [
            ("cut", whole[..whole.len() - 1].to_vec()),
            ("length beyond the end", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            ("length of more than 64 bits", [vec![0x0a], vec![0xff; 11]].concat()),
            ("wrong wire type", vec![0x0d, 1, 2, 3, 4]),
            ("group without end", vec![0x0b]),
            ("field number zero", vec![0x02, 0]),
            ("garbage", vec![0xff; 100]),
        ] {
            let _case = case(name);
            fails(bytes(DATASTORE, "CreateRegistrationEntry", wrong).await, Code::Internal);
        }
        assert_eq!(datastore.count_registration_entries(Filter::default()).await.unwrap(), 0);
        assert_serves(&datastore).await;
    });
}

/// Every call of every service: name and whether it streams.
fn calls() -> Vec<(String, String)> {
    let mut calls = Vec::new();
    // What nodes say to each other is served on another address, and has tests of its own.
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    for file in files.into_iter().filter(|file| file.package() != "steeple.peer.v1") {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            calls.extend(service.method.iter().map(|method| (name.clone(), method.name().to_owned())));
        }
    }
    assert!(calls.len() > 60, "{}", calls.len());
    calls
}

/// Sends bytes, and reads one message if any come.
async fn send(service: &str, method: &str, request: Vec<u8>) -> Result<(), Status> {
    let mut answers = raw::streaming_bytes(&shared().channel, service, method, request).await?;
    answers.message().await.map(drop)
}

#[test]
fn random_bytes_to_every_call() {
    run(async {
        let datastore = namespace().await;
        let mut random = SmallRng::seed_from_u64(0x5eed);
        for (service, method) in calls() {
            let _case = case(method.as_str());
            for _ in 0..20 {
                let length = random.random_range(1..60);
                let request: Vec<u8> = (0..length).map(|_| random.random()).collect();
                // Without a namespace that exists nothing happens, whatever else the bytes say.
                if let Err(status) = send(&service, &method, request.clone()).await {
                    let known = [
                        Code::Internal,
                        Code::InvalidArgument,
                        Code::FailedPrecondition,
                        Code::Unimplemented,
                        Code::NotFound,
                    ];
                    assert!(known.contains(&status.code()), "{status} for {request:?}");
                }
            }
        }
        assert_serves(&datastore).await;
    });
}

/// As above, behind the name of a namespace that exists, so that more than the name is looked at.
#[test]
fn random_fields_to_every_call_of_a_namespace() {
    run(async {
        let datastore = namespace().await;
        let name = datastore.name().as_bytes();
        let field = |content: &[u8]| [&[0x0a, u8::try_from(content.len()).unwrap()], content].concat();
        let mut random = SmallRng::seed_from_u64(0xf1e1d);
        for (service, method) in calls() {
            let with_context =
                service == DATASTORE && method != "Batch" || ["ListItems", "StreamStatus"].contains(&&*method);
            let head = match (service.as_str(), with_context) {
                (ADMIN, _) => continue,
                (_, true) => field(&field(name)),
                (_, false) => field(name),
            };
            let _case = case(method.as_str());
            for _ in 0..30 {
                let mut request = head.clone();
                for _ in 0..random.random_range(0..4) {
                    random_field(&mut random, &mut request);
                }
                if let Err(status) = send(&service, &method, request.clone()).await {
                    let trouble = [Code::Aborted, Code::DataLoss, Code::Cancelled];
                    assert!(!trouble.contains(&status.code()), "{status} for {request:?}");
                    // Said by the node, of a revision that is not there yet, and not by a connection that broke.
                    let told = ErrorKind::of(&status) == Some(ErrorKind::Unavailable);
                    assert!(status.code() != Code::Unavailable || told, "{status} for {request:?}");
                    assert!(!status.message().contains("inside the node"), "{status} for {request:?}");
                }
            }
        }
        assert_serves(&datastore).await;
    });
}

/// A number or a few bytes in one of the first fields.
fn random_field(random: &mut SmallRng, message: &mut Vec<u8>) {
    let number = random.random_range(1..10u8);
    if random.random() {
        message.push(number << 3);
        // Extremes as often as anything.
        let value = [0, 1, u64::MAX, 1 << 63, random.random()][random.random_range(0..5)];
        prost::encoding::encode_varint(value, message);
    } else {
        let content: Vec<u8> = (0..random.random_range(0..12)).map(|_| random.random_range(0..0x50)).collect();
        message.extend_from_slice(&[number << 3 | 2, u8::try_from(content.len()).unwrap()]);
        message.extend_from_slice(&content);
    }
}

/// An empty message is a message: every field has its default. So the namespace is the empty one.
#[test]
fn an_empty_message_names_no_namespace() {
    run(async {
        let datastore = namespace().await;
        for (service, method) in calls() {
            if service == ADMIN {
                continue;
            }
            let _case = case(method.as_str());
            let status = send(&service, &method, vec![]).await.unwrap_err();
            assert_eq!(ErrorKind::of(&status), Some(ErrorKind::NamespaceUnknown), "{status}");
        }
        assert_serves(&datastore).await;
    });
}

#[test]
fn unknown_calls_are_told() {
    run(async {
        let datastore = namespace().await;
        fails(bytes(DATASTORE, "DropEverything", vec![]).await, Code::Unimplemented);
        fails(bytes("steeple.spire.v9.Datastore", "FetchBundle", vec![]).await, Code::Unimplemented);
        assert_serves(&datastore).await;
    });
}

#[test]
fn messages_have_a_size_limit() {
    run(async {
        let datastore = namespace().await;
        let journal = CaJournal { data: vec![7; MESSAGE_BYTES_MAX + 1], ..Default::default() };
        let request = spire::SetCaJournalRequest { context: context(datastore.name(), &[]), journal: Some(journal) };
        fails(bytes(DATASTORE, "SetCAJournal", request.encode_to_vec()).await, Code::OutOfRange);
        // The client does not even send it.
        unsuitable(datastore.set_ca_journal(request.journal.unwrap()).await, ErrorKind::LimitExceeded);
        assert_serves(&datastore).await;
    });
}

/// Fields that a later protocol may add are passed over.
#[test]
fn unknown_fields_are_ignored() {
    run(async {
        let datastore = namespace().await;
        datastore.create_bundle(bundle("spiffe://td", &[1])).await.unwrap();
        let request =
            spire::FetchBundleRequest { context: read_context(&datastore), trust_domain_id: "spiffe://td".into() };
        let mut request = request.encode_to_vec();
        request.extend_from_slice(&[0xfa, 0x01, 3, 1, 2, 3]);
        let answer = raw::unary_bytes(&shared().channel, DATASTORE, "FetchBundle", request).await.unwrap();
        let answer = spire::FetchBundleResponse::decode(answer.into_inner()).unwrap();
        assert_eq!(answer.bundle, Some(bundle("spiffe://td", &[1])));
    });
}

// ---- namespaces and request ids

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

// ---- pages and filters

#[test]
fn page_sizes_are_positive() {
    run(async {
        let datastore = namespace().await;
        for size in [-1, i32::MIN] {
            let text = format!("cannot paginate with pagesize = {size}: it must be positive");
            let invalid = Code::InvalidArgument;
            refused(datastore.list_bundles_page("", size).await, invalid, &text);
            refused(datastore.list_registration_entries_page(Filter::default(), "", size).await, invalid, &text);
            refused(datastore.list_attested_nodes_page(Default::default(), true, "", size).await, invalid, &text);
            refused(datastore.list_federation_relationships_page("", size).await, invalid, &text);
        }
        assert_serves(&datastore).await;
    });
}

#[test]
fn unknown_match_behaviors_are_refused() {
    run(async {
        let datastore = namespace().await;
        for behavior in [4, -1, i32::MAX] {
            let text = format!("unhandled match behavior {behavior}");
            let selectors = steeple_client::types::BySelectors { r#match: behavior, selectors: letters("A") };
            let domains =
                steeple_client::types::ByFederatesWith { r#match: behavior, trust_domain_ids: vec!["a".into()] };
            let by_selectors = Filter { by_selectors: Some(selectors.clone()), ..Filter::default() };
            let by_domains = Filter { by_federates_with: Some(domains), ..Filter::default() };
            let of_nodes = AttestedNodeFilter { by_selectors: Some(selectors), ..Default::default() };
            let invalid = Code::InvalidArgument;
            refused(datastore.list_registration_entries(by_selectors.clone()).await, invalid, &text);
            refused(datastore.count_registration_entries(by_selectors).await, invalid, &text);
            refused(datastore.list_registration_entries(by_domains).await, invalid, &text);
            refused(datastore.list_attested_nodes(of_nodes, false).await, invalid, &text);
        }
        assert_serves(&datastore).await;
    });
}

fn many(count: usize) -> Vec<Selector> {
    (0..count).map(|number| selector("t", &number.to_string())).collect()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn lists_in_filters_have_limits() {
    run(async {
        let datastore = namespace().await;
        let by_many = |count| Some(by_selectors(MatchBehavior::Any, many(count)));
        let entries = |count| Filter { by_selectors: by_many(count), ..Filter::default() };
        let nodes = |count| AttestedNodeFilter { by_selectors: by_many(count), ..Default::default() };
        let domains = |count| Filter {
            by_federates_with: Some(by_federates_with(MatchBehavior::Any, texts(count))),
            ..Filter::default()
        };
        let ids = |count| AttestedNodeFilter { by_spiffe_ids: texts(count), ..Default::default() };
        let limit = ErrorKind::LimitExceeded;
        assert_eq!(datastore.count_registration_entries(entries(10_000)).await.unwrap(), 0);
        let text = unsuitable(datastore.list_registration_entries(entries(10_001)).await, limit);
        assert_eq!(text, "10001 selectors were given, 10000 are allowed");
        unsuitable(datastore.count_registration_entries(entries(10_001)).await, limit);
        unsuitable(datastore.list_attested_nodes(nodes(10_001), true).await, limit);
        assert_eq!(datastore.count_registration_entries(domains(10_000)).await.unwrap(), 0);
        unsuitable(datastore.list_registration_entries(domains(10_001)).await, limit);
        assert_eq!(datastore.count_attested_nodes(ids(100_000)).await.unwrap(), 0);
        unsuitable(datastore.list_attested_nodes(ids(100_001), false).await, limit);
        assert_eq!(datastore.fetch_registration_entries(texts(100_000)).await.unwrap(), []);
        unsuitable(datastore.fetch_registration_entries(texts(100_001)).await, limit);
        unsuitable(datastore.fetch_attested_nodes(texts(100_001)).await, limit);
        assert_serves(&datastore).await;
    });
}

#[test]
fn times_may_be_anything() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(node("n", NOW)).await.unwrap();
        datastore.create_bundle(bundle("spiffe://td", &[])).await.unwrap();
        for time in [i64::MIN, i64::MIN + 1, -1, 1, i64::MAX] {
            let _case = case(format!("{time}"));
            let filter =
                AttestedNodeFilter { by_expires_before_micros: time, valid_at_micros: time, ..Default::default() };
            datastore.list_attested_nodes(filter, true).await.unwrap();
            datastore.list_node_selectors(time).await.unwrap();
            datastore.prune_registration_entries(time).await.unwrap();
            datastore.prune_join_tokens(time).await.unwrap();
            datastore.prune_ca_journals(time).await.unwrap();
            let text = "prune failed: would prune all certificates";
            refused(datastore.prune_bundle("spiffe://td", time).await, Code::Unknown, text);
            let older = spire::PruneAttestedNodeEventsRequest {
                context: context(datastore.name(), &[]),
                older_than_micros: time,
            };
            match bytes(DATASTORE, "PruneAttestedNodeEvents", older.encode_to_vec()).await {
                Ok(()) => assert!(time >= 0, "events of the future were pruned"),
                Err(refusal) => {
                    let text = format!("older_than_micros is {time}, it must not be negative");
                    assert_eq!((refusal.code(), refusal.message()), (Code::InvalidArgument, text.as_str()));
                }
            }
            let created =
                AttestedNode { cert_not_after: time, new_cert_not_after: time, ..node(&format!("n{time}"), 0) };
            assert_eq!(datastore.create_attested_node(created.clone()).await.unwrap(), created);
            let expiring = RegistrationEntry { entry_expiry: time, ..entry("p", &format!("w{time}"), letters("A")) };
            datastore.create_registration_entry(expiring).await.unwrap();
            datastore.create_join_token(format!("t{time}"), time).await.unwrap();
        }
        datastore.prune_attested_expired_nodes(i64::MAX, true, i32::MAX).await.unwrap();
        assert_serves(&datastore).await;
    });
}

/// A read that has to reflect what will never be is given up with the caller's deadline.
#[test]
fn a_revision_of_the_future_is_not_waited_for_for_ever() {
    run(async {
        let datastore = namespace().await;
        let request = spire::CountBundlesRequest {
            context: Some(ReadContext { min_revision: u64::MAX, ..read_context(&datastore).unwrap() }),
        };
        let patience = std::time::Duration::from_millis(300);
        let answer = tokio::time::timeout(patience, bytes(DATASTORE, "CountBundles", request.encode_to_vec())).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_err()));
        assert_serves(&datastore).await;
    });
}

// ---- records

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

// ---- cursors

fn tail_from(datastore: &Namespace, cursor: &str) -> events::TailRequest {
    events::TailRequest { namespace: datastore.name().into(), cursor: cursor.into(), ..Default::default() }
}

async fn tail(client: &Client, name: &str, cursor: String) -> Result<(), steeple_client::Error> {
    let options = TailOptions { start: TailStart::Cursor(cursor), ..Default::default() };
    client.namespace(name).tail(options).next().await.map(drop)
}

#[test]
fn cursors_are_checked() {
    run(async {
        let (datastore, other) = (namespace().await, namespace().await);
        datastore.create_attested_node(node("n", NOW)).await.unwrap();
        let good = datastore.stream_status().await.unwrap().cursor;
        let client = shared().client();
        let name = datastore.name();
        tail(&client, name, good.clone()).await.unwrap();

        let malformed = ErrorKind::CursorMalformed;
        let changed = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
        let (cut, upper) = (good[..good.len() - 2].to_owned(), good.to_uppercase());
        for wrong in ["garbage".into(), "st1.".into(), "st2.00".into(), changed, cut, upper, "x".repeat(100_000)] {
            unsuitable(tail(&client, name, wrong).await, malformed);
        }

        // Of another namespace.
        let foreign = other.stream_status().await.unwrap().cursor;
        unsuitable(tail(&client, name, foreign).await, ErrorKind::CursorForeign);

        // Of another history.
        let server = Server::start(NodeOptions::in_memory()).await;
        let elsewhere = server.namespace().await;
        let foreign = elsewhere.stream_status().await.unwrap().cursor;
        unsuitable(tail(&client, name, foreign).await, ErrorKind::CursorForeign);
        server.node.stop().await;

        // Of the future, of the node and of a stream.
        let mut cursor = steeple_wire::cursor::Cursor::decode(&good).unwrap();
        cursor.revision = u64::MAX;
        unsuitable(tail(&client, name, cursor.encode()).await, ErrorKind::CursorAhead);
        let mut cursor = steeple_wire::cursor::Cursor::decode(&good).unwrap();
        for (_, sequence) in &mut cursor.streams {
            *sequence = u64::MAX;
        }
        unsuitable(tail(&client, name, cursor.encode()).await, ErrorKind::CursorAhead);

        // Without the streams that are asked for.
        let mut cursor = steeple_wire::cursor::Cursor::decode(&good).unwrap();
        cursor.streams.clear();
        unsuitable(tail(&client, name, cursor.encode()).await, ErrorKind::CursorForeign);
        assert_serves(&datastore).await;
    });
}

#[test]
fn a_cursor_below_what_is_kept_is_told() {
    run(async {
        let datastore = namespace().await;
        let start = datastore.stream_status().await.unwrap().cursor;
        for number in 0..3 {
            datastore.create_attested_node(node(&format!("n{number}"), NOW)).await.unwrap();
        }
        while datastore.fetch_event_bounds().await.unwrap().1.oldest_event_id < 4 {
            datastore.prune_attested_node_events(std::time::Duration::ZERO).await.unwrap();
        }
        let text = unsuitable(tail(&shared().client(), datastore.name(), start).await, ErrorKind::Compacted);
        assert!(text.contains('4'), "{text}");
        assert_serves(&datastore).await;
    });
}

#[test]
fn tails_have_limits() {
    run(async {
        let datastore = namespace().await;
        let begin = async |request: events::TailRequest| -> Result<Option<events::TailResponse>, Status> {
            raw::first(&shared().channel, EVENTS, "Tail", &request).await
        };
        let refusal = begin(events::TailRequest { keys: texts(10_001), ..tail_from(&datastore, "") }).await;
        let refusal = refusal.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::LimitExceeded));
        assert_eq!(refusal.message(), "10001 keys were given, 10000 are allowed");
        let unknown = begin(events::TailRequest { streams: vec!["x".into()], ..tail_from(&datastore, "") }).await;
        assert_eq!(unknown.unwrap_err().code(), Code::InvalidArgument);
        let streams = vec!["nodes".to_owned(); 1_000];
        let refusal = begin(events::TailRequest { streams, ..tail_from(&datastore, "") }).await.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::LimitExceeded));
        begin(tail_from(&datastore, "")).await.unwrap();
        assert_serves(&datastore).await;
    });
}

/// A node serves so many tails and no more; one that ends makes room.
#[test]
fn the_number_of_tails_has_a_limit() {
    run(async {
        let server = Server::start(NodeOptions { tails_max: 2, ..NodeOptions::in_memory() }).await;
        let datastore = server.namespace().await;
        let begin = async || {
            let request = tail_from(&datastore, "").encode_to_vec();
            raw::streaming_bytes(&server.channel, EVENTS, "Tail", request).await
        };
        let first = begin().await.unwrap();
        let second = begin().await.unwrap();
        let refusal = begin().await.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::Overloaded), "{refusal}");
        drop((first, second));
        // The node notices with the next message, which comes within a second.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while begin().await.is_err() {
            assert!(std::time::Instant::now() < deadline, "no room was made");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_serves(&datastore).await;
        server.node.stop().await;
    });
}

/// What does not fit waits at the door, and nothing is lost.
#[test]
fn mutations_wait_for_their_turn() {
    run(async {
        let server = Server::start(NodeOptions { submissions_max: 1, ..NodeOptions::in_memory() }).await;
        let datastore = server.namespace().await;
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..100 {
            let datastore = datastore.clone();
            waiting.spawn(async move { datastore.create_attested_node(node(&format!("n{number}"), NOW)).await });
        }
        for created in waiting.join_all().await {
            created.unwrap();
        }
        let batch = (0..1_000).map(|number| {
            steeple_client::Operation::SetNodeSelectors(spire::SetNodeSelectorsRequest {
                context: None,
                spiffe_id: format!("n{number}"),
                selectors: letters("A"),
            })
        });
        assert!(datastore.batch(batch.collect()).await.iter().all(|outcome| outcome.answer.is_ok()));
        assert_eq!(steeple_tests::records::node_event_ids(&datastore).await, (1..=1_100).collect::<Vec<_>>());
        server.node.stop().await;
    });
}

/// Too long to be the key of anything, which is an answer.
#[test]
fn long_keys_find_nothing() {
    run(async {
        let datastore = namespace().await;
        let long = || "x".repeat(1_000_000);
        assert_eq!(datastore.fetch_bundle(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_registration_entry(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_attested_node(long()).await.unwrap(), None);
        assert_eq!(datastore.get_node_selectors(long()).await.unwrap(), []);
        assert_eq!(datastore.fetch_join_token(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_ca_journal(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_federation_relationship(long()).await.unwrap(), None);
        not_found(datastore.delete_bundle(long(), Default::default()).await);
        not_found(datastore.delete_registration_entry(long()).await);
        not_found(datastore.delete_attested_node(long()).await);
        not_found(datastore.delete_join_token(long()).await);
        not_found(datastore.delete_federation_relationship(long()).await);
        not_found(datastore.taint_jwt_key(long(), long()).await);
        assert_serves(&datastore).await;
    });
}

#[test]
fn questions_about_the_past_are_checked() {
    run(async {
        let datastore = namespace().await;
        let record = |collection: i32, key: &str| Some(events::RecordKey { collection, key: key.into() });
        let nodes = events::Collection::AttestedNodes.into();
        let journals = events::Collection::CaJournals.into();
        let name = || datastore.name().to_owned();
        for (case_name, record) in [
            ("no record", None),
            ("no collection", record(0, "x")),
            ("unknown collection", record(99, "x")),
            ("not the ID of a journal", record(journals, "x")),
        ] {
            let _case = case(case_name);
            let request = events::HistoryRequest { namespace: name(), record: record.clone(), ..Default::default() };
            let refusal = send(EVENTS, "History", request.encode_to_vec()).await.unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
            let request = events::StateAtRequest { namespace: name(), record, ..Default::default() };
            let refusal = send(EVENTS, "StateAt", request.encode_to_vec()).await.unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
        }
        for key in [String::new(), "x".repeat(1_000_000)] {
            let request =
                events::HistoryRequest { namespace: name(), record: record(nodes, &key), ..Default::default() };
            drop(send(EVENTS, "History", request.encode_to_vec()).await);
            for at in [
                None,
                Some(events::state_at_request::At::Revision(u64::MAX)),
                Some(events::state_at_request::At::TimeMicros(i64::MIN)),
                Some(events::state_at_request::At::TimeMicros(i64::MAX)),
            ] {
                let request =
                    events::StateAtRequest { namespace: name(), record: record(nodes, &key), at, ..Default::default() };
                drop(send(EVENTS, "StateAt", request.encode_to_vec()).await);
            }
        }
        let request = events::ListItemsRequest {
            context: read_context(&datastore),
            stream: "nodes".into(),
            after_sequence: u64::MAX,
            limit: u32::MAX,
            ..Default::default()
        };
        let answer: events::ListItemsResponse =
            raw::unary(&shared().channel, EVENTS, "ListItems", &request).await.unwrap();
        assert_eq!(answer.items, []);
        assert_serves(&datastore).await;
    });
}
