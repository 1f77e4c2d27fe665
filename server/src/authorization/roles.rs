//! Who has which role.

use std::fmt;

use steeple_engine::namespaces::commands::NAME_BYTES_MAX;

use super::{Identity, Pattern};

/// What stands for all namespaces.
const ALL_NAMESPACES: &str = "*";

/// Who has which role. An identity may have several; it may do what any of them allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// May do everything that clients can do.
    pub admin: Vec<Pattern>,
    /// May read and change what is in a namespace, and open it.
    pub read_write: Vec<Share>,
    /// May read what is in a namespace, and follow its events.
    pub read_only: Vec<Share>,
    /// May follow the events of a namespace.
    pub events_only: Vec<Share>,
    /// May speak as a node of the group. When empty, everybody may whom the authority vouches for.
    pub peer: Vec<Pattern>,
}

/// A role in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which namespace; none for all, those to come included.
    pub namespace: Option<String>,
    /// Who has the role there.
    pub who: Pattern,
}

/// What may be done in a namespace; each contains those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Following events.
    Events,
    /// Reading.
    Read,
    /// Changing.
    Write,
}

impl Roles {
    /// Whether no client has any role.
    #[must_use]
    pub fn is_empty_for_clients(&self) -> bool {
        self.admin.is_empty() && self.shares().all(|(_, shares)| shares.is_empty())
    }

    /// Whether nobody has any role.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty_for_clients() && self.peer.is_empty()
    }

    /// Whether this identity may do everything that clients can do.
    #[must_use]
    pub fn is_admin(&self, identity: &Identity) -> bool {
        self.admin.iter().any(|pattern| pattern.matches(identity))
    }

    /// Whether this identity has this right in a namespace, or in any when none is named.
    #[must_use]
    pub fn has(&self, identity: &Identity, right: Right, namespace: Option<&str>) -> bool {
        let allows = |share: &Share| share.who.matches(identity) && share.covers(namespace);
        self.is_admin(identity) || self.shares().any(|(given, shares)| given >= right && shares.iter().any(allows))
    }

    /// Whether whoever the authority vouches for may speak as a node.
    #[must_use]
    pub fn is_peer(&self, identity: Option<&Identity>) -> bool {
        let named = identity.is_some_and(|identity| self.peer.iter().any(|pattern| pattern.matches(identity)));
        self.peer.is_empty() || named
    }

    fn shares(&self) -> impl Iterator<Item = (Right, &[Share])> {
        let shares: [(Right, &[Share]); 3] =
            [(Right::Write, &self.read_write), (Right::Read, &self.read_only), (Right::Events, &self.events_only)];
        shares.into_iter()
    }
}

impl Share {
    /// Reads `NAMESPACE=IDENTITY`, with `*` for all namespaces.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (namespace, who) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` names no namespace; write `NAMESPACE=IDENTITY`, with `*` for all namespaces")
        })?;
        let who = Pattern::parse(who)?;
        if namespace == ALL_NAMESPACES {
            return Ok(Self { namespace: None, who });
        }
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
        if namespace.is_empty() || namespace.len() > NAME_BYTES_MAX || !namespace.bytes().all(byte) {
            return Err(format!("`{namespace}` is no name of a namespace"));
        }
        Ok(Self { namespace: Some(namespace.to_owned()), who })
    }

    fn covers(&self, namespace: Option<&str>) -> bool {
        match (&self.namespace, namespace) {
            (None, _) | (_, None) => true,
            (Some(covered), Some(namespace)) => covered == namespace,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.namespace.as_deref().unwrap_or(ALL_NAMESPACES), self.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spiffe(name: &str) -> Identity {
        Identity::spiffe(&format!("spiffe://td/{name}")).unwrap()
    }

    fn share(text: &str) -> Vec<Share> {
        vec![Share::parse(text).unwrap()]
    }

    #[test]
    fn each_role_contains_the_smaller_ones_in_its_namespace_only() {
        let roles = Roles {
            admin: vec![Pattern::parse("spiffe://td/admin").unwrap()],
            read_write: share("prod=spiffe://td/writer"),
            read_only: share("prod=spiffe://td/reader"),
            events_only: share("prod=spiffe://td/follower"),
            peer: Vec::new(),
        };
        let rights = [Right::Events, Right::Read, Right::Write];
        let cases = [("admin", 3), ("writer", 3), ("reader", 2), ("follower", 1), ("stranger", 0)];
        for (name, allowed) in cases {
            for (place, right) in rights.into_iter().enumerate() {
                let expected = place < allowed;
                assert_eq!(roles.has(&spiffe(name), right, Some("prod")), expected, "{name} {right:?}");
                assert_eq!(roles.has(&spiffe(name), right, None), expected, "{name} {right:?} anywhere");
                let elsewhere = roles.has(&spiffe(name), right, Some("prod2"));
                assert_eq!(elsewhere, name == "admin", "{name} {right:?} elsewhere");
            }
        }
    }

    #[test]
    fn a_share_of_all_namespaces_covers_each() {
        let roles = Roles { read_only: share("*=spiffe://td/*"), ..Roles::default() };
        assert!(roles.has(&spiffe("a"), Right::Read, Some("prod")) && roles.has(&spiffe("b"), Right::Read, Some("x")));
        assert!(!roles.has(&spiffe("a"), Right::Write, Some("prod")));
    }

    #[test]
    fn peers_are_everybody_until_somebody_is_named() {
        assert!(Roles::default().is_peer(None));
        let roles = Roles { peer: vec![Pattern::parse("spiffe://td/node/*").unwrap()], ..Roles::default() };
        assert!(roles.is_peer(Some(&spiffe("node/1"))));
        assert!(!roles.is_peer(Some(&spiffe("writer"))) && !roles.is_peer(None));
    }

    #[test]
    fn shares_are_written_as_they_are_read() {
        for text in ["prod=spiffe://td/a", "*=cn:x=y", "a/b.c_d-1=spiffe://td/a/*"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "prod", "=cn:a", "spiffe://td/a", "a b=cn:x", "**=cn:x", "prod=x"] {
            assert!(Share::parse(text).is_err(), "{text:?}");
        }
    }
}
