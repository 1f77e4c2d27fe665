//! More and more retained events of the same entries.

use serde::Serialize;
use steeple_benches::usage::Memory;
use steeple_client::Error;

use crate::Arguments;
use crate::subject::{Disk, Loaded, Subject, mebibytes};

/// A node with so many retained events.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    entries: u64,
    events: u64,
    disk: Disk,
    /// Of the process that made the events.
    memory_before: Memory,
    start_seconds: f64,
    memory_started: Memory,
    /// A consumer that begins with the oldest one.
    catching_up: Loaded,
    memory_caught_up: Memory,
}

/// Measures each number on the same node.
pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Point>, Error> {
    let mut subject = Subject::start(arguments, arguments.entries).await?;
    subject.fill().await?;
    subject.prune().await?;
    let (mut points, mut events) = (Vec::new(), 0);
    println!("\nretained events of {} entries", arguments.entries);
    println!("{:>10}{:>10}{:>12}{:>16}{:>20}", "events", "start s", "disk MiB", "memory MiB", "catching up s");
    for wanted in &arguments.events {
        if *wanted > events {
            subject.update(wanted - events).await?;
            events = *wanted;
        }
        subject.settle().await;
        subject.compact().await?;
        let (disk, memory_before) = (subject.disk(), subject.memory());
        let start_seconds = subject.restart().await.as_secs_f64();
        let memory_started = subject.memory();
        let catching_up = subject.load_events().await?;
        let memory_caught_up = subject.memory();
        let entries = arguments.entries;
        let point = Point {
            entries,
            events,
            disk,
            memory_before,
            start_seconds,
            memory_started,
            catching_up,
            memory_caught_up,
        };
        point.print();
        points.push(point);
    }
    Ok(points)
}

impl Point {
    fn print(&self) {
        println!(
            "{:>10}{:>10.2}{:>12.1}{:>16.0}{:>20.2}",
            self.events,
            self.start_seconds,
            mebibytes(self.disk.total),
            mebibytes(self.memory_started.resident),
            self.catching_up.seconds
        );
    }
}
