//! Bounds on everything that travels between nodes, with the relations between them.

use std::time::Duration;

use steeple_engine::log::MAX_PAYLOAD_BYTES;

/// Version of the protocol. Nodes of different versions do not talk to each other.
pub const PROTOCOL: u32 = 1;

/// Messages are collected into batches of about this size.
pub const BATCH_BYTES: usize = 1 << 20;
/// Largest batch: one message whose only entry is as large as entries get.
pub const BATCH_BYTES_MAX: usize = MAX_PAYLOAD_BYTES + (1 << 20);
/// Most messages of a batch.
pub const BATCH_MESSAGES_MAX: usize = 4_096;
/// Most entries of a batch, over all its messages. They need memory of their own besides their bytes.
pub const BATCH_ENTRIES_MAX: usize = 1 << 18;
/// Largest item of an exchange: a batch and what surrounds it.
pub const EXCHANGE_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);

/// Largest context of a message, or of an entry that changes no members.
pub const CONTEXT_BYTES_MAX: usize = 256;
/// Largest context of an entry that changes members: the change itself, as large as the group lets one be. With a lower
/// bound a leader could take a change into its log that reaches nobody else, nor does anything behind it.
pub const MEMBERSHIP_CONTEXT_BYTES_MAX: usize = steeple_raft::membership::ENCODED_BYTES_MAX;
/// Most members of each kind that a message names.
pub const MEMBERS_MAX: usize = 256;
/// Largest encoded position of a snapshot: four lists of members and three numbers.
pub const SNAPSHOT_POSITION_BYTES_MAX: usize = 16 << 10;
/// Highest term and index that is believed. Far above any that is ever reached, and far enough from the end of the
/// numbers for whatever is counted on from there.
pub const POSITION_MAX: u64 = 1 << 62;

/// Bytes that wait for one peer in the bulk lane.
pub const BULK_QUEUE_BYTES: usize = 64 << 20;
/// Bytes that wait for one peer in the control lane.
pub const CONTROL_QUEUE_BYTES: usize = 1 << 20;
/// Messages that wait for one peer in each lane.
pub const QUEUE_MESSAGES_MAX: usize = 8_192;
/// Bytes of one bulk stream that were received and not yet taken up.
pub const BULK_UNDELIVERED_BYTES: usize = 64 << 20;
/// Bytes of one control stream that were received and not yet taken up.
pub const CONTROL_UNDELIVERED_BYTES: usize = 1 << 20;

/// Nodes that may be sending at the same time.
pub const PEERS_MAX: usize = 64;
/// Snapshots that are sent at the same time.
pub const SNAPSHOTS_MAX: usize = 2;
/// Largest item of a snapshot stream: a chunk and what surrounds it.
pub const SNAPSHOT_ITEM_BYTES_MAX: usize = steeple_snapshot::limits::MAX_CHUNK_PAYLOAD_BYTES + (64 << 10);

/// Entries of one answer to a member that repairs its log take about this much, or are one.
pub const FETCHED_ENTRIES_BYTES: usize = 1 << 20;
/// Largest such answer: one entry as large as entries get.
pub const FETCHED_BYTES_MAX: usize = FETCHED_ENTRIES_BYTES + MAX_PAYLOAD_BYTES + (64 << 10);
/// Entries of such an answer at the most.
pub const FETCHED_ENTRIES_MAX: u64 = 4_096;
/// Largest description of a log.
pub const LOG_DESCRIPTION_BYTES_MAX: usize = 1 << 20;
/// How long an answer to a member that repairs its log may take.
pub const REPAIR_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may take to come about, handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an idle connection is probed.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a probe may stay unanswered.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause after a connection broke, on average.
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to connect.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

// What takes more room than there is for a whole queue passes alone, when the queue is empty.
const _: () = assert!(BATCH_BYTES < BATCH_BYTES_MAX && BATCH_BYTES_MAX < BULK_QUEUE_BYTES);
const _: () = assert!(BATCH_BYTES_MAX < BULK_UNDELIVERED_BYTES);
const _: () = assert!(4 * MEMBERS_MAX * 10 < SNAPSHOT_POSITION_BYTES_MAX);
