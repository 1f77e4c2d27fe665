//! Nodes that prove to each other who they are.

use std::path::Path;
use std::sync::Arc;

use steeple_client::tls::{Connector, IdentityFiles};
use steeple_wire::peer::v1::ExchangeRequest;
use steeple_wire::peer::v1::peer_client::PeerClient;
use tokio::net::TcpListener;
use tonic::Code;

use super::super::{EncryptedConnector, PeerService, SendOptions, SocketTransport, Transport, peer_endpoint};
use super::sockets::until_connected;
use super::support::{Notes, ONE, TWO, identity};
use crate::authorization::Access;
use crate::tls::throwaway::{Throwaway, prepare, roles};
use crate::tls::{Tls, incoming};

/// Node two, encrypted; where it is and what it hears.
async fn serve(certificates: &Throwaway) -> (String, Arc<Notes>) {
    let notes = Notes::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let tls = Tls::load(certificates.node(2).expect("it was made")).expect("it can be used");
    let service = PeerService::new(identity(TWO), notes.clone(), None, 0);
    let connections = incoming(listener, Some(tls));
    tokio::spawn(service.serve(Access::roles(roles()), connections, std::future::pending()));
    (address, notes)
}

fn certificates(directory: &Path) -> Throwaway {
    prepare(directory, 2).expect("they can be made")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_of_the_authority_talk() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = certificates(directory.path());
    let (address, notes) = serve(&certificates).await;
    let tls = Tls::load(certificates.node(1).expect("it was made")).expect("it can be used");
    let connector = Arc::new(EncryptedConnector::new(tls));
    let runtime = tokio::runtime::Handle::current();
    let one = SocketTransport::new(identity(ONE), connector, Notes::new(), SendOptions::default(), runtime);
    one.set_members(vec![(TWO, address)]);
    until_connected(&one, ONE, TWO, &notes, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_no_node_is_refused_whatever_the_authority_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = certificates(directory.path());
    let (address, _) = serve(&certificates).await;
    let call = async |files: &IdentityFiles| {
        let files =
            steeple_client::tls::TlsFiles::new(&certificates.authority).with_identity(&files.certificate, &files.key);
        let endpoint = peer_endpoint("https", &address).expect("it is an address");
        let channel = Connector::from_files(files).connect(&endpoint).await.expect("it lets in");
        let requests = tokio_stream::iter([ExchangeRequest::default()]);
        PeerClient::new(channel).exchange(requests).await.expect_err("no handshake was made").code()
    };
    assert_eq!(call(&certificates.operator).await, Code::PermissionDenied);
    let node = certificates.nodes.first().expect("it was made");
    assert_ne!(call(node).await, Code::PermissionDenied, "a node gets as far as the handshake");
}
