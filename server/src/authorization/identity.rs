//! Who somebody is, and patterns of it.

use std::fmt;

/// Longest SPIFFE ID, as SPIFFE has it.
const SPIFFE_ID_BYTES_MAX: usize = 2_048;

/// Longest common name that is looked at; X.509 allows 64 characters.
const COMMON_NAME_BYTES_MAX: usize = 256;

/// What common names start with where SPIFFE IDs may stand as well.
const COMMON_NAME_PREFIX: &str = "cn:";

/// How SPIFFE IDs begin.
const SPIFFE_SCHEME: &str = "spiffe://";

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A SPIFFE ID.
    Spiffe(String),
    /// A common name.
    CommonName(String),
}

impl Identity {
    /// A SPIFFE ID: a trust domain and a path of at least one segment or none.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn spiffe(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix(SPIFFE_SCHEME).ok_or_else(|| format!("`{text}` does not begin with {SPIFFE_SCHEME}"))?;
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
        let domain_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        let path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let segment =
            |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(path_byte);
        let valid = text.len() <= SPIFFE_ID_BYTES_MAX
            && !domain.is_empty()
            && domain.bytes().all(domain_byte)
            && path.is_none_or(|path| path.split('/').all(segment));
        if valid { Ok(Self::Spiffe(text.to_owned())) } else { Err(format!("`{text}` is no SPIFFE ID")) }
    }

    /// A common name.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn common_name(name: &str) -> Result<Self, String> {
        let valid = !name.is_empty()
            && name.len() <= COMMON_NAME_BYTES_MAX
            && !name.chars().any(|character| character.is_control() || character == ',');
        if valid {
            return Ok(Self::CommonName(name.to_owned()));
        }
        Err(format!("`{name}` cannot be used as common name: 1 to {COMMON_NAME_BYTES_MAX} bytes without commas"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => formatter.write_str(id),
            Self::CommonName(name) => write!(formatter, "{COMMON_NAME_PREFIX}{name}"),
        }
    }
}

/// One identity, or all below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this one.
    Exact(Identity),
    /// All SPIFFE IDs that begin with this text, which ends in `/`.
    Below(String),
}

impl Pattern {
    /// Reads `spiffe://DOMAIN/PATH`, `spiffe://DOMAIN/PATH/*` or `cn:NAME`.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix(COMMON_NAME_PREFIX) {
            return Ok(Self::Exact(Identity::common_name(name)?));
        }
        if !text.starts_with(SPIFFE_SCHEME) {
            return Err(format!(
                "`{text}` is no identity; write `spiffe://DOMAIN/PATH`, `spiffe://DOMAIN/PATH/*` or `cn:NAME`"
            ));
        }
        match text.strip_suffix("/*") {
            Some(above) => {
                Identity::spiffe(above)?;
                Ok(Self::Below(format!("{above}/")))
            }
            None => Ok(Self::Exact(Identity::spiffe(text)?)),
        }
    }

    /// Whether it is this one.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Exact(expected), identity) => expected == identity,
            (Self::Below(above), Identity::Spiffe(id)) => id.starts_with(above),
            (Self::Below(_), Identity::CommonName(_)) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(identity) => identity.fmt(formatter),
            Self::Below(above) => write!(formatter, "{above}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        let matches = |pattern: &str, identity: Identity| Pattern::parse(pattern).unwrap().matches(&identity);
        let spiffe = |id: &str| Identity::spiffe(id).unwrap();
        let name = |name: &str| Identity::common_name(name).unwrap();
        assert!(matches("spiffe://td/a", spiffe("spiffe://td/a")));
        assert!(!matches("spiffe://td/a", spiffe("spiffe://td/a/b")));
        assert!(!matches("spiffe://td/a", spiffe("spiffe://td/A")));
        assert!(matches("spiffe://td/a/*", spiffe("spiffe://td/a/b/c")));
        assert!(!matches("spiffe://td/a/*", spiffe("spiffe://td/a")));
        assert!(!matches("spiffe://td/a/*", spiffe("spiffe://td/ab/c")));
        assert!(matches("spiffe://td/*", spiffe("spiffe://td/a")));
        assert!(!matches("spiffe://td/*", spiffe("spiffe://td.example/a")));
        assert!(matches("cn:operator", name("operator")));
        assert!(!matches("cn:operator", name("Operator")));
        assert!(!matches("spiffe://td/*", name("spiffe://td/a")), "a common name is not taken for a SPIFFE ID");
        assert!(!matches("cn:operator", spiffe("spiffe://operator")));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in [
            "",
            "operator",
            "cn:",
            "cn:a,b",
            "*",
            "spiffe://",
            "spiffe:///a",
            "spiffe://*",
            "spiffe://TD/a",
            "spiffe://td/",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/a/../b",
            "spiffe://td/*/b",
            "spiffe://td/a*",
            "spiffe://td/%41",
            "spiffe://td:80/a",
            "https://td/a",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(SPIFFE_ID_BYTES_MAX));
        assert!(Pattern::parse(&long).is_err());
    }

    #[test]
    fn patterns_are_written_as_they_are_read() {
        for text in ["spiffe://td/a", "spiffe://td", "spiffe://td/a/*", "cn:some body"] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
        }
    }
}
