//! What can be asked of join tokens.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::Error;
use super::limits::TOKEN_BYTES_MAX;
use super::records::{JoinToken, indexes};
use crate::spire::limits::{check_bytes, step_records};
use crate::spire::{Answer, AnswerSource, tables};
use crate::transaction::{ChangeError, Transaction};
use crate::view::ReaderExtension;

/// A change to join tokens.
#[derive(Clone, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 11.1; `None` stands for a request without token.
    Create(Option<JoinToken>),
    /// 11.3: succeeds for exactly one of several callers.
    Delete {
        /// Which token.
        token: String,
    },
    /// 11.4; bounded: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        expires_before: i64,
        /// Tokens at the most; 0 means a default.
        limit: u32,
    },
}

/// The token itself must never reach a log line.
impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Create(_) => "Create(..)",
            Self::Delete { .. } => "Delete(..)",
            Self::Prune { .. } => "Prune(..)",
        })
    }
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, crate::spire::Error> {
        let answer = match self {
            Self::Create(token) => create(transaction, token.as_ref()),
            Self::Delete { token } => delete(transaction, token),
            Self::Prune { expires_before, limit } => prune(transaction, *expires_before, *limit),
        }?;
        Ok(AnswerSource::Inline(answer))
    }
}

fn create(transaction: &mut Transaction<'_>, token: Option<&JoinToken>) -> Result<Answer, Error> {
    let token = token.filter(|token| !token.token.is_empty() && token.expiry != 0).ok_or(Error::Required)?;
    check_bytes("token", token.token.len(), TOKEN_BYTES_MAX)?;
    match transaction.insert(tables::JOIN_TOKENS, token.encode()) {
        Ok(_) => Ok(Answer::Nothing),
        Err(ChangeError::Duplicate { .. }) => Err(Error::AlreadyExists),
        Err(error) => Err(error.into()),
    }
}

/// The body of a token that is taken over as it is.
///
/// # Errors
/// When it is empty or above a limit.
pub(in crate::spire) fn prepare(token: &JoinToken) -> Result<Vec<u8>, Error> {
    if token.token.is_empty() {
        return Err(Error::Required);
    }
    check_bytes("token", token.token.len(), TOKEN_BYTES_MAX)?;
    Ok(token.encode())
}

/// Of several callers the first to be decided removes the record; the others no longer find it.
fn delete(transaction: &mut Transaction<'_>, token: &str) -> Result<Answer, Error> {
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let record = reader.get_by_key(namespace, tables::JOIN_TOKENS, indexes::TOKEN, token.as_bytes())?;
    transaction.delete(tables::JOIN_TOKENS, &record.ok_or(Error::NotFound)?);
    Ok(Answer::Nothing)
}

fn prune(transaction: &mut Transaction<'_>, expires_before: i64, limit: u32) -> Result<Answer, Error> {
    let step = step_records(limit);
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let expired = reader.select_lowest(namespace, tables::JOIN_TOKENS, indexes::EXPIRY, expires_before, step + 1);
    let doomed = &expired[..expired.len().min(step)];
    for &sequence in doomed {
        let record = reader.get_listed(namespace, tables::JOIN_TOKENS, sequence)?;
        transaction.delete(tables::JOIN_TOKENS, &record);
    }
    Ok(Answer::Progress { changed: doomed.len() as u64, more: expired.len() > step })
}
