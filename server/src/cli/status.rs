//! `steeple status` and `steeple digest`.

use clap::Args;
use serde_json::{Value, json};
use steeple_client::administration::{DigestResponse, LogStatisticsResponse, StatusResponse};

use super::connection::Connection;
use super::exit::CommandError;
use super::instant::micros_text;
use super::json::hexadecimal;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct DigestArgs {
    /// Read every record again instead of trusting the hash kept all along
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn status(arguments: StatusArgs) -> Result<(), CommandError> {
    let admin = arguments.connection.admin().await?;
    let status = admin.status().await?;
    let log = admin.log_statistics().await?;
    arguments.connection.output.record(&status_json(&status, &log), &status_fields(&status, &log))?;
    if status.failure.is_empty() { Ok(()) } else { Err(CommandError::Failed(status.failure)) }
}

fn status_json(status: &StatusResponse, log: &LogStatisticsResponse) -> Value {
    let tables = status.tables.iter().map(|table| (table.table.clone(), Value::from(table.records)));
    json!({
        "version": status.version,
        "cluster_id": status.cluster_id,
        "node_id": status.node_id,
        "history_id": status.history_id,
        "group_id": status.group_id,
        "leader_node_id": status.leader_node_id,
        "revision": status.revision,
        "last_log_index": status.last_log_index,
        "committed_log_index": status.committed_log_index,
        "last_event_time_micros": status.last_event_time_micros,
        "uptime_micros": status.uptime_micros,
        "record_store": status.record_store,
        "namespaces": status.namespaces,
        "tables": tables.collect::<serde_json::Map<_, _>>(),
        "failure": status.failure,
        "log": {
            "segments": log.segments,
            "recycled_segments": log.recycled_segments,
            "bytes_on_disk": log.bytes_on_disk,
            "bytes_live": log.bytes_live,
            "first_log_index": log.first_log_index,
            "last_log_index": log.last_log_index,
            "syncs": log.syncs,
            "entries_appended": log.entries_appended,
        },
    })
}

fn status_fields(status: &StatusResponse, log: &LogStatisticsResponse) -> Vec<(&'static str, String)> {
    let uptime = std::time::Duration::from_secs(u64::try_from(status.uptime_micros / 1_000_000).unwrap_or(0));
    let tables = status.tables.iter().filter(|table| table.records > 0);
    let tables: Vec<_> = tables.map(|table| format!("{} {}", table.records, table.table)).collect();
    vec![
        ("version", status.version.clone()),
        ("state", if status.failure.is_empty() { "serving".into() } else { format!("FAILED: {}", status.failure) }),
        ("uptime", humantime::format_duration(uptime).to_string()),
        ("cluster", status.cluster_id.clone()),
        ("node", format!("{} (leader {})", status.node_id, status.leader_node_id)),
        ("history", status.history_id.clone()),
        ("revision", status.revision.to_string()),
        ("last event", micros_text(status.last_event_time_micros)),
        ("record store", status.record_store.clone()),
        ("namespaces", status.namespaces.to_string()),
        ("records", tables.join(", ")),
        (
            "log",
            format!(
                "entries {} to {}, committed {}",
                log.first_log_index, log.last_log_index, status.committed_log_index
            ),
        ),
        (
            "log files",
            format!(
                "{} in use, {} spare, {} on disk, {} live",
                log.segments,
                log.recycled_segments,
                size_text(log.bytes_on_disk),
                size_text(log.bytes_live)
            ),
        ),
        ("syncs", format!("{} for {} entries", log.syncs, log.entries_appended)),
    ]
}

pub(super) async fn digest(arguments: DigestArgs) -> Result<(), CommandError> {
    let digest = arguments.connection.admin().await?.digest(arguments.recompute).await?;
    arguments.connection.output.record(&digest_json(&digest), &digest_fields(&digest))
}

fn digest_json(digest: &DigestResponse) -> Value {
    json!({
        "revision": digest.revision,
        "digest": hexadecimal(&digest.digest),
        "recomputed": digest.recomputed,
        "records": digest.records,
    })
}

fn digest_fields(digest: &DigestResponse) -> Vec<(&'static str, String)> {
    let records = if digest.recomputed { digest.records.to_string() } else { String::new() };
    vec![("digest", hexadecimal(&digest.digest)), ("revision", digest.revision.to_string()), ("records read", records)]
}

/// A size for people.
pub(super) fn size_text(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
