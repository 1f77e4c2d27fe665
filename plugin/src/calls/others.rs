//! Join tokens, federation relationships and CA journals.

use steeple_client::types::FederationRelationship;
use tonic::Status;

use super::{Answer, BUNDLES_IN_PAGE, Spire, is_too_large, paged};
use crate::convert::{
    journal_in, journal_out, micros, relationship_in, relationship_mask_in, relationship_out, trust_domain_in,
};
use crate::protocol::datastore as v1;

fn missing_relationship() -> Status {
    Status::invalid_argument("federation relationship is nil")
}

impl Spire {
    pub(crate) async fn create_join_token(
        &self,
        request: v1::CreateJoinTokenRequest,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        let expires_at = micros(request.expires_at) / 1_000_000;
        self.namespace.create_join_token(request.token.as_str(), expires_at).await?;
        Ok(v1::CreateJoinTokenResponse { token: request.token, expires_at: request.expires_at })
    }

    pub(crate) async fn delete_join_token(
        &self,
        request: v1::DeleteJoinTokenRequest,
    ) -> Answer<v1::DeleteJoinTokenResponse> {
        self.namespace.delete_join_token(request.token).await?;
        Ok(v1::DeleteJoinTokenResponse {})
    }

    /// One that does not exist has no text.
    pub(crate) async fn fetch_join_token(
        &self,
        request: v1::FetchJoinTokenRequest,
    ) -> Answer<v1::FetchJoinTokenResponse> {
        let found = self.namespace.fetch_join_token(request.token).await?;
        Ok(found.map_or_else(v1::FetchJoinTokenResponse::default, |token| v1::FetchJoinTokenResponse {
            token: token.token,
            expires_at: token.expires_at,
        }))
    }

    pub(crate) async fn prune_join_tokens(
        &self,
        request: v1::PruneJoinTokensRequest,
    ) -> Answer<v1::PruneJoinTokensResponse> {
        self.namespace.prune_join_tokens(micros(request.expires_before)).await?;
        Ok(v1::PruneJoinTokensResponse {})
    }

    pub(crate) async fn create_federation_relationship(
        &self,
        request: v1::CreateFederationRelationshipRequest,
    ) -> Answer<v1::CreateFederationRelationshipResponse> {
        let relationship = relationship_in(request.relationship.ok_or_else(missing_relationship)?)?;
        let created = self.namespace.create_federation_relationship(relationship).await?;
        let relationship = Some(relationship_out(created)?);
        Ok(v1::CreateFederationRelationshipResponse { relationship })
    }

    pub(crate) async fn update_federation_relationship(
        &self,
        request: v1::UpdateFederationRelationshipRequest,
    ) -> Answer<v1::UpdateFederationRelationshipResponse> {
        let relationship = relationship_in(request.relationship.ok_or_else(missing_relationship)?)?;
        let mask = request.mask.map(relationship_mask_in);
        let updated = self.namespace.update_federation_relationship(relationship, mask).await?;
        let relationship = Some(relationship_out(updated)?);
        Ok(v1::UpdateFederationRelationshipResponse { relationship })
    }

    pub(crate) async fn delete_federation_relationship(
        &self,
        request: v1::DeleteFederationRelationshipRequest,
    ) -> Answer<v1::DeleteFederationRelationshipResponse> {
        self.namespace.delete_federation_relationship(trust_domain_in(&request.trust_domain_id)).await?;
        Ok(v1::DeleteFederationRelationshipResponse {})
    }

    pub(crate) async fn fetch_federation_relationship(
        &self,
        request: v1::FetchFederationRelationshipRequest,
    ) -> Answer<v1::FetchFederationRelationshipResponse> {
        let found = self.namespace.fetch_federation_relationship(trust_domain_in(&request.trust_domain_id)).await?;
        Ok(v1::FetchFederationRelationshipResponse { relationship: found.map(relationship_out).transpose()? })
    }

    pub(crate) async fn list_federation_relationships(
        &self,
        request: v1::ListFederationRelationshipsRequest,
    ) -> Answer<v1::ListFederationRelationshipsResponse> {
        let (relationships, pagination) = match request.pagination {
            Some(asked) => paged(
                self.namespace.list_federation_relationships_page(&asked.page_token, asked.page_size).await?,
                asked.page_size,
            ),
            None => (self.every_relationship().await?, None),
        };
        let relationships = relationships.into_iter().map(relationship_out).collect::<Result<_, _>>()?;
        Ok(v1::ListFederationRelationshipsResponse { relationships, pagination })
    }

    async fn every_relationship(&self) -> Answer<Vec<FederationRelationship>> {
        match self.namespace.list_federation_relationships().await {
            Err(error) if is_too_large(&error) => {
                let page = |token: String| async move {
                    self.namespace.list_federation_relationships_page(&token, BUNDLES_IN_PAGE).await
                };
                self.in_pages(page).await
            }
            listed => Ok(listed?),
        }
    }

    pub(crate) async fn set_ca_journal(&self, request: v1::SetCaJournalRequest) -> Answer<v1::SetCaJournalResponse> {
        let missing = || Status::invalid_argument("ca journal is required");
        let journal = journal_in(request.journal.ok_or_else(missing)?);
        let stored = self.namespace.set_ca_journal(journal).await?;
        Ok(v1::SetCaJournalResponse { journal: Some(journal_out(stored)) })
    }

    pub(crate) async fn fetch_ca_journal(
        &self,
        request: v1::FetchCaJournalRequest,
    ) -> Answer<v1::FetchCaJournalResponse> {
        let found = self.namespace.fetch_ca_journal(request.active_x509_authority_id).await?;
        Ok(v1::FetchCaJournalResponse { journal: found.map(journal_out) })
    }

    pub(crate) async fn prune_ca_journals(
        &self,
        request: v1::PruneCaJournalsRequest,
    ) -> Answer<v1::PruneCaJournalsResponse> {
        let count = self.namespace.prune_ca_journals(micros(request.expires_before) / 1_000_000).await?;
        if count > 0 {
            tracing::info!(count, "Pruned stale CA journal records");
        }
        Ok(v1::PruneCaJournalsResponse {})
    }

    pub(crate) async fn list_ca_journals(&self, _: v1::ListCaJournalsRequest) -> Answer<v1::ListCaJournalsResponse> {
        let journals = self.namespace.list_ca_journals().await?;
        Ok(v1::ListCaJournalsResponse { journals: journals.into_iter().map(journal_out).collect() })
    }
}
