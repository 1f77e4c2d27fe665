//! A connection to a node.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::retry::Backoff;
use crate::{Admin, Namespace};

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How long a call may take, repetitions included. Streams have no deadline once they have begun.
    pub deadline: Duration,
    /// The first pause between two attempts.
    pub pause_min: Duration,
    /// The longest pause between two attempts.
    pub pause_max: Duration,
    /// A tail that hears nothing for so long, not even that there is nothing, connects again.
    pub tail_silence_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
            tail_silence_max: Duration::from_secs(15),
        }
    }
}

impl Options {
    /// With this deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With pauses between attempts from `min` up to `max`.
    #[must_use]
    pub fn with_pauses(mut self, min: Duration, max: Duration) -> Self {
        self.pause_min = min;
        self.pause_max = max;
        self
    }

    /// With this limit to a tail's silence.
    #[must_use]
    pub fn with_tail_silence_max(mut self, silence: Duration) -> Self {
        self.tail_silence_max = silence;
        self
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.pause_min, self.pause_max)
    }
}

/// A connection to a node. Cheap to clone; clones share the connection, which is made again when it breaks.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    options: Options,
}

impl Client {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// When the text is no address or nobody answers there.
    pub async fn connect(endpoint: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::from_channel(Self::endpoint(endpoint)?.connect().await?))
    }

    /// As [`Client::connect`], but connects with the first call.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn connect_lazy(endpoint: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::from_channel(Self::endpoint(endpoint)?.connect_lazy()))
    }

    /// Uses a channel that somebody else made, such as one inside the process.
    #[must_use]
    pub fn from_channel(channel: Channel) -> Self {
        Self { channel, options: Options::default() }
    }

    /// An endpoint with the settings that suit long-lived streams, to be refined (TLS) before it is connected.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn endpoint(endpoint: impl Into<String>) -> Result<Endpoint, Error> {
        Ok(Endpoint::from_shared(endpoint.into())?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true))
    }

    /// With these options.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// One data set of the node. Nothing is sent: whether it exists shows with the first call.
    #[must_use]
    pub fn namespace(&self, name: impl Into<String>) -> Namespace {
        Namespace::new(self.clone(), name.into())
    }

    /// The node itself.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }
}
