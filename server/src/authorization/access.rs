//! Deciding about one call.

use std::sync::Arc;

use steeple_engine::namespaces::commands::NAME_BYTES_MAX;
use tonic::Status;

use super::{Identity, Permission, Right, Roles};
use crate::tls::Caller;

/// Who is let in to a node.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever can reach it may do everything: a node without an authority, or inside the process.
    Everyone,
    /// Those whom an authority vouches for, as far as their roles reach.
    Roles(Arc<Roles>),
}

/// A call that was let in: what its handler may do for it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// None for a call that may do everything.
    limits: Option<Limits>,
}

#[derive(Clone, Debug)]
struct Limits {
    roles: Arc<Roles>,
    identity: Arc<Identity>,
    /// None for a call that is about no namespace.
    right: Option<Right>,
}

impl Access {
    /// Access as these roles say.
    #[must_use]
    pub fn roles(roles: Roles) -> Self {
        Self::Roles(Arc::new(roles))
    }

    /// Lets a call in or refuses it.
    ///
    /// # Errors
    /// With what to tell the caller: that the method does not exist, that he shows no certificate, or that none of his
    /// roles allows it.
    pub fn decide(&self, path: &str, caller: Option<&Caller>) -> Result<Grant, Status> {
        // Even where everybody may do everything: what is not in the table is not meant to be called.
        let Some(permission) = super::permission(path) else {
            return Err(Status::unimplemented("this node serves no such method"));
        };
        let Self::Roles(roles) = self else { return Ok(Grant { limits: None }) };
        let Some(caller) = caller.filter(|caller| caller.verified) else {
            return Err(Status::unauthenticated("this node serves only callers that show a certificate"));
        };
        let identity = caller.identity.as_ref();
        let right = match permission {
            Permission::Namespace(right) => Some(right),
            _ => None,
        };
        let allowed = match permission {
            Permission::Nothing => true,
            Permission::Peer => roles.is_peer(identity.map(AsRef::as_ref)),
            Permission::AnyRole => {
                let client = identity.is_some_and(|identity| roles.has(identity, Right::Events, None));
                client || roles.is_peer(identity.map(AsRef::as_ref))
            }
            Permission::Namespace(right) => identity.is_some_and(|identity| roles.has(identity, right, None)),
            Permission::Admin => identity.is_some_and(|identity| roles.is_admin(identity)),
        };
        match identity {
            Some(identity) if allowed => {
                let (roles, identity) = (Arc::clone(roles), Arc::clone(identity));
                Ok(Grant { limits: Some(Limits { roles, identity, right }) })
            }
            // Only what needs no name is allowed to nobody in particular, and that never asks for a namespace.
            None if allowed => Ok(Grant { limits: None }),
            Some(identity) => Err(Status::permission_denied(format!("{identity} has no role that allows {path}"))),
            None => Err(Status::permission_denied(
                "the certificate of this connection names nobody: it needs exactly one URI, a SPIFFE ID, or else \
                 exactly one common name",
            )),
        }
    }
}

impl Grant {
    /// Whether the call may concern a namespace, which need not exist.
    ///
    /// # Errors
    /// With what to tell the caller when it may not.
    pub fn check_namespace(&self, namespace: &str) -> Result<(), Status> {
        let Some(Limits { roles, identity, right }) = &self.limits else { return Ok(()) };
        let right = right.ok_or_else(not_expected)?;
        if roles.has(identity, right, Some(namespace)) {
            return Ok(());
        }
        let what = match right {
            Right::Events => "follow events of",
            Right::Read => "read",
            Right::Write => "change",
        };
        // No namespace has a longer name, and a status has to fit into headers.
        let named = if namespace.len() <= NAME_BYTES_MAX { format!("namespace {namespace:?}") } else { "that".into() };
        Err(Status::permission_denied(format!("{identity} may not {what} {named}")))
    }
}

/// A handler asks about a namespace although its method's permission does not depend on one: the table is wrong.
fn not_expected() -> Status {
    Status::internal("this method was not expected to concern a namespace")
}
