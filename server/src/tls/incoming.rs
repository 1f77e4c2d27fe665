//! Accepting connections, encrypted or not.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{Certificate, Tls};
use crate::authorization::Identity;

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Handshakes under way at a time; more connections wait in the listener's queue.
const HANDSHAKES_MAX: usize = 1_024;

/// Connections that wait to be served.
const WAITING_MAX: usize = 64;

/// Pause after a connection could not be accepted, as when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest time that a connection is kept because of its certificate; timers reach no further.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who is on the other side of a connection; every request that comes over it carries this in its extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whether the other side showed a certificate that the authority vouches for.
    pub verified: bool,
    /// Whom that certificate names.
    pub identity: Option<Arc<Identity>>,
    /// Where the connection comes from.
    pub address: Option<SocketAddr>,
}

/// A connection that was accepted.
pub struct Connection {
    stream: Stream,
    caller: Caller,
    /// When the certificate of the other side expires.
    end: Option<Pin<Box<Sleep>>>,
}

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Connections that are made to a listener, until what this returns is dropped. With `tls` each is encrypted, and those
/// whose handshake fails do not appear.
pub fn incoming(listener: TcpListener, tls: Option<Tls>) -> ReceiverStream<io::Result<Connection>> {
    let (sender, connections) = mpsc::channel(WAITING_MAX);
    tokio::spawn(accept_all(listener, tls, sender));
    ReceiverStream::new(connections)
}

async fn accept_all(listener: TcpListener, tls: Option<Tls>, sender: mpsc::Sender<io::Result<Connection>>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = sender.closed() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (tls, sender) = (tls.clone(), sender.clone());
                tokio::spawn(async move {
                    let greeted = timeout(HANDSHAKE_MAX, greet(stream, address, tls)).await;
                    drop(permit);
                    match greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                        // Whoever served them has gone.
                        Ok(connection) => drop(sender.send(Ok(connection)).await),
                        Err(error) => {
                            metrics::counter!("steeple_tls_handshake_failures_total").increment(1);
                            tracing::debug!(%address, %error, "a connection was not accepted");
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn greet(stream: TcpStream, address: SocketAddr, tls: Option<Tls>) -> io::Result<Connection> {
    // Without it the end of an answer waits for the acknowledgement of its beginning, which is 40 ms on some systems.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let caller = Caller { verified: false, identity: None, address: Some(address) };
        return Ok(Connection { stream: Stream::Plain(stream), caller, end: None });
    };
    let stream = TlsAcceptor::from(tls.server_config()).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.map(|certificate| Certificate::parse(certificate)).transpose();
    let certificate = certificate.map_err(io::Error::other)?;
    let end = certificate.as_ref().map(|certificate| {
        let left = certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        Box::pin(sleep(left.min(CONNECTION_AGE_MAX)))
    });
    let verified = certificate.is_some();
    let identity = certificate.and_then(|certificate| certificate.identity).map(Arc::new);
    let caller = Caller { verified, identity, address: Some(address) };
    Ok(Connection { stream: Stream::Encrypted(Box::new(stream)), caller, end })
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            let reason = "the certificate that this connection was made with has expired";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
