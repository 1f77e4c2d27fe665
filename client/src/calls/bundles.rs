//! Trust bundles and their authorities.

use steeple_wire::spire::v1::{
    AppendBundleRequest, AppendBundleResponse, Bundle, BundleMask, CountBundlesRequest, CountBundlesResponse,
    CreateBundleRequest, CreateBundleResponse, DeleteBundleRequest, DeleteBundleResponse, DeleteMode,
    FetchBundleRequest, FetchBundleResponse, ListBundlesRequest, ListBundlesResponse, PruneBundleRequest,
    PruneBundleResponse, PublicKey, RevokeJwtKeyRequest, RevokeJwtKeyResponse, RevokeX509caRequest,
    RevokeX509caResponse, SetBundleRequest, SetBundleResponse, TaintJwtKeyRequest, TaintJwtKeyResponse,
    TaintX509caRequest, TaintX509caResponse, UpdateBundleRequest, UpdateBundleResponse,
};

use super::page;
use crate::call::calls;
use crate::namespace::required;
use crate::{Error, Namespace};

calls! { "steeple.spire.v1.Datastore", mutation:
    "CreateBundle": CreateBundleRequest => CreateBundleResponse,
    "SetBundle": SetBundleRequest => SetBundleResponse,
    "UpdateBundle": UpdateBundleRequest => UpdateBundleResponse,
    "AppendBundle": AppendBundleRequest => AppendBundleResponse,
    "DeleteBundle": DeleteBundleRequest => DeleteBundleResponse,
    "PruneBundle": PruneBundleRequest => PruneBundleResponse,
    "TaintX509CA": TaintX509caRequest => TaintX509caResponse,
    "RevokeX509CA": RevokeX509caRequest => RevokeX509caResponse,
    "TaintJWTKey": TaintJwtKeyRequest => TaintJwtKeyResponse,
    "RevokeJWTKey": RevokeJwtKeyRequest => RevokeJwtKeyResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchBundle": FetchBundleRequest => FetchBundleResponse,
    "CountBundles": CountBundlesRequest => CountBundlesResponse,
    "ListBundles": ListBundlesRequest => ListBundlesResponse,
}

/// Trust bundles.
impl Namespace {
    /// Stores a new bundle as given.
    ///
    /// # Errors
    /// `AlreadyExists` when the trust domain has one; see also [`Error`].
    pub async fn create_bundle(&self, bundle: Bundle) -> Result<Bundle, Error> {
        let request = CreateBundleRequest { context: None, bundle: Some(bundle) };
        required(self.mutate(request).await?.bundle, "bundle")
    }

    /// Creates a bundle or replaces all of its fields.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_bundle(&self, bundle: Bundle) -> Result<Bundle, Error> {
        let request = SetBundleRequest { context: None, bundle: Some(bundle) };
        required(self.mutate(request).await?.bundle, "bundle")
    }

    /// Replaces fields of a bundle; all of them without a mask.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn update_bundle(&self, bundle: Bundle, mask: Option<BundleMask>) -> Result<Bundle, Error> {
        let request = UpdateBundleRequest { context: None, bundle: Some(bundle), mask };
        required(self.mutate(request).await?.bundle, "bundle")
    }

    /// Adds those certificates and keys that the bundle does not have; creates it when there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn append_bundle(&self, bundle: Bundle) -> Result<Bundle, Error> {
        let request = AppendBundleRequest { context: None, bundle: Some(bundle) };
        required(self.mutate(request).await?.bundle, "bundle")
    }

    /// Deletes a bundle.
    ///
    /// # Errors
    /// `NotFound` when there is none, `FailedPrecondition` when entries forbid it; see also [`Error`].
    pub async fn delete_bundle(&self, trust_domain_id: impl Into<String>, mode: DeleteMode) -> Result<(), Error> {
        let trust_domain_id = trust_domain_id.into();
        self.mutate(DeleteBundleRequest { context: None, trust_domain_id, mode: mode.into() }).await?;
        Ok(())
    }

    /// Removes certificates and keys that expire at or before an instant, and tells whether there were any.
    ///
    /// # Errors
    /// When none would be left; see also [`Error`].
    pub async fn prune_bundle(
        &self,
        trust_domain_id: impl Into<String>,
        expires_before_micros: i64,
    ) -> Result<bool, Error> {
        let trust_domain_id = trust_domain_id.into();
        let request = PruneBundleRequest { context: None, trust_domain_id, expires_before_micros };
        Ok(self.mutate(request).await?.changed)
    }

    /// One bundle, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_bundle(&self, trust_domain_id: impl Into<String>) -> Result<Option<Bundle>, Error> {
        let request = FetchBundleRequest { context: None, trust_domain_id: trust_domain_id.into() };
        Ok(self.query(request).await?.bundle)
    }

    /// How many bundles there are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn count_bundles(&self) -> Result<i32, Error> {
        Ok(self.query(CountBundlesRequest { context: None }).await?.count)
    }

    /// All bundles in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_bundles(&self) -> Result<Vec<Bundle>, Error> {
        Ok(self.query(ListBundlesRequest { context: None, pagination: None }).await?.bundles)
    }

    /// Up to `size` bundles behind `token` (empty for the beginning), and the next token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_bundles_page(&self, token: &str, size: i32) -> Result<(Vec<Bundle>, String), Error> {
        let answer = self.query(ListBundlesRequest { context: None, pagination: page(token, size) }).await?;
        Ok((answer.bundles, required(answer.pagination, "pagination")?.token))
    }

    /// Marks an X.509 authority as tainted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn taint_x509_ca(
        &self,
        trust_domain_id: impl Into<String>,
        subject_key_id: impl Into<String>,
    ) -> Result<(), Error> {
        let (trust_domain_id, subject_key_id) = (trust_domain_id.into(), subject_key_id.into());
        self.mutate(TaintX509caRequest { context: None, trust_domain_id, subject_key_id }).await?;
        Ok(())
    }

    /// Removes a tainted X.509 authority.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_x509_ca(
        &self,
        trust_domain_id: impl Into<String>,
        subject_key_id: impl Into<String>,
    ) -> Result<(), Error> {
        let (trust_domain_id, subject_key_id) = (trust_domain_id.into(), subject_key_id.into());
        self.mutate(RevokeX509caRequest { context: None, trust_domain_id, subject_key_id }).await?;
        Ok(())
    }

    /// Marks a JWT authority as tainted and returns it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn taint_jwt_key(
        &self,
        trust_domain_id: impl Into<String>,
        key_id: impl Into<String>,
    ) -> Result<PublicKey, Error> {
        let (trust_domain_id, key_id) = (trust_domain_id.into(), key_id.into());
        required(self.mutate(TaintJwtKeyRequest { context: None, trust_domain_id, key_id }).await?.key, "key")
    }

    /// Removes a tainted JWT authority and returns it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_jwt_key(
        &self,
        trust_domain_id: impl Into<String>,
        key_id: impl Into<String>,
    ) -> Result<PublicKey, Error> {
        let (trust_domain_id, key_id) = (trust_domain_id.into(), key_id.into());
        required(self.mutate(RevokeJwtKeyRequest { context: None, trust_domain_id, key_id }).await?.key, "key")
    }
}
