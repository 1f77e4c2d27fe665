//! What can be asked about join tokens.

use super::records::{JoinToken, indexes};
use crate::ids::NamespaceId;
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
