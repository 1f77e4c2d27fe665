//! The calls of the datastore, each over the cluster's own.
//!
//! Codes and texts of refusals are the datastore's, which are SPIRE's. The client behind it finds the leader, and repeats a
//! mutation under one request id until its outcome is known.

mod bundles;
mod entries;
mod nodes;
mod others;

use std::time::Duration;

use steeple_client::types::PrunedEntry;
use steeple_client::{Error, Namespace, Records};
use steeple_wire::status::ErrorKind;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::protocol::datastore as v1;

/// Between two attempts at a list that broke off.
const PAUSE: Duration = Duration::from_millis(50);

/// Keys that are asked for at a time; nodes take a few more.
const KEYS_MAX: usize = 50_000;

/// Records with bundles that are asked for at a time when all of them do not fit into one answer: as many as fit even if
/// each is as large as one can be.
const BUNDLES_IN_PAGE: i32 = 3;

/// The datastore, for one call.
pub(crate) struct Spire {
    pub(crate) namespace: Namespace,
    pub(crate) deadline: Instant,
    /// Whether the caller gave it.
    pub(crate) has_deadline: bool,
}

/// Why a call is not answered.
pub(crate) enum Failure {
    /// It makes no sense to the plugin itself.
    Status(Status),
    /// What the cluster said, or that it did not.
    Cluster(Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Cluster(error)
    }
}

pub(crate) type Answer<Message> = Result<Message, Failure>;

impl Spire {
    /// What the caller is told.
    pub(crate) fn status(&self, failure: Failure) -> Status {
        match failure {
            Failure::Status(status) => status,
            Failure::Cluster(Error::Refused { code, message }) => Status::new(code, message),
            Failure::Cluster(Error::OutcomeUnknown { message, .. }) => Status::unavailable(format!(
                "whether this was carried out is unknown, no node could tell in time; last attempt: {message}"
            )),
            Failure::Cluster(Error::Unavailable { message }) => {
                Status::unavailable(format!("no node could serve in time; last attempt: {message}"))
            }
            Failure::Cluster(Error::DeadlineExceeded) => self.out_of_time(),
            Failure::Cluster(other) => Status::new(other.code(), other.to_string()),
        }
    }

    fn out_of_time(&self) -> Status {
        if self.has_deadline {
            return Status::deadline_exceeded("context deadline exceeded");
        }
        Status::unavailable("no node could serve in time")
    }

    /// The namespace as fresh as the caller wants it.
    fn reading(&self, consistency: i32) -> Namespace {
        if consistency == i32::from(v1::DataConsistency::TolerateStale) {
            return self.namespace.stale();
        }
        self.namespace.clone()
    }

    /// All records of a list that comes in many messages. One that breaks off is begun again.
    async fn all<Message, Record: Unpin, Beginning>(&self, begin: impl Fn() -> Beginning) -> Answer<Vec<Record>>
    where
        Beginning: Future<Output = Result<Records<Message, Record>, Error>>,
    {
        loop {
            let whole = async { begin().await?.collect::<Result<Vec<Record>, Error>>().await };
            match timeout_at(self.deadline, whole).await {
                Ok(Ok(records)) => return Ok(records),
                Ok(Err(Error::Unavailable { .. })) if Instant::now() + PAUSE < self.deadline => sleep(PAUSE).await,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(self.out_of_time().into()),
            }
        }
    }

    /// The records of many keys, in as many requests as it takes: fewer at a time when their records do not fit into one
    /// answer.
    async fn fetch<Record, Fetching>(
        &self,
        keys: &[String],
        some: impl Fn(Vec<String>) -> Fetching,
    ) -> Answer<Vec<Record>>
    where
        Fetching: Future<Output = Result<Vec<Record>, Error>>,
    {
        let (mut left, mut size, mut found) = (keys, KEYS_MAX, Vec::new());
        while !left.is_empty() {
            let (now, behind) = left.split_at(size.min(left.len()));
            match some(now.to_vec()).await {
                Ok(records) => {
                    found.extend(records);
                    left = behind;
                }
                Err(error) if is_too_large(&error) && now.len() > 1 => size = now.len() / 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// A list that is put together from pages.
    async fn in_pages<Record, Reading>(&self, page: impl Fn(String) -> Reading) -> Answer<Vec<Record>>
    where
        Reading: Future<Output = Result<(Vec<Record>, String), Error>>,
    {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let (records, next) = page(token).await?;
            if records.is_empty() {
                return Ok(all);
            }
            all.extend(records);
            token = next;
        }
    }
}

fn is_too_large(error: &Error) -> bool {
    error.kind() == Some(ErrorKind::AnswerTooLarge)
}

/// A page with the token of the next one.
fn paged<Record>((records, token): (Vec<Record>, String), size: i32) -> (Vec<Record>, Option<v1::Pagination>) {
    (records, Some(v1::Pagination { page_size: size, page_token: token }))
}

/// Writes a line for each entry that went.
fn log_entries(entries: &[PrunedEntry], truncated: bool, line: &'static str) {
    for entry in entries {
        let (spiffe_id, parent_id, entry_id) =
            (entry.spiffe_id.as_str(), entry.parent_id.as_str(), entry.entry_id.as_str());
        tracing::info!(spiffe_id, parent_id, entry_id, "{line}");
    }
    if truncated {
        tracing::info!(listed = entries.len(), "More entries went than are listed above");
    }
}
