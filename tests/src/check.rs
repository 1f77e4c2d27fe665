//! Assertions that say what they were about.

use std::fmt::Debug;

use steeple_client::Error;
use steeple_wire::status::ErrorKind;
use tonic::{Code, Status};

/// The text of most missing records.
pub const NOT_FOUND: &str = "datastore-sql: record not found";

/// Names the case that is being looked at, should the test fail while this lives.
#[must_use]
pub fn case(name: impl Into<String>) -> Case {
    Case(name.into())
}

/// See [`case`].
#[derive(Debug)]
pub struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in case {:?}", self.0);
        }
    }
}

/// The datastore refused with exactly this code and text.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, Error>, code: Code, message: &str) {
    match result {
        Err(Error::Refused { code: found, message: text }) => assert_eq!((found, text.as_str()), (code, message)),
        other => panic!("wanted {code:?} {message:?}, got {other:?}"),
    }
}

/// The datastore refused with this code and a text that begins so.
#[track_caller]
pub fn refused_starting<T: Debug>(result: Result<T, Error>, code: Code, beginning: &str) {
    match result {
        Err(Error::Refused { code: found, message }) if found == code && message.starts_with(beginning) => {}
        other => panic!("wanted {code:?} {beginning:?}.., got {other:?}"),
    }
}

/// The request could not be served, for this reason.
#[track_caller]
pub fn unsuitable<T: Debug>(result: Result<T, Error>, kind: ErrorKind) -> String {
    match result {
        Err(Error::Unsuitable { kind: found, message }) if found == kind => message,
        other => panic!("wanted {kind:?}, got {other:?}"),
    }
}

/// The target does not exist.
#[track_caller]
pub fn not_found<T: Debug>(result: Result<T, Error>) {
    refused(result, Code::NotFound, NOT_FOUND);
}

/// The status has exactly this code and text.
#[track_caller]
pub fn status<T: Debug>(result: Result<T, Status>, code: Code, message: &str) {
    match result {
        Err(status) => assert_eq!((status.code(), status.message()), (code, message)),
        Ok(answer) => panic!("wanted {code:?} {message:?}, got {answer:?}"),
    }
}
