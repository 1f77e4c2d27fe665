//! A connection to a group of nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::cluster::{self, Cluster};
use crate::dialer::{Dialer, Endpoints, complete};
use crate::error::Error;
use crate::retry::{Backoff, later};
use crate::tls::{Connector, TlsFiles};
use crate::{Admin, Namespace};

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How long a call may take, repetitions included. Streams have no deadline once they have begun. A mutation whose
    /// outcome is unknown is repeated for 45 seconds at the most, which nodes remember its id for with certainty.
    pub deadline: Duration,
    /// The first pause between two attempts.
    pub pause_min: Duration,
    /// The longest pause between two attempts.
    pub pause_max: Duration,
    /// A node that takes longer to answer is left for another one, if there is one. Doubled each time, in case it is the
    /// request that takes so long. Does not apply to what is asked of one node in particular.
    pub node_patience: Duration,
    /// A tail that hears nothing for so long, not even that there is nothing, connects again; and goes on elsewhere when
    /// nothing moved on for so long at a node that is out of touch with its group.
    pub tail_silence_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
            node_patience: Duration::from_secs(3),
            tail_silence_max: Duration::from_secs(5),
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

    /// With this limit to a node's silence.
    #[must_use]
    pub fn with_node_patience(mut self, patience: Duration) -> Self {
        self.node_patience = patience;
        self
    }

    /// With this limit to a tail's silence.
    #[must_use]
    pub fn with_tail_silence_max(mut self, silence: Duration) -> Self {
        self.tail_silence_max = silence;
        self
    }

    /// When a call that begins now has to be done.
    pub(crate) fn deadline_from_now(&self) -> Instant {
        later(Instant::now(), self.deadline)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.pause_min, self.pause_max)
    }
}

/// A connection to the nodes of a group. Cheap to clone; clones share the connections, which are made again when they
/// break, and what is known of the nodes.
///
/// The nodes that it is told of are where it begins. They name the group's other members, and the one that leads.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
    options: Options,
}

impl Client {
    /// Connects to one node or several: `http://host:port`, a list of such addresses, or a text with commas between.
    /// Succeeds when one of them answers.
    ///
    /// # Errors
    /// When a text is no address or nobody answers.
    pub async fn connect(endpoints: impl Into<Endpoints>) -> Result<Self, Error> {
        Self::dial(Dialer::default(), endpoints.into()).await
    }

    /// As [`Client::connect`], but connects with the first call.
    ///
    /// # Errors
    /// When a text is no address.
    pub fn connect_lazy(endpoints: impl Into<Endpoints>) -> Result<Self, Error> {
        Self::dial_lazily(Dialer::default(), endpoints.into())
    }

    /// As [`Client::connect`], with encrypted connections only: `https://host:port`. The files are read again for every
    /// connection, so certificates may be renewed in place.
    ///
    /// # Errors
    /// When the files are of no use, a text is no address, nobody answers, or client and node do not accept each other.
    pub async fn connect_encrypted(endpoints: impl Into<Endpoints>, tls: TlsFiles) -> Result<Self, Error> {
        tls.load()?;
        Self::dial(Dialer::encrypted(Connector::from_files(tls)), endpoints.into()).await
    }

    /// As [`Client::connect_encrypted`], but connects with the first call.
    ///
    /// # Errors
    /// When the files are of no use or a text is no address.
    pub fn connect_lazy_encrypted(endpoints: impl Into<Endpoints>, tls: TlsFiles) -> Result<Self, Error> {
        tls.load()?;
        Self::dial_lazily(Dialer::encrypted(Connector::from_files(tls)), endpoints.into())
    }

    async fn dial(dialer: Dialer, endpoints: Endpoints) -> Result<Self, Error> {
        let nodes = cluster::connect(&dialer, endpoints.addresses(dialer.scheme())).await?;
        Ok(Self::new(Cluster::dialed(dialer, nodes)))
    }

    fn dial_lazily(dialer: Dialer, endpoints: Endpoints) -> Result<Self, Error> {
        let node = |address: String| dialer.connect_lazy(&address).map(|channel| (address, channel));
        let nodes = endpoints.addresses(dialer.scheme()).into_iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self::new(Cluster::dialed(dialer, nodes)))
    }

    /// Uses a channel that somebody else made, such as one inside the process.
    #[must_use]
    pub fn from_channel(channel: Channel) -> Self {
        Self::from_channels([("node", channel)])
    }

    /// Uses channels that somebody else made, such as those to the nodes inside the process, and no other. Each comes with
    /// the address for clients that its node goes by in the group.
    #[must_use]
    pub fn from_channels<Address: AsRef<str>>(channels: impl IntoIterator<Item = (Address, Channel)>) -> Self {
        let channels = channels.into_iter().map(|(address, channel)| (complete(address.as_ref(), "http"), channel));
        Self::new(Cluster::fixed(channels.collect()))
    }

    fn new(cluster: Cluster) -> Self {
        Self { cluster: Arc::new(cluster), options: Options::default() }
    }

    /// With these options.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// One data set of the group. Nothing is sent: whether it exists shows with the first call.
    #[must_use]
    pub fn namespace(&self, name: impl Into<String>) -> Namespace {
        Namespace::new(self.clone(), name.into())
    }

    /// The nodes themselves.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn shared_cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }
}
