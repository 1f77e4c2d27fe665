//! Join tokens.

use steeple_wire::spire::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteJoinTokenRequest, DeleteJoinTokenResponse,
    FetchJoinTokenRequest, FetchJoinTokenResponse, JoinToken, ListJoinTokensRequest, ListJoinTokensResponse,
    PruneJoinTokensRequest, PruneJoinTokensResponse,
};

use crate::call::calls;
use crate::calls::page;
use crate::namespace::required;
use crate::{Error, Namespace};

calls! { "steeple.spire.v1.Datastore", mutation:
    "CreateJoinToken": CreateJoinTokenRequest => CreateJoinTokenResponse,
    "DeleteJoinToken": DeleteJoinTokenRequest => DeleteJoinTokenResponse,
    "PruneJoinTokens": PruneJoinTokensRequest => PruneJoinTokensResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchJoinToken": FetchJoinTokenRequest => FetchJoinTokenResponse,
    "ListJoinTokens": ListJoinTokensRequest => ListJoinTokensResponse,
}

/// Join tokens.
impl Namespace {
    /// Stores a new token.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one of that text; see also [`Error`].
    pub async fn create_join_token(&self, token: impl Into<String>, expires_at_seconds: i64) -> Result<(), Error> {
        let join_token = Some(JoinToken { token: token.into(), expires_at: expires_at_seconds });
        self.mutate(CreateJoinTokenRequest { context: None, join_token }).await?;
        Ok(())
    }

    /// Deletes a token. Succeeds for exactly one of several callers.
    ///
    /// # Errors
    /// `NotFound` for the others; see also [`Error`].
    pub async fn delete_join_token(&self, token: impl Into<String>) -> Result<(), Error> {
        self.mutate(DeleteJoinTokenRequest { context: None, token: token.into() }).await?;
        Ok(())
    }

    /// Deletes tokens that expired before an instant, and tells how many.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prune_join_tokens(&self, expires_before_micros: i64) -> Result<u64, Error> {
        Ok(self.mutate(PruneJoinTokensRequest { context: None, expires_before_micros }).await?.pruned)
    }

    /// One token, expired or not, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_join_token(&self, token: impl Into<String>) -> Result<Option<JoinToken>, Error> {
        Ok(self.query(FetchJoinTokenRequest { context: None, token: token.into() }).await?.join_token)
    }

    /// Up to `size` tokens behind `token` (empty for the beginning) in creation order, expired or not, and the next token of
    /// the list. They are secrets: it takes the right to write.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_join_tokens_page(&self, token: &str, size: i32) -> Result<(Vec<JoinToken>, String), Error> {
        let request = ListJoinTokensRequest { context: None, pagination: page(token, size) };
        let answer = self.query(request).await?;
        Ok((answer.join_tokens, required(answer.pagination, "pagination")?.token))
    }
}
