//! What a node can be told: one TOML file, overridden by the environment, overridden by flags.
//!
//! Every key is one row of [`KEYS`]; the file's keys, the flags, the environment variables and
//! `docs/configuration.md` all follow from that table.

mod cluster;
mod error;
mod file;
mod keys;
mod overrides;
mod print;
mod validate;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

pub use cluster::Founder;
pub use error::{ConfigError, Origin};
pub use keys::{KEYS, Key, Kind};
pub use overrides::Overrides;
pub use print::{reference, to_toml};

use crate::authorization::Roles;
use crate::tls::TlsFiles;

/// Everything that a node can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the node lives and listens.
    pub node: NodeConfig,
    /// The group that the node belongs to.
    pub cluster: ClusterConfig,
    /// Encryption of connections.
    pub tls: TlsConfig,
    /// Who may do what.
    pub roles: Roles,
    /// The log.
    pub log: LogConfig,
    /// The record store.
    pub store: StoreConfig,
    /// How long things are kept.
    pub retention: RetentionConfig,
    /// When space is given back.
    pub compaction: CompactionConfig,
    /// How much the node takes on.
    pub limits: LimitsConfig,
    /// What it writes to its standard error.
    pub tracing: TracingConfig,
}

/// Where a node lives and listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Directory of everything that the node keeps.
    pub data: PathBuf,
    /// Address of the gRPC services.
    pub listen: SocketAddr,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    pub http_listen: SocketAddr,
    /// Whether addresses that others can reach may be served although nothing is encrypted.
    pub allow_insecure: bool,
    /// Namespace that the node makes sure to have when it starts; empty for none.
    pub namespace: String,
    /// Bytes of memory that the `steeple` command takes when it starts, and keeps.
    pub reserved_memory: u64,
}

/// The group that a node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The node's number in the group.
    pub node: u64,
    /// The members that found the group together; empty for a node alone or one that joins.
    pub initial: Vec<Founder>,
    /// Where clients reach members of the group that the node joins.
    pub join: Vec<String>,
    /// Keeps clusters with equal addresses apart.
    pub name: String,
    /// Address for the other nodes.
    pub listen: SocketAddr,
    /// Where the others reach it; empty for `listen`.
    pub advertise: String,
    /// Where clients reach it; empty for `node.listen`.
    pub client_advertise: String,
    /// Time between two looks at elections and heartbeats.
    pub tick: Duration,
    /// Whether a leader answers reads for a moment after a majority has confirmed it, without asking again.
    pub lease_reads: bool,
}

impl ClusterConfig {
    /// Whether other nodes belong to the group, or are to.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.listen.port() != 0 || !self.initial.is_empty() || !self.join.is_empty()
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            node: 1,
            initial: Vec::new(),
            join: Vec::new(),
            name: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: String::new(),
            client_advertise: String::new(),
            tick: Duration::from_millis(50),
            lease_reads: false,
        }
    }
}

/// Encryption of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// File with the node's certificate.
    pub certificate: Option<PathBuf>,
    /// File with its private key.
    pub key: Option<PathBuf>,
    /// File with the authorities that vouch for clients and peers.
    pub authority: Option<PathBuf>,
}

impl TlsConfig {
    /// The files, if connections are to be encrypted.
    #[must_use]
    pub fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = self.certificate.clone().zip(self.key.clone())?;
        Some(TlsFiles { certificate, key, authority: self.authority.clone() })
    }
}

/// The log of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of one file.
    pub segment_bytes: u64,
    /// Most entries of one file.
    pub segment_entries: u32,
    /// Files without entries that are kept to be written again.
    pub spare_segments: usize,
    /// Whether every frame is verified at start, not only those of the newest segment.
    pub verify_everything: bool,
    /// Whether damage in the very last batch is taken for an unfinished write.
    pub cut_undecided: bool,
}

/// The record store of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Which one.
    pub kind: StoreKind,
    /// Time between flushes.
    pub flush_interval: Duration,
}

/// Record stores to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// sled.
    Sled,
    /// fjall.
    Fjall,
    /// Nothing on disk: the records are rebuilt from the log at every start.
    Memory,
}

/// How long a node keeps things. Zero always means "for ever".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// How long events stay in the log at least, for tails and history.
    pub history: Duration,
    /// How long the log is kept for members that are away.
    pub followers: Duration,
    /// Age at which items of the streams are pruned.
    pub streams: Duration,
    /// How long request ids are remembered.
    pub request_ids: Duration,
}

/// When a node gives space back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// Time between two rounds of pruning and compaction; zero turns both off.
    pub interval: Duration,
    /// A segment is written again without what is dead once less than this share of it is wanted, in percent.
    pub rewrite_below_percent: u8,
    /// A base snapshot is written once the log has grown by this much since the last one.
    pub base_interval_bytes: u64,
}

/// How much a node takes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Mutations that may wait or be under way.
    pub queued_mutations: usize,
    /// Tails served at a time.
    pub tails: usize,
}

/// What a node writes to its standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// The least important level that is written, or a filter in the manner of `info,steeple_engine=debug`.
    pub level: String,
    /// How it looks.
    pub format: TracingFormat,
}

impl TracingConfig {
    /// What is written, by [`TracingConfig::level`].
    ///
    /// # Errors
    /// When it is no filter.
    pub fn filter(&self) -> Result<EnvFilter, ParseError> {
        // White space before a directive makes the parser read it at the wrong place, and panic inside a character.
        let directives: Vec<&str> = self.level.split(',').map(str::trim).collect();
        EnvFilter::builder().parse(directives.join(","))
    }
}

/// Looks of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracingFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: NodeConfig {
                data: PathBuf::from("steeple-data"),
                listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
                http_listen: SocketAddr::from(([127, 0, 0, 1], 7401)),
                allow_insecure: false,
                namespace: "default".into(),
                reserved_memory: 0,
            },
            cluster: ClusterConfig::default(),
            tls: TlsConfig::default(),
            roles: Roles::default(),
            log: LogConfig {
                segment_bytes: 64 << 20,
                segment_entries: 128 << 10,
                spare_segments: 2,
                verify_everything: false,
                cut_undecided: false,
            },
            store: StoreConfig { kind: StoreKind::Sled, flush_interval: Duration::from_secs(5) },
            retention: RetentionConfig {
                history: Duration::from_secs(24 * 3600),
                followers: Duration::from_secs(3600),
                streams: Duration::from_secs(24 * 3600),
                request_ids: Duration::from_secs(10 * 60),
            },
            compaction: CompactionConfig {
                interval: Duration::from_secs(60),
                rewrite_below_percent: 30,
                base_interval_bytes: 256 << 20,
            },
            limits: LimitsConfig { queued_mutations: 8_192, tails: 1_024 },
            tracing: TracingConfig { level: "info".into(), format: TracingFormat::Text },
        }
    }
}

impl Config {
    /// The defaults, changed by `file`, then by `overrides`.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown or given twice, or a value makes no sense.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            file::apply(&mut config, path)?;
        }
        overrides.apply(&mut config)?;
        config.check()?;
        Ok(config)
    }

    /// As [`Config::load`], with the file's content given.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        file::apply_text(&mut config, text, path)?;
        overrides.apply(&mut config)?;
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
