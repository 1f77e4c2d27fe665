//! Two of three nodes are lost: for a while, and for good.

use std::collections::{BTreeMap, HashSet};

use steeple_client::events::Event;
use steeple_client::types::RegistrationEntryFilter;
use steeple_client::{TailOptions, TailStart};
use steeple_wire::status::ErrorKind;
use tokio_stream::StreamExt;

use crate::aftermath::follow;
use crate::cluster::{Cluster, text};
use crate::door::{Attempt, Freshness, NAMESPACE, held};
use crate::history::{Answer, Call, Held};
use crate::load::{Load, Told};
use crate::process::{steeple, steeple_does};
use crate::settings::{PATIENCE, run, seed};

const CLIENTS: usize = 4;
const SOME: usize = 60;

/// Far enough from the seed of the load before that no client makes the same choices.
const SEED_STEP: u64 = 10_000;

#[test]
fn two_of_three_are_killed_and_come_back() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        for survivor_leads in [true, false] {
            load.acknowledge_more(SOME).await;
            let (leader, follower) = (cluster.leader().await, cluster.follower().await);
            let survivor = if survivor_leads { leader } else { follower };
            let lost = lose_the_others(&mut cluster, survivor).await;
            let refused = format!("refused-by-{survivor}");
            refuses_what_is_current(&cluster, survivor, &refused).await;
            serves_what_is_stale(&cluster, survivor, &load).await;
            for number in &lost {
                cluster.launch(*number);
            }
            for number in lost {
                cluster.wait_until_serving(number).await;
            }
            load.acknowledge_more(SOME).await;
            let door = &cluster.node(survivor).door;
            let read = door.read(&refused, Freshness::Current, PATIENCE).await;
            assert!(matches!(read, Attempt::Answered { answer: Answer::Found(None), .. }), "{read:?}");
        }
        cluster.examine(load).await;
    });
}

/// Kills all nodes but one and waits until that one knows of no leader.
async fn lose_the_others(cluster: &mut Cluster, survivor: u64) -> Vec<u64> {
    let lost: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != survivor).collect();
    for number in &lost {
        cluster.node_mut(*number).kill();
    }
    cluster.wait_for_group(survivor, |group| group.leader_node_id == 0).await;
    lost
}

/// The node says that it does not serve, and why, to everybody who wants it to decide or to be up to date.
async fn refuses_what_is_current(cluster: &Cluster, survivor: u64, key: &str) {
    let door = &cluster.node(survivor).door;
    let group = cluster.group(survivor).await.expect("an answer");
    assert!(!group.ready && group.not_ready_reason.contains("knows of no leader"), "{group:?}");
    let (mutation, read) = tokio::join!(
        door.mutate(key, Call::Create(1), rand::random(), PATIENCE),
        door.read(key, Freshness::Current, PATIENCE)
    );
    match mutation {
        Attempt::NotDone { leader: None, reason } => assert!(reason.contains("knows of no leader"), "{reason}"),
        other => panic!("a mutation without majority: {other:?}"),
    }
    match read {
        Attempt::NotDone { reason, .. } => assert!(reason.contains("no leader was found in time"), "{reason}"),
        other => panic!("a current read without majority: {other:?}"),
    }
    let status =
        steeple(&["cluster", "status", "--endpoint", &cluster.node(survivor).client_address.to_string()]).await;
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(!status.status.success() && said.contains("NOT READY: it knows of no leader"), "{said}");
}

/// The node answers at once whoever tolerates old answers.
async fn serves_what_is_stale(cluster: &Cluster, survivor: u64, load: &Load) {
    let folded = cluster.group(survivor).await.expect("an answer").revision;
    let door = &cluster.node(survivor).door;
    for key in load.recorder.keys().keys() {
        let read = door.read(key, Freshness::Stale(folded), PATIENCE).await;
        match read {
            Attempt::Answered { answer: Answer::Found(_), revision } => assert_eq!(revision, folded, "nothing happens"),
            other => panic!("a stale read without majority: {other:?}"),
        }
    }
    let (events, _) = follow(survivor, door, folded).await;
    assert!(!events.is_empty(), "its tails go on");
}

/// The way that `docs/cluster.md` describes, and what it promises.
#[test]
fn two_of_three_are_lost_for_good() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let survivor = cluster.follower().await;
        lose_the_others(&mut cluster, survivor).await;
        let (_, told) = load.give_up().await;
        let left = Remains::of(&cluster, survivor).await;
        println!("{} of {} acknowledged went with the majority", left.missing(&told), told.acknowledged.len());

        let rescue = cluster.beside("rescue.snapshot");
        let endpoint = cluster.node(survivor).client_address.to_string();
        steeple_does(&["snapshot", "save", &text(&rescue), "--endpoint", &endpoint]).await;
        let mut rescued = Cluster::restore(&rescue).await;
        let found = Remains::of(&rescued, 1).await;
        assert_eq!(found.records, left.records, "what the last node held");
        assert_eq!(found.events, left.events, "what it told of");
        refuses_to_go_on(&rescued, left.cursor.clone()).await;
        assert_ne!(found.cluster, left.cluster, "old nodes that come back are not let in");
        cluster.node_mut(survivor).stop();
        // The way without a node that runs: all of its log, also what it did not know to be committed.
        let all = cluster.beside("all.snapshot");
        let data = cluster.node(survivor).data();
        steeple_does(&["snapshot", "rescue", "--data", &text(&data), &text(&all)]).await;
        let revision =
            |path| steeple_snapshot::inspect(std::fs::File::open(path).expect("it")).expect("it").state.revision;
        assert!(revision(&all) >= revision(&rescue), "it holds no less");

        let others = [rescued.prepare().await, rescued.prepare().await];
        let load = Load::start_on("after", &rescued.doors(), CLIENTS, seed().wrapping_add(SEED_STEP));
        for number in others {
            rescued.launch(number);
            rescued.wait_until_serving(number).await;
            rescued.add(number, &[]).await;
            rescued.promote(number).await;
            load.acknowledge_more(SOME).await;
        }
        rescued.examine(load).await;
        for number in rescued.numbers() {
            let now = Remains::of(&rescued, number).await;
            let changed = left.records.iter().find(|(key, held)| now.records.get(*key) != Some(held));
            assert_eq!(changed, None, "on node {number}");
        }
    });
}

/// A cursor into the history that has ended is not misread.
async fn refuses_to_go_on(rescued: &Cluster, cursor: String) {
    let options = TailOptions { start: TailStart::Cursor(cursor), ..TailOptions::default() };
    let refused = rescued.client(1).namespace(NAMESPACE).tail(options).next().await.expect_err("another history");
    assert_eq!(refused.kind(), Some(ErrorKind::CursorForeign), "{refused}");
}

/// What a node that may be alone holds and tells of.
struct Remains {
    cluster: String,
    records: BTreeMap<String, Held>,
    events: Vec<Event>,
    cursor: String,
}

impl Remains {
    async fn of(cluster: &Cluster, number: u64) -> Self {
        let door = &cluster.node(number).door;
        let group = cluster.group(number).await.expect("an answer");
        let (events, cursor) = follow(number, door, group.revision).await;
        let namespace = door.client(PATIENCE).namespace(NAMESPACE).stale();
        let listed = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await;
        let mut entries = listed.expect("entries");
        let mut records = BTreeMap::new();
        while let Some(entry) = entries.next().await {
            let entry = entry.expect("an entry");
            records.insert(entry.entry_id.clone(), held(Some(&entry)));
        }
        Self { cluster: group.cluster_id, records, events, cursor }
    }

    /// How many of the acknowledged mutations it has never heard of: the risk that the way back names.
    fn missing(&self, told: &Told) -> usize {
        let known: HashSet<&[u8]> = self.events.iter().map(|event| &event.request_id[..]).collect();
        told.acknowledged.iter().filter(|(request, ..)| !known.contains(&request[..])).count()
    }
}
