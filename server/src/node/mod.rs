//! A node: one group's log, view and pipeline, with the threads that drive them.
//!
//! [`Node`] is a cheap handle. It is the same node whether it is embedded in a process or served over sockets: the
//! gRPC services are a thin layer over it. Two threads do the work: that of the *group* steps Raft, decides, folds,
//! answers, and drives the runtime on which the connections to the other nodes live; the *log writer* appends and syncs, and
//! what arrives while a sync runs forms the next batch. A small write that nothing waits behind is made durable by the group
//! itself. Reads go to the view on the caller's thread.

pub mod options;
pub mod errors;
mod recall;
mod recent;
mod base;
mod records;
mod fork;
mod roster;
mod contacts;
pub(crate) mod core;
pub mod cluster;
mod open;
mod log_writer;
mod group;
mod events;
mod snapshots;
pub mod tail;
mod maintenance;
mod removal;
mod spares;
pub(crate) mod repair;
mod restore;
mod rescue;
mod outgoing;
pub(crate) mod install;
mod stall;
mod storage;
mod random;
mod submissions;
mod work;
pub mod stepped;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use steeple_engine::domain::{Answer, Command};
use steeple_engine::ids::{ClusterId, HistoryId, NamespaceId, NodeId, Revision};
use steeple_engine::log::{LogIdentity, LogReader};
use steeple_engine::namespaces;
use steeple_engine::simulation::reached;
use steeple_engine::spire::notices::Notice;
use steeple_engine::view::{View, ViewReader};
use tokio::sync::{Notify, Semaphore, oneshot, watch};

pub use self::errors::{QueryError, StartError, SubmitError};
pub use self::maintenance::{CompactError, Compacted, NodeStatus};
pub use self::options::{
    Clock, ClusterOptions, ClusterOrigin, Connect, FEATURES_SUPPORTED, LEASE, NodeOptions, NodeParts, SystemClock,
    TICK_MIN_MILLISECONDS, lease_within,
};
pub use self::rescue::{RescueError, Rescued, rescue};
pub use self::restore::restore;
pub use self::roster::RosterError;
pub use self::snapshots::{SnapshotError, TakenSnapshot};
pub(crate) use self::submissions::CarriedOut;
pub use self::submissions::Submitted;

use self::core::Core;
use self::group::{Group, Message, NodeSink, PublishedLease, Scratch};
use self::log_writer::{LogCounters, LogQueue, LogWork};
use self::open::Opened;
use self::random::Random;
use self::roster::Roster;
use self::storage::Storage;
use self::work::Work;
use crate::peer::Introduction;

/// Why a node that was told to stop takes no mutations.
const STOPPED: &str = "node stopped";

/// Messages on their way to the group's thread at the most.
const INBOX_MAX: usize = 4096;

/// Notices handed out with one answer at the most, so that it fits into a message; the log has a line for each.
pub const NOTICES_MAX: usize = 10_000;

/// What an accepted mutation came to.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The event, or the state that was seen when nothing had to change. A read at this revision reflects it.
    pub revision: Revision,
    /// The answer.
    pub answer: Answer,
    /// What prunes and cascades removed, up to [`NOTICES_MAX`] of them.
    pub notices: Vec<Notice>,
}

/// A handle on a running node. The node stops when it is told to or when the last handle is gone.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    /// Held by the handles of users, not by the node's own threads; only its drop matters.
    _guard: Option<Arc<StopGuard>>,
}

/// Stops the node when the last handle is dropped.
struct StopGuard {
    inbox: tokio::sync::mpsc::Sender<Message>,
    shared: std::sync::Weak<Shared>,
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.fail(STOPPED.into());
            shared.tasks.lock().take();
        }
        // With a full inbox the group's thread is at work, and looks after each turn whether the doors were closed.
        drop(self.inbox.try_send(Message::Stop));
    }
}

/// The pieces of a node.
struct Assembled {
    node: Node,
    group: Group,
    log: LogWork,
    inbox: tokio::sync::mpsc::Sender<Message>,
    messages: tokio::sync::mpsc::Receiver<Message>,
    has_started: mpsc::Receiver<()>,
}

/// What handles and threads share.
pub(crate) struct Shared {
    identity: LogIdentity,
    roster: Roster,
    options: NodeOptions,
    clock: Arc<dyn Clock>,
    /// Replaced as a whole when a snapshot from a peer is taken over.
    core: RwLock<Arc<Core>>,
    /// The log is being changed under whoever reads it, until the core is replaced.
    replacing: AtomicBool,
    /// A takeover waits for those who are at work on the log.
    taking_over: watch::Sender<bool>,
    /// The newest revision folded; consumers wait on it.
    folded: watch::Sender<Revision>,
    /// Upgraded only by those who have something to say: whoever holds it strongly keeps the group's thread waiting.
    inbox: tokio::sync::mpsc::WeakSender<Message>,
    tasks: Mutex<Option<LogQueue>>,
    submissions: Arc<Semaphore>,
    tails: Arc<Semaphore>,
    /// Told whenever rows that streams have given up may have to be removed.
    given_up: Arc<Notify>,
    log_counters: Arc<LogCounters>,
    /// Why the node takes no mutations any more, once it does not.
    failure: watch::Sender<Option<String>>,
    /// One compaction or base snapshot at a time.
    maintenance: Arc<tokio::sync::Mutex<()>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    rebuilt: Option<String>,
    /// Whether this node decides and reads without asking anybody.
    leads_alone: AtomicBool,
    /// Whether it reads without asking anybody for a while.
    lease: PublishedLease,
    /// Whether nobody else belongs to the group.
    alone: AtomicBool,
    /// Whether this node belongs to the group and hears from its leader, or leads.
    in_touch: AtomicBool,
    /// The records are not those of the leader; nothing is read until they have been made anew.
    diverged: AtomicBool,
    /// The revision whose event is folded wrongly.
    #[cfg(test)]
    fold_wrongly_at: AtomicU64,
    /// The log entry from which on a follower that is sent a snapshot will want the log.
    wanted_from: AtomicU64,
    /// Where snapshots of peers arrive when there is no directory.
    scratch: Scratch,
    /// Where it keeps what has to survive.
    storage: Storage,
    random: Random,
    work: Arc<Work>,
}

impl Shared {
    /// The way to the group's thread while the node runs.
    fn inbox_sender(&self) -> Option<tokio::sync::mpsc::Sender<Message>> {
        self.inbox.upgrade()
    }

    /// Whether the group need not be told that time passes: it leads alone and has nothing to wait for.
    fn needs_no_ticks(&self) -> bool {
        self.leads_alone.load(Ordering::SeqCst) && !self.submissions.is_closed()
    }

    /// Whether it broke down. One that is merely told to stop goes on for a moment, to hand leadership over.
    fn is_broken(&self) -> bool {
        self.failure.borrow().as_deref().is_some_and(|reason| reason != STOPPED)
    }

    /// Takes no mutations from now on; the first reason is kept.
    fn fail(&self, reason: String) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(reason);
            first
        });
        self.submissions.close();
    }
}

impl Node {
    /// Opens the data directory, recovers, and starts. Blocks until the node is ready.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(options: NodeOptions, parts: NodeParts) -> Result<Self, StartError> {
        let tick = options.cluster.tick;
        let (storage, random) = (Storage::new(options.data.clone()), Random::System);
        let opened = Self::open(&options, &storage, &random)?;
        // Only now: they must not be dropped where nobody may wait, and opening may fail.
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread);
        let (background, foreground) = (runtime()?, runtime()?);
        let work = Work::on(background.handle().clone());
        let assembled = {
            let _entered = foreground.enter();
            Self::assemble(opened, options, &parts, storage, random, work)
        };
        let Assembled { node, group, log, inbox, mut messages, has_started } = assembled;
        node.spawn("steeple-log", move || log.run(|message| inbox.blocking_send(message).is_ok()))?;
        let weak = Arc::downgrade(&node.shared);
        node.spawn("steeple-group", move || {
            foreground.spawn(tick_now_and_then(weak, tick));
            foreground.block_on(group.run(&mut messages));
            // Nobody waits for what a peer has asked for last.
            foreground.shutdown_background();
        })?;
        let weak = Arc::downgrade(&node.shared);
        node.spawn("steeple-maintenance", move || background.block_on(maintenance::run(weak)))?;
        // A group whose thread has ended says why in `failure`.
        let _ = has_started.recv();
        match node.failure() {
            Some(reason) => Err(StartError::Failed(reason)),
            None => Ok(node),
        }
    }

    /// Opens what is stored.
    fn open(options: &NodeOptions, storage: &Storage, random: &Random) -> Result<Opened, StartError> {
        let opened = open::open_in(storage, options, open::fresh_identity(&options.cluster, random), random)?;
        if let Some(torn) = &opened.recovery.torn {
            reached("log: torn tail cut off");
            tracing::info!(?torn, "cut off what an unfinished write had left at the end of the log");
        }
        Ok(opened)
    }

    /// Makes the pieces of a node that has still to be driven.
    fn assemble(
        opened: Opened,
        options: NodeOptions,
        parts: &NodeParts,
        storage: Storage,
        random: Random,
        work: Work,
    ) -> Assembled {
        let (inbox, messages) = tokio::sync::mpsc::channel(INBOX_MAX);
        let log_counters = Arc::<LogCounters>::default();
        let spare_wanted = Arc::<Notify>::default();
        let (tasks, log) = LogWork::new(opened.writer, Arc::clone(&log_counters), Arc::clone(&spare_wanted));
        let shared = Arc::new(Shared {
            identity: opened.identity,
            roster: opened.roster,
            submissions: Arc::new(Semaphore::new(options.submissions_max)),
            tails: Arc::new(Semaphore::new(options.tails_max)),
            given_up: Arc::default(),
            log_counters,
            options,
            clock: Arc::clone(&parts.clock),
            folded: watch::Sender::new(opened.core.view.folded().revision),
            inbox: inbox.downgrade(),
            tasks: Mutex::new(Some(tasks.clone())),
            failure: watch::Sender::new(None),
            maintenance: Arc::default(),
            threads: Mutex::new(Vec::new()),
            rebuilt: opened.rebuilt,
            core: RwLock::new(Arc::new(opened.core)),
            replacing: AtomicBool::new(false),
            taking_over: watch::Sender::new(false),
            leads_alone: AtomicBool::new(false),
            lease: PublishedLease::default(),
            alone: AtomicBool::new(false),
            in_touch: AtomicBool::new(false),
            diverged: AtomicBool::new(opened.astray.is_some()),
            #[cfg(test)]
            fold_wrongly_at: AtomicU64::new(0),
            wanted_from: AtomicU64::new(outgoing::NOTHING_WANTED),
            scratch: Scratch::new(random.bits()),
            storage,
            random,
            work: Arc::new(work),
        });
        shared.work.spawn(removal::run(Arc::downgrade(&shared), Arc::clone(&shared.given_up)));
        shared.work.spawn(spares::run(Arc::downgrade(&shared), spare_wanted));
        // An earlier run may have left some.
        shared.given_up.notify_one();
        let guard = StopGuard { inbox: inbox.clone(), shared: Arc::downgrade(&shared) };
        let node = Self { shared, _guard: Some(Arc::new(guard)) };
        let transport = node.connect(parts, &inbox);
        let (started, has_started) = mpsc::channel();
        let shared = Arc::clone(&node.shared);
        let core = shared.core();
        let group = Group::new(opened.replica, core, opened.requests, shared, tasks, transport, started)
            .found_astray(opened.astray);
        Assembled { node, group, log, inbox, messages, has_started }
    }

    fn connect(
        &self,
        parts: &NodeParts,
        inbox: &tokio::sync::mpsc::Sender<Message>,
    ) -> Option<Arc<dyn crate::peer::Transport>> {
        let connect = parts.connect.as_ref()?;
        let LogIdentity { cluster, group, node, .. } = self.shared.identity;
        let sink = NodeSink { inbox: inbox.downgrade(), shared: Arc::downgrade(&self.shared) };
        let Introduction { incarnation, features, .. } = self.shared.roster.own();
        let identity = crate::peer::PeerIdentity { cluster, group, node, incarnation, features };
        let snapshots = Arc::new(outgoing::Outgoing::new(&self.shared));
        Some(connect(identity, Arc::new(sink), Some(snapshots)))
    }

    /// A handle for the node's own threads, which does not keep it running.
    fn unguarded(shared: Arc<Shared>) -> Self {
        Self { shared, _guard: None }
    }

    /// This handle without its hold on the node.
    fn weakly(&self) -> Self {
        Self::unguarded(Arc::clone(&self.shared))
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let shared = Arc::downgrade(&self.shared);
        let body = move || {
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                && let Some(shared) = shared.upgrade()
            {
                let reason = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a thread panicked".into());
                shared.fail(reason);
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::Thread)?;
        self.shared.threads.lock().push(thread);
        Ok(())
    }

    /// Reads the state now, at or after every mutation that was answered before the call. Folding waits meanwhile, so
    /// long results are read in chunks.
    pub fn read<T>(&self, read: impl FnOnce(&ViewReader<'_>) -> T) -> T {
        let core = self.shared.core();
        read(&core.view.read())
    }

    /// Waits until the node has folded `revision`.
    ///
    /// # Errors
    /// [`QueryError::Behind`] when that takes longer than `patience`.
    pub async fn reach(&self, revision: Revision, patience: Duration) -> Result<(), QueryError> {
        let mut folded = self.shared.folded.subscribe();
        let reached = folded.wait_for(|folded| *folded >= revision);
        match tokio::time::timeout(patience, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(QueryError::Behind { wanted: revision, reached: self.revision() }),
        }
    }

    /// Fails while the node's records are known to be wrong, so that nothing of them must be shown, stale or not.
    ///
    /// # Errors
    /// [`QueryError::Astray`].
    pub fn check_records(&self) -> Result<(), QueryError> {
        if self.shared.diverged.load(Ordering::SeqCst) { Err(QueryError::Astray) } else { Ok(()) }
    }

    /// Waits until the view reflects everything that was acknowledged, by whichever node, before the call.
    ///
    /// # Errors
    /// [`QueryError::NotConfirmed`] when nobody can confirm that now.
    pub async fn current(&self) -> Result<(), QueryError> {
        if self.is_current()? {
            return Ok(());
        }
        let patience = self.shared.options.cluster.read_patience;
        let answer = tokio::time::timeout(patience, self.confirm()).await;
        answer.unwrap_or_else(|_| Err(QueryError::NotConfirmed("no leader was found in time".into())))
    }

    /// Whether the view reflects everything that was acknowledged and nobody has to be asked.
    fn is_current(&self) -> Result<bool, QueryError> {
        self.check_records()?;
        // A leader alone acknowledges only what it has folded.
        if self.shared.leads_alone.load(Ordering::SeqCst) {
            return Ok(true);
        }
        let read_index = self.shared.lease.read_index(&*self.shared.clock);
        Ok(read_index.is_some_and(|index| index <= self.shared.core().view.folded().index))
    }

    /// Asks the group for its word that the view reflects what was acknowledged, and waits as long as it takes.
    async fn confirm(&self) -> Result<(), QueryError> {
        let stopped = || QueryError::NotConfirmed(self.failure().unwrap_or_else(|| "it is stopping".into()));
        let inbox = self.shared.inbox_sender().ok_or_else(stopped)?;
        let (confirmed, confirmation) = oneshot::channel();
        inbox.send(Message::Read(confirmed)).await.map_err(|_| stopped())?;
        confirmation.await.map_err(|_| stopped())??;
        // Also when that was found out meanwhile.
        self.check_records()
    }

    /// The namespace with this name, if there is one.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<NamespaceId> {
        self.read(|reader| namespaces::queries::find(reader, name))
    }

    /// The namespace with this name, created when there is none.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn open_namespace(&self, name: &str) -> Result<NamespaceId, SubmitError> {
        if let Some(id) = self.namespace(name) {
            return Ok(id);
        }
        let open = Command::Namespace(namespaces::Command::Open { name: name.to_owned() });
        let accepted = self.submit(NamespaceId::SYSTEM, None, open).await?;
        match accepted.answer {
            Answer::Namespace(namespaces::Answer::Opened { id, .. }) => Ok(id),
            other => Err(SubmitError::Unavailable(format!("opening a namespace was answered with {other:?}"))),
        }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.core().view.folded().revision
    }

    /// Whether nobody else belongs to the group.
    pub(crate) fn is_alone(&self) -> bool {
        self.shared.alone.load(Ordering::SeqCst)
    }

    /// Whether what the group commits comes here. It does not while the node is cut off, was removed, or builds its
    /// records anew.
    pub(crate) fn is_in_touch(&self) -> bool {
        self.shared.in_touch.load(Ordering::SeqCst) && !self.shared.diverged.load(Ordering::SeqCst)
    }

    /// Follows the newest revision.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.shared.folded.subscribe()
    }

    /// Which history the node's revisions belong to.
    #[must_use]
    pub fn history_id(&self) -> HistoryId {
        self.shared.identity.history
    }

    /// Which cluster the node belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.identity.cluster
    }

    /// Which member of it the node is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.shared.identity.node
    }

    /// The node's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The view as it is now, for checks. A snapshot from a peer puts another one in its place.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.core().view)
    }

    /// The log, for checks.
    #[must_use]
    pub fn log(&self) -> LogReader {
        self.shared.core().log.clone()
    }

    /// The state now. Taken once for each step.
    pub(crate) fn core(&self) -> Arc<Core> {
        self.shared.core()
    }

    /// Fails when what was read from this core may have been read while it was being replaced.
    pub(crate) fn check_current(&self, core: &Arc<Core>) -> Result<(), QueryError> {
        self.shared.check_current(core)
    }

    /// Why the node takes no mutations any more; `None` while it does.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.borrow().clone()
    }

    /// Waits until the node takes no mutations any more, and says why.
    pub async fn failed(&self) -> String {
        let mut failure = self.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "node stopped".into(),
        }
    }

    /// Finishes what is in flight, flushes the record store, and ends the threads. Handles that are left answer reads,
    /// and refuse mutations.
    pub async fn stop(&self) {
        // A decider that has ended already has nothing left to finish.
        if let Some(inbox) = self.shared.inbox_sender() {
            drop(inbox.send(Message::Stop).await);
        }
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || {
            shared.fail(STOPPED.into());
            shared.tasks.lock().take();
            for thread in shared.threads.lock().drain(..) {
                // A panic was noted by the thread itself.
                drop(thread.join());
            }
            shared.core().view.flush()
        });
        match ended.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the record store was not flushed; the next start folds again"),
            Err(error) => tracing::warn!(%error, "stopping was interrupted"),
        }
    }

    fn unavailable(&self) -> SubmitError {
        SubmitError::Unavailable(self.reason())
    }

    /// Why it takes no mutations.
    fn reason(&self) -> String {
        self.failure().unwrap_or_else(|| "it is stopping".into())
    }
}

/// Tells the group's thread that time passes. One node alone has nothing to wait for.
async fn tick_now_and_then(shared: std::sync::Weak<Shared>, every: Duration) {
    let mut interval = tokio::time::interval(every);
    // After a pause the others have to get a chance to be heard before this node takes them for gone.
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.needs_no_ticks() {
            continue;
        }
        let Some(inbox) = shared.inbox_sender() else { return };
        drop(shared);
        // In the line with everybody else: whoever only tries finds the inbox full for as long as anybody waits.
        if inbox.send(Message::Tick).await.is_err() {
            return;
        }
    }
}
