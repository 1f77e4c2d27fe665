//! Makes encrypted connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use super::files::server_name;
use super::{TlsError, TlsFiles};

/// An encrypted connection.
pub type Encrypted = TokioIo<BufReader<TlsStream<TcpStream>>>;

/// Port of an address that names none.
const PORT_DEFAULT: u16 = 443;

/// Where settings come from.
type Source = Arc<dyn Fn() -> Result<Arc<ClientConfig>, TlsError> + Send + Sync>;

/// Connects to the host of an address and verifies that its certificate names that host: as `dNSName` where the address
/// has a name, as `iPAddress` where it has a number. Where the files come with a name, it names that one instead.
#[derive(Clone)]
pub struct Connector {
    source: Source,
    server_name: Option<String>,
}

impl Connector {
    /// Asks `source` for the settings of every connection.
    pub fn new(source: impl Fn() -> Result<Arc<ClientConfig>, TlsError> + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), server_name: None }
    }

    /// Reads the files for every connection.
    #[must_use]
    pub fn from_files(files: TlsFiles) -> Self {
        let server_name = files.server_name.clone();
        Self { server_name, ..Self::new(move || files.load()) }
    }

    /// A channel that connects now.
    ///
    /// # Errors
    /// When nobody answers there, or one of both sides does not accept the other.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.clone()).await
    }

    /// A channel that connects when it is used.
    #[must_use]
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.clone())
    }

    async fn open(self, address: Uri) -> Result<Encrypted, TlsError> {
        let host = address.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = address.port_u16().unwrap_or(PORT_DEFAULT);
        let name = server_name(self.server_name.as_ref().unwrap_or(&host))?;
        let source = Arc::clone(&self.source);
        // Reads files.
        let config = tokio::task::spawn_blocking(move || source()).await;
        let failed = |source| TlsError::Connect { address: format!("{host}:{port}"), source };
        let config = config.map_err(|error| failed(io::Error::other(error)))??;
        let connected = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            settled(stream).await
        };
        Ok(TokioIo::new(connected.await.map_err(failed)?))
    }
}

/// Waits for the first words of the other side. A client's handshake is done before the other side has looked at its
/// certificate, so a refusal would otherwise show as a broken connection under the first call, of which nobody could say
/// whether it was carried out. A node that accepts sends its settings unasked.
async fn settled(stream: TlsStream<TcpStream>) -> io::Result<BufReader<TlsStream<TcpStream>>> {
    let mut stream = BufReader::new(stream);
    if stream.fill_buf().await?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side hung up after the handshake"));
    }
    Ok(stream)
}

impl Service<Uri> for Connector {
    type Response = Encrypted;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, TlsError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        Box::pin(self.clone().open(address))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}
