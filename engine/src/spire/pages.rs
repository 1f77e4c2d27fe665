//! Pages of a list: token and size in, token and size out.

use thiserror::Error;

use crate::ids::{NamespaceId, Sequence, TableId};
use crate::view::{ReadError, Reader, Record};

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Empty for the beginning, else the token of an earlier page.
    pub token: String,
    /// Records at the most; positive.
    pub page_size: i32,
}

/// Goes with a page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageResponse {
    /// Number of the last record of the page; empty only when the page is.
    pub token: String,
    /// As asked.
    pub page_size: i32,
}

/// A page of a list, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In creation order.
    pub items: Vec<T>,
    /// Absent when no page was asked for.
    pub response: Option<PageResponse>,
}

impl<T> Page<T> {
    /// The same page of something else.
    ///
    /// # Errors
    /// As `convert`.
    pub fn try_map<U, E>(self, convert: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        let items = self.items.into_iter().map(convert).collect::<Result<_, E>>()?;
        Ok(Page { items, response: self.response })
    }
}

/// A part of a list that is read piece by piece, so that no piece holds a lock for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<T> {
    /// In creation order; may be empty before the end.
    pub items: Vec<T>,
    /// Where the next piece starts (exclusive); `None` at the end.
    pub next: Option<Sequence>,
}

/// Bytes of bodies after which a piece ends early.
pub const CHUNK_BYTES: usize = 8 << 20;

/// What makes a list a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few {
    /// Records at the most.
    pub records: usize,
    /// Bytes of their bodies without the last one.
    pub bytes: usize,
}

impl Chunk<Record> {
    /// Reads the records that a query selected, up to `limit` of them, until they are too many bytes. The first one is
    /// always read.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(in crate::spire) fn read(
        reader: &dyn Reader,
        namespace: NamespaceId,
        table: TableId,
        selected: &[Sequence],
        limit: usize,
    ) -> Result<Self, ReadError> {
        let items = reader.get_up_to(namespace, table, selected, CHUNK_BYTES)?;
        let goes_on = selected.len() >= limit || items.len() < selected.len();
        let next = items.last().map(|record| record.sequence).filter(|_| goes_on);
        Ok(Self { items, next })
    }
}

/// A page request that cannot be answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A page of nothing.
    #[error("cannot paginate with pagesize = 0")]
    ZeroSize,
    /// A page of less than nothing.
    #[error("cannot paginate with pagesize = {0}: it must be positive")]
    NegativeSize(i32),
    /// Not a token of ours.
    #[error("could not parse token '{0}'")]
    Token(String),
}

/// A checked page request, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Records up to and with this one are behind us.
    pub after: Sequence,
    /// Records at the most.
    pub limit: usize,
    page_size: Option<i32>,
}

impl Window {
    /// Everything, in one answer without a page response.
    pub const ALL: Self = Self { after: Sequence::ZERO, limit: usize::MAX, page_size: None };

    /// Checks the page size. Comes before every other check of a list request.
    ///
    /// # Errors
    /// When the size is not positive.
    pub fn check_size(page: Option<&PageRequest>) -> Result<(), Error> {
        match page.map(|page| page.page_size) {
            Some(0) => Err(Error::ZeroSize),
            Some(size) if size < 0 => Err(Error::NegativeSize(size)),
            _ => Ok(()),
        }
    }

    /// Checks size and token.
    ///
    /// # Errors
    /// When the size is not positive or the token is no base-10 unsigned 64-bit number.
    pub fn new(page: Option<&PageRequest>) -> Result<Self, Error> {
        Self::check_size(page)?;
        let Some(page) = page else { return Ok(Self::ALL) };
        let digits = page.token.bytes().all(|byte| byte.is_ascii_digit());
        let after = match page.token.as_str() {
            "" => 0,
            token if digits => token.parse().map_err(|_| Error::Token(page.token.clone()))?,
            _ => return Err(Error::Token(page.token.clone())),
        };
        let limit = usize::try_from(page.page_size).unwrap_or(0);
        Ok(Self { after: Sequence(after), limit, page_size: Some(page.page_size) })
    }

    /// What goes with a page that ends with `last`; nothing for a list without pages.
    #[must_use]
    pub fn response(&self, last: Option<Sequence>) -> Option<PageResponse> {
        self.page_size
            .map(|page_size| PageResponse { token: last.map(|last| last.to_string()).unwrap_or_default(), page_size })
    }
}
