//! Bytes that are no message, or not the one that was asked for.

use prost::Message;
use prost_types::FileDescriptorSet;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use steeple_client::types::{CaJournal, RegistrationEntryFilter as Filter};
use steeple_tests::check::{case, unsuitable};
use steeple_tests::raw::{self, ADMIN, DATASTORE};
use steeple_tests::records::{bundle, entry, letters};
use steeple_tests::server::{namespace, run, shared};
use steeple_wire::spire::v1 as spire;
use steeple_wire::status::ErrorKind;
use steeple_wire::{DESCRIPTORS, MESSAGE_BYTES_MAX};
use tonic::Code;

use super::{assert_serves, bytes, context, fails, read_context, send};

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
