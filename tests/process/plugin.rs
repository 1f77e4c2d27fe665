//! The plugin for SPIRE servers, called by a host that is played here: over the socket, as the protocol of plugins has it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use steeple_plugin::protocol::config::config_client::ConfigClient;
use steeple_plugin::protocol::config::{ConfigureRequest, ValidateRequest};
use steeple_plugin::protocol::datastore as v1;
use steeple_plugin::protocol::datastore::data_store_client::DataStoreClient;
use steeple_plugin::protocol::init::init_client::InitClient;
use steeple_plugin::protocol::init::{DeinitRequest, InitRequest};
use steeple_plugin::protocol::plugin::grpc_broker_client::GrpcBrokerClient;
use steeple_plugin::protocol::plugin::grpc_controller_client::GrpcControllerClient;
use steeple_plugin::protocol::plugin::{ConnInfo, Empty};
use steeple_wire::serialized;
use steeple_wire::spire::v1::{Bundle, Certificate, PublicKey};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::steeple::{NodeProcess, Site, command, run};

/// A host has to be served within a minute, and a plugin that is to end within two seconds; a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(20);

const BYTES_MAX: usize = 64 << 20;

/// A plugin's process, and what a host holds of it.
struct Plugin {
    child: Child,
    socket: PathBuf,
    channel: Channel,
    /// Held open for as long as the host wants the plugin.
    said: Option<mpsc::Sender<ConnInfo>>,
    /// Reads what it writes to standard error.
    lines: JoinHandle<String>,
}

impl Plugin {
    /// As a host does it, up to the first call.
    async fn start(directory: &Path) -> Self {
        let mut child = command()
            .args(["spire-plugin", "--log-level", "debug"])
            .env("DataStore", "DataStore")
            .env("PLUGIN_PROTOCOL_VERSIONS", "1")
            .env("PLUGIN_MIN_PORT", "10000")
            .env("PLUGIN_UNIX_SOCKET_DIR", directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut written = child.stderr.take().expect("standard error");
        let lines = std::thread::spawn(move || {
            let mut said = String::new();
            written.read_to_string(&mut said).expect("texts");
            said
        });
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("standard output")).read_line(&mut line).expect("a line");
        let fields: Vec<&str> = line.trim_end().split('|').collect();
        let ["1", "1", "unix", path, "grpc"] = fields[..] else { panic!("the handshake is {line:?}") };
        let socket = PathBuf::from(path);
        let endpoint = Endpoint::from_shared(format!("unix://{path}")).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        let (said, saying) = mpsc::channel(1);
        let mut broker = GrpcBrokerClient::new(channel.clone());
        let mut sockets = broker.start_stream(ReceiverStream::new(saying)).await.expect("a stream").into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = sockets.message().await {} });
        let offered = ConnInfo { service_id: 1, network: "unix".into(), address: "/nowhere".into(), knock: None };
        said.send(offered).await.expect("a plugin that listens");
        Self { child, socket, channel, said: Some(said), lines }
    }

    fn datastore(&self) -> DataStoreClient<Channel> {
        DataStoreClient::new(self.channel.clone()).max_decoding_message_size(BYTES_MAX)
    }

    async fn configure(&self, hcl: &str) -> Result<(), tonic::Status> {
        let request = ConfigureRequest { core_configuration: None, hcl_configuration: hcl.into() };
        ConfigClient::new(self.channel.clone()).configure(request).await.map(drop)
    }

    /// Waits for its end, and tells the exit code and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a state") {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("killing");
                panic!("the plugin goes on");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let said = self.lines.join().expect("what it said");
        assert!(!self.socket.exists(), "the socket is left behind");
        (status.code(), said)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn block(node: &NodeProcess) -> String {
    let endpoint = node.endpoint();
    format!("endpoints = [\"{endpoint}\"]\n# a data set of its own\nnamespace = \"plugin\"\ncall_timeout = \"20s\"\n")
}

/// Every line is what the host's logging library takes, or the host would end itself.
fn check_lines(said: &str) {
    for line in said.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["@message"].is_string() && value["@level"].is_string(), "{line}");
        let timestamp = value["@timestamp"].as_str().expect("a time");
        assert!(timestamp.len() == "2026-09-01T10:20:30.123456Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    }
}

#[test]
fn without_a_host_it_says_what_it_is_for() {
    let output = run(&["spire-plugin"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("plugin_args = [\"spire-plugin\"]"), "{said}");
}

#[test]
fn a_host_introduces_itself_configures_calls_and_ends_it() {
    let (site, sockets) = (Site::new(), tempfile::tempdir().expect("a directory"));
    // The usual nodes of these tests have logs with files too small for a large bundle.
    let node = site.start_with(&["--log-segment-bytes=64MiB"]);
    runtime().block_on(async {
        let plugin = Plugin::start(sockets.path()).await;
        let mut init = InitClient::new(plugin.channel.clone());
        let offered = init.init(InitRequest { host_service_names: vec!["spire.any".into()] }).await.expect("an answer");
        assert_eq!(
            offered.into_inner().plugin_service_names,
            ["spire.plugin.server.datastore.v1alpha1.DataStore", "spire.service.common.config.v1.Config"]
        );
        let early =
            plugin.datastore().count_bundles(v1::CountBundlesRequest {}).await.expect_err("it knows no cluster");
        assert_eq!((early.code(), early.message()), (Code::FailedPrecondition, "datastore is not configured"));
        plugin.configure(&block(&node)).await.expect("a configuration");
        // What interrupts the host in its terminal reaches the plugin too, which the host needs until its own end.
        kill_process(Pid::from_child(&plugin.child), Signal::INT).expect("a signal");
        let mut datastore = plugin.datastore();
        bundles(&mut datastore).await;
        registration_entries(&mut datastore).await;
        attested_nodes(&mut datastore).await;
        tokens_relationships_and_journals(&mut datastore).await;
        // A new configuration takes the place of the old one while the plugin runs.
        plugin.configure(&block(&node).replace("\"plugin\"", "\"other\"")).await.expect("a configuration");
        let count = datastore.count_bundles(v1::CountBundlesRequest {}).await.expect("a count").into_inner().count;
        assert_eq!(count, 0, "the other data set is empty");
        init.deinit(DeinitRequest {}).await.expect("an answer");
        GrpcControllerClient::new(plugin.channel.clone()).shutdown(Empty {}).await.expect("an answer");
        let (code, said) = plugin.end();
        assert_eq!(code, Some(0), "{said}");
        check_lines(&said);
        for line in [
            "Connected to Steeple",
            "The namespace did not exist and was created empty",
            "Pruned an expired registration",
            "Cascade-deleted registration entry on attested node deletion",
        ] {
            assert!(said.contains(line), "no `{line}` in {said}");
        }
    });
    assert_eq!(std::fs::read_dir(sockets.path()).expect("a directory").count(), 0, "its directory is gone");
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_by_key() {
    let sockets = tempfile::tempdir().expect("a directory");
    runtime().block_on(async {
        let mut plugin = Plugin::start(sockets.path()).await;
        let refused = plugin.configure("endpoint = [\"a:1\"]").await.expect_err("an unknown key");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("\"endpoint\"") && refused.message().contains("endpoints is missing"));
        // Nobody listens there, which is looked for when it is configured only.
        let nobody = "endpoints = [\"127.0.0.1:1\"]\nstartup_timeout = \"100ms\"";
        let mut config = ConfigClient::new(plugin.channel.clone());
        let mut validate = async |hcl: &str| {
            let request = ValidateRequest { core_configuration: None, hcl_configuration: hcl.into() };
            config.validate(request).await.expect("an answer").into_inner()
        };
        assert!(validate(nobody).await.valid);
        let invalid = validate("").await;
        assert!(!invalid.valid && invalid.notes[0].contains("endpoints"), "{invalid:?}");
        let refused = plugin.configure(nobody).await.expect_err("nobody there");
        assert!(refused.message().contains("cannot use 127.0.0.1:1"), "{refused:?}");
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        // A host that is gone needs no plugin: its stream ends with it.
        drop(plugin.said.take());
        let (code, said) = plugin.end();
        assert_eq!(code, Some(0), "{said}");
    });
}

#[test]
fn a_call_ends_when_the_caller_has_no_time_left() {
    let (site, sockets) = (Site::new(), tempfile::tempdir().expect("a directory"));
    let mut node = site.start();
    runtime().block_on(async {
        let plugin = Plugin::start(sockets.path()).await;
        plugin.configure(&block(&node)).await.expect("a configuration");
        node.kill();
        let mut request = Request::new(v1::CountBundlesRequest {});
        request.set_timeout(Duration::from_millis(300));
        let began = Instant::now();
        let ended = plugin.datastore().count_bundles(request).await.expect_err("no node is there");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(matches!(ended.code(), Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled), "{ended:?}");
        kill_process(Pid::from_child(&plugin.child), Signal::TERM).expect("a signal");
        assert_eq!(plugin.end().0, Some(0));
    });
}

const TRUST_DOMAIN: &str = "spiffe://td.example";

fn bundle(content: &Bundle) -> Option<v1::Bundle> {
    let data = serialized::bundle_bytes(content);
    Some(v1::Bundle { trust_domain_id: content.trust_domain_id.clone(), data, ..Default::default() })
}

fn content(bundle: Option<v1::Bundle>) -> Bundle {
    serialized::bundle(&bundle.expect("a bundle").data).expect("a serialized bundle")
}

fn key(kid: &str) -> PublicKey {
    PublicKey { pkix_bytes: b"key".to_vec(), kid: kid.into(), ..Default::default() }
}

async fn bundles(datastore: &mut DataStoreClient<Channel>) {
    // More than four MiB, which is the usual limit of the library.
    let large = Certificate { der_bytes: vec![7; 5 << 20], ..Default::default() };
    let mut own = Bundle {
        trust_domain_id: TRUST_DOMAIN.into(),
        root_cas: vec![large],
        jwt_signing_keys: vec![key("a"), key("b")],
        // A field that a later version of SPIRE has.
        unknown_fields: b"\xa2\x06\x02hi".to_vec(),
        ..Default::default()
    };
    let create = v1::CreateBundleRequest { bundle: bundle(&own) };
    let created = datastore.create_bundle(create.clone()).await.expect("a bundle").into_inner();
    assert_eq!(content(created.bundle), own);
    let again = datastore.create_bundle(create).await.expect_err("it is there");
    let text = "datastore-sql: UNIQUE constraint failed: bundles.trust_domain";
    assert_eq!((again.code(), again.message()), (Code::AlreadyExists, text));
    let missing = datastore.create_bundle(v1::CreateBundleRequest { bundle: None }).await.expect_err("no bundle");
    assert_eq!((missing.code(), missing.message()), (Code::Unknown, "datastore-sql: missing bundle in request"));

    own.refresh_hint = 60;
    let set = datastore.set_bundle(v1::SetBundleRequest { bundle: bundle(&own) }).await.expect("a bundle");
    assert_eq!(content(set.into_inner().bundle), own);
    let mask = Some(v1::BundleMask { refresh_hint: true, ..Default::default() });
    own.refresh_hint = 90;
    let hint = Bundle { refresh_hint: 90, trust_domain_id: TRUST_DOMAIN.into(), ..Default::default() };
    let update = v1::UpdateBundleRequest { bundle: bundle(&hint), mask };
    assert_eq!(content(datastore.update_bundle(update).await.expect("a bundle").into_inner().bundle), own);
    let more = Bundle { jwt_signing_keys: vec![key("c")], ..hint };
    let appended = datastore.append_bundle(v1::AppendBundleRequest { bundle: bundle(&more) }).await.expect("a bundle");
    assert_eq!(content(appended.into_inner().bundle).jwt_signing_keys.len(), 3);

    let taint = v1::TaintJwtKeyRequest { trust_domain: TRUST_DOMAIN.into(), authority_id: "a".into() };
    let tainted = datastore.taint_jwt_key(taint).await.expect("a key").into_inner().key.expect("a key");
    assert!(tainted.tainted_key && tainted.kid == "a");
    let revoke = v1::RevokeJwtKeyRequest { trust_domain: TRUST_DOMAIN.into(), authority_id: "a".into() };
    let revoked = datastore.revoke_jwt_key(revoke).await.expect("a key").into_inner().key.expect("a key");
    assert_eq!(revoked.pkix_bytes, b"key");
    let taint = v1::TaintX509caRequest { trust_domain: "spiffe://nobody".into(), key_id: "ab".into() };
    assert_eq!(datastore.taint_x509ca(taint).await.expect_err("no such bundle").code(), Code::NotFound);
    let revoke = v1::RevokeX509caRequest { trust_domain: "spiffe://nobody".into(), key_id: "ab".into() };
    assert_eq!(datastore.revoke_x509ca(revoke).await.expect_err("no such bundle").code(), Code::NotFound);
    let prune = v1::PruneBundleRequest { trust_domain: "spiffe://nobody".into(), expires_before: 1 };
    assert!(!datastore.prune_bundle(prune).await.expect("an answer").into_inner().changed);

    let other = Bundle { trust_domain_id: "spiffe://other.example".into(), ..Default::default() };
    datastore.set_bundle(v1::SetBundleRequest { bundle: bundle(&other) }).await.expect("a bundle");
    let page = |page_token: &str, page_size| v1::ListBundlesRequest {
        pagination: Some(v1::Pagination { page_size, page_token: page_token.into() }),
    };
    let first = datastore.list_bundles(page("", 1)).await.expect("a page").into_inner();
    let next = first.pagination.expect("a page").page_token;
    let second = datastore.list_bundles(page(&next, 1)).await.expect("a page").into_inner();
    assert_eq!(second.bundles[0].trust_domain_id, "spiffe://other.example");
    let refused = datastore.list_bundles(page("", 0)).await.expect_err("a page of nothing");
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "cannot paginate with pagesize = 0"));
    let all = datastore.list_bundles(v1::ListBundlesRequest::default()).await.expect("a list").into_inner();
    assert_eq!((all.bundles.len(), all.pagination), (2, None));
    let count = datastore.count_bundles(v1::CountBundlesRequest {}).await.expect("a count").into_inner().count;
    assert_eq!(count, 2);
    let fetch = |trust_domain: &str| v1::FetchBundleRequest { trust_domain: trust_domain.into() };
    assert!(datastore.fetch_bundle(fetch("spiffe://nobody")).await.expect("an answer").into_inner().bundle.is_none());
    let found = datastore.fetch_bundle(fetch(TRUST_DOMAIN)).await.expect("an answer").into_inner();
    assert_eq!(content(found.bundle).unknown_fields, own.unknown_fields);
}

fn selector(value: &str) -> v1::Selector {
    v1::Selector { r#type: "unix".into(), value: value.into() }
}

fn entry(name: &str) -> v1::RegistrationEntry {
    v1::RegistrationEntry {
        entry_id: name.into(),
        parent_id: "spiffe://td.example/agent".into(),
        spiffe_id: format!("spiffe://td.example/{name}"),
        selectors: vec![selector(name)],
        ..Default::default()
    }
}

async fn registration_entries(datastore: &mut DataStoreClient<Channel>) {
    let mut first = entry("one");
    first.federates_with = vec!["spiffe://other.example".into()];
    first.additional_attributes = Some(v1::AdditionalAttributes { jwt_svid_include_jti: true, ..Default::default() });
    let create = v1::CreateRegistrationEntryRequest { entry: Some(first.clone()) };
    let stored = datastore.create_registration_entry(create).await.expect("an entry").into_inner().entry.expect("it");
    assert!(stored.created_at > 0 && stored.updated_at == 0);
    assert_eq!(v1::RegistrationEntry { created_at: 0, ..stored.clone() }, first);
    let or_return = |entry| v1::CreateOrReturnRegistrationEntryRequest { entry: Some(entry) };
    let similar = v1::RegistrationEntry { entry_id: "other".into(), ..first.clone() };
    let similar =
        datastore.create_or_return_registration_entry(or_return(similar)).await.expect("an entry").into_inner();
    assert!(!similar.created && similar.entry.expect("it").entry_id == "one");
    // Created long ago, and expired since.
    let old = v1::RegistrationEntry { entry_expiry: 1_000, ..entry("two") };
    let old = datastore.create_or_return_registration_entry(or_return(old)).await.expect("an entry").into_inner();
    assert!(old.created);
    let invalid = v1::RegistrationEntry { selectors: vec![], ..entry("three") };
    let invalid =
        datastore.create_registration_entry(v1::CreateRegistrationEntryRequest { entry: Some(invalid) }).await;
    let invalid = invalid.expect_err("no selectors");
    let text = "datastore-validation: invalid registration entry: missing selector list";
    assert_eq!((invalid.code(), invalid.message()), (Code::InvalidArgument, text));

    // A server of the older revision does not send the attributes, and does not take them away.
    let hint = v1::RegistrationEntry { hint: "h".into(), additional_attributes: None, ..first.clone() };
    let update = v1::UpdateRegistrationEntryRequest { entry: Some(hint), mask: None };
    let updated = datastore.update_registration_entry(update).await.expect("an entry").into_inner().entry.expect("it");
    assert_eq!((updated.hint.as_str(), updated.revision_number), ("h", 1));
    assert_eq!(updated.additional_attributes, first.additional_attributes);

    let fetch = v1::FetchRegistrationEntryRequest { entry_id: "one".into() };
    assert_eq!(datastore.fetch_registration_entry(fetch).await.expect("it").into_inner().entry, Some(updated.clone()));
    let fetch = v1::FetchRegistrationEntryRequest { entry_id: "none".into() };
    assert_eq!(datastore.fetch_registration_entry(fetch).await.expect("nothing").into_inner().entry, None);
    let fetch = v1::FetchRegistrationEntriesRequest { entry_ids: vec!["two".into(), "none".into(), "one".into()] };
    assert_eq!(datastore.fetch_registration_entries(fetch).await.expect("them").into_inner().entries.len(), 2);

    let by_selectors = |value: &str| {
        let match_behavior = v1::MatchBehavior::MatchSuperset.into();
        Some(v1::BySelectors { match_behavior, selectors: vec![selector(value)] })
    };
    let list = v1::ListRegistrationEntriesRequest { by_selectors: by_selectors("two"), ..Default::default() };
    let listed = datastore.list_registration_entries(list).await.expect("a list").into_inner();
    assert_eq!((listed.entries.len(), listed.entries[0].entry_id.as_str(), listed.pagination), (1, "two", None));
    let page = v1::ListRegistrationEntriesRequest {
        pagination: Some(v1::Pagination { page_size: 1, page_token: String::new() }),
        data_consistency: v1::DataConsistency::TolerateStale.into(),
        ..Default::default()
    };
    let listed = datastore.list_registration_entries(page).await.expect("a page").into_inner();
    assert_eq!(listed.pagination, Some(v1::Pagination { page_size: 1, page_token: "1".into() }));
    let empty =
        v1::ListRegistrationEntriesRequest { by_selectors: Some(v1::BySelectors::default()), ..Default::default() };
    let refused = datastore.list_registration_entries(empty).await.expect_err("an empty set");
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "cannot list by empty selector set"));
    let count = |filter_by_downstream| v1::CountRegistrationEntriesRequest {
        filter_by_downstream,
        downstream_value: true,
        by_hint: "h".into(),
        ..Default::default()
    };
    let mut counted =
        async |request| datastore.count_registration_entries(request).await.expect("a count").into_inner().count;
    assert_eq!((counted(count(false)).await, counted(count(true)).await), (1, 0));

    let prune = v1::PruneRegistrationEntriesRequest { expires_before: 2_000 };
    datastore.prune_registration_entries(prune).await.expect("pruned");
    let delete = v1::DeleteRegistrationEntryRequest { entry_id: "one".into() };
    let deleted = datastore.delete_registration_entry(delete.clone()).await.expect("it").into_inner().entry;
    assert_eq!(deleted, Some(updated));
    let missing = datastore.delete_registration_entry(delete).await.expect_err("it is gone");
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "datastore-sql: record not found"));

    let list = |greater_than_event_id, less_than_event_id| v1::ListRegistrationEntryEventsRequest {
        greater_than_event_id,
        less_than_event_id,
        data_consistency: 0,
    };
    let events = datastore.list_registration_entry_events(list(0, 0)).await.expect("events").into_inner().events;
    let told: Vec<_> = events.iter().map(|event| (event.event_id, event.entry_id.as_str())).collect();
    assert_eq!(told, [(1, "one"), (2, "two"), (3, "one"), (4, "two"), (5, "one")]);
    assert!(events[0].created_at > 1_700_000_000, "seconds: {events:?}");
    let refused = datastore.list_registration_entry_events(list(1, 5)).await.expect_err("two bounds");
    assert_eq!(refused.message(), "datastore-sql: can't set both greater and less than event id");
    let fetch = v1::FetchRegistrationEntryEventRequest { event_id: 3 };
    let event = datastore.fetch_registration_entry_event(fetch).await.expect("an event").into_inner().event;
    assert_eq!(event.as_ref(), Some(&events[2]));
    let create = v1::CreateRegistrationEntryEventRequest { event };
    assert_eq!(
        datastore.create_registration_entry_event(create).await.expect_err("a fact").code(),
        Code::Unimplemented
    );
    let delete = v1::DeleteRegistrationEntryEventRequest { event_id: 3 };
    assert_eq!(
        datastore.delete_registration_entry_event(delete).await.expect_err("a fact").code(),
        Code::Unimplemented
    );
    // An age, whatever the field is called.
    let prune = |seconds| v1::PruneRegistrationEntryEventsRequest { expires_before: seconds };
    datastore.prune_registration_entry_events(prune(3_600)).await.expect("pruned");
    let left = datastore.list_registration_entry_events(list(0, 0)).await.expect("events").into_inner().events.len();
    datastore.prune_registration_entry_events(prune(0)).await.expect("pruned");
    let none = datastore.list_registration_entry_events(list(0, 0)).await.expect("events").into_inner().events.len();
    assert_eq!((left, none), (5, 0));
    let refused = datastore.prune_registration_entry_events(prune(-1)).await.expect_err("the future");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

async fn attested_nodes(datastore: &mut DataStoreClient<Channel>) {
    const ID: &str = "spiffe://td.example/spire/agent/one";
    const BY_TOKEN: &str = "spiffe://td.example/spire/agent/join_token/one";
    let node = v1::AttestedNode {
        spiffe_id: ID.into(),
        attestation_data_type: "k8s_psat".into(),
        cert_serial_number: "17".into(),
        cert_not_after: 5_000,
        can_reattest: true,
        ..Default::default()
    };
    let create = v1::CreateAttestedNodeRequest { node: Some(node.clone()) };
    let created = datastore.create_attested_node(create).await.expect("a node").into_inner().node;
    assert_eq!(created, Some(node.clone()));
    let missing = datastore.create_attested_node(v1::CreateAttestedNodeRequest { node: None }).await.expect_err("none");
    assert_eq!(missing.message(), "datastore-sql: invalid request: missing attested node");
    let set = v1::SetNodeSelectorsRequest { spiffe_id: ID.into(), selectors: vec![selector("a"), selector("b")] };
    assert_eq!(datastore.set_node_selectors(set.clone()).await.expect("set").into_inner().selectors, set.selectors);
    let get = v1::GetNodeSelectorsRequest { spiffe_id: ID.into(), data_consistency: 1 };
    assert_eq!(datastore.get_node_selectors(get).await.expect("them").into_inner().selectors, set.selectors);
    let list = v1::ListNodeSelectorsRequest { valid_at: -62_135_596_800, data_consistency: 0 };
    let listed = datastore.list_node_selectors(list).await.expect("a list").into_inner().selectors;
    assert_eq!((listed.len(), listed[0].spiffe_id.as_str()), (1, ID));

    let mask = Some(v1::AttestedNodeMask { agent_version: true, ..Default::default() });
    let newer = v1::AttestedNode { agent_version: "1.15.3".into(), ..node.clone() };
    let update = v1::UpdateAttestedNodeRequest { node: Some(newer.clone()), mask };
    assert_eq!(datastore.update_attested_node(update).await.expect("a node").into_inner().node, Some(newer.clone()));
    let fetch = |spiffe_id: &str| v1::FetchAttestedNodeRequest { spiffe_id: spiffe_id.into() };
    assert_eq!(datastore.fetch_attested_node(fetch(ID)).await.expect("it").into_inner().node, Some(newer.clone()));
    assert_eq!(datastore.fetch_attested_node(fetch("spiffe://no")).await.expect("nothing").into_inner().node, None);
    let list = v1::ListAttestedNodesRequest {
        fetch_selectors: true,
        by_banned: true,
        by_spiffe_ids: vec![ID.into()],
        ..Default::default()
    };
    let listed = datastore.list_attested_nodes(list.clone()).await.expect("a list").into_inner();
    assert_eq!(listed.nodes, [v1::AttestedNode { selectors: set.selectors, ..newer }]);
    let none = v1::ListAttestedNodesRequest { by_valid_at: 5_001, ..list };
    assert_eq!(datastore.list_attested_nodes(none).await.expect("a list").into_inner().nodes, []);
    let count = v1::CountAttestedNodesRequest {
        by_expires_before: 5_001,
        by_can_reattest: true,
        can_reattest_value: true,
        ..Default::default()
    };
    assert_eq!(datastore.count_attested_nodes(count).await.expect("a count").into_inner().count, 1);

    let list =
        |greater_than_event_id| v1::ListAttestedNodeEventsRequest { greater_than_event_id, ..Default::default() };
    let events = datastore.list_attested_node_events(list(1)).await.expect("events").into_inner().events;
    assert_eq!(events.iter().map(|event| event.event_id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(datastore.list_attested_node_events(list(-1)).await.expect_err("below 0").code(), Code::InvalidArgument);
    let fetch = v1::FetchAttestedNodeEventRequest { event_id: 99 };
    assert_eq!(datastore.fetch_attested_node_event(fetch).await.expect_err("not yet").code(), Code::NotFound);
    let create = v1::CreateAttestedNodeEventRequest { event: None };
    assert_eq!(datastore.create_attested_node_event(create).await.expect_err("a fact").code(), Code::Unimplemented);
    let delete = v1::DeleteAttestedNodeEventRequest { event_id: 1 };
    assert_eq!(datastore.delete_attested_node_event(delete).await.expect_err("a fact").code(), Code::Unimplemented);
    let prune = v1::PruneAttestedNodeEventsRequest { older_than: 0 };
    datastore.prune_attested_node_events(prune).await.expect("pruned");
    assert!(datastore.list_attested_node_events(list(0)).await.expect("none").into_inner().events.is_empty());

    let other = v1::AttestedNode { spiffe_id: "spiffe://td.example/spire/agent/two".into(), ..node };
    datastore.create_attested_node(v1::CreateAttestedNodeRequest { node: Some(other) }).await.expect("a node");
    let delete = v1::DeleteAttestedNodeRequest { spiffe_id: ID.into() };
    assert!(datastore.delete_attested_node(delete).await.expect("a node").into_inner().node.is_some());
    let prune =
        v1::PruneAttestedExpiredNodesRequest { expires_before: 6_000, include_non_reattestable: false, batch_size: 10 };
    datastore.prune_attested_expired_nodes(prune).await.expect("pruned");
    let count = datastore.count_attested_nodes(v1::CountAttestedNodesRequest::default()).await.expect("a count");
    assert_eq!(count.into_inner().count, 0);

    // The entry that gives an agent with a join token its name goes with it, and its going is told.
    let by_token = v1::AttestedNode {
        spiffe_id: BY_TOKEN.into(),
        attestation_data_type: "join_token".into(),
        cert_not_after: 5_000,
        ..Default::default()
    };
    datastore.create_attested_node(v1::CreateAttestedNodeRequest { node: Some(by_token) }).await.expect("a node");
    let alias = v1::RegistrationEntry {
        parent_id: BY_TOKEN.into(),
        selectors: vec![v1::Selector { r#type: "spiffe_id".into(), value: BY_TOKEN.into() }],
        ..entry("alias")
    };
    datastore
        .create_registration_entry(v1::CreateRegistrationEntryRequest { entry: Some(alias) })
        .await
        .expect("an entry");
    let delete = v1::DeleteAttestedNodeRequest { spiffe_id: BY_TOKEN.into() };
    datastore.delete_attested_node(delete).await.expect("a node");
    let fetch = v1::FetchRegistrationEntryRequest { entry_id: "alias".into() };
    assert_eq!(datastore.fetch_registration_entry(fetch).await.expect("nothing").into_inner().entry, None);
}

async fn tokens_relationships_and_journals(datastore: &mut DataStoreClient<Channel>) {
    let create = v1::CreateJoinTokenRequest { token: "token".into(), expires_at: 4_000_000_000 };
    let created = datastore.create_join_token(create).await.expect("a token").into_inner();
    assert_eq!((created.token.as_str(), created.expires_at), ("token", 4_000_000_000));
    let create = v1::CreateJoinTokenRequest { token: "token".into(), expires_at: -62_135_596_800 };
    assert_eq!(
        datastore.create_join_token(create).await.expect_err("no expiry").message(),
        "token and expiry are required"
    );
    let fetch = v1::FetchJoinTokenRequest { token: "token".into() };
    assert_eq!(datastore.fetch_join_token(fetch.clone()).await.expect("it").into_inner().expires_at, 4_000_000_000);
    datastore.prune_join_tokens(v1::PruneJoinTokensRequest { expires_before: 1 }).await.expect("pruned");
    let delete = v1::DeleteJoinTokenRequest { token: "token".into() };
    datastore.delete_join_token(delete.clone()).await.expect("deleted");
    assert_eq!(datastore.delete_join_token(delete).await.expect_err("it is used").code(), Code::NotFound);
    assert_eq!(datastore.fetch_join_token(fetch).await.expect("nothing").into_inner().token, "");

    let federated = Bundle { trust_domain_id: "spiffe://fed.example".into(), refresh_hint: 7, ..Default::default() };
    let relationship = v1::FederationRelationship {
        trust_domain_id: "fed.example".into(),
        bundle_endpoint_type: v1::BundleEndpointType::Spiffe.into(),
        bundle_endpoint_url: "https://fed.example/bundle".into(),
        bundle_endpoint_spiffe_id: "spiffe://fed.example/endpoint".into(),
        trust_domain_bundle: bundle(&federated),
        ..Default::default()
    };
    let create = v1::CreateFederationRelationshipRequest { relationship: Some(relationship.clone()) };
    datastore.create_federation_relationship(create).await.expect("a relationship");
    let fetch =
        |trust_domain_id: &str| v1::FetchFederationRelationshipRequest { trust_domain_id: trust_domain_id.into() };
    let mut fetched = async |id: &str| {
        datastore.fetch_federation_relationship(fetch(id)).await.expect("it").into_inner().relationship
    };
    assert_eq!(fetched("spiffe://fed.example").await, Some(relationship.clone()));
    assert_eq!((fetched("fed.example").await, fetched("nobody").await), (Some(relationship.clone()), None));
    let web = v1::FederationRelationship {
        bundle_endpoint_type: v1::BundleEndpointType::Web.into(),
        bundle_endpoint_url: "https://web.example".into(),
        ..relationship
    };
    let mask = Some(v1::FederationRelationshipMask {
        bundle_endpoint_url: true,
        bundle_endpoint_profile: true,
        ..Default::default()
    });
    let update = v1::UpdateFederationRelationshipRequest { relationship: Some(web), mask };
    let updated = datastore.update_federation_relationship(update).await.expect("it").into_inner().relationship;
    assert_eq!(updated.expect("it").bundle_endpoint_url, "https://web.example");
    let list = v1::ListFederationRelationshipsRequest { pagination: None };
    let listed = datastore.list_federation_relationships(list).await.expect("a list").into_inner();
    assert_eq!((listed.relationships.len(), listed.relationships[0].bundle_endpoint_type), (1, 1));
    let delete = v1::DeleteFederationRelationshipRequest { trust_domain_id: "fed.example".into() };
    datastore.delete_federation_relationship(delete.clone()).await.expect("deleted");
    assert_eq!(datastore.delete_federation_relationship(delete).await.expect_err("gone").code(), Code::NotFound);
    let missing = v1::CreateFederationRelationshipRequest { relationship: None };
    let missing = datastore.create_federation_relationship(missing).await.expect_err("none");
    assert_eq!(missing.message(), "federation relationship is nil");

    let journal = v1::CaJournal { active_x509_authority_id: "ab".into(), data: vec![], ..Default::default() };
    let set = v1::SetCaJournalRequest { journal: Some(journal.clone()) };
    let set = datastore.set_ca_journal(set).await.expect("a journal").into_inner().journal;
    assert_eq!(set, Some(v1::CaJournal { id: 1, ..journal }));
    let fetch = |id: &str| v1::FetchCaJournalRequest { active_x509_authority_id: id.into() };
    assert_eq!(datastore.fetch_ca_journal(fetch("ab")).await.expect("it").into_inner().journal, set);
    assert_eq!(datastore.fetch_ca_journal(fetch("cd")).await.expect("nothing").into_inner().journal, None);
    let list = || v1::ListCaJournalsRequest {};
    assert_eq!(datastore.list_ca_journals(list()).await.expect("a list").into_inner().journals.len(), 1);
    datastore.prune_ca_journals(v1::PruneCaJournalsRequest { expires_before: 5 }).await.expect("pruned");
    assert_eq!(datastore.list_ca_journals(list()).await.expect("a list").into_inner().journals.len(), 0);
    let delete = v1::DeleteBundleRequest { trust_domain: "spiffe://other.example".into(), mode: 1 };
    datastore.delete_bundle(delete).await.expect("deleted");
    let unknown = v1::DeleteBundleRequest { trust_domain: TRUST_DOMAIN.into(), mode: 9 };
    assert_eq!(datastore.delete_bundle(unknown).await.expect_err("no such mode").code(), Code::InvalidArgument);
}
