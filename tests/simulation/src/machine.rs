//! A machine with a member of the cluster on it: its process may end and stand still, its clock may be wrong, its disk
//! forgets what was not synced.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use raft::eraftpb::Message;
use steeple_engine::disk::simulated::{CrashLoss, Failure};
use steeple_engine::disk::{Disk, SimulatedDisk};
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::{FaultPolicy, LogError, Verification};
use steeple_server::node::stepped::{Shelf, SimulatedStorage, SteppedNode, SteppedPatient};
use steeple_server::node::{Connect, NodeOptions, NodeParts, StartError};
use steeple_server::peer::{Delivery, Introduction, PeerSink, SnapshotProvider};
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::network::Outbox;
use crate::rot::Remembered;
use crate::time::{Instant, MachineClock, WorldTime};
use crate::world::FetchResult;

/// The version of the features that the oldest program in a run supports.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// The version that the newest one supports.
pub(crate) const NEWEST_VERSION: u32 = 3;

/// What a start came to.
pub(crate) enum Started {
    /// The process runs.
    Runs,
    /// It runs, and an operator has decided about the last batch.
    Decided,
    /// The log is damaged, and is to be repaired first.
    IsPatient,
}

/// What a member works on for somebody.
pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call that a member serves: polled when it was woken.
pub(crate) struct Served {
    future: Serving,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file with the base snapshot.
const BASE_SNAPSHOT: &str = "base.snapshot";

/// What a loss of power may do to what was not synced.
const POWER_LOSSES: [CrashLoss; 4] = [CrashLoss::Everything, CrashLoss::Suffix, CrashLoss::Sectors, CrashLoss::Bytes];

/// What connects a member to the others.
#[derive(Clone, Default)]
struct Connected {
    sink: Arc<Mutex<Option<Arc<dyn PeerSink>>>>,
    snapshots: Arc<Mutex<Option<Arc<dyn SnapshotProvider>>>>,
    introduction: Arc<Mutex<Option<Introduction>>>,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) number: usize,
    pub(crate) node: Option<SteppedNode>,
    pub(crate) clock: MachineClock,
    pub(crate) disk: SimulatedDisk,
    pub(crate) base: SimulatedDisk,
    storage: Arc<SimulatedStorage>,
    pub(crate) outbox: Outbox,
    connected: Connected,
    options: NodeOptions,
    /// Counts the processes that were started; what was meant for an earlier one is thrown away.
    pub(crate) life: u32,
    /// When its process was started.
    pub(crate) started: Instant,
    /// Held by every compaction under way.
    pub(crate) compacting: Arc<()>,
    pub(crate) paused_until: Instant,
    pub(crate) slow_until: Instant,
    pub(crate) turn_due: bool,
    pub(crate) write_due: bool,
    pub(crate) work_due: bool,
    serving: Vec<Served>,
    /// How far the checkers have looked.
    pub(crate) observed: u64,
    pub(crate) observed_revision: u64,
    /// Took part in a group that has since removed it.
    pub(crate) retired: bool,
    /// Its disk was made to fail in this life, so that the process may end by itself.
    pub(crate) is_failing: bool,
    /// Its record store was made to fail in this life.
    store_failed: bool,
    /// Its base snapshot was damaged, and was of no use at the last start.
    base_spoilt: bool,
    /// It has lost records and base snapshot, and needs the records of another member to start.
    pub(crate) lacks_records: bool,
    /// Its disk has no room.
    pub(crate) is_full: bool,
    /// Its log is damaged, found so at a start, and being repaired with the help of the others.
    pub(crate) patient: Option<SteppedPatient>,
    /// Rounds of questions that it has asked for that, in all its lives.
    pub(crate) rounds: u64,
    /// A snapshot that it fetches meanwhile.
    pub(crate) fetching: Option<oneshot::Receiver<FetchResult>>,
    /// Its log was damaged, and was not read from one end to the other since.
    pub(crate) is_rotten: bool,
    /// What its log held a while ago.
    pub(crate) remembered: Remembered,
    /// The version of the features that its program supports.
    pub(crate) version: u32,
    /// That of the program that is started next.
    pub(crate) next_version: u32,
    /// Every other founder has admitted it, or it came later.
    pub(crate) was_admitted: bool,
    /// Nobody starts it for now.
    pub(crate) stays_down: bool,
    /// Its power goes in the middle of one of the next writes, with this loss.
    pub(crate) dying: Option<CrashLoss>,
    /// Its disk was lost since it became a member.
    pub(crate) wiped: bool,
    /// Its record store was lost, or could not be used when the process ended.
    pub(crate) may_rebuild: bool,
}

impl Machine {
    pub(crate) fn new(number: usize, world: WorldTime, options: NodeOptions, seed: u64) -> Self {
        let (disk, base) = (SimulatedDisk::new(), SimulatedDisk::new());
        let storage = storage(&disk, &base, Shelf::default());
        Self {
            number,
            node: None,
            clock: MachineClock::new(world, seed ^ (number as u64) << 32),
            disk,
            base,
            storage,
            outbox: Outbox::default(),
            connected: Connected::default(),
            options,
            life: 0,
            started: 0,
            compacting: Arc::default(),
            paused_until: 0,
            slow_until: 0,
            turn_due: false,
            write_due: false,
            work_due: false,
            serving: Vec::new(),
            observed: 0,
            observed_revision: 0,
            retired: false,
            is_failing: false,
            store_failed: false,
            base_spoilt: false,
            lacks_records: false,
            is_full: false,
            patient: None,
            rounds: 0,
            fetching: None,
            is_rotten: false,
            remembered: Remembered::new(),
            version: OLDEST_VERSION,
            next_version: OLDEST_VERSION,
            was_admitted: false,
            stays_down: false,
            dying: None,
            wiped: false,
            may_rebuild: false,
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.number as u64 + 1)
    }

    /// Starts a process. Where damage in the last batch cannot be told from an unfinished write, an operator who knows that
    /// nothing but a crash has happened decides that it was one. Where it is damaged, the others are to help.
    pub(crate) fn start(&mut self, chance: &mut Chance) -> Result<Started, StartError> {
        self.life += 1;
        self.version = self.next_version;
        self.is_failing = self.is_full || self.is_rotten;
        self.lacks_records = false;
        self.may_rebuild |= self.storage.stores.is_damaged();
        self.base_spoilt &= self.base_covers().is_none();
        (self.turn_due, self.write_due, self.work_due) = (false, false, false);
        (self.observed, self.observed_revision) = (0, 0);
        self.connected = Connected::default();
        let (outbox, connected) = (self.outbox.clone(), self.connected.clone());
        let connect: Connect = Arc::new(move |identity, sink, snapshots| {
            *connected.introduction.lock() = Some(identity.introduction());
            *connected.sink.lock() = Some(sink);
            *connected.snapshots.lock() = snapshots;
            Arc::new(outbox.clone())
        });
        let parts = NodeParts { clock: Arc::new(self.clock.clone()), connect: Some(connect) };
        let mut options = self.options.clone();
        options.cluster.features = self.version;
        if self.is_rotten {
            // Whoever met damage has left a mark for the next start.
            options.log.verification = Verification::Everything;
        }
        let start = |options| SteppedNode::start(options, &parts, Arc::clone(&self.storage), chance.number());
        let mut start = start;
        match start(options.clone()) {
            Ok(node) => {
                self.node = Some(node);
                (self.is_rotten, self.is_failing) = (false, self.is_full);
                Ok(Started::Runs)
            }
            Err(refused @ StartError::Log(LogError::Corrupt { .. })) if self.is_rotten && !self.disk.has_stopped() => {
                self.wait_for_help(&options, refused)
            }
            Err(StartError::Log(_)) if !self.is_rotten && !self.disk.has_stopped() => {
                options.log.faults = FaultPolicy::CutUndecided;
                match start(options.clone()) {
                    Ok(node) => {
                        self.node = Some(node);
                        Ok(Started::Decided)
                    }
                    Err(refused) => self.ask_for_records(&options, refused),
                }
            }
            Err(refused) => self.ask_for_records(&options, refused),
        }
    }

    /// Others are to help a member that does not start, if it has any.
    fn wait_for_help(&mut self, options: &NodeOptions, refused: StartError) -> Result<Started, StartError> {
        self.patient = SteppedPatient::open(options, Arc::clone(&self.storage))?;
        self.patient.is_some().then_some(Started::IsPatient).ok_or(refused)
    }

    /// Others are to help a member that does not start because its records and its base snapshot were taken away.
    fn ask_for_records(&mut self, options: &NodeOptions, refused: StartError) -> Result<Started, StartError> {
        let is_explained = self.may_rebuild && self.base_spoilt && !self.disk.has_stopped();
        if !is_explained || !matches!(refused, StartError::MissingEvents { .. }) {
            return Err(refused);
        }
        self.lacks_records = true;
        self.wait_for_help(options, refused)
    }

    /// Lets the power go in the middle of one of the next writes to its disks, before or after a sync.
    pub(crate) fn lose_power_soon(&mut self, chance: &mut Chance) {
        self.dying = Some(*chance.pick(&POWER_LOSSES));
        // A first start has more to write, and ends with what founds the group.
        let operations = if self.disk.list().is_ok_and(|files| files.is_empty()) { 80 } else { 16 };
        self.disk.fail_after(chance.below(operations), Failure::Stop);
        self.base.fail_after(chance.below(16), Failure::Stop);
    }

    /// Whether the power has gone, and the process with it has not yet.
    pub(crate) fn has_lost_power(&self) -> bool {
        self.dying.is_some() && (self.disk.has_stopped() || self.base.has_stopped())
    }

    /// The process ends at once, and the power goes with it unless `loss` says that nothing is lost.
    pub(crate) fn crash(&mut self, loss: CrashLoss, chance: &mut Chance) {
        self.serving.clear();
        let was_taking_over = self.node.as_ref().is_some_and(SteppedNode::is_taking_over);
        self.may_rebuild |= was_taking_over || self.is_failing || std::mem::take(&mut self.store_failed);
        // A process that is killed tidies nothing up: it is dropped when what is left of its files is settled.
        let killed = (self.node.take(), self.patient.take(), self.fetching.take());
        self.dying = None;
        drop(self.outbox.take());
        self.disk = self.disk.crash(loss, chance.number());
        self.base = self.base.crash(loss, chance.number());
        let stores = self.storage.stores.crash(|unflushed| match loss {
            CrashLoss::Everything => 0,
            CrashLoss::Nothing => unflushed,
            _ => chance.below(unflushed as u64 + 1) as usize,
        });
        // What is damaged stays so, and may show in a later life.
        self.store_failed = stores.is_damaged();
        self.storage = storage(&self.disk, &self.base, stores);
        drop(killed);
    }

    /// The process has ended in order.
    pub(crate) fn end(&mut self, chance: &mut Chance) {
        self.serving.clear();
        if let Some(node) = self.node.take() {
            // The next start finishes it, and makes the records from what was taken over.
            self.may_rebuild |= node.is_taking_over();
            node.close();
        }
        self.crash(CrashLoss::Nothing, chance);
    }

    /// Hands messages to the process, if there is one and the sender was introduced.
    pub(crate) fn deliver(&self, from: &Introduction, messages: Vec<Message>) {
        if let Some(sink) = self.sink() {
            // A process that is ending takes nothing.
            let _ = sink.deliver(Delivery::introduced(from, messages));
        }
    }

    /// Where messages and introductions of others go, while a process runs.
    pub(crate) fn sink(&self) -> Option<Arc<dyn PeerSink>> {
        self.connected.sink.lock().clone().filter(|_| self.node.is_some())
    }

    /// As whom the process introduces itself.
    pub(crate) fn introduction(&self) -> Option<Introduction> {
        self.connected.introduction.lock().filter(|_| self.node.is_some())
    }

    /// Where other members fetch snapshots from, while a process runs.
    pub(crate) fn snapshots(&self) -> Option<Arc<dyn SnapshotProvider>> {
        self.connected.snapshots.lock().clone().filter(|_| self.node.is_some())
    }

    /// Takes the record stores away from a process that has ended.
    pub(crate) fn lose_stores(&mut self) {
        self.storage = storage(&self.disk, &self.base, Shelf::default());
        self.may_rebuild = true;
    }

    /// Takes the disks away from a process that has ended, and puts empty ones in their place.
    pub(crate) fn wipe(&mut self) {
        (self.disk, self.base) = (SimulatedDisk::new(), SimulatedDisk::new());
        self.lose_stores();
        (self.wiped, self.is_rotten) = (true, false);
    }

    /// Flips a bit of the base snapshot, if there is one.
    pub(crate) fn damage_base(&mut self, chance: &mut Chance) -> bool {
        let names = self.base.list().unwrap_or_default();
        let Some(name) = names.first() else { return false };
        let bytes = self.base.contents(name).map_or(0, |bytes| bytes.len() as u64);
        let is_damaged = bytes > 0 && self.base.flip(name, chance.below(bytes), 1 << chance.below(8));
        self.base_spoilt |= is_damaged;
        is_damaged
    }

    /// The entry up to which the base snapshot holds everything, if it is of use.
    pub(crate) fn base_covers(&self) -> Option<LogIndex> {
        let bytes = self.base.contents(BASE_SNAPSHOT)?;
        let report = steeple_snapshot::verify(&bytes[..], &mut |_| {}).ok()?;
        Some(report.manifest.state.index)
    }

    /// Whether it has a record store that is of use, as far as faults tell.
    pub(crate) fn keeps_records(&self) -> bool {
        !self.storage.stores.stores().is_empty() && !self.storage.stores.is_damaged()
    }

    /// Whether what was begun in this life may have met a disk or a record store that failed.
    pub(crate) fn had_broken_store(&self) -> bool {
        self.is_failing || self.store_failed
    }

    /// Whether its disk or record store may be to blame when the process ends.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_failing || self.store_failed && self.storage.stores.has_failed()
    }

    /// Breaks every record store of the machine, at once or at the next flush.
    pub(crate) fn fail_stores(&mut self, chance: &mut Chance) {
        self.store_failed = true;
        match chance.happens(500) {
            true => self.storage.stores.fail("simulated failure"),
            false => self.storage.stores.fail_at_flush("simulated failure of a flush"),
        }
    }

    pub(crate) fn serve(&mut self, future: Serving) {
        self.serving.push(Served { future, woken: Arc::new(Woken(AtomicBool::new(true))) });
    }

    /// Goes on with the calls that were woken; whether there were any.
    pub(crate) fn poll_served(&mut self) -> bool {
        let mut went_on = false;
        self.serving.retain_mut(|served| {
            if !served.woken.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            went_on = true;
            let waker = Waker::from(Arc::clone(&served.woken));
            served.future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending
        });
        went_on
    }

    /// Whether it gives space back just now.
    pub(crate) fn is_compacting(&self) -> bool {
        Arc::strong_count(&self.compacting) > 1
    }

    pub(crate) fn served(&self) -> usize {
        self.serving.len()
    }
}

fn storage(disk: &SimulatedDisk, base: &SimulatedDisk, stores: Shelf) -> Arc<SimulatedStorage> {
    Arc::new(SimulatedStorage { log: Arc::new(disk.clone()), base: base.clone(), stores })
}
