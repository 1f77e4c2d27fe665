//! What can be asked about join tokens.

use super::records::{JoinToken, indexes};
use crate::ids::NamespaceId;
use crate::index::Query;
use crate::spire::pages::{Page, PageRequest, Window};
use crate::spire::{Error, tables};
use crate::view::{Reader, ReaderExtension};

/// A join token, expired or not (11.2).
///
/// # Errors
/// When the state cannot be read.
pub fn fetch_join_token(reader: &dyn Reader, namespace: NamespaceId, token: &str) -> Result<Option<JoinToken>, Error> {
    let record = reader.get_by_key(namespace, tables::JOIN_TOKENS, indexes::TOKEN, token.as_bytes())?;
    Ok(record.map(|record| JoinToken::decode(&record.body)).transpose()?)
}

/// Join tokens in creation order, expired or not.
///
/// # Errors
/// When the page request is wrong or the state cannot be read.
pub fn list_join_tokens(
    reader: &dyn Reader,
    namespace: NamespaceId,
    page: Option<&PageRequest>,
) -> Result<Page<JoinToken>, Error> {
    let window = Window::new(page)?;
    let records = reader.records(namespace, tables::JOIN_TOKENS, &Query::all(), window.after, window.limit)?;
    let response = window.response(records.last().map(|record| record.sequence));
    let items = records.iter().map(|record| JoinToken::decode(&record.body)).collect::<Result<_, _>>()?;
    Ok(Page { items, response })
}
