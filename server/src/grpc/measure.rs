//! Counts and times calls by method and outcome.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// Records `steeple_call_seconds` by method and gRPC code: for streaming calls, the time until the stream begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MeasureCalls;

impl<Inner> Layer<Inner> for MeasureCalls {
    type Service = Measured<Inner>;

    fn layer(&self, inner: Inner) -> Measured<Inner> {
        Measured { inner }
    }
}

/// A service behind [`MeasureCalls`].
#[derive(Clone, Debug)]
pub(super) struct Measured<Inner> {
    inner: Inner,
}

impl<Inner> Service<Request<Body>> for Measured<Inner>
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
        let started = Instant::now();
        let running = self.inner.call(request);
        Box::pin(async move {
            let response = running.await?;
            let code = code_of(&response);
            // A path that no service knows comes from outside and must not become a series of its own.
            let method = if code == Code::Unimplemented { "unknown".to_owned() } else { path };
            metrics::histogram!("steeple_call_seconds", "method" => method, "code" => format!("{code:?}"))
                .record(started.elapsed().as_secs_f64());
            Ok(response)
        })
    }
}

/// A refused call carries its code in the first headers; one without it has begun well.
fn code_of(response: &Response<Body>) -> Code {
    let code = response.headers().get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
    code.map_or(Code::Ok, Code::from_i32)
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn the_code_is_that_of_the_first_headers() {
        assert_eq!(code_of(&Response::new(Body::default())), Code::Ok);
        assert_eq!(code_of(&Status::not_found("absent").into_http()), Code::NotFound);
    }
}
