//! Handshakes of every kind over real sockets, and following the files.

use std::path::Path;
use std::time::{Duration, SystemTime};

use steeple_client::tls::TlsError;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::codegen::http::Uri;
use tonic::transport::server::Connected as _;
use tower::Service as _;

use super::throwaway::{Authority, Subject, prepare, roles};
use super::*;
use crate::authorization::Identity;

const MINUTE: Duration = Duration::from_secs(60);

/// Files of one side, which tests write anew.
struct Side {
    directory: TempDir,
}

impl Side {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A node with a certificate of `authority` that trusts it.
    fn node(authority: &Authority) -> Self {
        let side = Self::new();
        side.write(authority, node("spiffe://td/node"));
        side
    }

    fn write(&self, authority: &Authority, subject: Subject) {
        let (certificate, key) = authority.issue(subject).unwrap();
        self.put("key.pem", &key);
        self.put("certificate.pem", &certificate);
        self.put("authority.pem", &authority.certificate());
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        let authority = Some(self.path("authority.pem"));
        TlsFiles { certificate: self.path("certificate.pem"), key: self.path("key.pem"), authority }
    }

    fn load(&self) -> Result<Tls, MaterialError> {
        Tls::load(self.files())
    }

    fn refusal(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn authority(name: &str) -> Authority {
    Authority::new(name, SystemTime::now()).unwrap()
}

fn node(id: &str) -> Subject {
    Subject::node(id, SystemTime::now())
}

fn named(id: &str) -> Subject {
    Subject::named(id, SystemTime::now())
}

/// A client of `authority`'s with the certificate of `subject`.
fn client(authority: &Authority, subject: Subject) -> (Side, steeple_client::tls::TlsFiles) {
    let side = Side::new();
    side.write(authority, subject);
    let files = steeple_client::tls::TlsFiles::new(side.path("authority.pem"))
        .with_identity(side.path("certificate.pem"), side.path("key.pem"));
    (side, files)
}

/// Sends a greeting over every connection, as a node does, and who is on the other side to the test.
struct Greeter {
    port: u16,
    callers: tokio::sync::mpsc::UnboundedReceiver<Caller>,
}

async fn greet(tls: Option<Tls>) -> Greeter {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, callers) = tokio::sync::mpsc::unbounded_channel();
    let mut connections = incoming(listener, tls);
    tokio::spawn(async move {
        while let Some(Ok(mut connection)) = connections.next().await {
            sender.send(connection.connect_info()).unwrap();
            tokio::spawn(async move {
                let mut rest = Vec::new();
                connection.write_all(b"hello").await.unwrap();
                connection.flush().await.unwrap();
                // Until the other side has gone or the connection ends.
                drop(connection.read_to_end(&mut rest).await);
            });
        }
    });
    Greeter { port, callers }
}

impl Greeter {
    async fn connect_to(
        &self,
        host: &str,
        files: &steeple_client::tls::TlsFiles,
    ) -> Result<steeple_client::tls::Encrypted, TlsError> {
        let address: Uri = format!("https://{host}:{}", self.port).parse().unwrap();
        steeple_client::tls::Connector::from_files(files.clone()).call(address).await
    }

    async fn connect(&self, files: &steeple_client::tls::TlsFiles) -> Result<steeple_client::tls::Encrypted, TlsError> {
        self.connect_to("localhost", files).await
    }

    /// Why a connection is refused.
    async fn refusal(&self, files: &steeple_client::tls::TlsFiles) -> String {
        match self.connect(files).await {
            Ok(_) => panic!("the connection was accepted"),
            Err(error) => error.to_string(),
        }
    }
}

#[tokio::test]
async fn a_certificate_of_the_authority_tells_who_calls() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let mut greeter = greet(Some(server.load().unwrap())).await;
    let by_name = |common_name: &str| Subject { common_name: Some(common_name.into()), uris: Vec::new(), ..named("") };
    let two_uris = Subject { uris: vec!["spiffe://td/a".into(), "spiffe://td/b".into()], ..by_name("operator") };
    let both = Subject { common_name: Some("operator".into()), ..named("spiffe://td/billing") };
    let foreign_uri = Subject { uris: vec!["https://td/a".into()], ..by_name("operator") };
    let cases = [
        (named("spiffe://td/billing"), Identity::spiffe("spiffe://td/billing").ok()),
        (by_name("operator"), Identity::common_name("operator").ok()),
        (both, Identity::spiffe("spiffe://td/billing").ok()),
        (two_uris, None),
        (foreign_uri, None),
    ];
    for (subject, expected) in cases {
        let (_side, files) = client(&authority, subject.clone());
        for host in ["localhost", "127.0.0.1"] {
            let mut connection = greeter.connect_to(host, &files).await.unwrap().into_inner();
            let mut greeting = [0; 5];
            connection.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"hello");
            let caller = greeter.callers.recv().await.unwrap();
            assert_eq!(caller.identity.as_deref(), expected.as_ref(), "{subject:?}");
            assert!(caller.verified);
        }
    }
}

#[tokio::test]
async fn the_name_in_certificates_may_be_another_than_that_of_the_address() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let greeter = greet(Some(server.load().unwrap())).await;
    let (_side, files) = client(&authority, named("spiffe://td/a"));
    // This machine, by an address that no certificate has.
    let refusal = greeter.connect_to("0.0.0.0", &files).await.unwrap_err().to_string();
    assert!(refusal.contains("not valid for name"), "{refusal}");
    let expecting = files.clone().with_server_name("localhost");
    assert!(greeter.connect_to("0.0.0.0", &expecting).await.is_ok());
    let refusal = greeter.refusal(&files.with_server_name("elsewhere.example")).await;
    assert!(refusal.contains("not valid for name"), "{refusal}");
}

#[tokio::test]
async fn who_shows_no_certificate_is_turned_away() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let greeter = greet(Some(server.load().unwrap())).await;
    let (side, _) = client(&authority, named("spiffe://td/a"));
    let anonymous = steeple_client::tls::TlsFiles::new(side.path("authority.pem"));
    let refusal = greeter.refusal(&anonymous).await;
    assert!(refusal.contains("CertificateRequired"), "{refusal}");
}

#[tokio::test]
async fn certificates_of_another_authority_are_turned_away_by_both_sides() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let server = Side::node(&ours);
    let greeter = greet(Some(server.load().unwrap())).await;
    let (_side, files) = client(&theirs, named("spiffe://td/a"));
    let refusal = greeter.refusal(&files).await;
    assert!(refusal.contains("UnknownIssuer"), "the client does not accept the node: {refusal}");
    let trusting = steeple_client::tls::TlsFiles { authority: server.path("authority.pem"), ..files };
    let refusal = greeter.refusal(&trusting).await;
    assert!(refusal.contains("UnknownCA"), "the node does not accept the client: {refusal}");
}

#[tokio::test]
async fn expired_certificates_are_turned_away() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let greeter = greet(Some(server.load().unwrap())).await;
    let expired = Subject { not_after: SystemTime::now() - MINUTE, ..named("spiffe://td/a") };
    let (_side, files) = client(&authority, expired);
    let refusal = greeter.refusal(&files).await;
    assert!(refusal.contains("CertificateExpired"), "{refusal}");
}

#[tokio::test]
async fn a_node_has_to_be_whom_its_address_names() {
    let authority = authority("one");
    let server = Side::new();
    server.write(&authority, Subject { hosts: vec!["elsewhere.example".into()], ..named("spiffe://td/node") });
    let greeter = greet(Some(server.load().unwrap())).await;
    let (_side, files) = client(&authority, named("spiffe://td/a"));
    let refusal = greeter.refusal(&files).await;
    assert!(refusal.contains("not valid for name") || refusal.contains("not valid for name"), "{refusal}");
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_expires() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let greeter = greet(Some(server.load().unwrap())).await;
    // Times in certificates are whole seconds.
    let expiring = Subject { not_after: SystemTime::now() + Duration::from_secs(3), ..named("spiffe://td/a") };
    let (_side, files) = client(&authority, expiring);
    let mut connection = greeter.connect(&files).await.unwrap().into_inner();
    let mut received = Vec::new();
    // The node hangs up; nothing else ends this.
    drop(tokio::time::timeout(MINUTE, connection.read_to_end(&mut received)).await.unwrap());
    assert_eq!(received, b"hello");
}

#[tokio::test]
async fn without_tls_nobody_is_named() {
    let mut greeter = greet(None).await;
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", greeter.port)).await.unwrap();
    let mut greeting = [0; 5];
    connection.read_exact(&mut greeting).await.unwrap();
    let caller = greeter.callers.recv().await.unwrap();
    assert!(caller.identity.is_none() && !caller.verified);
}

#[tokio::test]
async fn what_is_not_tls_and_who_says_nothing_do_not_hold_others_up() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let greeter = greet(Some(server.load().unwrap())).await;
    let _silent = tokio::net::TcpStream::connect(("127.0.0.1", greeter.port)).await.unwrap();
    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", greeter.port)).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let (_side, files) = client(&authority, named("spiffe://td/a"));
    greeter.connect(&files).await.unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"hello"));
}

#[tokio::test]
async fn nodes_connect_to_each_other_with_what_they_have() {
    let authority = authority("one");
    let (one, two) = (Side::node(&authority), Side::new());
    two.write(&authority, node("spiffe://td/node/2"));
    let mut greeter = greet(Some(one.load().unwrap())).await;
    let address: Uri = format!("http://127.0.0.1:{}", greeter.port).parse().unwrap();
    two.load().unwrap().connector().call(address.clone()).await.unwrap();
    let caller = greeter.callers.recv().await.unwrap();
    assert_eq!(caller.identity.as_deref(), Identity::spiffe("spiffe://td/node/2").ok().as_ref());
    let alone = Tls::load(TlsFiles { authority: None, ..two.files() }).unwrap();
    assert!(matches!(alone.connector().call(address).await, Err(TlsError::NoAuthority)));
}

#[tokio::test]
async fn new_certificates_are_taken_into_use_when_the_files_change() {
    let (first, second) = (authority("first"), authority("second"));
    let server = Side::node(&first);
    let tls = server.load().unwrap();
    let mut generation = tls.generation();
    tls.follow(Duration::from_millis(10));
    let greeter = greet(Some(tls)).await;
    let (_side, of_first) = client(&first, named("spiffe://td/a"));
    let (_side, of_second) = client(&second, named("spiffe://td/a"));
    let mut early = greeter.connect(&of_first).await.unwrap().into_inner();
    greeter.refusal(&of_second).await;

    server.write(&second, node("spiffe://td/node"));
    // The three files are seen together once all are written; until then they do not match.
    tokio::time::timeout(MINUTE, async {
        while greeter.connect(&of_second).await.is_err() {
            generation.changed().await.unwrap();
        }
    })
    .await
    .unwrap();
    greeter.refusal(&of_first).await;
    let mut greeting = [0; 5];
    early.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello", "connections made before go on");
}

#[test]
fn files_of_no_use_leave_in_use_what_was_loaded() {
    let authority = authority("one");
    let server = Side::node(&authority);
    let tls = server.load().unwrap();
    let before = tls.material();
    assert!(matches!(tls.reload(), Reloaded::Unchanged));
    let good = std::fs::read_to_string(server.path("certificate.pem")).unwrap();
    let expired = Subject { not_after: SystemTime::now() - MINUTE, ..node("spiffe://td/node") };
    let (expired, _) = authority.issue(expired).unwrap();
    for bad in ["", "rubbish", &expired, &good.replace('M', "-")] {
        server.put("certificate.pem", bad);
        assert!(matches!(tls.reload(), Reloaded::Kept(_)), "{bad:?}");
        assert_eq!(tls.material().certificate, before.certificate);
    }
    std::fs::remove_file(server.path("certificate.pem")).unwrap();
    assert!(matches!(tls.reload(), Reloaded::Kept(_)));
    server.put("certificate.pem", &good);
    assert!(matches!(tls.reload(), Reloaded::Unchanged));
    server.write(&authority, node("spiffe://td/node/renewed"));
    assert!(matches!(tls.reload(), Reloaded::Changed));
    assert_eq!(tls.material().certificate.identity, Identity::spiffe("spiffe://td/node/renewed").ok());
}

#[test]
fn a_node_does_not_start_with_files_of_no_use() {
    let authority = authority("one");
    let now = SystemTime::now();
    let server = Side::node(&authority);
    let with = |subject| {
        server.write(&authority, subject);
        server.refusal()
    };
    assert!(
        with(Subject { not_after: now - MINUTE, ..node("spiffe://td/n") }).contains("certificate.pem expired at 2")
    );
    assert!(with(Subject { not_before: now + MINUTE, ..node("spiffe://td/n") }).contains("is not valid before 2"));
    server.write(&authority, node("spiffe://td/n"));
    let (_, other_key) = authority.issue(node("spiffe://td/n")).unwrap();
    let key = std::fs::read_to_string(server.path("key.pem")).unwrap();
    server.put("key.pem", &other_key);
    let refusal = server.refusal();
    assert!(refusal.contains("key.pem is not the key of the certificate in"), "{refusal}");
    server.put("key.pem", &std::fs::read_to_string(server.path("certificate.pem")).unwrap());
    assert!(server.refusal().contains("key.pem holds no private key"));
    server.put("key.pem", &key);
    server.put("certificate.pem", &key);
    assert!(server.refusal().contains("certificate.pem holds no certificate"));
    server.write(&authority, node("spiffe://td/n"));
    server.put("authority.pem", "");
    assert!(server.refusal().contains("authority.pem holds no certificate"));
    std::fs::remove_file(server.path("authority.pem")).unwrap();
    assert!(server.refusal().contains("cannot read"));
    server.put("authority.pem", &"#".repeat((1 << 20) + 1));
    assert!(server.refusal().contains("is larger than"));
}

#[test]
fn throwaway_certificates_work_and_are_used_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("tls");
    let made = prepare(&place, 3).unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    for number in 1..=3 {
        let files = made.node(number).unwrap();
        let material = Material::load(&files, SystemTime::now()).unwrap();
        assert!(roles().is_peer(material.certificate.identity.as_ref()));
        let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!((made.node(0), made.node(4)), (None, None));
    let mode = std::fs::metadata(&made.operator.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let operator = made.files_of(&made.operator);
    let operator = Material::load(&operator, SystemTime::now()).unwrap().certificate.identity.unwrap();
    assert!(roles().is_admin(&operator) && !roles().is_peer(Some(&operator)));

    let before = read(&made.authority);
    assert_eq!(prepare(&place, 3).unwrap(), made);
    assert_eq!(read(&made.authority), before, "what is there is used again");
    prepare(&place, 4).unwrap();
    assert_ne!(read(&made.authority), before, "the key of the first authority is gone");
    let before = read(&made.authority);
    std::fs::write(&made.operator.key, "damaged").unwrap();
    prepare(&place, 3).unwrap();
    assert_ne!(read(&made.authority), before, "everything was made anew");
    assert!(prepare(&place, 1_000).is_err());
}
