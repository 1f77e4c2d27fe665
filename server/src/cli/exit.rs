//! How a command ends when it fails: one line on standard error and an exit code that scripts can use.

use std::io::Write as _;
use std::process::ExitCode;

use steeple_client::Error;
use steeple_wire::status::ErrorKind;
use thiserror::Error as ThisError;
use tonic::Code;

use crate::config::ConfigError;

/// Why a command failed.
#[derive(Debug, ThisError)]
pub(super) enum CommandError {
    /// The node refused, or could not be asked.
    #[error("{}", node_error(.0))]
    Node(#[from] Error),
    /// The configuration is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// There is already such a thing.
    #[error("{0}")]
    AlreadyExists(String),
    /// A file cannot be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Nobody reads what is printed any more, or it cannot be printed.
    #[error("cannot write to standard output: {0}")]
    Print(std::io::Error),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What a script can tell from the process's end. The numbers are documented in `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// It failed for good.
    Failure = 1,
    /// It was called wrongly.
    Usage = 2,
    /// What it is about does not exist.
    NotFound = 3,
    /// What it should make exists.
    AlreadyExists = 4,
    /// The node could not be reached or did not tell the outcome.
    Unavailable = 5,
}

impl CommandError {
    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Node(error) => node_exit(error),
            Self::Config(_) | Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::AlreadyExists(_) => Exit::AlreadyExists,
            Self::File { .. } | Self::Print(_) | Self::Failed(_) => Exit::Failure,
        }
    }

    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Print(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

fn node_exit(error: &Error) -> Exit {
    match error.kind() {
        Some(ErrorKind::NamespaceUnknown) => return Exit::NotFound,
        Some(ErrorKind::OutcomeUnknown) => return Exit::Unavailable,
        _ => {}
    }
    match error.code() {
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists => Exit::AlreadyExists,
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => Exit::Unavailable,
        _ => Exit::Failure,
    }
}

/// The text of an error, and what to do about it.
fn node_error(error: &Error) -> String {
    let advice = match (error, error.kind()) {
        (Error::Connect(_) | Error::Unavailable { .. }, _) => {
            "is a node running there? `steeple dev` starts one, --endpoint names another"
        }
        (Error::DeadlineExceeded, _) => "try again, or allow more time with --timeout",
        (Error::ChangeUnknown { .. }, _) => {
            "look with `steeple cluster status` whether it happened; it may be asked for again"
        }
        (_, Some(ErrorKind::OutcomeUnknown)) => "look whether it happened before doing it again",
        (_, Some(ErrorKind::NamespaceUnknown)) => {
            "open it with `steeple namespace open NAME`, or name another with --namespace"
        }
        (_, Some(ErrorKind::CursorForeign)) => "start again with --from-start or without a cursor",
        (_, Some(ErrorKind::Compacted)) => "events this old are no longer kept; begin later, or with --from-start",
        (_, Some(ErrorKind::CursorMalformed)) => "give a cursor exactly as it was printed",
        _ => return chain(error),
    };
    format!("{}; {advice}", chain(error))
}

/// The text of an error with those of its causes that add something.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The text of the innermost cause of an error.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Says on standard error why the command failed, in one line.
pub(super) fn report(error: &CommandError) -> ExitCode {
    if error.is_broken_pipe() {
        return ExitCode::SUCCESS;
    }
    let line = error.to_string().replace(['\n', '\r'], " ");
    // Nothing can be done when even that fails; the exit code still tells.
    let _ = writeln!(std::io::stderr(), "error: {line}");
    ExitCode::from(error.exit() as u8)
}

#[cfg(test)]
mod tests {
    use steeple_client::RequestId;

    use super::*;

    fn refused(code: Code) -> CommandError {
        CommandError::Node(Error::Refused { code, message: "datastore-sql: text".into() })
    }

    fn unsuitable(kind: ErrorKind) -> CommandError {
        CommandError::Node(Error::Unsuitable { kind, message: "text".into() })
    }

    #[test]
    fn each_outcome_has_its_exit_code() {
        let request = RequestId([1; 16]);
        let cases = [
            (refused(Code::NotFound), 3),
            (refused(Code::AlreadyExists), 4),
            (refused(Code::InvalidArgument), 1),
            (refused(Code::Internal), 1),
            (unsuitable(ErrorKind::NamespaceUnknown), 3),
            (unsuitable(ErrorKind::Compacted), 1),
            (unsuitable(ErrorKind::CursorForeign), 1),
            (CommandError::Node(Error::Unavailable { message: "refused".into() }), 5),
            (CommandError::Node(Error::DeadlineExceeded), 5),
            (CommandError::Node(Error::OutcomeUnknown { request, message: "gone".into() }), 5),
            (CommandError::Node(Error::ChangeUnknown { message: "gone".into() }), 5),
            (CommandError::Node(Error::Protocol("entry")), 1),
            (CommandError::Usage("text".into()), 2),
            (CommandError::NotFound("text".into()), 3),
            (CommandError::AlreadyExists("text".into()), 4),
            (CommandError::Failed("text".into()), 1),
        ];
        for (error, expected) in cases {
            assert_eq!(error.exit() as u8, expected, "{error:?}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let unavailable = CommandError::Node(Error::Unavailable { message: "refused".into() }).to_string();
        assert!(unavailable.contains("steeple dev"), "{unavailable}");
        let namespace = unsuitable(ErrorKind::NamespaceUnknown).to_string();
        assert!(namespace.contains("steeple namespace open"), "{namespace}");
        assert_eq!(refused(Code::NotFound).to_string(), "datastore-sql: text");
    }
}
