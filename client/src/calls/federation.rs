//! Federation relationships.

use steeple_wire::spire::v1::{
    CreateFederationRelationshipRequest, CreateFederationRelationshipResponse, DeleteFederationRelationshipRequest,
    DeleteFederationRelationshipResponse, FederationRelationship, FederationRelationshipMask,
    FetchFederationRelationshipRequest, FetchFederationRelationshipResponse, ListFederationRelationshipsRequest,
    ListFederationRelationshipsResponse, UpdateFederationRelationshipRequest, UpdateFederationRelationshipResponse,
};

use super::page;
use crate::call::calls;
use crate::namespace::required;
use crate::{Error, Namespace};

calls! { "steeple.spire.v1.Datastore", mutation:
    "CreateFederationRelationship": CreateFederationRelationshipRequest => CreateFederationRelationshipResponse,
    "UpdateFederationRelationship": UpdateFederationRelationshipRequest => UpdateFederationRelationshipResponse,
    "DeleteFederationRelationship": DeleteFederationRelationshipRequest => DeleteFederationRelationshipResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchFederationRelationship": FetchFederationRelationshipRequest => FetchFederationRelationshipResponse,
    "ListFederationRelationships": ListFederationRelationshipsRequest => ListFederationRelationshipsResponse,
}

/// Federation relationships.
impl Namespace {
    /// Stores a new relationship, and its bundle if it has one.
    ///
    /// # Errors
    /// `AlreadyExists` when the trust domain has one; see also [`Error`].
    pub async fn create_federation_relationship(
        &self,
        relationship: FederationRelationship,
    ) -> Result<FederationRelationship, Error> {
        let request = CreateFederationRelationshipRequest { context: None, relationship: Some(relationship) };
        required(self.mutate(request).await?.relationship, "relationship")
    }

    /// Replaces fields of a relationship; all of them without a mask.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn update_federation_relationship(
        &self,
        relationship: FederationRelationship,
        mask: Option<FederationRelationshipMask>,
    ) -> Result<FederationRelationship, Error> {
        let request = UpdateFederationRelationshipRequest { context: None, relationship: Some(relationship), mask };
        required(self.mutate(request).await?.relationship, "relationship")
    }

    /// Deletes a relationship; the bundle stays.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn delete_federation_relationship(&self, trust_domain: impl Into<String>) -> Result<(), Error> {
        let request = DeleteFederationRelationshipRequest { context: None, trust_domain: trust_domain.into() };
        self.mutate(request).await?;
        Ok(())
    }

    /// One relationship with its current bundle, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_federation_relationship(
        &self,
        trust_domain: impl Into<String>,
    ) -> Result<Option<FederationRelationship>, Error> {
        let request = FetchFederationRelationshipRequest { context: None, trust_domain: trust_domain.into() };
        Ok(self.query(request).await?.relationship)
    }

    /// All relationships in creation order, with their current bundles.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_federation_relationships(&self) -> Result<Vec<FederationRelationship>, Error> {
        let request = ListFederationRelationshipsRequest { context: None, pagination: None };
        Ok(self.query(request).await?.relationships)
    }

    /// Up to `size` relationships behind `token` (empty for the beginning), and the next token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_federation_relationships_page(
        &self,
        token: &str,
        size: i32,
    ) -> Result<(Vec<FederationRelationship>, String), Error> {
        let request = ListFederationRelationshipsRequest { context: None, pagination: page(token, size) };
        let answer = self.query(request).await?;
        Ok((answer.relationships, required(answer.pagination, "pagination")?.token))
    }
}
