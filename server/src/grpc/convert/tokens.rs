//! Join tokens.

use steeple_engine::spire::tokens::records::JoinToken;
use steeple_wire::spire::v1 as wire;

pub(crate) fn from_wire(token: wire::JoinToken) -> JoinToken {
    JoinToken { token: token.token, expiry: token.expires_at }
}

pub(crate) fn to_wire(token: JoinToken) -> wire::JoinToken {
    wire::JoinToken { token: token.token, expires_at: token.expiry }
}
