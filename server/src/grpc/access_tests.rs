//! Every method called by everybody, over connections that prove who calls.

use std::collections::BTreeMap;
use std::time::SystemTime;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use steeple_client::tls::Connector;
use steeple_client::{Client, Error, TailOptions};
use steeple_wire::DESCRIPTORS;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use super::serve;
use crate::authorization::{Access, Pattern, Permission, Right, Roles, Share, permission};
use crate::node::{Node, NodeOptions, NodeParts};
use crate::tls::throwaway::{Authority, Subject};
use crate::tls::{Tls, TlsFiles, incoming};

/// A node that knows roles, with the namespaces `prod` and `other`, and whoever wants to call it.
struct Served {
    authority: Authority,
    directory: TempDir,
    port: u16,
}

const CALLERS: [&str; 6] = ["admin", "writer", "reader", "follower", "node", "stranger"];

fn roles() -> Roles {
    let pattern = |name: &str| vec![Pattern::parse(&format!("spiffe://td/{name}")).unwrap()];
    let share = |name: &str| vec![Share::parse(&format!("prod=spiffe://td/{name}")).unwrap()];
    Roles {
        admin: pattern("admin"),
        read_write: share("writer"),
        read_only: share("reader"),
        events_only: share("follower"),
        peer: pattern("node"),
    }
}

async fn start_node() -> Node {
    let node = tokio::task::spawn_blocking(|| Node::start(NodeOptions::in_memory(), NodeParts::default()));
    let node = node.await.unwrap().unwrap();
    node.open_namespace("prod").await.unwrap();
    node.open_namespace("other").await.unwrap();
    node
}

impl Served {
    async fn start() -> Self {
        let authority = Authority::new("one", SystemTime::now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut served = Self { authority, directory, port: 0 };
        served.issue("server", Subject::node("spiffe://td/server", SystemTime::now()));
        std::fs::write(served.path("authority.pem"), served.authority.certificate()).unwrap();
        let (certificate, key) = (served.path("server.pem"), served.path("server-key.pem"));
        let tls = Tls::load(TlsFiles { certificate, key, authority: Some(served.path("authority.pem")) }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        served.port = listener.local_addr().unwrap().port();
        let (node, access) = (start_node().await, Access::roles(roles()));
        tokio::spawn(serve(node, access, incoming(listener, Some(tls)), std::future::pending()));
        served
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, name: &str, subject: Subject) {
        let (certificate, key) = self.authority.issue(subject).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate).unwrap();
        std::fs::write(self.path(&format!("{name}-key.pem")), key).unwrap();
    }

    async fn connect(&self, subject: Subject) -> Channel {
        self.issue("client", subject);
        let files = steeple_client::tls::TlsFiles::new(self.path("authority.pem"))
            .with_identity(self.path("client.pem"), self.path("client-key.pem"));
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", self.port)).unwrap();
        Connector::from_files(files).connect(&endpoint).await.unwrap()
    }

    async fn connect_as(&self, caller: &str) -> Channel {
        self.connect(Subject::named(&format!("spiffe://td/{caller}"), SystemTime::now())).await
    }
}

/// Every method of the protocol.
fn methods() -> Vec<String> {
    let files = [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET];
    let files = files.into_iter().flat_map(|files| FileDescriptorSet::decode(files).unwrap().file);
    let services = files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().map(move |service| (format!("/{package}.{}", service.name()), service))
    });
    services
        .flat_map(|(name, service)| service.method.into_iter().map(move |method| format!("{name}/{}", method.name())))
        .collect()
}

/// A request that names a namespace, in the place where messages of the method have it, and nothing else.
fn request(path: &str, namespace: &str) -> String {
    let named = |namespace: &str| format!("\u{a}{}{namespace}", char::from(u8::try_from(namespace.len()).unwrap()));
    let method = path.rsplit('/').next().unwrap();
    match method {
        "Tail" | "Bootstrap" | "History" | "StateAt" | "Batch" | "StreamBatches" | "OpenNamespace" => named(namespace),
        _ => named(&named(namespace)),
    }
}

/// Calls a method and returns what the first headers say. An answer that has begun well says nothing there.
async fn call(channel: &Channel, path: &str, request: &str) -> Status {
    let framed = format!("\0\0\0\0{}{request}", char::from(u8::try_from(request.len()).unwrap()));
    let address = format!("https://localhost{path}");
    let request = Request::post(address).header("content-type", "application/grpc").header("te", "trailers");
    let mut channel = channel.clone();
    let answer = channel.ready().await.unwrap().call(request.body(Body::new(framed)).unwrap()).await.unwrap();
    Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::ok(""))
}

fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
}

/// What a caller of [`roles`] is to be allowed, said a second time and differently.
fn expected(caller: &str, permission: Permission, namespace: &str) -> bool {
    let own = namespace == "prod";
    match permission {
        Permission::Nothing => true,
        Permission::AnyRole => caller != "stranger",
        Permission::Admin => caller == "admin",
        Permission::Peer => caller == "node",
        Permission::Namespace(Right::Write) => caller == "admin" || own && caller == "writer",
        Permission::Namespace(Right::Read) => caller == "admin" || own && ["writer", "reader"].contains(&caller),
        Permission::Namespace(Right::Events) => {
            caller == "admin" || own && ["writer", "reader", "follower"].contains(&caller)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_may_call_what_his_roles_allow_and_nothing_else() {
    let served = Served::start().await;
    let methods = methods();
    let mut allowed = BTreeMap::new();
    for caller in CALLERS {
        let channel = served.connect_as(caller).await;
        for path in &methods {
            let permission = permission(path).unwrap();
            for namespace in ["prod", "other", "absent"] {
                let status = call(&channel, path, &request(path, namespace)).await;
                let expected = expected(caller, permission, namespace);
                assert_eq!(!is_refusal(&status), expected, "{caller} calls {path} for {namespace}: {status:?}");
                *allowed.entry(caller).or_insert(0) += usize::from(expected);
            }
        }
    }
    assert!(allowed["admin"] > allowed["writer"] && allowed["writer"] > allowed["reader"], "{allowed:?}");
    assert!(allowed["reader"] > allowed["follower"] && allowed["follower"] > allowed["stranger"], "{allowed:?}");
}

#[tokio::test]
async fn a_refusal_does_not_tell_whether_a_namespace_exists() {
    let served = Served::start().await;
    let client = Client::from_channel(served.connect_as("reader").await);
    for namespace in ["other", "absent"] {
        let refused = client.namespace(namespace).count_bundles().await.unwrap_err();
        let Error::Refused { code: Code::PermissionDenied, message } = refused else { panic!("{refused:?}") };
        assert_eq!(message, format!("spiffe://td/reader may not read namespace {namespace:?}"));
    }
    assert_eq!(client.namespace("prod").count_bundles().await.unwrap(), 0);
    let refused = client.namespace("prod").delete_registration_entry("e").await.unwrap_err();
    let expected = "spiffe://td/reader has no role that allows /steeple.spire.v1.Datastore/DeleteRegistrationEntry";
    assert_eq!(refused.to_string(), expected);
}

#[tokio::test]
async fn a_tail_is_refused_and_not_tried_again() {
    let served = Served::start().await;
    let client = Client::from_channel(served.connect_as("follower").await);
    let mut tail = client.namespace("other").tail(TailOptions::default());
    let refused = tail.next().await.unwrap_err();
    assert!(matches!(refused, Error::Refused { code: Code::PermissionDenied, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_that_names_nobody_allows_nothing() {
    let served = Served::start().await;
    let nobody = Subject { uris: Vec::new(), ..Subject::named("", SystemTime::now()) };
    let channel = served.connect(nobody).await;
    let status = call(&channel, "/steeple.admin.v1.Admin/Status", "").await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("names nobody"), "{status:?}");
    assert_eq!(call(&channel, "/grpc.health.v1.Health/Check", "").await.code(), Code::Ok);
}

#[tokio::test]
async fn what_is_not_in_the_table_is_not_served() {
    let served = Served::start().await;
    let channel = served.connect_as("admin").await;
    for path in ["/steeple.admin.v1.Admin/Unheard", "/other.Service/Status", "/", "/steeple.admin.v1.Admin"] {
        assert_eq!(call(&channel, path, "").await.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn roles_let_nobody_in_who_shows_no_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = start_node().await;
    tokio::spawn(serve(node, Access::roles(roles()), incoming(listener, None), std::future::pending()));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    for path in ["/steeple.admin.v1.Admin/Status", "/steeple.peer.v1.Peer/Exchange", "/grpc.health.v1.Health/Check"] {
        assert_eq!(call(&channel, path, "").await.code(), Code::Unauthenticated, "{path}");
    }
}
