//! The examples run as they are printed.

use steeple_client::types::{RegistrationEntry, Selector};

use crate::steeple::{Site, command};

#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../../server/examples/crash_recovery.rs"]
mod crash_recovery;
#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../../server/examples/embedded_node.rs"]
mod embedded_node;
#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../../server/examples/embedded_cluster.rs"]
mod embedded_cluster;
#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../../client/examples/tail_events.rs"]
mod tail_events;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn a_node_runs_inside_a_program_and_keeps_its_records() {
    let site = Site::new();
    let run = || runtime().block_on(embedded_node::run(&site.data())).expect("the example runs");
    let first = run();
    assert_eq!(first.len(), 3, "{first:?}");
    assert!(first[0].ends_with("is spiffe://example.org/billing") && first[1] == "1 entries in all", "{first:?}");
    assert!(first[2].starts_with("registrations 1 is about "), "{first:?}");
    assert_eq!(run(), first, "the entry and its event are there after a restart");
}

#[test]
fn a_cluster_runs_inside_a_program_and_outlives_its_leader() {
    let lines = runtime().block_on(embedded_cluster::run()).expect("the example runs");
    assert_eq!(lines, ["another node leads: true", "spiffe://example.org/before", "spiffe://example.org/after"]);
}

#[test]
fn a_tail_goes_on_where_it_left_off() {
    let site = Site::new();
    let cursor_file = site.beside("cursor");
    let mut shown = Vec::new();
    for number in 1..=2 {
        let mut process = site.start();
        runtime().block_on(async {
            let spire = process.client().await.namespace("default");
            let entry = RegistrationEntry {
                entry_id: format!("entry-{number}"),
                parent_id: "spiffe://example.org/spire/agent".into(),
                spiffe_id: format!("spiffe://example.org/workload-{number}"),
                selectors: vec![Selector { r#type: "unix".into(), value: "uid:0".into() }],
                ..Default::default()
            };
            spire.create_registration_entry(entry).await.expect("an entry");
            tail_events::follow(&spire, &cursor_file, true, |line| shown.push(line)).await.expect("the example runs");
        });
        process.kill();
    }
    assert_eq!(shown, ["registrations 1: entry-1 created", "registrations 2: entry-2 created"]);
}

#[test]
fn what_a_killed_node_had_acknowledged_is_there_when_it_is_back() {
    let site = Site::new();
    let node = || {
        let mut command = command();
        command.env("TEST_CRASH_RECOVERY_DATA", site.data());
        command
    };
    let lines = runtime().block_on(crash_recovery::run(node)).expect("the example runs");
    let [acknowledged, kept, took] = &lines[..] else { panic!("{lines:?}") };
    let count = |line: &str| line.split(' ').next().and_then(|word| word.parse::<u32>().ok()).expect("a number");
    assert!(count(acknowledged) >= 200 && count(kept) == count(acknowledged), "{lines:?}");
    assert!(took.starts_with("it answered again"), "{took}");
}
