//! An import goes on by itself over the death of leaders, and both sides are equal afterwards.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use steeple_client::types::Import;

use crate::cluster::{Cluster, text};
use crate::process::steeple;
use crate::settings::{PATIENCE, run};

const TARGET: &str = "imported";

/// Enough for the import to be still on its way when it is looked at.
const ENTRIES: usize = 30_000;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// An export with as many entries, as a file holds it.
fn export() -> String {
    let mut lines = String::from("{\"export\":{\"format\":\"steeple-spire-export\",\"version\":1}}\n");
    for number in 0..ENTRIES {
        writeln!(
            lines,
            "{{\"registration_entry\":{{\"entry_id\":\"entry-{number}\",\"spiffe_id\":\"spiffe://td/w/{number}\",\
             \"parent_id\":\"spiffe://td/agent\",\"selectors\":[{{\"type\":\"unix\",\"value\":\"uid:{number}\"}}],\
             \"created_at\":1700000000}}}}"
        )
        .expect("memory");
    }
    writeln!(lines, "{{\"end\":{{\"records\":{ENTRIES}}}}}").expect("memory");
    lines
}

/// Waits until a node that does not lead knows of the import what it should.
async fn wait_for_import(cluster: &Cluster, is_so: impl Fn(&Import) -> bool) -> Import {
    let namespace = cluster.client(cluster.follower().await).namespace(TARGET).stale();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // There is no such namespace at first.
        if let Ok(Some(import)) = namespace.fetch_import().await
            && is_so(&import)
        {
            return import;
        }
        assert!(Instant::now() < deadline, "the import does not get there\n{}", cluster.last_messages());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[test]
fn an_import_goes_on_when_the_leader_is_killed() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let file = cluster.beside("export.jsonl");
        std::fs::write(&file, export()).expect("a file");
        let source = format!("jsonl:{}", text(&file));
        let addresses: Vec<_> =
            cluster.numbers().iter().map(|number| cluster.node(*number).client_address.to_string()).collect();
        let endpoints = addresses.join(",");
        let words = |command: &str| {
            ["spire", command, "--from", &source, "--namespace", TARGET, "--endpoint", &endpoints].map(str::to_owned)
        };
        let import = words("import");
        let importing = tokio::spawn(async move { steeple(&import.each_ref().map(String::as_str)).await });

        let total = ENTRIES as u64;
        let leader = cluster.leader().await;
        let midway = wait_for_import(&cluster, |import| import.accepted > 0).await;
        cluster.node_mut(leader).kill();
        assert!(midway.accepted < total, "the import was over before the leader was killed: {midway:?}");
        cluster.restart(leader).await;
        // And once more while both sides are compared.
        wait_for_import(&cluster, |import| import.accepted == total).await;
        let leader = cluster.leader().await;
        cluster.node_mut(leader).kill();
        let output = importing.await.expect("no panic");
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{complaint}\n{}", cluster.last_messages());
        assert!(said.contains("verified: source and namespace are equal"), "{said}");
        cluster.restart(leader).await;

        // Every node has it, and has it once.
        for number in cluster.numbers() {
            let namespace = cluster.client(number).namespace(TARGET);
            let count = namespace.count_registration_entries(Default::default()).await.expect("a count");
            assert_eq!(usize::try_from(count).expect("not below zero"), ENTRIES, "node {number}");
        }
        let verified = steeple(&words("verify").each_ref().map(String::as_str)).await;
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        cluster.assert_nobody_panicked();
    });
}
