//! Stands before every service and decides about every call.

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::{Access, Grant};
use crate::tls::Caller;

tokio::task_local! {
    /// The call that is being handled.
    static GRANT: Grant;
}

/// Whether the call that is being handled may concern a namespace, which need not exist. Says no outside of a call.
///
/// # Errors
/// With what to tell the caller when it may not.
pub fn check_namespace(namespace: &str) -> Result<(), Status> {
    let outside = |_| Err(Status::internal("nobody decided about this call"));
    GRANT.try_with(|grant| grant.check_namespace(namespace)).unwrap_or_else(outside)
}

/// Lets through to a service only what [`Access`] allows. Goes around every service that a node offers, to clients and to
/// peers.
#[derive(Clone, Debug)]
pub struct Authorize {
    access: Access,
}

impl Authorize {
    /// Lets through what `access` allows.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { access }
    }
}

impl<Inner> Layer<Inner> for Authorize {
    type Service = Authorized<Inner>;

    fn layer(&self, inner: Inner) -> Authorized<Inner> {
        Authorized { access: self.access.clone(), inner }
    }
}

/// A service behind [`Authorize`].
#[derive(Clone, Debug)]
pub struct Authorized<Inner> {
    access: Access,
    inner: Inner,
}

impl<Inner> Service<Request<Body>> for Authorized<Inner>
where
    Inner: Service<Request<Body>, Response = Response<Body>>,
    Inner::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Inner::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Inner::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Inner::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.access.decide(request.uri().path(), request.extensions().get::<Caller>()) {
            Ok(grant) => Box::pin(GRANT.scope(grant, self.inner.call(request))),
            Err(refusal) => Box::pin(async move { Ok(refusal.into_http()) }),
        }
    }
}
