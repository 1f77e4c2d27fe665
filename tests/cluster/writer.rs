//! A stream of mutations goes on over the death of leaders: each has its own outcome, and is carried out once.

use std::collections::BTreeSet;
use std::collections::VecDeque;

use steeple_client::types::{AttestedNode, AttestedNodeFilter, CreateAttestedNodeRequest};
use steeple_client::{Client, Operation, WriterOptions};

use crate::cluster::Cluster;
use crate::door::NAMESPACE;
use crate::settings::{rounds, run};

/// Mutations under way, and those that are acknowledged before a leader is killed and after.
const IN_FLIGHT: usize = 256;
const SOME: usize = 1_000;

fn creation(number: usize) -> Operation {
    let node = Some(AttestedNode { spiffe_id: format!("spiffe://td/agent-{number}"), ..AttestedNode::default() });
    Operation::CreateAttestedNode(CreateAttestedNodeRequest { context: None, node })
}

#[test]
fn a_stream_goes_on_at_the_next_leader() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let addresses: Vec<_> =
            cluster.numbers().iter().map(|number| cluster.node(*number).client_address.to_string()).collect();
        let client = Client::connect(addresses).await.expect("a node");
        let namespace = client.namespace(NAMESPACE);
        let writer = namespace.writer(WriterOptions { in_flight_max: IN_FLIGHT });
        let (mut under_way, mut revisions, mut number) = (VecDeque::new(), BTreeSet::new(), 0);
        for _ in 0..rounds(3) {
            let (so_far, leader) = (revisions.len(), cluster.leader().await);
            while revisions.len() < so_far + 2 * SOME {
                while under_way.len() < IN_FLIGHT {
                    under_way.push_back(writer.write(creation(number)).await);
                    number += 1;
                }
                if revisions.len() == so_far + SOME {
                    // With a window of mutations on their way to it.
                    cluster.node_mut(leader).kill();
                }
                let outcome = under_way.pop_front().expect("some are under way").await;
                outcome.answer.unwrap_or_else(|error| panic!("{error}\n{}", cluster.last_messages()));
                assert!(revisions.insert(outcome.revision), "revision {} was given twice", outcome.revision);
            }
            cluster.restart(leader).await;
        }
        for written in under_way {
            revisions.insert(written.await.revision);
        }
        assert_eq!(revisions.len(), number);
        for node in cluster.numbers() {
            let namespace = cluster.client(node).namespace(NAMESPACE);
            let there = namespace.count_attested_nodes(AttestedNodeFilter::default()).await.expect("a count");
            assert_eq!(usize::try_from(there).expect("not below zero"), number);
        }
        cluster.assert_nobody_panicked();
    });
}
