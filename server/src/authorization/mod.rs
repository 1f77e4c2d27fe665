//! Who may do what.
//!
//! A certificate names an [`Identity`]; [`Roles`] say what it may do; the table of [`permission`] says what each method
//! takes. [`Authorize`] stands before every service and refuses what is not allowed. For methods whose permission depends
//! on the namespace, which only the decoded request tells, the handler asks [`check_namespace`] when it opens one; a handler
//! that asks outside of a call that was decided about is refused.

mod access;
mod identity;
mod layer;
mod methods;
mod roles;

pub use access::{Access, Grant};
pub use identity::{Identity, Pattern};
pub use layer::{Authorize, Authorized, check_namespace};
pub use methods::{Permission, permission};
pub use roles::{Right, Roles, Share};
