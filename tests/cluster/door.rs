//! One node's services, called once at a time: what a client library would hide shows here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use steeple_client::types::{
    CreateOrReturnRegistrationEntryRequest, CreateOrReturnRegistrationEntryResponse, DeleteRegistrationEntryRequest,
    DeleteRegistrationEntryResponse, FetchRegistrationEntryRequest, FetchRegistrationEntryResponse, RegistrationEntry,
    RegistrationEntryMask, Selector, UpdateRegistrationEntryRequest, UpdateRegistrationEntryResponse,
};
use steeple_client::{Client, Options};
use steeple_tests::raw::{self, DATASTORE};
use steeple_wire::common::v1::{Consistency, ReadContext, RequestContext};
use steeple_wire::status::{ErrorKind, REVISION_HEADER};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::history::{Answer, Call, Held};

/// The namespace that all clients work in.
pub(crate) const NAMESPACE: &str = "cluster";

/// Names the member that decides, in the metadata of a refusal by one that does not.
const LEADER_HEADER: &str = "steeple-leader-node";

/// What became of one attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Answered from a state of this revision.
    Answered { answer: Answer, revision: u64 },
    /// Nothing happened, and somebody else may know more.
    NotDone { leader: Option<u64>, reason: String },
    /// It may have happened, or may happen yet.
    Maybe { reason: String },
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Freshness {
    Current,
    /// At least of this revision.
    Stale(u64),
}

/// A way in to one node, which may be another one after the node was started again. Clones are the same door.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    channel: Arc<Mutex<Channel>>,
}

impl Door {
    /// Connects with the first call.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let endpoint = Client::endpoint(format!("http://{address}")).expect("an address");
        Self::through(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy())
    }

    /// Through a channel that somebody else made.
    pub(crate) fn through(channel: Channel) -> Self {
        Self { channel: Arc::new(Mutex::new(channel)) }
    }

    /// From now on through another channel.
    pub(crate) fn replace(&self, channel: Channel) {
        *self.channel.lock().expect("no panic") = channel;
    }

    fn channel(&self) -> Channel {
        self.channel.lock().expect("no panic").clone()
    }

    /// The client library, on this node alone.
    pub(crate) fn client(&self, deadline: Duration) -> Client {
        let options =
            Options::default().with_deadline(deadline).with_pauses(Duration::from_millis(5), Duration::from_millis(50));
        Client::from_channel(self.channel()).with_options(options)
    }

    /// Tries a mutation once.
    pub(crate) async fn mutate(&self, key: &str, call: Call, request: [u8; 16], within: Duration) -> Attempt {
        let context = Some(RequestContext { namespace: NAMESPACE.into(), request_id: request.to_vec() });
        match call {
            Call::Create(value) => {
                let message = CreateOrReturnRegistrationEntryRequest { context, entry: Some(entry(key, value)) };
                let read = |answer: CreateOrReturnRegistrationEntryResponse| match answer.existing {
                    true => Answer::Exists(held(answer.entry.as_ref())),
                    false => Answer::Created,
                };
                self.attempt("CreateOrReturnRegistrationEntry", &message, within, read).await
            }
            Call::Update(value) => {
                let mask = Some(RegistrationEntryMask { hint: true, ..RegistrationEntryMask::default() });
                let message = UpdateRegistrationEntryRequest { context, entry: Some(entry(key, value)), mask };
                let read = |answer: UpdateRegistrationEntryResponse| Answer::Updated(held(answer.entry.as_ref()));
                self.attempt("UpdateRegistrationEntry", &message, within, read).await
            }
            Call::Delete => {
                let message = DeleteRegistrationEntryRequest { context, entry_id: key.into() };
                let read = |answer: DeleteRegistrationEntryResponse| Answer::Deleted(held(answer.entry.as_ref()));
                self.attempt("DeleteRegistrationEntry", &message, within, read).await
            }
            Call::Read => panic!("a read is no mutation"),
        }
    }

    /// Tries a read once.
    pub(crate) async fn read(&self, key: &str, freshness: Freshness, within: Duration) -> Attempt {
        let (consistency, min_revision) = match freshness {
            Freshness::Current => (Consistency::RequireCurrent, 0),
            Freshness::Stale(revision) => (Consistency::TolerateStale, revision),
        };
        let context = Some(ReadContext { namespace: NAMESPACE.into(), consistency: consistency.into(), min_revision });
        let message = FetchRegistrationEntryRequest { context, entry_id: key.into() };
        let read = |answer: FetchRegistrationEntryResponse| {
            Answer::Found(answer.entry.as_ref().map(|entry| held(Some(entry))))
        };
        self.attempt("FetchRegistrationEntry", &message, within, read).await
    }

    async fn attempt<A: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        within: Duration,
        read: impl FnOnce(A) -> Answer,
    ) -> Attempt {
        let channel = self.channel();
        let call = raw::unary_bytes(&channel, DATASTORE, method, message.encode_to_vec());
        match tokio::time::timeout(within, call).await {
            Err(_) => Attempt::Maybe { reason: format!("no answer within {within:?}") },
            Ok(Err(status)) => sorted(&status),
            Ok(Ok(response)) => {
                let revision = response.metadata().get(REVISION_HEADER).expect("the revision of the answer");
                let revision = revision.to_str().expect("text").parse().expect("a number");
                Attempt::Answered { answer: read(A::decode(response.into_inner()).expect("a message")), revision }
            }
        }
    }
}

/// Sorts a failure by what it leaves open. What the datastore itself refuses here can only be that there is no such entry.
fn sorted(status: &Status) -> Attempt {
    let reason = format!("{}: {}", status.code(), status.message());
    match ErrorKind::of(status) {
        Some(ErrorKind::NotLeader | ErrorKind::Overloaded | ErrorKind::Unavailable) => {
            Attempt::NotDone { leader: leader_of(status), reason }
        }
        Some(ErrorKind::OutcomeUnknown) => Attempt::Maybe { reason },
        Some(kind) => panic!("{kind:?}: {status:?}"),
        None if status.code() == Code::NotFound => Attempt::Answered { answer: Answer::Missing, revision: 0 },
        // Only a status that was made on this side has a source: the connection broke under the call.
        None if cannot_have_arrived(status) => Attempt::NotDone { leader: None, reason },
        None if matches!(
            status.code(),
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Internal
        ) =>
        {
            Attempt::Maybe { reason }
        }
        None if std::error::Error::source(status).is_some() => Attempt::Maybe { reason },
        None => panic!("refused: {status:?}"),
    }
}

fn leader_of(status: &Status) -> Option<u64> {
    status.metadata().get(LEADER_HEADER)?.to_str().ok()?.parse().ok()
}

fn cannot_have_arrived(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The entry under a key, with a value.
fn entry(key: &str, value: u64) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: key.into(),
        parent_id: "spiffe://cluster.test/agent".into(),
        spiffe_id: format!("spiffe://cluster.test/{key}"),
        selectors: vec![Selector { r#type: "key".into(), value: key.into() }],
        hint: value.to_string(),
        ..RegistrationEntry::default()
    }
}

/// What an entry holds.
///
/// # Panics
/// When it is none of those that are written here.
pub(crate) fn held(entry: Option<&RegistrationEntry>) -> Held {
    let entry = entry.expect("an entry");
    let value = entry.hint.parse().unwrap_or_else(|_| panic!("an entry that nobody wrote: {entry:?}"));
    Held { value, revision: entry.revision_number }
}
