//! The client over the services of several nodes of one group: nothing that a client does fails because a node does.

use std::collections::BTreeMap;
use std::time::Duration;

use steeple_client::types::AttestedNode;
use steeple_client::{Client, Namespace, TailContent, TailOptions, TailStart};
use steeple_engine::ids::NodeId;
use steeple_wire::common::v1::{Consistency, ReadContext};
use steeple_wire::spire::v1::CountBundlesRequest;
use steeple_wire::spire::v1::datastore_client::DatastoreClient;
use steeple_wire::status::ErrorKind;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect;
use crate::embedded::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);

fn agent(name: &str) -> AttestedNode {
    AttestedNode { spiffe_id: name.into(), attestation_data_type: "t".into(), ..Default::default() }
}

/// A client of all nodes, as if each had the address that it goes by.
async fn client(cluster: &Cluster) -> Client {
    let mut channels = Vec::new();
    for node in cluster.nodes() {
        channels.push((format!("node-{}", node.node_id()), connect(node.clone()).await.unwrap()));
    }
    Client::from_channels(channels)
}

async fn leader(cluster: &Cluster) -> NodeId {
    cluster.leader(PATIENCE).await.unwrap().node_id()
}

/// Creates agents one after the other until `count` are there; every creation has to succeed.
fn load(spire: &Namespace, writer: usize, count: usize) -> JoinHandle<()> {
    let spire = spire.clone();
    tokio::spawn(async move {
        for number in 0..count {
            let name = format!("w{writer}-{number}");
            spire.create_attested_node(agent(&name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let seen = spire.fetch_attested_node(&name).await.unwrap();
            assert!(seen.is_some(), "{name} was acknowledged");
            let stale = spire.stale().fetch_attested_node(&name).await.unwrap();
            assert!(stale.is_some(), "{name} was seen");
        }
    })
}

/// Follows until `count` events were delivered; each item once, without a gap.
fn follow(spire: &Namespace, count: u64) -> JoinHandle<BTreeMap<u64, String>> {
    let mut tail = spire.tail(TailOptions { start: TailStart::Oldest, ..Default::default() });
    tokio::spawn(async move {
        let mut seen = BTreeMap::new();
        while (seen.len() as u64) < count {
            let message = tail.next().await.unwrap();
            let TailContent::Event(event) = message.content else { continue };
            for item in event.items.into_iter().filter(|item| item.stream == "nodes") {
                assert_eq!(item.sequence, seen.len() as u64 + 1, "{}", item.key);
                seen.insert(item.sequence, item.key);
            }
        }
        seen
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_uses_the_group_through_any_node() {
    let cluster = Cluster::start(3).unwrap();
    leader(&cluster).await;
    let all = client(&cluster).await;
    all.admin().open_namespace("prod").await.unwrap();
    for (number, node) in cluster.nodes().enumerate() {
        let spire = all.namespace("prod");
        spire.create_attested_node(agent(&format!("n{number}"))).await.unwrap();
        let alone = Client::from_channel(connect(node.clone()).await.unwrap());
        let status = alone.admin().cluster_status().await.unwrap();
        assert_eq!((status.node_id, status.members.len()), (node.node_id().0, 3));
        let spire = alone.namespace("prod");
        assert_eq!(spire.count_attested_nodes(Default::default()).await.unwrap(), number as i32 + 1);
        assert_eq!(alone.admin().list_namespaces().await.unwrap().len(), 1);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_under_load_costs_no_failed_request_and_no_event() {
    const WRITERS: usize = 4;
    const EACH: usize = 40;
    let cluster = Cluster::start(3).unwrap();
    let first = leader(&cluster).await;
    let spire = client(&cluster).await.admin().open_namespace("prod").await.unwrap();
    let tail = follow(&spire, (WRITERS * EACH) as u64);
    let writers: Vec<_> = (0..WRITERS).map(|writer| load(&spire, writer, EACH)).collect();
    // In the middle of it.
    while spire.seen_revision() < (WRITERS * EACH / 4) as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.hub().isolate(first);
    for writer in writers {
        timeout(PATIENCE * 3, writer).await.unwrap().unwrap();
    }
    cluster.hub().mend_all();
    let seen = timeout(PATIENCE, tail).await.unwrap().unwrap();
    let mut names: Vec<_> = seen.into_values().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), WRITERS * EACH, "applied once each");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_that_wanders_and_nodes_that_stop_cost_no_failed_request() {
    const WRITERS: usize = 2;
    const EACH: usize = 60;
    let mut cluster = Cluster::start(3).unwrap();
    leader(&cluster).await;
    let client = client(&cluster).await;
    let spire = client.admin().open_namespace("prod").await.unwrap();
    let tail = follow(&spire, (WRITERS * EACH) as u64);
    let writers: Vec<_> = (0..WRITERS).map(|writer| load(&spire, writer, EACH)).collect();
    for _ in 0..3 {
        let to = leader(&cluster).await.0 % 3 + 1;
        client.admin().transfer_leader(to).await.unwrap();
    }
    let last = leader(&cluster).await;
    cluster.stop_node(last.0).await;
    for writer in writers {
        timeout(PATIENCE * 3, writer).await.unwrap().unwrap();
    }
    assert_eq!(timeout(PATIENCE, tail).await.unwrap().unwrap().len(), WRITERS * EACH);
    cluster.stop().await;
}

/// Asks a tail until it says whether its node is live.
async fn becomes(tail: &mut steeple_client::Tail, expected: bool) {
    let told = async {
        loop {
            if let TailContent::Progress { live, .. } = tail.next().await.unwrap().content
                && live == expected
            {
                return;
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("never said live: {expected}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_says_so_and_costs_readers_and_tails_little() {
    let cluster = Cluster::start(3).unwrap();
    let first = leader(&cluster).await;
    let options = steeple_client::Options::default().with_tail_silence_max(Duration::from_millis(300));
    let client = client(&cluster).await.with_options(options);
    let spire = client.admin().open_namespace("prod").await.unwrap();
    spire.create_attested_node(agent("before")).await.unwrap();
    let cut_off = cluster.nodes().find(|node| node.node_id() != first).unwrap().clone();
    let channel = connect(cut_off.clone()).await.unwrap();
    let alone = Client::from_channel(channel.clone()).namespace("prod");
    let from_start = || TailOptions { start: TailStart::Oldest, ..Default::default() };
    let mut tail = alone.tail(from_start());
    becomes(&mut tail, true).await;
    // One at each node.
    let tails: Vec<_> = (0..3).map(|_| follow(&spire, 2)).collect();
    cluster.hub().isolate(cut_off.node_id());
    becomes(&mut tail, false).await;

    spire.create_attested_node(agent("after")).await.unwrap();
    for tail in tails {
        let seen = timeout(PATIENCE, tail).await.unwrap().unwrap();
        assert_eq!(seen.into_values().collect::<Vec<_>>(), ["before", "after"]);
    }
    let mut raw = DatastoreClient::new(channel);
    let (consistency, min_revision) = (Consistency::TolerateStale.into(), spire.seen_revision());
    let context = ReadContext { namespace: "prod".into(), consistency, min_revision };
    let begun = tokio::time::Instant::now();
    let status = raw.count_bundles(CountBundlesRequest { context: Some(context) }).await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::Unavailable));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Nor can it know that there is no namespace of a name: one may have been opened meanwhile.
    client.admin().open_namespace("later").await.unwrap();
    let context = ReadContext { namespace: "later".into(), consistency, min_revision: 0 };
    let status = raw.count_bundles(CountBundlesRequest { context: Some(context) }).await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::Unavailable));

    cluster.hub().mend_all();
    becomes(&mut tail, true).await;
    assert!(alone.stale().fetch_attested_node("after").await.unwrap().is_some());

    client.admin().remove_member(cut_off.node_id().0).await.unwrap();
    becomes(&mut tail, false).await;
    cluster.stop().await;
}
