//! `/metrics`, `/healthz` and `/readyz`.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use steeple_engine::domain::CATALOG;
use steeple_engine::view::Reader;
use tokio::net::TcpListener;

use crate::node::Node;
use crate::node::cluster::ClusterStatus;

/// How long the node may take to say how it is doing.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Parts {
    node: Node,
    metrics: PrometheusHandle,
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    node: Node,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(render_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Parts { node, metrics });
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(shutdown)
        .await
}

/// Serves for a node that does not run yet, until the reason why is gone. Alive is not ready.
///
/// # Errors
/// When the listener fails.
pub async fn serve_waiting(
    listener: TcpListener,
    reason: tokio::sync::watch::Receiver<String>,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let readiness = move || {
        let reason = format!("{}\n", *reason.borrow());
        async move { (StatusCode::SERVICE_UNAVAILABLE, reason) }
    };
    let routes = Router::new()
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness));
    axum::serve(listener, routes.into_make_service()).with_graceful_shutdown(shutdown).await
}

/// Alive is not ready: a node whose log failed, or that knows of no leader, still answers, and must get no mutations.
async fn readiness(State(parts): State<Parts>) -> (StatusCode, String) {
    let status = tokio::time::timeout(STATUS_PATIENCE, parts.node.cluster_status()).await;
    match status.map_or_else(|_| Some("the node does not say how it is".into()), |status| status.not_ready) {
        None => (StatusCode::OK, "ready\n".into()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn render_metrics(State(parts): State<Parts>) -> String {
    if let Ok(status) = tokio::time::timeout(STATUS_PATIENCE, parts.node.cluster_status()).await {
        record_group(&status);
    }
    let node = parts.node.clone();
    // Looks at disk and, for the sizes, at every index; not on a thread that serves requests.
    if tokio::task::spawn_blocking(move || record_gauges(&node)).await.is_err() {
        tracing::warn!("gauges could not be taken");
    }
    parts.metrics.render()
}

/// How the group is doing, as this node knows it. How far the others are behind is known to the leader alone.
fn record_group(status: &ClusterStatus) {
    let flag = |is_so: bool| f64::from(u8::from(is_so));
    let leads = status.leader == Some(status.node);
    metrics::gauge!("steeple_raft_term").set(status.term.0 as f64);
    metrics::gauge!("steeple_raft_leads").set(flag(leads));
    metrics::gauge!("steeple_raft_leader_known").set(flag(status.leader.is_some()));
    metrics::gauge!("steeple_raft_committed_index").set(status.committed.0 as f64);
    metrics::gauge!("steeple_raft_folded_index").set(status.folded.0 as f64);
    metrics::gauge!("steeple_ready").set(flag(status.not_ready.is_none()));
    for member in status.members.iter().filter(|member| member.node != status.node) {
        let lag = member.lag_entries.filter(|_| leads).unwrap_or(0);
        metrics::gauge!("steeple_raft_lag_entries", "peer" => member.node.to_string()).set(lag as f64);
    }
}

/// Everything that is looked at when somebody asks, and not counted as it happens.
fn record_gauges(node: &Node) {
    let status = node.status();
    metrics::gauge!("steeple_revision").set(status.revision.0 as f64);
    metrics::gauge!("steeple_log_bytes").set(status.log_bytes as f64);
    metrics::gauge!("steeple_log_segments").set(status.log_segments.len() as f64);
    metrics::gauge!("steeple_log_entries").set(count_between(status.log_first.0, status.log_last.index.0) as f64);
    metrics::gauge!("steeple_store_bytes").set(status.store_bytes.unwrap_or(0) as f64);
    metrics::gauge!("steeple_store_flush_lag_entries")
        .set(status.log_last.index.0.saturating_sub(status.flushed.0) as f64);
    metrics::gauge!("steeple_namespaces").set(status.namespaces as f64);
    metrics::gauge!("steeple_up").set(if status.failure.is_none() { 1.0 } else { 0.0 });
    metrics::gauge!("steeple_tails").set(status.tails as f64);
    metrics::gauge!("steeple_mutations_queued").set(status.mutations as f64);
    metrics::gauge!("steeple_inbox_messages").set(status.inbox as f64);
    record_sizes(node);
}

/// How many numbers there are from `first` up to `last`. Both are read at different moments while the node goes on, so
/// the first may have passed the last by more than one.
fn count_between(first: u64, last: u64) -> u64 {
    last.saturating_add(1).saturating_sub(first)
}

/// Summed over namespaces: one series a namespace would be without bound.
fn record_sizes(node: &Node) {
    let mut records = std::collections::BTreeMap::<&'static str, u64>::new();
    let mut keys = std::collections::BTreeMap::<(&'static str, &'static str), u64>::new();
    let mut items = std::collections::BTreeMap::<&'static str, u64>::new();
    node.read(|reader| {
        for namespace in reader.namespaces() {
            let mut counted = None;
            reader.visit_sizes(namespace, &mut |table, count, index, index_keys| {
                let name = CATALOG.table(table).map_or("unknown", |table| table.name);
                if counted != Some(table) {
                    *records.entry(name).or_default() += count;
                    counted = Some(table);
                }
                *keys.entry((name, index)).or_default() += index_keys as u64;
            });
            for stream in CATALOG.streams {
                let state = reader.stream(namespace, stream.id);
                *items.entry(stream.name).or_default() += count_between(state.low_water.0, state.last.0);
            }
        }
    });
    for (table, count) in records {
        metrics::gauge!("steeple_records", "table" => table).set(count as f64);
    }
    for ((table, index), count) in keys {
        metrics::gauge!("steeple_index_keys", "table" => table, "index" => index).set(count as f64);
    }
    for (stream, count) in items {
        metrics::gauge!("steeple_stream_items", "stream" => stream).set(count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_overtook_each_other_count_as_nothing() {
        assert_eq!(count_between(1, 0), 0);
        assert_eq!(count_between(3, 5), 3);
        assert_eq!(count_between(9, 5), 0);
        assert_eq!(count_between(0, u64::MAX), u64::MAX);
    }
}
