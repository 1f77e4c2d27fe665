//! Nodes that answer by script, inside the process, over connections that can be broken, or over sockets.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
use prost::Message;
use steeple_client::Client;
use steeple_client::administration::ClusterStatusResponse;
use steeple_wire::status::REVISION_HEADER;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;

/// What the node does about one call.
pub(crate) enum Reply {
    /// Answers with these messages and this revision, then does what follows.
    Messages(Vec<Vec<u8>>, u64, Then),
    /// Refuses.
    Refuse(Status),
    /// Does something after so long.
    Late(Duration, Box<Reply>),
    /// Breaks the connection without an answer.
    Break,
    /// As [`Fake::kill`], without an answer.
    Die,
}

/// What follows the messages of an answer.
pub(crate) enum Then {
    /// The end.
    End,
    /// Silence.
    Hang,
    /// The last message again and again, with so much time between.
    Repeat(Duration),
}

impl Reply {
    pub(crate) fn answer(message: &impl Message, revision: u64) -> Self {
        Self::Messages(vec![message.encode_to_vec()], revision, Then::End)
    }

    /// Takes the request and says nothing.
    pub(crate) fn hang() -> Self {
        Self::Messages(Vec::new(), 0, Then::Hang)
    }

    pub(crate) fn stream<M: Message>(messages: &[M], then: Then) -> Self {
        Self::Messages(messages.iter().map(Message::encode_to_vec).collect(), 0, then)
    }
}

/// A call that arrived: its name and its request.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) call: String,
    pub(crate) request: Bytes,
}

impl Arrived {
    pub(crate) fn decode<M: Message + Default>(&self) -> M {
        M::decode(self.request.clone()).unwrap()
    }
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<Reply>>,
    arrived: Mutex<Vec<Arrived>>,
    wire: Mutex<Vec<JoinHandle<()>>>,
    dead: AtomicBool,
    /// What it says of its group, outside the script.
    members: Mutex<Option<ClusterStatusResponse>>,
}

/// The node, and the script that it follows.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<State>);

impl Fake {
    pub(crate) fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let fake = Self::default();
        fake.0.script.lock().unwrap().extend(script);
        fake
    }

    /// Calls so far.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.0.arrived.lock().unwrap().clone()
    }

    /// Names of the calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.arrived().into_iter().map(|arrived| arrived.call).collect()
    }

    /// Does this next, after all that is in the script.
    pub(crate) fn then(&self, reply: Reply) {
        self.0.script.lock().unwrap().push_back(reply);
    }

    /// Leaves out what is in the script.
    pub(crate) fn forget(&self) {
        self.0.script.lock().unwrap().clear();
    }

    /// Says this of its group from now on.
    pub(crate) fn tell(&self, members: ClusterStatusResponse) {
        *self.0.members.lock().unwrap() = Some(members);
    }

    /// Breaks all connections and takes no new ones.
    pub(crate) fn kill(&self) {
        self.0.dead.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Serves, and connects a client.
    pub(crate) async fn client(&self) -> Client {
        Client::from_channel(self.channel().await)
    }

    /// Serves over a socket, and returns its address.
    pub(crate) fn listen(&self) -> String {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap().to_string();
        tokio::spawn(self.router().serve_with_incoming(incoming));
        address
    }

    fn router(&self) -> tonic::transport::server::Router {
        let server = Server::builder().add_service(Datastore(self.clone())).add_service(Events(self.clone()));
        server.add_service(Admin(self.clone()))
    }

    /// Serves, and connects.
    pub(crate) async fn channel(&self) -> Channel {
        let (accept, incoming) = mpsc::channel::<DuplexStream>(16);
        let incoming = ReceiverStream::new(incoming).map(Ok::<_, Infallible>);
        tokio::spawn(self.router().serve_with_incoming(incoming));
        let fake = self.clone();
        let connector = service_fn(move |_| {
            let (near, far) = fake.wire();
            let (accept, dead) = (accept.clone(), fake.0.dead.load(Ordering::SeqCst));
            async move {
                if dead {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
                }
                accept.send(far).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(near))
            }
        });
        let endpoint = Endpoint::from_static("http://fake");
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    /// Two ends of a new connection, with something between them that can be cut.
    fn wire(&self) -> (DuplexStream, DuplexStream) {
        let (near, mut near_relay) = duplex(1 << 16);
        let (mut far_relay, far) = duplex(1 << 16);
        let relay = tokio::spawn(async move {
            let _closed = copy_bidirectional(&mut near_relay, &mut far_relay).await;
        });
        self.0.wire.lock().unwrap().push(relay);
        (near, far)
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        self.0.wire.lock().unwrap().drain(..).for_each(|relay| relay.abort());
    }

    fn next_reply(&self, call: &str, request: Bytes) -> Reply {
        self.0.arrived.lock().unwrap().push(Arrived { call: call.to_owned(), request });
        self.0.script.lock().unwrap().pop_front().unwrap_or_else(|| panic!("{call} is not in the script"))
    }

    async fn serve(self, call: String, request: Bytes) -> Result<Response<Messages>, Status> {
        if call == "ClusterStatus" {
            let members = self.0.members.lock().unwrap().clone();
            let members = members.ok_or_else(|| Status::unimplemented("knows of no group"))?;
            let members = Ok(Bytes::from(members.encode_to_vec()));
            return Ok(Response::new(Box::pin(tokio_stream::once(members)) as Messages));
        }
        let mut reply = self.next_reply(&call, request);
        while let Reply::Late(delay, late) = reply {
            tokio::time::sleep(delay).await;
            reply = *late;
        }
        let (messages, revision, then) = match reply {
            Reply::Messages(messages, revision, then) => (messages, revision, then),
            Reply::Refuse(status) => return Err(status),
            Reply::Late(..) => return Err(Status::internal("too late")),
            Reply::Die => {
                self.kill();
                return std::future::pending().await;
            }
            Reply::Break => {
                self.cut();
                return std::future::pending().await;
            }
        };
        let last = messages.last().cloned().map(Bytes::from).unwrap_or_default();
        let head = tokio_stream::iter(messages.into_iter().map(|message| Ok(Bytes::from(message))));
        let mut response = Response::new(match then {
            Then::End => Box::pin(head) as Messages,
            Then::Hang => Box::pin(head.chain(tokio_stream::pending())),
            Then::Repeat(every) => {
                let again = tokio_stream::iter(std::iter::repeat_with(move || Ok(last.clone())));
                Box::pin(head.chain(again.throttle(every)))
            }
        });
        response.metadata_mut().insert(REVISION_HEADER, revision.to_string().parse().unwrap());
        Ok(response)
    }
}

impl Fake {
    /// Replies to each message of a stream.
    fn serve_each(self, call: String, requests: Streaming<Bytes>) -> Response<Messages> {
        let (answers, messages) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut requests = requests;
            while let Ok(Some(request)) = requests.message().await {
                match self.clone().serve(call.clone(), request).await {
                    Ok(response) => {
                        let mut messages = response.into_inner();
                        while let Some(message) = messages.next().await {
                            drop(answers.send(message).await);
                        }
                    }
                    Err(status) => return drop(answers.send(Err(status)).await),
                }
            }
        });
        Response::new(Box::pin(ReceiverStream::new(messages)))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

macro_rules! service {
    ($type:ident, $name:literal) => {
        #[derive(Clone)]
        struct $type(Fake);

        impl NamedService for $type {
            const NAME: &'static str = $name;
        }

        impl tower::Service<tonic::codegen::http::Request<Body>> for $type {
            type Response = tonic::codegen::http::Response<Body>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

            fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: tonic::codegen::http::Request<Body>) -> Self::Future {
                let fake = self.0.clone();
                let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                if call == "StreamBatches" {
                    let handler = service_fn(move |request: Request<Streaming<Bytes>>| {
                        std::future::ready(Ok::<_, Status>(fake.clone().serve_each(call.clone(), request.into_inner())))
                    });
                    return Box::pin(async move { Ok(Grpc::new(Raw).streaming(handler, request).await) });
                }
                let handler =
                    service_fn(move |request: Request<Bytes>| fake.clone().serve(call.clone(), request.into_inner()));
                Box::pin(async move { Ok(Grpc::new(Raw).server_streaming(handler, request).await) })
            }
        }
    };
}

service!(Datastore, "steeple.spire.v1.Datastore");
service!(Events, "steeple.events.v1.Events");
service!(Admin, "steeple.admin.v1.Admin");

/// Leaves messages as the bytes that they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
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

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
