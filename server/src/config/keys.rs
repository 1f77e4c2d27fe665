//! The table of all keys.

use std::path::PathBuf;

use super::cluster::{Founder, host_and_port, optional_host_and_port};
use super::value::{
    address, bytes, bytes_text, choice, choice_text, count, duration, duration_text, flag, list, list_text,
};
use super::{Config, StoreKind, TracingFormat};
use crate::authorization::{Pattern, Share};

/// What kind of value a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count,
    /// A size: text like `64MiB`, or a number of bytes.
    Bytes,
    /// Text like `10m`.
    Duration,
    /// Text with an IP address and a port.
    Address,
    /// Text with a path; empty for none where that is allowed.
    Path,
    /// Any text.
    Text,
    /// Several texts: an array in a file, separated by commas elsewhere.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name, such as `node.listen`.
    pub name: &'static str,
    /// The flag that overrides it, without dashes.
    pub flag: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it does, in a sentence or two.
    pub summary: &'static str,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) get: fn(&Config) -> String,
}

impl Key {
    /// The environment variable that overrides it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("STEEPLE_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The section of the file.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside the section.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }

    /// The value in a configuration, as it would be written after a flag.
    #[must_use]
    pub fn value(&self, config: &Config) -> String {
        (self.get)(config)
    }
}

const STORE_KINDS: [(&str, StoreKind); 3] =
    [("sled", StoreKind::Sled), ("fjall", StoreKind::Fjall), ("memory", StoreKind::Memory)];

const TRACING_FORMATS: [(&str, TracingFormat); 2] = [("text", TracingFormat::Text), ("json", TracingFormat::Json)];

/// Every key there is, in the order of the sections.
pub const KEYS: &[Key] = &[
    Key {
        name: "node.data",
        flag: "data",
        kind: Kind::Path,
        summary: "Directory of everything that the node keeps. It is created when it is missing.",
        set: |config, text| store(&mut config.node.data, path(text)),
        get: |config| config.node.data.display().to_string(),
    },
    Key {
        name: "node.listen",
        flag: "listen",
        kind: Kind::Address,
        summary: "Address of the gRPC services. Port 0 takes any free port.",
        set: |config, text| store(&mut config.node.listen, address(text)),
        get: |config| config.node.listen.to_string(),
    },
    Key {
        name: "node.http_listen",
        flag: "http-listen",
        kind: Kind::Address,
        summary: "Address of `/metrics`, `/healthz` and `/readyz`. Port 0 takes any free port.",
        set: |config, text| store(&mut config.node.http_listen, address(text)),
        get: |config| config.node.http_listen.to_string(),
    },
    Key {
        name: "node.allow_insecure",
        flag: "allow-insecure",
        kind: Kind::Flag,
        summary: "Serve addresses that other machines can reach although nobody has to prove who they are. Without it, that \
                  takes `[tls]` with an authority; else only loopback addresses are accepted.",
        set: |config, text| store(&mut config.node.allow_insecure, flag(text)),
        get: |config| config.node.allow_insecure.to_string(),
    },
    Key {
        name: "node.namespace",
        flag: "namespace",
        kind: Kind::Text,
        summary: "Namespace that the node makes sure to have when it starts. Empty for none.",
        set: |config, text| store(&mut config.node.namespace, Ok(text.to_owned())),
        get: |config| config.node.namespace.clone(),
    },
    Key {
        name: "node.reserved_memory",
        flag: "reserved-memory",
        kind: Kind::Bytes,
        summary: "Memory that `steeple` takes when it starts, up to nine tenths of what there is, so that no mutation waits \
                  for new pages while the node grows into it; with `steeple dev --nodes` each node takes so much. It takes \
                  what it needs beyond that as it goes, and gives none back while it runs. It costs up to 2 s for each GiB before the node serves. 0 takes nothing beforehand, and \
                  gives back what is free.",
        set: |config, text| store(&mut config.node.reserved_memory, bytes(text, 0..=1 << 40)),
        get: |config| bytes_text(config.node.reserved_memory),
    },
    Key {
        name: "cluster.node",
        flag: "node",
        kind: Kind::Count,
        summary: "The node's number in its group. Never used for another node, not even after this one is gone.",
        set: |config, text| store(&mut config.cluster.node, count(text, 1..=u64::from(u32::MAX))),
        get: |config| config.cluster.node.to_string(),
    },
    Key {
        name: "cluster.initial",
        flag: "initial",
        kind: Kind::List,
        summary: "The members that found a group together, the same on each of them: `1=host:7402`, or with the address for \
                  clients `1=host:7402/host:7400`. Looked at only while the data directory is empty. Empty for a node alone.",
        set: |config, text| store(&mut config.cluster.initial, list(text, Founder::parse)),
        get: |config| list_text(&config.cluster.initial),
    },
    Key {
        name: "cluster.join",
        flag: "join",
        kind: Kind::List,
        summary: "Addresses for clients of members of a group that is there already, to which this node has been or will be \
                  added with `steeple cluster add`. Looked at only while the data directory is empty.",
        set: |config, text| store(&mut config.cluster.join, list(text, host_and_port)),
        get: |config| list_text(&config.cluster.join),
    },
    Key {
        name: "cluster.name",
        flag: "cluster-name",
        kind: Kind::Text,
        summary: "Any text, the same on all founders. Keeps clusters apart that are founded one after the other on the same \
                  addresses.",
        set: |config, text| store(&mut config.cluster.name, Ok(text.to_owned())),
        get: |config| config.cluster.name.clone(),
    },
    Key {
        name: "cluster.listen",
        flag: "cluster-listen",
        kind: Kind::Address,
        summary: "Address for the other nodes. Port 0 takes any free port, if the node has peers at all.",
        set: |config, text| store(&mut config.cluster.listen, address(text)),
        get: |config| config.cluster.listen.to_string(),
    },
    Key {
        name: "cluster.advertise",
        flag: "advertise",
        kind: Kind::Text,
        summary: "Where the other nodes reach this one, as `host:port`. Empty for `cluster.listen`.",
        set: |config, text| store(&mut config.cluster.advertise, optional_host_and_port(text)),
        get: |config| config.cluster.advertise.clone(),
    },
    Key {
        name: "cluster.client_advertise",
        flag: "client-advertise",
        kind: Kind::Text,
        summary: "Where clients reach this node, as `host:port`. Empty for `node.listen`.",
        set: |config, text| store(&mut config.cluster.client_advertise, optional_host_and_port(text)),
        get: |config| config.cluster.client_advertise.clone(),
    },
    Key {
        name: "cluster.tick",
        flag: "cluster-tick",
        kind: Kind::Duration,
        summary: "Unit of time of elections: a leader is heard of every 2 ticks, and given up after 12 to 24. The same on all \
                  nodes.",
        set: |config, text| store(&mut config.cluster.tick, duration(text)),
        get: |config| duration_text(config.cluster.tick),
    },
    Key {
        name: "cluster.lease_reads",
        flag: "cluster-lease-reads",
        kind: Kind::Flag,
        summary: "A leader that a majority has confirmed answers current reads for the next 96 ms without asking again, once all \
                  members support that. Only where the monotonic clocks of all voters run at nearly the same rate and never \
                  stand still while a process runs: see `docs/cluster.md`, Reads from a lease.",
        set: |config, text| store(&mut config.cluster.lease_reads, flag(text)),
        get: |config| config.cluster.lease_reads.to_string(),
    },
    Key {
        name: "tls.certificate",
        flag: "tls-certificate",
        kind: Kind::Path,
        summary: "The node's certificate in PEM, followed by those between it and the authority. With it and `key`, gRPC and \
                  peers are served encrypted only. The three files are read again when they change. Empty for no TLS.",
        set: |config, text| store(&mut config.tls.certificate, Ok(optional_path(text))),
        get: |config| optional_path_text(config.tls.certificate.as_ref()),
    },
    Key {
        name: "tls.key",
        flag: "tls-key",
        kind: Kind::Path,
        summary: "The certificate's private key in PEM.",
        set: |config, text| store(&mut config.tls.key, Ok(optional_path(text))),
        get: |config| optional_path_text(config.tls.key.as_ref()),
    },
    Key {
        name: "tls.authority",
        flag: "tls-authority",
        kind: Kind::Path,
        summary: "Certificates in PEM of the authorities that vouch for clients and peers. With it, whoever connects has to \
                  show a certificate of theirs, and `[roles]` says what it allows.",
        set: |config, text| store(&mut config.tls.authority, Ok(optional_path(text))),
        get: |config| optional_path_text(config.tls.authority.as_ref()),
    },
    Key {
        name: "roles.admin",
        flag: "roles-admin",
        kind: Kind::List,
        summary: "Who may do everything that clients can do. Each is `spiffe://DOMAIN/PATH`, `spiffe://DOMAIN/PATH/*` for \
                  all below a path, or `cn:NAME` for the common name of a certificate without SPIFFE ID.",
        set: |config, text| store(&mut config.roles.admin, list(text, Pattern::parse)),
        get: |config| list_text(&config.roles.admin),
    },
    Key {
        name: "roles.read_write",
        flag: "roles-read-write",
        kind: Kind::List,
        summary: "Who may read and change a namespace, and open it. Each is `NAMESPACE=IDENTITY`, with `*` for all \
                  namespaces.",
        set: |config, text| store(&mut config.roles.read_write, list(text, Share::parse)),
        get: |config| list_text(&config.roles.read_write),
    },
    Key {
        name: "roles.read_only",
        flag: "roles-read-only",
        kind: Kind::List,
        summary: "Who may read a namespace and follow its events. Each is `NAMESPACE=IDENTITY`.",
        set: |config, text| store(&mut config.roles.read_only, list(text, Share::parse)),
        get: |config| list_text(&config.roles.read_only),
    },
    Key {
        name: "roles.events_only",
        flag: "roles-events-only",
        kind: Kind::List,
        summary: "Who may only follow the events of a namespace: tails, history and what they begin with. Each is \
                  `NAMESPACE=IDENTITY`.",
        set: |config, text| store(&mut config.roles.events_only, list(text, Share::parse)),
        get: |config| list_text(&config.roles.events_only),
    },
    Key {
        name: "roles.peer",
        flag: "roles-peer",
        kind: Kind::List,
        summary: "Who may speak as a node of the group. Empty for everybody whom the authority vouches for: fill it unless the \
                  authority vouches for nodes only.",
        set: |config, text| store(&mut config.roles.peer, list(text, Pattern::parse)),
        get: |config| list_text(&config.roles.peer),
    },
    Key {
        name: "log.segment_bytes",
        flag: "log-segment-bytes",
        kind: Kind::Bytes,
        summary: "Size of one file of the log. Takes effect for new files. No mutation can be larger than a file.",
        set: |config, text| store(&mut config.log.segment_bytes, bytes(text, 1 << 20..=1 << 30)),
        get: |config| bytes_text(config.log.segment_bytes),
    },
    Key {
        name: "log.segment_entries",
        flag: "log-segment-entries",
        kind: Kind::Count,
        summary: "Most entries of one file of the log. Each takes 64 bytes at most of the file, whether used or not.",
        set: |config, text| store(&mut config.log.segment_entries, count(text, 64..=4_194_304)),
        get: |config| config.log.segment_entries.to_string(),
    },
    Key {
        name: "log.spare_segments",
        flag: "log-spare-segments",
        kind: Kind::Count,
        summary: "Files without entries that are kept to be written again, which is faster than making new ones; one is made in advance when the newest file is half full. 0: neither.",
        set: |config, text| store(&mut config.log.spare_segments, count(text, 0..=64)),
        get: |config| config.log.spare_segments.to_string(),
    },
    Key {
        name: "log.verify_everything",
        flag: "log-verify-everything",
        kind: Kind::Flag,
        summary: "Verify every entry of the log at start. Without it damage in older files is found when they are read.",
        set: |config, text| store(&mut config.log.verify_everything, flag(text)),
        get: |config| config.log.verify_everything.to_string(),
    },
    Key {
        name: "log.cut_undecided",
        flag: "log-cut-undecided",
        kind: Kind::Flag,
        summary: "After a power failure, take damage in the very last batch of the log for an unfinished write and cut it \
                  off. Nothing tells it from damage to what was acknowledged, so a node refuses to start without this; \
                  with it, the mutations of that one batch may be lost. Members of a group ask the others instead and need \
                  it never.",
        set: |config, text| store(&mut config.log.cut_undecided, flag(text)),
        get: |config| config.log.cut_undecided.to_string(),
    },
    Key {
        name: "store.kind",
        flag: "store-kind",
        kind: Kind::Choice(&["sled", "fjall", "memory"]),
        summary: "Engine that keeps the records. Changing it makes the node rebuild them from the log; `memory` keeps \
                  nothing on disk and rebuilds at every start.",
        set: |config, text| store(&mut config.store.kind, choice(text, &STORE_KINDS)),
        get: |config| choice_text(config.store.kind, &STORE_KINDS),
    },
    Key {
        name: "store.flush_interval",
        flag: "store-flush-interval",
        kind: Kind::Duration,
        summary: "Time between flushes of the record store. Longer means less work now and more to replay after a crash; \
                  nothing is lost either way.",
        set: |config, text| store(&mut config.store.flush_interval, duration(text)),
        get: |config| duration_text(config.store.flush_interval),
    },
    Key {
        name: "retention.history",
        flag: "retention-history",
        kind: Kind::Duration,
        summary: "How long events are kept at least when nothing else needs them: the reach of history, of states in the \
                  past and of old cursors. `0` keeps them for ever.",
        set: |config, text| store(&mut config.retention.history, duration(text)),
        get: |config| duration_text(config.retention.history),
    },
    Key {
        name: "retention.followers",
        flag: "retention-followers",
        kind: Kind::Duration,
        summary: "How long a member of the group may be away and catch up from the log; after that it needs a snapshot. \
                  Where `history` is longer, that counts. A node without others does not need it. `0` means for ever.",
        set: |config, text| store(&mut config.retention.followers, duration(text)),
        get: |config| duration_text(config.retention.followers),
    },
    Key {
        name: "retention.streams",
        flag: "retention-streams",
        kind: Kind::Duration,
        summary: "Age at which items of the streams `registrations` and `nodes` are pruned in every namespace. `0` leaves \
                  pruning to SPIRE and to `steeple prune events`.",
        set: |config, text| store(&mut config.retention.streams, duration(text)),
        get: |config| duration_text(config.retention.streams),
    },
    Key {
        name: "retention.request_ids",
        flag: "retention-request-ids",
        kind: Kind::Duration,
        summary: "How long a mutation may be repeated under its request id and get the first answer; a minute at the \
                  least. Events are kept at least as long.",
        set: |config, text| store(&mut config.retention.request_ids, duration(text)),
        get: |config| duration_text(config.retention.request_ids),
    },
    Key {
        name: "compaction.interval",
        flag: "compaction-interval",
        kind: Kind::Duration,
        summary: "Time between rounds of automatic pruning and compaction. `0` turns both off.",
        set: |config, text| store(&mut config.compaction.interval, duration(text)),
        get: |config| duration_text(config.compaction.interval),
    },
    Key {
        name: "compaction.rewrite_below_percent",
        flag: "compaction-rewrite-below-percent",
        kind: Kind::Count,
        summary: "A log file is written again without what is dead once less than this share of it is still wanted.",
        set: |config, text| store(&mut config.compaction.rewrite_below_percent, count(text, 0..=100)),
        get: |config| config.compaction.rewrite_below_percent.to_string(),
    },
    Key {
        name: "compaction.base_interval_bytes",
        flag: "compaction-base-interval-bytes",
        kind: Kind::Bytes,
        summary: "A copy of all records is written once the log has grown by this much since the last one; only log files \
                  that such a copy covers are given back.",
        set: |config, text| store(&mut config.compaction.base_interval_bytes, bytes(text, 1 << 20..=1 << 40)),
        get: |config| bytes_text(config.compaction.base_interval_bytes),
    },
    Key {
        name: "limits.queued_mutations",
        flag: "limits-queued-mutations",
        kind: Kind::Count,
        summary: "Mutations that may wait or be under way. More wait at the door.",
        set: |config, text| store(&mut config.limits.queued_mutations, count(text, 1..=1_000_000)),
        get: |config| config.limits.queued_mutations.to_string(),
    },
    Key {
        name: "limits.tails",
        flag: "limits-tails",
        kind: Kind::Count,
        summary: "Tails served at a time. More are refused with `overloaded`.",
        set: |config, text| store(&mut config.limits.tails, count(text, 1..=100_000)),
        get: |config| config.limits.tails.to_string(),
    },
    Key {
        name: "tracing.level",
        flag: "tracing-level",
        kind: Kind::Text,
        summary: "Least important level that is written to standard error: `error` (somebody must act), `warn` (the node \
                  copes, somebody should look), `info` (starts, stops, milestones), `debug` (each connection and round), \
                  `trace` (each request). A filter such as `info,steeple_engine=debug` is accepted too.",
        set: |config, text| store(&mut config.tracing.level, Ok(text.to_owned())),
        get: |config| config.tracing.level.clone(),
    },
    Key {
        name: "tracing.format",
        flag: "tracing-format",
        kind: Kind::Choice(&["text", "json"]),
        summary: "Lines for people, or a JSON object a line.",
        set: |config, text| store(&mut config.tracing.format, choice(text, &TRACING_FORMATS)),
        get: |config| choice_text(config.tracing.format, &TRACING_FORMATS),
    },
];

fn store<Value>(place: &mut Value, value: Result<Value, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn optional_path(text: &str) -> Option<PathBuf> {
    Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn optional_path_text(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("the path is empty".into()) } else { Ok(PathBuf::from(text)) }
}
