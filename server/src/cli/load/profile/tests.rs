//! The profile against nodes inside the process.

use std::time::Duration;

use clap::Parser;
use steeple_client::{Client, Namespace};
use tonic::transport::Channel;

use super::*;
use crate::cli::load::drive::Driver;
use crate::cli::load::fill_with;
use crate::embedded::Cluster;
use crate::grpc;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    replay: ReplayArgs,
}

fn arguments(line: &str) -> ReplayArgs {
    let words = ["load", "--profile", "spire"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words).expect("a command line").replay
}

fn deployment() -> Deployment {
    // Expiries are counted from now, as the command does: what the nodes prune depends on it.
    let base_seconds = crate::cli::instant::now_micros() / 1_000_000;
    Deployment { seed: 7, agents: 60, entries: 600, trust_domain: "prod.example".into(), base_seconds }
}

struct Group {
    cluster: Cluster,
    channels: Vec<(String, Channel)>,
}

impl Group {
    async fn start(size: u64) -> Self {
        let cluster = Cluster::start(size).expect("a cluster");
        let leader = cluster.leader(Duration::from_secs(30)).await.expect("a leader");
        leader.open_namespace("default").await.expect("a namespace");
        let mut channels = Vec::new();
        for node in cluster.nodes() {
            let channel = grpc::connect(node.clone()).await.expect("a connection");
            channels.push((format!("node-{}:7400", node.node_id().0), channel));
        }
        let group = Self { cluster, channels };
        let driver = Driver { namespace: group.namespace(), batch: 100, in_flight: 4 };
        fill_with(&driver, &deployment()).await.expect("a deployment");
        group
    }

    fn namespace(&self) -> Namespace {
        Client::from_channels(self.channels.clone()).namespace("default")
    }

    async fn run(&self, line: &str) -> Report {
        let open = || async { Ok(self.namespace()) };
        run(&arguments(line), deployment(), Duration::from_secs(20), open).await.expect("a report")
    }
}

fn calls_of(report: &Report, name: &str) -> serde_json::Value {
    let json = report.json();
    let calls = json["calls"].as_array().expect("calls").clone();
    calls.into_iter().find(|call| call["call"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_what_servers_with_caches_ask() {
    let group = Group::start(1).await;
    // Storms begin a quarter into half a minute, so that there is one.
    let report = group.run("--duration 9s --steps 1 --servers 2 --patience 1m").await;
    let json = report.json();
    let total = report.results.total();
    assert_eq!(report.results.errors.len(), 0, "{}", report.text());
    assert_eq!((total.failed, total.unanswered(), report.results.missed), (0, 0, 0), "{}", report.text());
    // Each of 60 agents syncs every 5 seconds, with two calls at the least.
    assert!(calls_of(&report, "FetchAttestedNode")["served"].as_u64() >= Some(2 * 60), "{json:#}");
    for name in [
        "FetchBundle",
        "ListRegistrationEntryEvents",
        "FetchRegistrationEntries",
        "SetNodeSelectors",
        "UpdateAttestedNode",
        "CreateOrReturnRegistrationEntry",
        "DeleteRegistrationEntry",
        "ListRegistrationEntries, a page",
    ] {
        assert!(calls_of(&report, name)["served"].as_u64() > Some(0), "{name}: {json:#}");
    }
    // The last burst stays; a burst has two of 600 entries.
    let entries = group.namespace().count_registration_entries(Default::default()).await.expect("a count");
    assert!((550..=602).contains(&entries), "{entries}");
    group.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_serves_what_servers_without_caches_ask() {
    let group = Group::start(3).await;
    let report = group.run("--duration 3s --steps 3 --agent-calls uncached --calls-per-second 300").await;
    let total = report.results.total();
    assert_eq!((total.failed, report.results.errors.len()), (0, 0), "{}", report.text());
    assert!((400..=900).contains(&total.due), "a third, two thirds and all of 300: {}", report.text());
    assert!(total.served + report.results.missed > 0 && total.latencies.count() == total.served);
    assert!(calls_of(&report, "ListRegistrationEntries by parent")["due"].as_u64() > Some(100), "{}", report.text());
    let steps = report.json()["steps"].as_array().expect("steps").clone();
    let due: Vec<u64> = steps.iter().map(|step| step["due"].as_u64().expect("a count")).collect();
    assert!(due.is_sorted() && due.len() == 3, "{due:?}");
    let picture = plot::svg(&report);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && picture.contains("calls served a second"));
    group.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_too_late_is_left_out_and_counted() {
    let group = Group::start(1).await;
    // One call at a time, and far more of them than one after the other can be.
    let report = group.run("--duration 1s --calls-per-second 500000 --calls-in-flight 1 --patience 100ms").await;
    let total = report.results.total();
    assert!(report.results.missed > 0 && total.unanswered() > 0, "{}", report.text());
    assert!(total.due > 100_000, "{}", report.text());
    assert_eq!(report.results.held(), None, "{}", report.text());
    assert!(report.results.latest_activity().is_some(), "{}", report.text());
    assert!(report.text().contains("as many calls under way as are allowed"), "{}", report.text());
    group.cluster.stop().await;
}

#[tokio::test]
async fn a_load_below_that_of_everything_else_is_refused() {
    let open = || async { Err(CommandError::Failed("not needed".into())) };
    let refused = run(&arguments("--calls-per-second 1"), deployment(), Duration::from_secs(1), open).await;
    assert!(matches!(refused, Err(CommandError::Usage(_))));
    let refused = run(&arguments("--duration 0"), deployment(), Duration::from_secs(1), open).await;
    assert!(matches!(refused, Err(CommandError::Usage(_))));
}
