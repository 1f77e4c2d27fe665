//! Who may do what.

mod identity;
mod roles;

pub use identity::{Identity, Pattern};
pub use roles::{Right, Roles, Share};
