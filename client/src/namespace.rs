//! One data set of a group.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Client;
use crate::call::{Mutation, Query, revision};
use crate::cluster::Route;
use crate::error::Error;
use crate::pages::Unread;
use crate::retry::Stake;
use crate::streams::Records;
use steeple_wire::common::v1::{Consistency, ReadContext, RequestContext};

/// Names a mutation, so that sending it again is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A new one, different from all others.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// One data set of a group of nodes, and the calls that work on it. Cheap to clone.
///
/// Clones share what they have seen: with [`Namespace::stale`], no answer is older than an earlier one.
#[derive(Clone, Debug)]
pub struct Namespace {
    client: Client,
    name: String,
    consistency: Consistency,
    request: Option<RequestId>,
    seen: Seen,
}

/// The greatest revision that any answer told; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<AtomicU64>);

impl Seen {
    pub(crate) fn see(&self, revision: u64) {
        self.0.fetch_max(revision, Ordering::Relaxed);
    }
}

impl Namespace {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self { client, name, consistency: Consistency::RequireCurrent, request: None, seen: Seen::default() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same data set, read without making sure that the answer is current.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { consistency: Consistency::TolerateStale, ..self.clone() }
    }

    /// The same data set with another deadline for calls.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        let mut namespace = self.clone();
        namespace.client.options_mut().deadline = deadline;
        namespace
    }

    /// The same data set, for **one** mutation under an id that the caller chose: to repeat one whose outcome is unknown,
    /// or one that must survive the caller's own restart. Without this every mutation gets a random id.
    #[must_use]
    pub fn with_request(&self, request: RequestId) -> Self {
        Self { request: Some(request), ..self.clone() }
    }

    /// The greatest revision that any answer told.
    #[must_use]
    pub fn seen_revision(&self) -> u64 {
        self.seen.0.load(Ordering::Relaxed)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn see(&self, revision: u64) {
        self.seen.see(revision);
    }

    pub(crate) fn request_id(&self) -> RequestId {
        self.request.unwrap_or_else(RequestId::random)
    }

    pub(crate) fn read_context(&self) -> ReadContext {
        let min_revision = match self.consistency {
            Consistency::RequireCurrent => 0,
            Consistency::TolerateStale => self.seen_revision(),
        };
        ReadContext { namespace: self.name.clone(), consistency: self.consistency.into(), min_revision }
    }

    /// Which nodes can answer a read.
    pub(crate) fn read_route(&self) -> Route {
        match self.consistency {
            Consistency::RequireCurrent => Route::Current,
            Consistency::TolerateStale => Route::Any,
        }
    }

    pub(crate) async fn mutate<M: Mutation>(&self, mut mutation: M) -> Result<M::Answer, Error> {
        let id = self.request_id();
        *mutation.context() = Some(RequestContext { namespace: self.name.clone(), request_id: id.0.to_vec() });
        let response = self.client.unary(mutation, Stake::Mutation(id), Route::Leader).await?;
        self.see(revision(response.metadata()));
        Ok(response.into_inner())
    }

    pub(crate) async fn query<Q: Query>(&self, mut query: Q) -> Result<Q::Answer, Error> {
        *query.context() = Some(self.read_context());
        let response = self.client.unary(query, Stake::None, self.read_route()).await?;
        self.see(revision(response.metadata()));
        Ok(response.into_inner())
    }

    /// As [`Namespace::query`], with an answer that is decoded later.
    pub(crate) async fn query_unread<Q: Query>(&self, mut query: Q) -> Result<Unread, Error> {
        *query.context() = Some(self.read_context());
        let response = self.client.unread(query, self.read_route()).await?;
        let revision = revision(response.metadata());
        self.see(revision);
        Ok(Unread { bytes: response.into_inner(), revision })
    }

    /// A long list; `unpack` takes the records and the revision out of a message.
    pub(crate) async fn query_stream<Q: Query, Record>(
        &self,
        mut query: Q,
        unpack: fn(Q::Answer) -> (Vec<Record>, u64),
    ) -> Result<Records<Q::Answer, Record>, Error> {
        *query.context() = Some(self.read_context());
        let response = self.client.streaming(query, self.read_route()).await?;
        self.see(revision(response.metadata()));
        Ok(Records::new(response.into_inner(), self.seen.clone(), unpack))
    }
}

/// What an answer has to have.
pub(crate) fn required<T>(part: Option<T>, name: &'static str) -> Result<T, Error> {
    part.ok_or(Error::Protocol(name))
}
