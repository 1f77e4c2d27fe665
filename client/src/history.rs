//! Looking back.

use std::pin::Pin;
use std::task::{Context, Poll};

use steeple_wire::common::v1::ReadContext;
use steeple_wire::events::v1::state_at_request::At;
use steeple_wire::events::v1::{
    Collection, HistoryRequest, HistoryResponse, ListItemsRequest, ListItemsResponse, ListedItem, Record, RecordKey,
    StateAtRequest, StateAtResponse,
};
use tokio_stream::Stream;
use tonic::Streaming;

use crate::call::{calls, revision};
use crate::retry::Stake;
use crate::streams::read_error;
use crate::{Error, Namespace};

calls! { "steeple.events.v1.Events", plain:
    "History": HistoryRequest => HistoryResponse,
    "StateAt": StateAtRequest => StateAtResponse,
}

calls! { "steeple.events.v1.Events", query:
    "ListItems": ListItemsRequest => ListItemsResponse,
}

/// A moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After the event with this revision.
    Revision(u64),
    /// After all events up to this time, in microseconds since the Unix epoch.
    Micros(i64),
}

/// Versions of a record, newest first. Ends after the first error.
#[derive(Debug)]
pub struct History {
    versions: Streaming<HistoryResponse>,
}

impl Stream for History {
    type Item = Result<HistoryResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let version = Pin::new(&mut self.versions).poll_next(context);
        version.map(|version| version.map(|version| version.map_err(|status| read_error(&status))))
    }
}

/// Looking back.
impl Namespace {
    /// What happened to one record, newest first, as far back as events are kept.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn history(
        &self,
        collection: Collection,
        key: impl Into<String>,
        before_revision: u64,
        limit: u32,
    ) -> Result<History, Error> {
        let record = Some(RecordKey { collection: collection.into(), key: key.into() });
        let ReadContext { namespace, consistency, min_revision } = self.read_context();
        let request = HistoryRequest { namespace, record, before_revision, limit, consistency, min_revision };
        let response = self.client().streaming(request, self.read_route()).await?;
        self.see(revision(response.metadata()));
        Ok(History { versions: response.into_inner() })
    }

    /// One record as it was, if it existed.
    ///
    /// # Errors
    /// Of kind `Compacted` when the events needed are no longer kept; see also [`Error`].
    pub async fn state_at(
        &self,
        collection: Collection,
        key: impl Into<String>,
        moment: Moment,
    ) -> Result<Option<Record>, Error> {
        let record = Some(RecordKey { collection: collection.into(), key: key.into() });
        let at = Some(match moment {
            Moment::Revision(revision) => At::Revision(revision),
            Moment::Micros(micros) => At::TimeMicros(micros),
        });
        let ReadContext { namespace, consistency, min_revision } = self.read_context();
        let request = StateAtRequest { namespace, record, at, consistency, min_revision };
        let response = self.client().unary(request, Stake::None, self.read_route()).await?;
        self.see(revision(response.metadata()));
        Ok(response.into_inner().record)
    }

    /// Up to `limit` items of a stream above `after_sequence`.
    ///
    /// # Errors
    /// Of kind `Compacted` when items above it are no longer kept; see also [`Error`].
    pub async fn list_items(
        &self,
        stream: impl Into<String>,
        after_sequence: u64,
        limit: u32,
        without_changes: bool,
    ) -> Result<Vec<ListedItem>, Error> {
        let stream = stream.into();
        let request = ListItemsRequest { context: None, stream, after_sequence, limit, without_changes };
        Ok(self.query(request).await?.items)
    }
}
