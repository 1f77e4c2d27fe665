//! What the fuzz targets start from: small valid inputs, made by the code that writes them, kept in `fuzz/seeds`.
//!
//! A seed that the code makes differently than it is kept fails here, so that the seeds follow the formats:
//!
//! ```sh
//! STEEPLE_TEST_WRITE_SEEDS=1 cargo test -p steeple-tests --test it fuzz_seeds
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyIdMethod, KeyPair, SerialNumber};
use steeple_engine::domain::Command;
use steeple_engine::event::{Event, RequestStamp};
use steeple_engine::ids::{NamespaceId, NodeId, RequestId, Timestamp};
use steeple_engine::local::LocalGroup;
use steeple_engine::{namespaces, spire};
use steeple_raft::eraftpb::{self, Message, MessageType};
use steeple_raft::{Member, Membership, MembershipChange, Step};
use steeple_server::config::{self, Config};
use steeple_server::peer::Link;
use steeple_server::peer::messages::{encode_batch, to_wire};
use steeple_tests::records::{bundle, by_selectors, entry, key, letters, node, web_relationship};
use steeple_wire::DESCRIPTORS;
use steeple_wire::common::v1::{ReadContext, RequestContext};
use steeple_wire::cursor::Cursor;
use steeple_wire::events::v1 as events;
use steeple_wire::spire::v1 as wire;

/// Inputs by target and name.
type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies below the root").join("fuzz")
}

/// A few events of every domain, decided by the domains themselves.
fn some_events() -> Vec<Event> {
    use spire::{bundles, entries, events, journals, nodes, tokens};
    let mut group = LocalGroup::new(1, Timestamp::from_seconds(1_000)).expect("an empty group opens");
    let selector = spire::selectors::Selector { kind: "unix".into(), value: "uid:1".into() };
    let bundle = bundles::records::Bundle { trust_domain_id: "spiffe://other.example".into(), ..Default::default() };
    let entry = entries::records::Entry {
        entry_id: "entry".into(),
        spiffe_id: "spiffe://td.example/workload".into(),
        parent_id: "spiffe://td.example/node".into(),
        selectors: vec![selector.clone()],
        federates_with: vec!["spiffe://other.example".into()],
        ..Default::default()
    };
    let node = nodes::records::Node { spiffe_id: "spiffe://td.example/node".into(), ..Default::default() };
    let token = tokens::records::JoinToken { token: "token".into(), expiry: 2_000 };
    let journal = journals::records::Journal { data: vec![8, 1], ..Default::default() };
    let spiffe_id = node.spiffe_id.clone();
    let commands = [
        spire::Command::Bundle(bundles::Command::Create(Some(bundle))),
        spire::Command::Entry(entries::Command::CreateOrReturn(Some(entry.clone()))),
        spire::Command::Entry(entries::Command::Update(Some(entry), None)),
        spire::Command::Node(nodes::Command::Create(Some(node))),
        spire::Command::Node(nodes::Command::SetSelectors { spiffe_id, selectors: vec![selector] }),
        spire::Command::Token(tokens::Command::Create(Some(token))),
        spire::Command::Journal(journals::Command::Set(Some(journal))),
        spire::Command::Event(events::Command::PruneEntryEvents { older_than_micros: u64::MAX, limit: 0 }),
        spire::Command::Entry(entries::Command::Delete { entry_id: "entry".into() }),
    ];
    let open = Command::Namespace(namespaces::Command::Open { name: "fuzz".into() });
    group.submit(NamespaceId::SYSTEM, &open).expect("a namespace opens");
    for command in commands {
        group.submit(NamespaceId(1), &Command::Spire(command)).expect("it is accepted");
    }
    group.events().iter().map(|event| Event::clone(event)).collect()
}

fn stored(seeds: &mut Seeds) {
    for event in some_events() {
        let revision = event.revision;
        for (place, body) in event.changes.iter().filter_map(|change| change.after.as_ref()).enumerate() {
            seeds.insert(("record_bodies", format!("revision-{revision}-{place}")), body.clone());
        }
        seeds.insert(("answer_source", format!("revision-{revision}")), event.answer.clone());
        let request = Some(RequestStamp { id: RequestId([7; 16]), fingerprint: 5 });
        seeds.insert(("event_view", format!("revision-{revision}")), Event { request, ..event }.encode().to_vec());
    }
    let segment = fs::read(folder().join("../engine/testdata/golden/log-1/segment-0000000000000001"));
    let segment = segment.expect("the golden log is there");
    seeds.insert(("log_frame", "header".into()), segment[..512].to_vec());
    // Changes of 6 bytes in golden files: a byte as it is, one that differs, one behind a checksum that fits.
    for (name, change) in
        [("none", [1, 0, 0, 0, 0, 0]), ("bad", [1, 40, 0, 0, 0, 255]), ("forged", [0, 20, 0, 0, 1, 9])]
    {
        seeds.insert(("log_files", name.into()), change.to_vec());
        seeds.insert(("snapshot", name.into()), change.to_vec());
    }
    let cursor = Cursor { history: [9; 16], namespace: 1, revision: 70, streams: vec![(1, 5), (2, 6)] };
    seeds.insert(("cursor", "two-streams".into()), cursor.encode().into_bytes());
    let none = Cursor { streams: Vec::new(), ..cursor };
    seeds.insert(("cursor", "no-stream".into()), none.encode().into_bytes());
}

/// A self-signed CA that is the same every time: Ed25519 signs without chance.
fn authority() -> Vec<u8> {
    let mut private_key = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
    private_key.extend([0x04, 0x22, 0x04, 0x20]);
    private_key.extend([7; 32]);
    let key = KeyPair::try_from(private_key.as_slice()).expect("a private key of 32 bytes");
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(vec![0xaa]);
    parameters.serial_number = Some(SerialNumber::from(1_u64));
    parameters.self_signed(&key).expect("a certificate").der().to_vec()
}

fn peers(seeds: &mut Seeds) {
    let link = Link { from: NodeId(1), to: NodeId(2) };
    let kinds = [
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgHeartbeat,
        MessageType::MsgReadIndex,
    ];
    for kind in kinds {
        let mut message = Message { from: 1, to: 2, term: 3, index: 5, log_term: 2, commit: 4, ..Message::default() };
        message.set_msg_type(kind);
        if matches!(kind, MessageType::MsgAppend | MessageType::MsgReadIndex) {
            let context = 6_u64.to_be_bytes().to_vec().into();
            let event = eraftpb::Entry { index: 6, term: 3, data: vec![1].into(), context, ..Default::default() };
            message.set_entries(vec![event].into());
        }
        let batch = encode_batch(vec![to_wire(message, link).expect("it may travel")]);
        seeds.insert(("peer_batch", format!("{kind:?}")), batch.to_vec());
    }
    let member = |number: u64| Member {
        peer_address: format!("node{number}.example:7400"),
        client_address: format!("node{number}.example:7300"),
    };
    let members: BTreeMap<u64, Member> = (1..=3).map(|number| (number, member(number))).collect();
    let change = |step: Step| MembershipChange::of(vec![step]).encode();
    let lines = [
        Membership::of_voters(members.clone()).encode(),
        change(Step::Learner { node: 4, member: Some(member(4)) }),
        change(Step::Voter { node: 4, member: None }),
        Vec::new(),
        change(Step::Remove { node: 1 }),
        change(Step::Address { node: 2, member: member(9) }),
        MembershipChange::founding(members).encode(),
    ];
    seeds.insert(("membership", "life-of-a-group".into()), lines.join(&b'\n'));
    // Steps of 8 bytes, as the target takes them: time until it asks for votes, two votes, entries, acknowledgements.
    let (tick_often, write, propose, receive) = (1, 2, 4, 9);
    let step = |what: u8, kind: u8, from: u8| [what, kind, from, 0, 0, 0, 0, 0];
    let (vote, pre_vote, acknowledge, append) = (3, 12, 1, 0);
    let asks = [step(tick_often, 0, 0), step(write, 0, 0), step(receive, pre_vote, 2), step(write, 0, 0)];
    let leads = [step(receive, vote, 2), step(write, 0, 0), step(receive, acknowledge, 2), step(propose, 0, 0)];
    let leader = [asks.concat(), leads.concat(), step(write, 0, 0).to_vec(), step(receive, acknowledge, 3).to_vec()];
    seeds.insert(("replica", "is-elected".into()), leader.concat());
    let append = [receive, append, 2, 16, 0, 0, 16, 9];
    seeds.insert(("replica", "follows".into()), [append, step(write, 0, 0), append, step(write, 0, 0)].concat());
}

fn configuration(seeds: &mut Seeds) {
    seeds.insert(("configuration", "reference".into()), config::reference().into_bytes());
    seeds.insert(("configuration", "default".into()), config::to_toml(&Config::default()).into_bytes());
    let cluster = "[cluster]\nnode = 2\ninitial = [\"1=a:1\", \"2=b:2\", \"3=c:3\"]\n";
    seeds.insert(("configuration", "cluster".into()), cluster.into());
    for (place, value) in [(0, "10 s"), (5, "true"), (9, "64 MiB"), (12, "127.0.0.1:7300")] {
        let input = [&[place][..], value.as_bytes()].concat();
        seeds.insert(("configuration", format!("key-{place}")), input);
    }
}

/// The methods in the order in which the target numbers them.
fn methods() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the descriptors are whole").file;
    let ours = files.iter().filter(|file| file.package().starts_with("steeple.") && !file.package().contains("peer"));
    let mut methods: Vec<(String, String)> = ours
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)))
        .flat_map(|(package, service)| {
            let full = format!("{package}.{}", service.name());
            service.method.iter().map(move |method| (full.clone(), method.name().to_owned()))
        })
        .collect();
    methods.sort();
    methods
}

fn requests(seeds: &mut Seeds) {
    let context = || Some(RequestContext { namespace: "fuzz".into(), request_id: Vec::new() });
    let read = || Some(ReadContext { namespace: "fuzz".into(), ..Default::default() });
    // What nearly every request begins with, for methods of which nothing more is said below.
    let generic = wire::CreateBundleRequest { context: context(), bundle: None }.encode_to_vec();
    let pagination = Some(wire::Pagination { token: String::new(), page_size: 2 });
    let workload = entry("spiffe://td.example/node", "spiffe://td.example/workload", letters("AB"));
    let filter = wire::RegistrationEntryFilter {
        by_selectors: Some(by_selectors(wire::MatchBehavior::Superset, letters("A"))),
        ..Default::default()
    };
    let full_bundle = wire::Bundle {
        jwt_signing_keys: vec![key("jwt", 2_000)],
        root_cas: vec![wire::Certificate { der_bytes: authority(), ..Default::default() }],
        ..bundle("spiffe://td.example", &[])
    };
    let create_bundle = wire::CreateBundleRequest { context: context(), bundle: Some(full_bundle) };
    let create_entry = wire::CreateRegistrationEntryRequest { context: context(), entry: Some(workload.clone()) };
    let agent = node("spiffe://td.example/node", 2_000);
    let relationship = web_relationship("spiffe://other.example");
    let operation = wire::mutation::Operation::CreateBundle(create_bundle.clone());
    let specific: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("Batch", {
            let mutations = vec![wire::Mutation { operation: Some(operation) }];
            wire::BatchRequest { namespace: "fuzz".into(), mutations }.encode_to_vec()
        }),
        ("CreateBundle", create_bundle.encode_to_vec()),
        ("CreateRegistrationEntry", create_entry.encode_to_vec()),
        ("UpdateRegistrationEntry", {
            let request = wire::UpdateRegistrationEntryRequest {
                context: context(),
                entry: Some(workload),
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        ("ListRegistrationEntries", {
            let request = wire::ListRegistrationEntriesRequest { context: read(), filter: Some(filter), pagination };
            request.encode_to_vec()
        }),
        ("CreateAttestedNode", {
            wire::CreateAttestedNodeRequest { context: context(), node: Some(agent) }.encode_to_vec()
        }),
        ("CreateFederationRelationship", {
            let relationship = Some(relationship);
            wire::CreateFederationRelationshipRequest { context: context(), relationship }.encode_to_vec()
        }),
        ("Tail", events::TailRequest { namespace: "fuzz".into(), ..Default::default() }.encode_to_vec()),
    ]);
    for (number, (_, name)) in (0_u8..).zip(methods()) {
        let request = specific.get(name.as_str()).unwrap_or(&generic);
        seeds.insert(("client_requests", name), [&[number][..], request.as_slice()].concat());
    }
}

fn all() -> Seeds {
    let mut seeds = Seeds::new();
    stored(&mut seeds);
    peers(&mut seeds);
    configuration(&mut seeds);
    requests(&mut seeds);
    seeds.insert(("authorities", "certificate".into()), authority());
    seeds.insert(("authorities", "journal".into()), vec![0x0a, 0x04, 0x18, 0x01, 0x20, 0x02]);
    seeds
}

#[test]
fn fuzz_seeds_are_those_that_the_code_makes() {
    let writes = std::env::var_os("STEEPLE_TEST_WRITE_SEEDS").is_some();
    for ((target, name), bytes) in all() {
        let path = folder().join("seeds").join(target).join(name);
        if writes {
            fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            fs::write(&path, &bytes).expect("the seed can be written");
        }
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(kept == bytes, "{} is not what the code makes; see the top of this file", path.display());
    }
}

#[test]
fn every_fuzz_target_has_seeds_and_a_row_in_the_table() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("the table is there");
    let seeds = all();
    for target in fs::read_dir(folder().join("fuzz_targets")).expect("the targets are there") {
        let path = target.expect("a file").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(seeds.keys().any(|(target, _)| *target == name), "{name} has no seeds");
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the table");
    }
}
