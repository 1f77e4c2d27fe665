//! Join tokens.

use steeple_wire::spire::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteJoinTokenRequest, DeleteJoinTokenResponse,
    FetchJoinTokenRequest, FetchJoinTokenResponse, JoinToken, PruneJoinTokensRequest, PruneJoinTokensResponse,
};

use crate::call::calls;
use crate::{Error, Namespace};

calls! { "steeple.spire.v1.Datastore", mutation:
    "CreateJoinToken": CreateJoinTokenRequest => CreateJoinTokenResponse,
    "DeleteJoinToken": DeleteJoinTokenRequest => DeleteJoinTokenResponse,
    "PruneJoinTokens": PruneJoinTokensRequest => PruneJoinTokensResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchJoinToken": FetchJoinTokenRequest => FetchJoinTokenResponse,
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
}
