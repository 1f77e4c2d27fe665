//! What values have to be, beyond what each of them is read as.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Config, ConfigError, Origin};
use crate::node::TICK_MIN_MILLISECONDS;

/// Longest name of a namespace.
const NAMESPACE_BYTES_MAX: usize = 255;

impl Config {
    /// Checks what single values cannot show.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_security()?;
        self.check_http_address()?;
        require("node.http_listen", self.addresses_differ(), "is the same address as node.listen")?;
        require("node.namespace", is_namespace(&self.node.namespace), NAMESPACE_RULE)?;
        let reserved = u64::from(self.log.segment_entries) * 64;
        require(
            "log.segment_entries",
            reserved <= self.log.segment_bytes / 2,
            "takes more than half of log.segment_bytes",
        )?;
        let flush = self.store.flush_interval;
        require("store.flush_interval", in_range(flush, 10, 3_600_000), "has to be between 10ms and 1h")?;
        let request_ids = self.retention.request_ids;
        require("retention.request_ids", in_range(request_ids, 60_000, 86_400_000), "has to be between 1m and 24h")?;
        let interval = self.compaction.interval;
        require(
            "compaction.interval",
            interval.is_zero() || in_range(interval, 100, 86_400_000),
            "has to be `0` or between 100ms and 24h",
        )?;
        self.check_cluster()?;
        self.check_level()
    }

    fn check_cluster(&self) -> Result<(), ConfigError> {
        let cluster = &self.cluster;
        require(
            "cluster.tick",
            in_range(cluster.tick, TICK_MIN_MILLISECONDS, 10_000),
            "has to be between 10ms and 10s",
        )?;
        require(
            "cluster.join",
            cluster.initial.is_empty() || cluster.join.is_empty(),
            "cannot be given together with cluster.initial: a node founds a group or joins one",
        )?;
        let mut numbers: Vec<_> = cluster.initial.iter().map(|founder| founder.node).collect();
        numbers.sort_unstable();
        let is_unique = numbers.windows(2).all(|pair| pair[0] != pair[1]);
        require("cluster.initial", is_unique, "names a node twice")?;
        let is_member = cluster.initial.is_empty() || numbers.contains(&cluster.node);
        require("cluster.initial", is_member, "does not name this node, which is cluster.node")?;
        if cluster.has_peers() { self.check_reachable("cluster.listen", cluster.listen) } else { Ok(()) }
    }

    /// Nobody is to believe in protection that is not there.
    fn check_security(&self) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let (certificate, key) = (tls.certificate.is_some(), tls.key.is_some());
        require("tls.key", key || !certificate, "is missing; tls.certificate needs its private key")?;
        require("tls.certificate", certificate || !key, "is missing; tls.key is of no use without it")?;
        let authority = tls.authority.is_some();
        require("tls.certificate", certificate || !authority, "is missing; tls.authority is of no use without it")?;
        require("tls.authority", authority || !certificate || !self.cluster.has_peers(), PEERS_WITHOUT_AUTHORITY)?;
        require("tls.authority", authority || self.roles.is_empty(), ROLES_WITHOUT_AUTHORITY)?;
        require("roles.admin", !authority || !self.roles.is_empty_for_clients(), AUTHORITY_WITHOUT_ROLES)?;
        self.check_reachable("node.listen", self.node.listen)
    }

    /// What carries records may be reached from elsewhere only when everybody has to prove who they are.
    fn check_reachable(&self, key: &'static str, address: SocketAddr) -> Result<(), ConfigError> {
        let safe = address.ip().is_loopback() || self.tls.authority.is_some() || self.node.allow_insecure;
        let danger = match self.tls.files() {
            Some(_) => "nobody has to prove who they are",
            None => "nothing is encrypted",
        };
        let message = format!(
            "{address} can be reached from other machines, and {danger}; use a loopback address, give tls.certificate, \
             tls.key and tls.authority, or set node.allow_insecure if the network is trusted"
        );
        require(key, safe, &message)
    }

    /// The HTTP face is never encrypted. It shows counts and no records, so a node that protects its records may show it.
    fn check_http_address(&self) -> Result<(), ConfigError> {
        match self.tls.files() {
            Some(_) => Ok(()),
            None => self.check_reachable("node.http_listen", self.node.http_listen),
        }
    }

    fn addresses_differ(&self) -> bool {
        self.node.listen != self.node.http_listen || self.node.listen.port() == 0
    }

    fn check_level(&self) -> Result<(), ConfigError> {
        let filter = self.tracing.filter();
        // `EnvFilter` takes any word for the name of a target, so a misspelt level would silence everything.
        let plausible = self.tracing.level.split(',').all(|part| part.contains('=') || is_level(part));
        let message = format!(
            "`{}` is neither a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) nor a filter such as \
             `info,steeple_engine=debug`",
            self.tracing.level
        );
        require("tracing.level", filter.is_ok() && plausible, &message)
    }
}

const NAMESPACE_RULE: &str = "has to be empty, or up to 255 letters, digits and `-._/`";

const PEERS_WITHOUT_AUTHORITY: &str = "is missing; the nodes of a group verify each other by it";

const ROLES_WITHOUT_AUTHORITY: &str = "is missing; roles say what a certificate allows, and without an authority nobody \
                                       has to show one";

const AUTHORITY_WITHOUT_ROLES: &str = "is empty, and so are the other roles of clients: nobody could do anything. Name at \
                                       least one identity, such as `spiffe://DOMAIN/PATH` or `cn:NAME`";

fn is_namespace(name: &str) -> bool {
    name.len() <= NAMESPACE_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
}

fn is_level(word: &str) -> bool {
    ["error", "warn", "info", "debug", "trace", "off"].iter().any(|level| word.trim().eq_ignore_ascii_case(level))
}

fn in_range(duration: Duration, milliseconds_min: u64, milliseconds_max: u64) -> bool {
    (Duration::from_millis(milliseconds_min)..=Duration::from_millis(milliseconds_max)).contains(&duration)
}

fn require(key: &'static str, holds: bool, message: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Value { origin: Origin::Whole, key, message: message.to_owned() }) }
}
