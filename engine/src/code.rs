//! How every refusal is classified for callers, whatever domain it comes from.

/// The gRPC status codes that domains answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The catch-all of SPIRE's reference implementation.
    Unknown,
    /// The request is wrong.
    InvalidArgument,
    /// The target does not exist.
    NotFound,
    /// The key is taken.
    AlreadyExists,
    /// The state forbids it.
    FailedPrecondition,
    /// Stored data is not what it should be.
    Internal,
    /// The node cannot answer now.
    Unavailable,
}
