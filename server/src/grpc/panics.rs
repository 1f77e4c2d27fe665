//! Keeps a panic in one request from taking its connection along.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::errors;

/// Answers a request whose handler panics with `INTERNAL`, and that nobody knows what it did before.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanics;

impl<Inner> Layer<Inner> for CatchPanics {
    type Service = Caught<Inner>;

    fn layer(&self, inner: Inner) -> Caught<Inner> {
        Caught { inner }
    }
}

/// A service behind [`CatchPanics`].
#[derive(Clone, Debug)]
pub struct Caught<Inner> {
    inner: Inner,
}

impl<Inner> Service<Request<Body>> for Caught<Inner>
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
        let path = request.uri().path().to_owned();
        let mut running = Box::pin(self.inner.call(request));
        Box::pin(std::future::poll_fn(move |context| {
            match std::panic::catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                Ok(poll) => poll,
                Err(_) => {
                    tracing::error!(%path, "a request panicked; this is a bug");
                    Poll::Ready(Ok(errors::panicked().into_http()))
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_status() {
        let broken = service_fn(|_: Request<Body>| async {
            if true {
                panic!("a bug");
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let response = CatchPanics.layer(broken).call(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.headers().get("grpc-status").unwrap(), "13");
        assert_eq!(response.headers().get("steeple-error").unwrap(), "outcome-unknown");
    }

    #[tokio::test]
    async fn an_answer_passes() {
        let sound = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let response = CatchPanics.layer(sound).call(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.headers().get("grpc-status"), None);
    }
}
