//! Settings and parts of a node: plain values on one side, clock and randomness on the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use steeple_engine::ids::Timestamp;
use steeple_engine::log::LogOptions;
use steeple_engine::record_store::{RecordStoreKind, RecordStoreOptions};

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where its files are; `None` keeps everything in memory, for tests.
    pub data: Option<PathBuf>,
    /// The log.
    pub log: LogOptions,
    /// Which record store.
    pub store: RecordStoreKind,
    /// Its settings.
    pub store_options: RecordStoreOptions,
    /// How often the record store is flushed. Bounds what a start has to fold again.
    pub flush_interval: Duration,
    /// How long a carried-out request is remembered.
    pub request_window: Duration,
    /// How long events are kept when nothing else wants them.
    pub history_retention: Duration,
    /// Items of the streams older than this are pruned; `None` leaves pruning to the callers.
    pub stream_retention: Option<Duration>,
    /// How often space is given back; `None` leaves that to the callers.
    pub compaction_interval: Option<Duration>,
    /// A new base snapshot is due once the log has grown by this much since the last one.
    pub base_interval_bytes: u64,
    /// Sealed segments with a smaller share of wanted bytes are rewritten.
    pub rewrite_below: f64,
    /// Commands waiting or in flight at the most; more wait at the door.
    pub submissions_max: usize,
    /// Tails served at a time.
    pub tails_max: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            data: None,
            log: LogOptions::default(),
            store: RecordStoreKind::Sled,
            store_options: RecordStoreOptions::default(),
            flush_interval: Duration::from_secs(5),
            request_window: Duration::from_secs(600),
            history_retention: Duration::from_secs(24 * 3600),
            stream_retention: None,
            compaction_interval: Some(Duration::from_secs(60)),
            base_interval_bytes: 256 << 20,
            rewrite_below: 0.3,
            submissions_max: 8192,
            tails_max: 10_000,
        }
    }
}

impl NodeOptions {
    /// Everything in memory; nothing survives. A namespace or a node of this kind costs next to nothing.
    #[must_use]
    pub fn in_memory() -> Self {
        let log = LogOptions { segment_bytes: 8 << 20, segment_entries: 16 << 10, ..LogOptions::default() };
        Self { log, store: RecordStoreKind::Memory, ..Self::default() }
    }

    /// Everything under a directory, which is created when it is missing.
    #[must_use]
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }
}

/// What a node is given from outside.
#[derive(Clone)]
pub struct NodeParts {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Default for NodeParts {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock) }
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }
}
