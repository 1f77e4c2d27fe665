//! The node that is looked at: filled, emptied, started again, and what it takes on disk and in memory.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message as _;
use serde::Serialize;
use steeple_benches::deployment::Deployment;
use steeple_benches::messages;
use steeple_benches::processes::{Group, NAMESPACE, Settings};
use steeple_benches::usage::{self, CpuTimes, Memory};
use steeple_client::types::{Bundle, RegistrationEntry, RegistrationEntryFilter};
use steeple_client::{Error, Namespace, Operation, Options, TailContent, TailOptions, TailStart};
use tokio_stream::StreamExt;

use crate::Arguments;

/// The deployment is worked out from it.
const SEED: u64 = 1;

/// Connections that clients share.
pub(crate) const CONNECTIONS: usize = 4;

/// The shortest memory for requests that a node can be told. By default it is 10 minutes, and history reaches back a day.
const REMEMBERED: Duration = Duration::from_secs(60);

/// As a file says so.
const SETTINGS: &str = "[retention]\nrequest_ids = \"1m\"\nhistory = \"1s\"\n";

/// How long a step of many mutations, or one large answer, may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// A node that runs.
pub(crate) struct Subject {
    pub(crate) group: Group,
    pub(crate) deployment: Deployment,
    is_waiting: bool,
    /// When it last took a mutation.
    changed: Instant,
    /// How often updates were made, so that each changes something.
    round: u64,
}

/// Many mutations, and what the node wrote for them. Bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Written {
    pub(crate) mutations: u64,
    pub(crate) per_second: f64,
    /// The longest time in which none of the many under way was answered.
    pub(crate) longest_pause_ms: f64,
    /// The records as the client sent them.
    pub(crate) raw_bytes: u64,
    /// What was written to the disk for them, that of the file system and its journal included; where the kernel tells.
    pub(crate) written_bytes: Option<u64>,
    /// That by the raw bytes.
    pub(crate) amplification: Option<f64>,
}

/// Events that were given up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pruned {
    pub(crate) events: u64,
    /// Until the answer, from when on nobody sees them.
    pub(crate) seconds: f64,
    /// From then until the node was at rest, having removed their rows.
    pub(crate) removal_seconds: f64,
    /// CPU time of the node until then.
    pub(crate) node_cpu_seconds: f64,
}

/// What a node keeps on disk. Bytes, as the file system counts them.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Disk {
    pub(crate) log: u64,
    pub(crate) records: u64,
    pub(crate) base_snapshot: u64,
    pub(crate) other: u64,
    pub(crate) total: u64,
}

/// What a client got that loaded everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Loaded {
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// The messages that it got.
    pub(crate) bytes: u64,
}

impl Subject {
    /// A new node that holds the bundles of a deployment and no entries yet.
    pub(crate) async fn start(arguments: &Arguments, entries: u64) -> Result<Self, Error> {
        let settings = Settings { more: SETTINGS.to_owned(), ..Settings::default() };
        let group = Group::start_with(1, arguments.program(), settings).await;
        let (deployment, is_waiting) = (Deployment::new(SEED, entries), !arguments.no_waiting);
        let subject = Self { group, deployment, is_waiting, changed: Instant::now(), round: 0 };
        subject.add_bundles(&subject.namespace()).await?;
        Ok(subject)
    }

    /// Adds what entries refer to.
    async fn add_bundles(&self, namespace: &Namespace) -> Result<(), Error> {
        for bundle in self.deployment.bundles() {
            let trust_domain_id = bundle.trust_domain_id;
            namespace.set_bundle(Bundle { trust_domain_id, ..Bundle::default() }).await?;
        }
        Ok(())
    }

    /// The same as the whole deployment, in another namespace.
    pub(crate) async fn fill_namespace(&mut self, namespace: &Namespace) -> Result<(), Error> {
        self.add_bundles(namespace).await?;
        let (size, deployment) = (self.deployment.entries(), self.deployment);
        let creations = (0..size).map(|number| messages::creation(messages::entry(deployment.entry(number))));
        messages::write_all(namespace, creations).await?;
        self.changed = Instant::now();
        Ok(())
    }

    /// A new connection.
    pub(crate) fn namespace(&self) -> Namespace {
        self.group.client().namespace(NAMESPACE).with_deadline(DEADLINE)
    }

    /// So many, each a way for a share of the clients.
    pub(crate) fn connections(&self) -> Vec<Namespace> {
        (0..CONNECTIONS).map(|_| self.namespace()).collect()
    }

    /// Creates the deployment's entries.
    pub(crate) async fn fill(&mut self) -> Result<Written, Error> {
        let size = self.deployment.entries();
        let deployment = self.deployment;
        self.write((0..size).map(|number| messages::entry(deployment.entry(number))), messages::creation).await
    }

    /// Deletes entries that were created beside those of the deployment.
    pub(crate) async fn take_back(&mut self, beside: Range<u64>) -> Result<(), Error> {
        let (size, deployment) = (self.deployment.entries(), self.deployment);
        let entries = beside.map(|number| messages::entry(deployment.entry(size + number)));
        self.write(entries, messages::deletion).await.map(drop)
    }

    /// Updates so many entries, one after the other in no order, each of which is an event.
    pub(crate) async fn update(&mut self, count: u64) -> Result<Written, Error> {
        self.round += 1;
        let (deployment, round) = (self.deployment, self.round);
        let changed = move |turn: u64| {
            // The same entry may come again, with another hint: each update is a change.
            let number = deployment.shuffled(round << 32 | turn);
            RegistrationEntry { hint: format!("changed-{round}-{turn}"), ..messages::entry(deployment.entry(number)) }
        };
        self.write((0..count).map(changed), messages::update).await
    }

    async fn write(
        &mut self,
        entries: impl Iterator<Item = RegistrationEntry>,
        operation: fn(RegistrationEntry) -> Operation,
    ) -> Result<Written, Error> {
        let (before, started) = (self.disk_written_bytes(), Instant::now());
        let (mut mutations, mut raw_bytes) = (0, 0);
        let operations = entries.map(|entry| {
            (mutations, raw_bytes) = (mutations + 1, raw_bytes + entry.encoded_len() as u64);
            operation(entry)
        });
        let longest_pause = messages::write_all(&self.namespace(), operations).await?;
        self.changed = Instant::now();
        let seconds = started.elapsed().as_secs_f64();
        let written_bytes = self.disk_written_since(before);
        Ok(Written {
            mutations,
            per_second: mutations as f64 / seconds,
            longest_pause_ms: longest_pause.as_secs_f64() * 1e3,
            raw_bytes,
            written_bytes,
            amplification: written_bytes.map(|bytes| bytes as f64 / raw_bytes.max(1) as f64),
        })
    }

    /// Bytes a second that go to the disk while nobody asks the node for anything.
    pub(crate) async fn written_by_others(&self) -> Option<f64> {
        const LENGTH: Duration = Duration::from_secs(2);
        let before = self.disk_written_bytes();
        tokio::time::sleep(LENGTH).await;
        Some(self.disk_written_since(before)? as f64 / LENGTH.as_secs_f64())
    }

    /// Gives up all events that there are, and waits until the node has removed their rows, so that this is part of nothing else.
    pub(crate) async fn prune(&mut self) -> Result<Pruned, Error> {
        let process = self.group.process(1);
        let (started, cpu) = (Instant::now(), usage::cpu(process));
        let events = self.namespace().prune_registration_entry_events(Duration::ZERO).await?;
        let answered = Instant::now();
        self.changed = answered;
        // No metric says that the rows are gone.
        let at_rest = usage::wait_until_at_rest(process, DEADLINE).await.expect("a node that comes to rest");
        Ok(Pruned {
            events,
            seconds: (answered - started).as_secs_f64(),
            removal_seconds: (at_rest - answered).as_secs_f64(),
            node_cpu_seconds: (usage::cpu(process) - cpu).as_secs_f64(),
        })
    }

    /// Waits until no mutation has to be remembered any more.
    pub(crate) async fn settle(&self) {
        // Times in events are as exact as the clock that both ends share; a second is for what was under way.
        let over = self.changed + REMEMBERED + Duration::from_secs(1);
        if self.is_waiting {
            tokio::time::sleep_until(over.into()).await;
        }
    }

    /// Gives back what nothing wants.
    pub(crate) async fn compact(&self) -> Result<(), Error> {
        let admin = self.group.client().with_options(Options::default().with_deadline(DEADLINE)).admin();
        // The first makes the base snapshot, without which little can go.
        while admin.compact().await?.bytes_freed > 0 {}
        Ok(())
    }

    /// A snapshot, with or without events, taken by a client; how long it took and how long it is.
    pub(crate) async fn snapshot(&self, with_events: bool) -> Result<Loaded, Error> {
        let started = Instant::now();
        let mut chunks = self.group.client().admin().save_snapshot(with_events).await?;
        let mut bytes = 0;
        while let Some(chunk) = chunks.next().await? {
            bytes += chunk.len() as u64;
        }
        let count = chunks.summary().map_or(0, |summary| if with_events { summary.events } else { summary.records });
        Ok(Loaded { count, seconds: started.elapsed().as_secs_f64(), bytes })
    }

    /// Ends the node, starts it again and waits until it answers.
    pub(crate) async fn restart(&mut self) -> Duration {
        self.group.terminate(1);
        self.group.launch_and_wait(1).await
    }

    /// A client loads all entries.
    pub(crate) async fn load_entries(&self) -> Result<Loaded, Error> {
        let (namespace, started) = (self.namespace(), Instant::now());
        let mut entries = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await?;
        let (mut count, mut bytes) = (0, 0);
        while let Some(entry) = entries.next().await {
            (count, bytes) = (count + 1, bytes + entry?.encoded_len() as u64);
        }
        Ok(Loaded { count, seconds: started.elapsed().as_secs_f64(), bytes })
    }

    /// A client follows everything from the oldest event that is kept to the newest one.
    pub(crate) async fn load_events(&self) -> Result<Loaded, Error> {
        let (namespace, started) = (self.namespace(), Instant::now());
        let mut tail = namespace.tail(TailOptions { start: TailStart::Oldest, ..TailOptions::default() });
        let (mut count, mut bytes) = (0, 0);
        loop {
            match tail.next().await?.content {
                TailContent::Event(event) => (count, bytes) = (count + 1, bytes + event.encoded_len() as u64),
                TailContent::Progress { live: true, .. } => break,
                TailContent::Progress { .. } => {}
            }
        }
        Ok(Loaded { count, seconds: started.elapsed().as_secs_f64(), bytes })
    }

    pub(crate) fn memory(&self) -> Memory {
        usage::memory(self.group.process(1))
    }

    /// What has been written to the disk beneath the node, where the kernel tells.
    pub(crate) fn disk_written_bytes(&self) -> Option<u64> {
        usage::disk_written_bytes(&self.group.data(1))
    }

    /// The same since an earlier look.
    pub(crate) fn disk_written_since(&self, before: Option<u64>) -> Option<u64> {
        Some(self.disk_written_bytes()?.saturating_sub(before?))
    }

    /// CPU time of the node and its threads since it was started.
    pub(crate) fn node_cpu(&self) -> CpuTimes {
        CpuTimes::of(self.group.process(1))
    }

    pub(crate) fn disk(&self) -> Disk {
        let data = self.group.data(1);
        let part = |name: &str| allocated(&data.join("group-0").join(name));
        let (log, records, base_snapshot) = (part("log"), part("records"), part("base"));
        let total = allocated(&data);
        Disk { log, records, base_snapshot, other: total.saturating_sub(log + records + base_snapshot), total }
    }
}

/// What a file or directory takes on disk. Files that go away meanwhile take nothing.
fn allocated(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    let own = facts.blocks() * 512;
    let Ok(inside) = fs::read_dir(path) else { return own };
    own + inside.filter_map(Result::ok).map(|entry| allocated(&entry.path())).sum::<u64>()
}

/// As people read it.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
