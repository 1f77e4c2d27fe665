//! Making connections: the one place that knows how.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use steeple_wire::gather::Gathered;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::Client;
use crate::error::Error;
use crate::tls::Connector;

/// The longest address that is taken from anybody.
const ADDRESS_BYTES_MAX: usize = 512;

/// The longest frame that a node may send. Long lists come in frames of this size, each of which takes both ends a call of the
/// kernel.
const FRAME_BYTES_MAX: u32 = 128 << 10;

/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Makes connections that are not encrypted, as the library for gRPC does by itself.
fn plain() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_MAX));
    connector
}

/// Makes connections whose writes are gathered.
struct Gathering<Connector>(Connector);

impl<Connector, Connection> Service<Uri> for Gathering<Connector>
where
    Connector: Service<Uri, Response = TokioIo<Connection>>,
    Connector::Future: Send + 'static,
{
    type Response = TokioIo<Gathered<Connection>>;
    type Error = Connector::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connecting = self.0.call(address);
        Box::pin(async move { Ok(TokioIo::new(Gathered::new(connecting.await?.into_inner()))) })
    }
}

/// Turns addresses into connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialer {
    /// Encrypts all connections; without it none is.
    tls: Option<Connector>,
}

impl Dialer {
    /// Encrypts all connections.
    pub(crate) fn encrypted(connector: Connector) -> Self {
        Self { tls: Some(connector) }
    }

    /// What addresses without a scheme mean, and the only one that is accepted: whether connections are encrypted is decided
    /// by who uses the client, and not by an address that somebody told it.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Connects now.
    pub(crate) async fn connect(&self, address: &str) -> Result<Channel, Error> {
        let endpoint = self.checked(address)?;
        Ok(match &self.tls {
            Some(connector) => endpoint.connect_with_connector(Gathering(connector.clone())).await?,
            None => endpoint.connect_with_connector(Gathering(plain())).await?,
        })
    }

    /// Connects with the first call.
    pub(crate) fn connect_lazy(&self, address: &str) -> Result<Channel, Error> {
        let endpoint = self.checked(address)?;
        Ok(match &self.tls {
            Some(connector) => endpoint.connect_with_connector_lazy(Gathering(connector.clone())),
            None => endpoint.connect_with_connector_lazy(Gathering(plain())),
        })
    }

    fn checked(&self, address: &str) -> Result<Endpoint, Error> {
        let endpoint = self.endpoint(address)?;
        let reason = match (self.scheme(), endpoint.uri().scheme_str()) {
            (expected, Some(found)) if expected == found => return Ok(endpoint),
            ("http", Some("https")) => "is to be encrypted, which takes the authority that vouches for the node",
            ("https", Some("http")) => "is not encrypted, although an authority was given to vouch for the node",
            _ => "is no address of a node; write http://HOST:PORT or https://HOST:PORT",
        };
        Err(Error::Address { address: address.to_owned(), reason })
    }

    /// What an address stands for, with the settings that suit long-lived streams.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        Ok(Endpoint::from_shared(address.to_owned())?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true))
    }
}

impl Client {
    /// An endpoint with the settings that suit long-lived streams, to be refined before it is connected.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn endpoint(endpoint: impl Into<String>) -> Result<Endpoint, Error> {
        Dialer::default().endpoint(&endpoint.into())
    }
}

/// The addresses that a client begins with: one, several, or a text with several of them between commas.
///
/// An address is `http://host:port`, or `https://host:port` for a client that encrypts; that is also what is meant by an
/// address without a scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// Each address, complete, in the order given and once.
    pub(crate) fn addresses(self, scheme: &str) -> Vec<String> {
        let mut addresses: Vec<String> = Vec::new();
        for address in self.0.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
            let address = complete(address, scheme);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

impl From<&str> for Endpoints {
    fn from(addresses: &str) -> Self {
        Self(vec![addresses.to_owned()])
    }
}

impl From<String> for Endpoints {
    fn from(addresses: String) -> Self {
        Self(vec![addresses])
    }
}

impl From<&String> for Endpoints {
    fn from(addresses: &String) -> Self {
        Self(vec![addresses.clone()])
    }
}

impl<Address: Into<String>> From<Vec<Address>> for Endpoints {
    fn from(addresses: Vec<Address>) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl<Address: Into<String> + Clone> From<&[Address]> for Endpoints {
    fn from(addresses: &[Address]) -> Self {
        addresses.to_vec().into()
    }
}

impl<Address: Into<String>, const COUNT: usize> From<[Address; COUNT]> for Endpoints {
    fn from(addresses: [Address; COUNT]) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

/// An address with its scheme and nothing behind its port.
pub(crate) fn complete(address: &str, scheme: &str) -> String {
    let address = address.trim_end_matches('/');
    if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") }
}

/// An address that a node told, complete; none for what cannot be one.
pub(crate) fn told(address: &str, scheme: &str) -> Option<String> {
    (!address.is_empty() && address.len() <= ADDRESS_BYTES_MAX).then(|| complete(address, scheme))
}

/// The scheme of a complete address.
pub(crate) fn scheme(address: &str) -> &str {
    address.split_once("://").map_or("http", |(scheme, _)| scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;

    #[test]
    fn addresses_are_complete_and_come_once() {
        let expected = ["http://a:1", "https://b:2", "http://c:3"];
        assert_eq!(Endpoints::from("a:1, https://b:2/,,http://a:1/, c:3").addresses("http"), expected);
        assert_eq!(Endpoints::from(["a:1", "https://b:2", "c:3"]).addresses("http"), expected);
        assert_eq!(Endpoints::from(vec!["a:1,https://b:2".to_owned(), "c:3".to_owned()]).addresses("http"), expected);
        assert!(Endpoints::from(" , ").addresses("http").is_empty());
    }

    #[tokio::test]
    async fn addresses_have_the_scheme_that_the_client_was_made_for() {
        let refusal = |dialer: &Dialer, address: &str| dialer.connect_lazy(address).unwrap_err().to_string();
        let plain = Dialer::default();
        assert!(plain.connect_lazy("http://a:1").is_ok());
        assert!(refusal(&plain, "https://a:1").contains("is to be encrypted"));
        assert!(refusal(&plain, "HTTPS://a:1").contains("is to be encrypted"));
        let encrypted = Dialer::encrypted(Connector::from_files(TlsFiles::new("authority.pem")));
        assert!(encrypted.connect_lazy("https://a:1").is_ok());
        assert!(refusal(&encrypted, "http://a:1").contains("is not encrypted"));
        for (dialer, address) in [(&plain, "ftp://a:1"), (&encrypted, "ftp://a:1"), (&encrypted, "a:1")] {
            assert!(refusal(dialer, address).contains("is no address of a node"), "{address}");
        }
    }

    #[test]
    fn what_a_node_tells_gets_the_scheme_in_use() {
        assert_eq!(told("a:1", scheme("https://b:2")), Some("https://a:1".into()));
        assert_eq!(told("", "http"), None);
        assert_eq!(told(&"a".repeat(600), "http"), None);
    }
}
