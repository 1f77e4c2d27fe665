//! How a command reaches nodes.

use std::time::Duration;

use clap::Args;
use steeple_client::{Admin, Client, Error, Namespace, Options};

use super::exit::{CommandError, root_cause};
use super::instant::parse_duration;
use super::output::Output;

/// Where the nodes are, and how their answers are printed.
#[derive(Clone, Debug, Args)]
pub(super) struct Connection {
    /// Address of a node; or of several, with commas between. The others and the leader are found from there
    #[arg(long, alias = "address", value_name = "URL", env = "STEEPLE_ENDPOINT", value_delimiter = ',')]
    #[arg(default_value = "http://127.0.0.1:7400", help_heading = "Connection")]
    pub(super) endpoint: Vec<String>,
    /// How long a call may take, repetitions included
    #[arg(long, value_name = "DURATION", env = "STEEPLE_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    #[arg(help_heading = "Connection")]
    pub(super) timeout: Duration,
    /// How to print
    #[arg(long, short, value_enum, env = "STEEPLE_OUTPUT", default_value_t)]
    #[arg(help_heading = "Connection")]
    pub(super) output: Output,
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
        for endpoint in &self.endpoint {
            Client::connect_lazy(endpoint.as_str()).map_err(|error| {
                let cause = root_cause(&error);
                CommandError::Usage(format!("`{endpoint}` is not an address ({cause}); write http://HOST:PORT"))
            })?;
        }
        let connected = tokio::time::timeout(self.timeout, Client::connect(self.endpoint.clone())).await;
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
