//! Members as they are written in a configuration.

use std::fmt;

/// A member that founds a group: `1=host:7402`, or with its address for clients `1=host:7402/host:7400`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Founder {
    /// Its number.
    pub node: u64,
    /// Where the others reach it.
    pub peer_address: String,
    /// Where clients reach it; empty when that is not said.
    pub client_address: String,
}

impl fmt::Display for Founder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.node, self.peer_address)?;
        if self.client_address.is_empty() { Ok(()) } else { write!(formatter, "/{}", self.client_address) }
    }
}

impl Founder {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` does not name a member; write for example `1=host:7402` or `1=host:7402/host:7400`");
        let (node, addresses) = text.split_once('=').ok_or_else(wrong)?;
        let node = node.trim().parse().ok().filter(|node| *node > 0).ok_or_else(wrong)?;
        let (peer, client) = addresses.split_once('/').unwrap_or((addresses, ""));
        let peer_address = host_and_port(peer.trim())?;
        let client_address = if client.is_empty() { String::new() } else { host_and_port(client.trim())? };
        Ok(Self { node, peer_address, client_address })
    }
}

/// Reads `host:port`; the host may be a name.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) && !text.contains(char::is_whitespace)
    });
    if is_address && text.len() <= 300 {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not an address; write `host:port`"))
    }
}

/// As [`host_and_port`], or nothing.
pub(super) fn optional_host_and_port(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { host_and_port(text) }
}
