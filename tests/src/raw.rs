//! Calls below the client library: requests that it would not send.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// The SPIRE datastore.
pub const DATASTORE: &str = "steeple.spire.v1.Datastore";
/// Tails, histories and bootstraps.
pub const EVENTS: &str = "steeple.events.v1.Events";
/// Looking after a node.
pub const ADMIN: &str = "steeple.admin.v1.Admin";

/// Sends a message and receives one.
///
/// # Errors
/// The status.
pub async fn unary<Q: Message, A: Message + Default>(
    channel: &Channel,
    service: &str,
    method: &str,
    request: &Q,
) -> Result<A, Status> {
    let answer = unary_bytes(channel, service, method, request.encode_to_vec()).await?.into_inner();
    A::decode(answer).map_err(|error| Status::data_loss(error.to_string()))
}

/// Sends a message and receives the first of several.
///
/// # Errors
/// The status, wherever it comes.
pub async fn first<Q: Message, A: Message + Default>(
    channel: &Channel,
    service: &str,
    method: &str,
    request: &Q,
) -> Result<Option<A>, Status> {
    let mut answers = streaming_bytes(channel, service, method, request.encode_to_vec()).await?;
    let Some(answer) = answers.message().await? else { return Ok(None) };
    A::decode(answer).map(Some).map_err(|error| Status::data_loss(error.to_string()))
}

/// Sends bytes in place of a message and receives a message's bytes.
///
/// # Errors
/// The status.
pub async fn unary_bytes(
    channel: &Channel,
    service: &str,
    method: &str,
    request: impl Into<Bytes>,
) -> Result<Response<Bytes>, Status> {
    let mut grpc = ready(channel).await?;
    grpc.unary(Request::new(request.into()), path(service, method), BytesCodec).await
}

/// Sends bytes in place of a message and receives messages' bytes.
///
/// # Errors
/// The status.
pub async fn streaming_bytes(
    channel: &Channel,
    service: &str,
    method: &str,
    request: impl Into<Bytes>,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = ready(channel).await?;
    Ok(grpc.server_streaming(Request::new(request.into()), path(service, method), BytesCodec).await?.into_inner())
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc =
        Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok(grpc)
}

fn path(service: &str, method: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/{service}/{method}")).expect("a path")
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
