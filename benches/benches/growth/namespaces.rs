//! The same entries in more and more namespaces, each number on a node of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;
use steeple_benches::usage::Memory;
use steeple_client::{Error, Namespace};

use crate::Arguments;
use crate::ask::{Latency, Work, ask_for};
use crate::subject::{CONNECTIONS, Disk, Subject, mebibytes};

/// What entries are asked for in.
const ASKED: [Work; 2] = [Work::ListByParent, Work::Create];

/// A node with so many namespaces.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    namespaces: u64,
    /// In all of them together.
    entries: u64,
    memory_filled: Memory,
    disk: Disk,
    start_seconds: f64,
    memory_started: Memory,
    /// Once started again.
    latencies: Vec<Latency>,
}

/// Measures each number.
pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Point>, Error> {
    println!("\nnamespaces with {} entries in all of them together", arguments.entries);
    let mut points = Vec::new();
    for namespaces in &arguments.namespaces {
        let point = measure(arguments, *namespaces).await?;
        point.print();
        points.push(point);
    }
    Ok(points)
}

async fn measure(arguments: &Arguments, count: u64) -> Result<Point, Error> {
    let share = (arguments.entries / count).max(1);
    // Each has a small deployment of its own, which is the same everywhere.
    let mut subject = Subject::start(arguments, share).await?;
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| subject.group.client()).collect();
    let name = |number: u64| format!("growth-{number}");
    for (number, client) in (0..count).zip(connections.iter().cycle()) {
        client.admin().open_namespace(&name(number)).await?;
        subject.fill_namespace(&client.namespace(name(number))).await?;
    }
    let (memory_filled, disk) = (subject.memory(), subject.disk());
    subject.settle().await;
    let start_seconds = subject.restart().await.as_secs_f64();
    let memory_started = subject.memory();
    // Each client asks in one namespace; together they are in as many as there are, spread over all of them, and over the
    // connections.
    let clients = arguments.clients.iter().copied().max().unwrap_or(1);
    let step = (count / clients as u64).max(1);
    let of_client = |client: usize| connections[client % CONNECTIONS].namespace(name(client as u64 * step % count));
    let asked: Vec<Namespace> = (0..clients).map(of_client).collect();
    let (next, mut latencies) = (Arc::new(AtomicU64::new(0)), Vec::new());
    for work in ASKED {
        for clients in &arguments.clients {
            let measured = ask_for(&asked, subject.deployment, work, *clients, arguments.length(), &next).await?;
            latencies.push(measured);
        }
    }
    Ok(Point {
        namespaces: count,
        entries: share * count,
        memory_filled,
        latencies,
        disk,
        start_seconds,
        memory_started,
    })
}

impl Point {
    fn print(&self) {
        println!("{} namespaces, {} entries", self.namespaces, self.entries);
        self.latencies.iter().for_each(Latency::print);
        println!(
            "  memory {:.0} MiB, once started again {:.0} MiB; start {:.2} s; disk {:.1} MiB",
            mebibytes(self.memory_filled.resident),
            mebibytes(self.memory_started.resident),
            self.start_seconds,
            mebibytes(self.disk.total)
        );
    }
}
