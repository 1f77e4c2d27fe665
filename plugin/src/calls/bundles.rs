//! Bundles and their keys.

use steeple_client::types::{Bundle, DeleteMode};
use tonic::Status;

use super::{Answer, BUNDLES_IN_PAGE, Spire, is_too_large, paged};
use crate::convert::{bundle_in, bundle_mask_in, bundle_out, key_out, micros};
use crate::protocol::datastore as v1;

fn missing_bundle() -> Status {
    Status::unknown("datastore-sql: missing bundle in request")
}

impl Spire {
    pub(crate) async fn create_bundle(&self, request: v1::CreateBundleRequest) -> Answer<v1::CreateBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.create_bundle(bundle).await?;
        Ok(v1::CreateBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn set_bundle(&self, request: v1::SetBundleRequest) -> Answer<v1::SetBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.set_bundle(bundle).await?;
        Ok(v1::SetBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn append_bundle(&self, request: v1::AppendBundleRequest) -> Answer<v1::AppendBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.append_bundle(bundle).await?;
        Ok(v1::AppendBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn update_bundle(&self, request: v1::UpdateBundleRequest) -> Answer<v1::UpdateBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.update_bundle(bundle, request.mask.map(bundle_mask_in)).await?;
        Ok(v1::UpdateBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn delete_bundle(&self, request: v1::DeleteBundleRequest) -> Answer<v1::DeleteBundleResponse> {
        // The numbers are the same.
        let mode = DeleteMode::try_from(request.mode)
            .map_err(|_| Status::invalid_argument(format!("unknown delete mode: {}", request.mode)))?;
        self.namespace.delete_bundle(request.trust_domain, mode).await?;
        Ok(v1::DeleteBundleResponse {})
    }

    pub(crate) async fn prune_bundle(&self, request: v1::PruneBundleRequest) -> Answer<v1::PruneBundleResponse> {
        let pruned = self.namespace.prune_bundle(request.trust_domain, micros(request.expires_before)).await?;
        Ok(v1::PruneBundleResponse { changed: pruned })
    }

    pub(crate) async fn fetch_bundle(&self, request: v1::FetchBundleRequest) -> Answer<v1::FetchBundleResponse> {
        let found = self.namespace.fetch_bundle(request.trust_domain).await?;
        Ok(v1::FetchBundleResponse { bundle: found.map(bundle_out) })
    }

    pub(crate) async fn count_bundles(&self, _: v1::CountBundlesRequest) -> Answer<v1::CountBundlesResponse> {
        Ok(v1::CountBundlesResponse { count: self.namespace.count_bundles().await? })
    }

    pub(crate) async fn list_bundles(&self, request: v1::ListBundlesRequest) -> Answer<v1::ListBundlesResponse> {
        let (bundles, pagination) = match request.pagination {
            Some(asked) => {
                paged(self.namespace.list_bundles_page(&asked.page_token, asked.page_size).await?, asked.page_size)
            }
            None => (self.every_bundle().await?, None),
        };
        Ok(v1::ListBundlesResponse { bundles: bundles.into_iter().map(bundle_out).collect(), pagination })
    }

    async fn every_bundle(&self) -> Answer<Vec<Bundle>> {
        match self.namespace.list_bundles().await {
            Err(error) if is_too_large(&error) => {
                let page =
                    |token: String| async move { self.namespace.list_bundles_page(&token, BUNDLES_IN_PAGE).await };
                self.in_pages(page).await
            }
            listed => Ok(listed?),
        }
    }

    pub(crate) async fn taint_x509ca(&self, request: v1::TaintX509caRequest) -> Answer<v1::TaintX509caResponse> {
        self.namespace.taint_x509_ca(request.trust_domain, request.key_id).await?;
        Ok(v1::TaintX509caResponse {})
    }

    pub(crate) async fn revoke_x509ca(&self, request: v1::RevokeX509caRequest) -> Answer<v1::RevokeX509caResponse> {
        self.namespace.revoke_x509_ca(request.trust_domain, request.key_id).await?;
        Ok(v1::RevokeX509caResponse {})
    }

    pub(crate) async fn taint_jwt_key(&self, request: v1::TaintJwtKeyRequest) -> Answer<v1::TaintJwtKeyResponse> {
        let tainted = self.namespace.taint_jwt_key(request.trust_domain, request.authority_id).await?;
        Ok(v1::TaintJwtKeyResponse { key: Some(key_out(tainted)) })
    }

    pub(crate) async fn revoke_jwt_key(&self, request: v1::RevokeJwtKeyRequest) -> Answer<v1::RevokeJwtKeyResponse> {
        let revoked = self.namespace.revoke_jwt_key(request.trust_domain, request.authority_id).await?;
        Ok(v1::RevokeJwtKeyResponse { key: Some(key_out(revoked)) })
    }
}
