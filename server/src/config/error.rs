//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File {
        /// Which one.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, without the dashes.
    Flag(String),
    /// The defaults, or several values together.
    Whole,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(formatter, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(name) => write!(formatter, "flag --{name}"),
            Self::Whole => formatter.write_str("configuration"),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file {path}: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("configuration file {path} is larger than {maximum} bytes", path = .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it may be.
        maximum: u64,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where it stops being TOML.
        origin: Origin,
        /// What is wrong there.
        message: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key `{key}`{suggestion}")]
    UnknownKey {
        /// Where it is.
        origin: Origin,
        /// The key.
        key: String,
        /// The nearest known one.
        suggestion: Suggestion,
    },
    /// The value does not fit the key.
    #[error("{origin}: {key}: {message}")]
    Value {
        /// Where it is.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// A known word that is near to an unknown one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion(Option<String>);

impl Suggestion {
    /// The word of `known` that is nearest to `unknown`, if any is near.
    pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let rated = known.into_iter().map(|word| (likeness(unknown, word), word));
        // Of two that are alike the shorter one: a section before its keys.
        let best = rated.max_by(|left, right| left.0.total_cmp(&right.0).then(right.1.len().cmp(&left.1.len())));
        Self(best.filter(|(likeness, _)| *likeness >= 0.75).map(|(_, word)| word.to_owned()))
    }
}

/// How alike two words are, from 0 to 1; forgets about the section if only that is missing.
fn likeness(unknown: &str, known: &str) -> f64 {
    let short = known.split_once('.').map_or(known, |(_, short)| short);
    strsim::jaro_winkler(unknown, known).max(strsim::jaro_winkler(unknown, short))
}

impl fmt::Display for Suggestion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(word) => write!(formatter, "; did you mean `{word}`?"),
            None => Ok(()),
        }
    }
}
