//! Follows the group through everything with the client library: each event must come once, in order, as all nodes have it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steeple_client::events::Event;
use steeple_client::{Client, TailContent, TailMessage, TailOptions, TailStart};
use tokio::task::JoinHandle;

use crate::door::NAMESPACE;
use crate::settings::PATIENCE;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A tail, and what came of it.
pub(super) struct Consumer {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    events: Vec<Event>,
    /// Everything up to this revision was told.
    revision: u64,
    cursor: Option<String>,
}

impl Heard {
    fn take_up(&mut self, message: TailMessage) {
        match message.content {
            TailContent::Event(event) => {
                self.revision = event.revision;
                self.events.push(event);
            }
            TailContent::Progress { revision, .. } => self.revision = self.revision.max(revision),
        }
        self.cursor = Some(message.cursor);
    }
}

impl Consumer {
    /// Follows these nodes from the beginning.
    pub(super) fn start(addresses: Vec<String>) -> Self {
        let heard = Arc::default();
        Self { task: tokio::spawn(follow(addresses, Arc::clone(&heard))), heard }
    }

    /// Goes on with these nodes from where it stands.
    pub(super) async fn go_on_with(&mut self, addresses: Vec<String>) {
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "a tail that goes on");
        self.task = tokio::spawn(follow(addresses, Arc::clone(&self.heard)));
    }

    /// Waits until everything up to a revision was told, and takes it.
    pub(super) async fn take(&mut self, revision: u64) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.task.is_finished() {
                (&mut self.task).await.expect("a tail that goes on");
            }
            {
                let mut heard = self.heard.lock().expect("no panic");
                if heard.revision >= revision {
                    let behind = heard.events.iter().position(|event| event.revision > revision);
                    let behind = behind.map(|position| heard.events.split_off(position)).unwrap_or_default();
                    return std::mem::replace(&mut heard.events, behind);
                }
                assert!(Instant::now() < deadline, "the consumer stays at {}, behind {revision}", heard.revision);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

async fn follow(addresses: Vec<String>, heard: Arc<Mutex<Heard>>) {
    let cursor = heard.lock().expect("no panic").cursor.clone();
    let start = cursor.map_or(TailStart::Oldest, TailStart::Cursor);
    let client = Client::connect_lazy(addresses).expect("addresses");
    let mut tail = client.namespace(NAMESPACE).tail(TailOptions { start, ..TailOptions::default() });
    loop {
        let message = tail.next().await.expect("a tail goes on");
        heard.lock().expect("no panic").take_up(message);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
