//! How a command reaches nodes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use steeple_client::tls::TlsFiles;
use steeple_client::{Admin, Client, Error, Namespace, Options};

use super::exit::{CommandError, root_cause};
use super::instant::parse_duration;
use super::output::Output;

/// Where the nodes are, and how their answers are printed.
#[derive(Clone, Debug, Args)]
pub(super) struct Connection {
    /// Address of a node; or of several, with commas between. The others and the leader are found from there
    #[arg(long, alias = "address", value_name = "URL", env = "STEEPLE_ENDPOINT", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:7400", help_heading = "Connection")]
    pub(super) endpoint: Vec<String>,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// How long a call may take, repetitions included
    #[arg(long, value_name = "DURATION", env = "STEEPLE_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    #[arg(help_heading = "Connection")]
    pub(super) timeout: Duration,
    /// How to print
    #[arg(long, short, value_enum, env = "STEEPLE_OUTPUT", default_value_t)]
    #[arg(help_heading = "Connection")]
    pub(super) output: Output,
}

/// How connections are encrypted.
#[derive(Clone, Debug, Args)]
pub(super) struct TlsArgs {
    /// Certificates (PEM) of the authorities that vouch for nodes; connections are encrypted when it is given
    #[arg(long, alias = "tls-authority", value_name = "FILE", env = "STEEPLE_CLIENT_CA", help_heading = "Connection")]
    pub(super) tls_ca: Option<PathBuf>,
    /// Certificate (PEM) to show to nodes
    #[arg(long, value_name = "FILE", env = "STEEPLE_CLIENT_CERTIFICATE", help_heading = "Connection")]
    #[arg(requires_all = ["tls_ca", "tls_key"])]
    pub(super) tls_certificate: Option<PathBuf>,
    /// Private key (PEM) of that certificate
    #[arg(long, value_name = "FILE", env = "STEEPLE_CLIENT_KEY", help_heading = "Connection")]
    #[arg(requires_all = ["tls_ca", "tls_certificate"])]
    pub(super) tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// The files, if connections are to be encrypted.
    fn files(&self) -> Option<TlsFiles> {
        let files = TlsFiles::new(self.tls_ca.clone()?);
        Some(match self.tls_certificate.clone().zip(self.tls_key.clone()) {
            Some((certificate, key)) => files.with_identity(certificate, key),
            None => files,
        })
    }
}

/// As [`Connection`], with the data set to work on.
#[derive(Clone, Debug, Args)]
pub(super) struct Target {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Namespace to work on
    #[arg(long, short, value_name = "NAME", env = "STEEPLE_NAMESPACE", default_value = "default")]
    #[arg(help_heading = "Connection")]
    pub(super) namespace: String,
}

impl Connection {
    /// A client. Fails at once when nobody answers; whatever happens later is repeated within the timeout.
    pub(super) async fn client(&self) -> Result<Client, CommandError> {
        let tls = self.tls.files();
        for endpoint in &self.endpoint {
            lazy(endpoint, tls.clone()).map_err(|error| unusable(endpoint, &error))?;
        }
        let endpoints = self.endpoint.clone();
        let connecting = async {
            match tls {
                Some(tls) => Client::connect_encrypted(endpoints, tls).await,
                None => Client::connect(endpoints).await,
            }
        };
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        let client = connected.map_err(|_| Error::DeadlineExceeded)?;
        let unavailable =
            |error| Error::Unavailable { message: format!("{}: {}", self.endpoint.join(", "), root_cause(&error)) };
        Ok(client.map_err(unavailable)?.with_options(Options::default().with_deadline(self.timeout)))
    }

    /// The nodes themselves.
    pub(super) async fn admin(&self) -> Result<Admin, CommandError> {
        Ok(self.client().await?.admin())
    }
}

fn lazy(endpoint: &str, tls: Option<TlsFiles>) -> Result<Client, Error> {
    match tls {
        Some(tls) => Client::connect_lazy_encrypted(endpoint, tls),
        None => Client::connect_lazy(endpoint),
    }
}

fn unusable(endpoint: &str, error: &Error) -> CommandError {
    CommandError::Usage(match error {
        Error::Address { .. } | Error::Tls(_) => format!("{error} (--tls-ca)"),
        error => format!("`{endpoint}` is not an address ({}); write HOST:PORT", root_cause(error)),
    })
}

impl Target {
    /// The data set.
    pub(super) async fn open(&self) -> Result<Namespace, CommandError> {
        Ok(self.connection.client().await?.namespace(&self.namespace))
    }

    /// How to print.
    pub(super) fn output(&self) -> Output {
        self.connection.output
    }
}
