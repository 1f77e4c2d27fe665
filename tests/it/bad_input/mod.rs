//! Requests that nobody means well: oversized, malformed, hostile. Each gets a status, and the node goes on serving.

mod cursors;
mod lists;
mod messages;
mod names;
mod records;

use bytes::Bytes;
use steeple_client::types::Selector;
use steeple_client::{Namespace, RequestId};
use steeple_tests::raw;
use steeple_tests::records::{bundle, selector};
use steeple_tests::server::shared;
use steeple_wire::common::v1::{ReadContext, RequestContext};
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

fn many(count: usize) -> Vec<Selector> {
    (0..count).map(|number| selector("t", &number.to_string())).collect()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Sends bytes, and reads one message if any come.
async fn send(service: &str, method: &str, request: Vec<u8>) -> Result<(), Status> {
    let mut answers = raw::streaming_bytes(&shared().channel, service, method, request).await?;
    answers.message().await.map(drop)
}
