//! Whole lists, page by page, with the next page under way while one is decoded and dealt with.

use std::pin::Pin;

use bytes::{Buf, Bytes};
use prost::Message;
use steeple_wire::packed::PageEnd;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use crate::Namespace;
use crate::error::Error;
use crate::namespace::required;

/// From so many bytes on, the next page gets the chance to be asked for before a page is decoded: below, decoding takes no longer
/// than handing over to another task.
const BYTES_BEFORE_YIELD: usize = 64 << 10;

/// A list, page by page, from its beginning to its end.
///
/// While one page is decoded and dealt with the next one is under way, so that node and caller work at the same time. It reads
/// ahead by one page, and from the second page on: whoever wants the first page alone has asked for no other. Dropping it gives
/// up what is under way.
///
/// **Freshness.** Each page has in it what the same [`Namespace`] or a clone of it has seen before the page was asked for, as with
/// calls for single pages; a page that was read ahead and turns out to be older than that is read again, and from then on
/// this list reads no more ahead. So whoever scans while it writes, and need not see its own writes at once, had better scan with a
/// [`Namespace`] of its own (from [`Client::namespace`](crate::Client::namespace)). What others have written since the page before was asked for
/// may be missing from a page. A page of more than 4,096 records is read in steps, so that one that was read ahead may lack what the
/// same [`Namespace`] has written while it was under way. Between pages the list may change, as with calls for single pages.
///
/// **Errors.** A page has the deadline of a call, and is repeated like one. That a page could not be read ahead is told when
/// it is asked for; asking again after an error begins with the same page.
pub struct Pages<Record> {
    namespace: Namespace,
    ask: Box<Ask>,
    unpack: fn(Bytes) -> Result<Vec<Record>, prost::DecodeError>,
    /// Of the page that is handed out next; none behind the last one.
    token: Option<String>,
    reads_ahead: ReadsAhead,
    ahead: Option<Ahead>,
}

/// Asks for the page behind a token.
type Ask = dyn Fn(Namespace, &str) -> Asking + Send + Sync;

/// A page that is on its way.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Unread, Error>> + Send>>;

/// Whether the page behind one is asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadsAhead {
    /// Not yet: only the first page has been asked for.
    FromNextPage,
    Always,
    /// Not any more: pages that were read ahead are out of date when they are asked for.
    Never,
}

/// An answer that is not decoded yet.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) bytes: Bytes,
    /// The revision that it shows at least.
    pub(crate) revision: u64,
}

/// The page behind the one that was handed out last.
struct Ahead {
    token: String,
    page: JoinHandle<Result<Unread, Error>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.page.abort();
    }
}

impl<Record> std::fmt::Debug for Pages<Record> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Pages");
        fields.field("token", &self.token).field("reads_ahead", &self.reads_ahead).finish_non_exhaustive()
    }
}

impl<Record> Pages<Record> {
    /// `ask` asks for the page behind a token.
    pub(crate) fn new(
        namespace: Namespace,
        ask: impl Fn(Namespace, &str) -> Asking + Send + Sync + 'static,
        unpack: fn(Bytes) -> Result<Vec<Record>, prost::DecodeError>,
    ) -> Self {
        let (token, reads_ahead) = (Some(String::new()), ReadsAhead::FromNextPage);
        Self { namespace, ask: Box::new(ask), unpack, token, reads_ahead, ahead: None }
    }

    /// The next page; none behind the last one, and none that is empty. May be broken off: the page is handed out by the next
    /// call.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, Error> {
        let Some(token) = self.token.clone() else { return Ok(None) };
        let page = self.page(&token).await?;
        // It stands behind the records, which are passed over for it and decoded only later.
        let end = PageEnd::decode(&page.bytes[..]).map_err(|_| UNREADABLE)?;
        let next = required(end.pagination, "pagination")?.token;
        match self.reads_ahead {
            ReadsAhead::Always if !next.is_empty() => self.read_ahead(&next, page.bytes.len()).await,
            _ => {}
        }
        let records = (self.unpack)(page.bytes).map_err(|_| UNREADABLE)?;
        // From here on nothing waits, so that who breaks off has either got the page or will get it.
        if self.reads_ahead == ReadsAhead::FromNextPage {
            self.reads_ahead = ReadsAhead::Always;
        }
        self.token = (!next.is_empty() && !records.is_empty()).then_some(next);
        Ok((!records.is_empty()).then_some(records))
    }

    /// The page behind a token, as it was read ahead or else as it is now.
    async fn page(&mut self, token: &str) -> Result<Unread, Error> {
        if let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.token == token) {
            let seen = self.namespace.seen_revision();
            let page = (&mut ahead.page).await;
            self.ahead = None;
            match page {
                Ok(Ok(page)) if page.revision < seen => self.reads_ahead = ReadsAhead::Never,
                Ok(page) => return page,
                // Its task is gone with a runtime that is shut down, and this one will be soon.
                Err(_) => {}
            }
        }
        self.ahead = None;
        (self.ask)(self.namespace.clone(), token).await
    }

    /// Asks for the page behind a token on a task of its own, and lets that leave before a page of so many bytes is decoded.
    async fn read_ahead(&mut self, token: &str, bytes: usize) {
        let page = tokio::spawn((self.ask)(self.namespace.clone(), token));
        self.ahead = Some(Ahead { token: token.to_owned(), page });
        if bytes >= BYTES_BEFORE_YIELD {
            // Otherwise the new task and that of the connection would wait on this thread until the page is decoded. The second turn
            // is for the connection, which gathers what is to be written during the first.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
    }
}

/// What cannot be a page.
const UNREADABLE: Error = Error::Protocol("page");

/// Leaves answers as the bytes that they are.
pub(crate) struct Unreading<Request>(ProstCodec<Request, ()>);

impl<Request> Default for Unreading<Request> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<Request: Message + 'static> Codec for Unreading<Request> {
    type Encode = Request;
    type Decode = Bytes;
    type Encoder = <ProstCodec<Request, ()> as Codec>::Encoder;
    type Decoder = WholeMessage;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> WholeMessage {
        WholeMessage
    }
}

/// Takes a message out of the buffer that it arrived in.
pub(crate) struct WholeMessage;

impl Decoder for WholeMessage {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
