//! Prints messages with secrets without them.

use std::fmt;

use crate::spire::v1::{DeleteJoinTokenRequest, FetchJoinTokenRequest, JoinToken};

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JoinToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for DeleteJoinTokenRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeleteJoinTokenRequest").field("context", &self.context).finish_non_exhaustive()
    }
}

impl fmt::Debug for FetchJoinTokenRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FetchJoinTokenRequest").field("context", &self.context).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spire::v1::CreateJoinTokenRequest;

    #[test]
    fn tokens_are_not_printed() {
        let token = JoinToken { token: "s3cret".into(), expires_at: 7 };
        let create = CreateJoinTokenRequest { context: None, join_token: Some(token) };
        let delete = DeleteJoinTokenRequest { context: None, token: "s3cret".into() };
        let fetch = FetchJoinTokenRequest { context: None, token: "s3cret".into() };
        let printed = format!("{create:?} {delete:?} {fetch:?}");
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(printed.contains("expires_at: 7"), "{printed}");
    }
}
