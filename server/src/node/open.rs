//! Starting: the log first, then a view that holds exactly what the log says.
//!
//! The record store is only a view. Whatever is wrong with it (an error, a panic, a digest that does not match), it is
//! deleted and rebuilt from the base snapshot and the log. What is wrong with the log is never mended by guessing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steeple_engine::disk::simulated::SimulatedDisk;
use steeple_engine::disk::{Disk, RealDisk};
use steeple_engine::domain::CATALOG;
use steeple_engine::event::Event;
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{
    Entry, EntryKind, FaultPolicy, HardState, Log, LogError, LogIdentity, LogOptions, LogReader, LogWriter, Recovery,
};
use steeple_engine::record_store::{RecordStore, RecordStoreError};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::view::{Committed, Fork, View};
use steeple_raft::{Incarnation, Member, Membership, MembershipChange, Replica, RequestLedger};

use super::base::Base;
use super::core::Core;
use super::errors::StartError;
use super::group::{Finding, Noted, Verdict};
use super::install;
use super::options::{ClusterOptions, ClusterOrigin, NodeOptions};
use super::random::Random;
use super::recall;
use super::records::{self, Records};
use super::roster::{Roster, RosterError};
use super::stall;
use super::storage::Storage;

/// How often a held lock is tried again.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Events folded in one batch while catching up.
const FOLD_BATCH: usize = 256;

/// An opened node, before its threads run.
pub(super) struct Opened {
    pub(super) identity: LogIdentity,
    pub(super) writer: LogWriter,
    pub(super) recovery: Recovery,
    pub(super) core: Core,
    pub(super) requests: RequestLedger,
    pub(super) replica: Replica,
    pub(super) roster: Roster,
    /// Whether the record store had to be rebuilt, and why.
    pub(super) rebuilt: Option<String>,
    /// What an earlier run found wrong with its records, when that could not be mended.
    pub(super) astray: Option<Finding>,
}

/// Where the first entry of a group is.
const FIRST: LogIndex = LogIndex(1);

/// Places inside the data directory.
pub(super) struct Directories {
    root: Option<PathBuf>,
}

impl Directories {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    pub(super) fn group(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("group-0"))
    }

    pub(super) fn log(&self) -> Option<PathBuf> {
        self.group().map(|group| group.join("log"))
    }

    pub(super) fn base(&self) -> Option<PathBuf> {
        self.group().map(|group| group.join("base"))
    }
}

/// Opens log and view in the data directory.
#[cfg(test)]
pub(super) fn open(options: &NodeOptions, fresh: LogIdentity) -> Result<Opened, StartError> {
    open_in(&Storage::new(options.data.clone()), options, fresh, &Random::System)
}

/// Opens log and view.
pub(super) fn open_in(
    storage: &Storage,
    options: &NodeOptions,
    fresh: LogIdentity,
    random: &Random,
) -> Result<Opened, StartError> {
    let directories = storage.directories();
    if let Storage::Directory(root) = storage {
        steeple_snapshot::check_finished(root)?;
        for directory in [directories.log(), directories.base()].into_iter().flatten() {
            make_directory(&directory)?;
        }
    }
    let disk = open_disk(storage)?;
    let found_identity = steeple_engine::log::read_identity(disk.as_ref())?;
    if found_identity.is_none() && Roster::is_left_over(disk.as_ref())? {
        return Err(RosterError::LogLost.into());
    }
    let identity = found_identity.unwrap_or(fresh);
    if identity.node != options.cluster.node {
        let (found, wanted) = (identity.node, options.cluster.node);
        return Err(StartError::OtherNode { found, cluster: identity.cluster, wanted });
    }
    let base = Arc::new(Base::open(storage));
    let (mut writer, log, recovery) = open_log(&disk, options, identity, &base)?;
    let roster = open_roster(disk, options, &log, Incarnation(random.bytes()))?;
    if !install::resume(&base, &identity, &mut writer).map_err(Box::new)? {
        if !recovery.faults.is_empty() {
            return Err(LogError::Corrupt { faults: recovery.faults }.into());
        }
        recovery.check_term()?;
        found(&mut writer, &log, &options.cluster)?;
    }
    let committed = writer.hard_state().commit;
    // Both read the log, to which nothing is appended meanwhile.
    let recall = || recall::committed_requests(options, &log, committed);
    let open_view = || open_or_mend_view(options, storage, &log, &base, committed, recovery.clean);
    let (mut recalled, mut opened) = (None, None);
    storage.fork().both(&mut || recalled = Some(recall()), &mut || opened = Some(open_view()));
    let OpenedView { view, records, rebuilt } = opened.unwrap_or_else(open_view)?;
    let mut requests = recalled.unwrap_or_else(recall)?;
    let astray = base.astray();
    settle_alone(&mut writer, &log, &view, &options.cluster)?;
    let core = Core::new(view, log, base, records);
    recall::remember(&mut requests, &core.log, committed.next(), core.view.folded().index)?;
    let replica = replica(options, identity.node, &core, writer.hard_state(), random.number())?;
    let (supported, active) = (options.cluster.features, replica.membership().features());
    if supported < active {
        return Err(StartError::Features { supported, active });
    }
    roster.set_membership(replica.membership());
    Ok(Opened { identity, writer, recovery, core, requests, replica, roster, rebuilt, astray })
}

/// Opens the log. One that lacks entries is opened with holes when a base snapshot is there that can take its place: the
/// takeover of it was interrupted.
fn open_log(
    disk: &Arc<dyn Disk>,
    options: &NodeOptions,
    identity: LogIdentity,
    base: &Base,
) -> Result<(LogWriter, LogReader, Recovery), StartError> {
    match Log::open(Arc::clone(disk), options.log, identity) {
        Err(error @ LogError::Corrupt { .. }) => {
            if !base.manifest().is_some_and(|manifest| manifest.includes_history) {
                return Err(error.into());
            }
            let with_holes = LogOptions { faults: FaultPolicy::Report, ..options.log };
            Ok(Log::open(Arc::clone(disk), with_holes, identity)?)
        }
        opened => Ok(opened?),
    }
}

fn open_roster(
    disk: Arc<dyn Disk>,
    options: &NodeOptions,
    log: &LogReader,
    fresh: Incarnation,
) -> Result<Roster, StartError> {
    let founds_with_others = match &options.cluster.origin {
        ClusterOrigin::Founding { members, .. } => members.keys().any(|node| *node != options.cluster.node.0),
        ClusterOrigin::Alone(_) | ClusterOrigin::Joining { .. } => false,
    };
    let is_used = log.last().index > LogIndex::ZERO;
    Ok(Roster::open(disk, options.cluster.node, options.cluster.features, fresh, founds_with_others, is_used)?)
}

/// A replica that goes on from what is stored. `run` is a number that no earlier run of this node had.
pub(super) fn replica(
    options: &NodeOptions,
    node: NodeId,
    core: &Core,
    hard_state: HardState,
    run: u64,
) -> Result<Replica, StartError> {
    let folded = core.view.folded().index;
    let mut membership = membership(&core.view)?;
    if is_planted(Bug::OutgoingVotersForgotten) {
        membership.voters_outgoing.clear();
        membership.learners_next.clear();
    }
    Ok(Replica::new(node, options.cluster.replica, core.log.clone(), hard_state, folded, membership, run)?)
}

fn membership(view: &View) -> Result<Membership, StartError> {
    Ok(view.membership().map_or_else(|| Ok(Membership::default()), |bytes| Membership::decode(&bytes))?)
}

/// Writes the first entry of a new group, which names its first members: each of them writes the same one, so that it is
/// committed from the beginning.
fn found(writer: &mut LogWriter, log: &LogReader, cluster: &ClusterOptions) -> Result<(), StartError> {
    let members = match &cluster.origin {
        ClusterOrigin::Joining { .. } => return Ok(()),
        ClusterOrigin::Alone(member) => BTreeMap::from([(cluster.node.0, member.clone())]),
        ClusterOrigin::Founding { members, .. } => members.clone(),
    };
    if log.base().index > LogIndex::ZERO {
        return Ok(());
    }
    if log.last().index == LogIndex::ZERO {
        return append_founding(writer, log, members);
    }
    let state = writer.hard_state();
    let is_first = |entry: Entry| {
        entry.kind == EntryKind::Membership && entry.payload == MembershipChange::founding(members).encode()
    };
    // The power went before it was written down that the entry is committed.
    if state.commit == LogIndex::ZERO && log.read(FIRST)?.is_some_and(is_first) {
        writer.save_hard_state(HardState { commit: FIRST, ..state })?;
    }
    Ok(())
}

/// What is durable with the only voter is committed, unless the rest of the log gives it company; it is folded at once.
/// A log that names no members (because it was restored from a snapshot of another history) belongs to this node alone
/// from now on.
fn settle_alone(
    writer: &mut LogWriter,
    log: &LogReader,
    view: &View,
    cluster: &ClusterOptions,
) -> Result<(), StartError> {
    if view.membership().is_some() {
        let is_alone = membership(view)?.is_alone(cluster.node);
        let is_settled = is_alone && !changes_members(log, view.folded().index.next())?;
        return if is_settled { follow(view, log, log.last().index) } else { Ok(()) };
    }
    let member = match &cluster.origin {
        ClusterOrigin::Alone(member) => member.clone(),
        ClusterOrigin::Founding { members, .. } => members.get(&cluster.node.0).cloned().unwrap_or_default(),
        ClusterOrigin::Joining { .. } => return Ok(()),
    };
    follow(view, log, log.last().index)?;
    append_founding(writer, log, BTreeMap::from([(cluster.node.0, member)]))?;
    follow(view, log, log.last().index)
}

fn changes_members(log: &LogReader, from: LogIndex) -> Result<bool, LogError> {
    let mut changes = false;
    log.scan(from, &mut |entry| {
        changes |= entry.kind == EntryKind::Membership;
        if changes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(changes)
}

/// Appends an entry that names the members from now on, and makes it durable as committed.
pub(super) fn append_founding(
    writer: &mut LogWriter,
    log: &LogReader,
    members: BTreeMap<u64, Member>,
) -> Result<(), StartError> {
    let change = MembershipChange::founding(members);
    change.check()?;
    let state = writer.hard_state();
    let term = state.term.max(log.last().term).max(Term(1));
    let position = LogPosition { term, index: log.last().index.next() };
    let entry = Entry { position, kind: EntryKind::Membership, tag: log.last_tag(), payload: change.encode().into() };
    let vote = state.vote.filter(|_| state.term == term);
    writer.save_hard_state(HardState { term, vote, commit: state.commit })?;
    writer.append(&[entry])?;
    Ok(writer.save_hard_state(HardState { term, vote, commit: position.index })?)
}

/// The identity of a node that is started for the first time.
pub(super) fn fresh_identity(cluster: &ClusterOptions, random: &Random) -> LogIdentity {
    let (id, history) = match &cluster.origin {
        ClusterOrigin::Alone(_) => (ClusterId(random.bytes()), HistoryId(random.bytes())),
        ClusterOrigin::Founding { cluster, history, .. } | ClusterOrigin::Joining { cluster, history, .. } => {
            (*cluster, *history)
        }
    };
    LogIdentity { cluster: id, node: cluster.node, group: GroupId(0), history }
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    fs::create_dir_all(path).map_err(|source| StartError::Directory { action: "create", path: path.to_owned(), source })
}

pub(super) fn open_disk(storage: &Storage) -> Result<Arc<dyn Disk>, StartError> {
    if let Storage::Simulated(simulated) = storage {
        return Ok(Arc::clone(&simulated.log));
    }
    Ok(match storage.directories().log() {
        None => Arc::new(SimulatedDisk::new()),
        Some(path) => Arc::new(lock_disk(&path).map_err(|source| StartError::Directory {
            action: "lock (is another node running on it?)",
            path,
            source,
        })?),
    })
}

/// Opens and locks a directory. A child process holds a copy of the lock until it runs its program, and sled starts one
/// whenever it opens a store in this process: so a held lock is tried again for a moment before it counts as held.
fn lock_disk(path: &Path) -> std::io::Result<RealDisk> {
    for _ in 1..LOCK_ATTEMPTS {
        match RealDisk::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(LOCK_RETRY_INTERVAL),
            opened => return opened,
        }
    }
    RealDisk::open(path)
}

/// A view, where its record store is, and why it had to be rebuilt, if it had to be.
struct OpenedView {
    view: View,
    records: Records,
    rebuilt: Option<String>,
}

/// Opens the view on records that are right: on those that are there, or, when an earlier run found those wrong, on new ones.
fn open_or_mend_view(
    options: &NodeOptions,
    storage: &Storage,
    log: &LogReader,
    base: &Base,
    up_to: LogIndex,
    was_stopped: bool,
) -> Result<OpenedView, StartError> {
    match mend_view(options, storage, log, base, up_to)? {
        Some(mended) => Ok(mended),
        None => open_view(options, storage, log, base, up_to, was_stopped),
    }
}

/// Opens the view on the newest record store that is of use, or rebuilds it. The other stores are deleted.
fn open_view(
    options: &NodeOptions,
    storage: &Storage,
    log: &LogReader,
    base: &Base,
    up_to: LogIndex,
    was_stopped: bool,
) -> Result<OpenedView, StartError> {
    let found = records::found(storage)?;
    let mut reason = None;
    for (place, records) in found.iter().enumerate() {
        match use_store(options, records, log, base, up_to, was_stopped) {
            Ok(view) => {
                let others = found.iter().enumerate().filter(|(other, _)| *other != place);
                others.for_each(|(_, other)| clear_away(other));
                return Ok(OpenedView { view, records: records.clone(), rebuilt: None });
            }
            // Somebody works with it; that is no reason to take it away from them.
            Err(
                error @ (StartError::Store(RecordStoreError::InUse { .. })
                | StartError::StuckStore { .. }
                | StartError::Thread(_)),
            ) => {
                return Err(error);
            }
            Err(error @ (StartError::LogBehind { .. } | StartError::Log(_) | StartError::Event { .. })) => {
                return Err(error);
            }
            Err(error) => reason = reason.or_else(|| Some(error.to_string())),
        }
    }
    reached("records: rebuilt at the start");
    tracing::warn!(reason, "the record store cannot be used as it is and is rebuilt from base snapshot and log");
    check_rebuildable(log, base)?;
    for records in &found {
        records.destroy()?;
    }
    let records = records::first(storage);
    let view = rebuild(options, &records, log, base, up_to)?;
    Ok(OpenedView { view, records, rebuilt: reason })
}

/// Makes the records anew from base snapshot and log when an earlier run found them wrong, and takes the mark away when
/// that helped. `None` when there is no mark, or nothing to make them from.
fn mend_view(
    options: &NodeOptions,
    storage: &Storage,
    log: &LogReader,
    base: &Base,
    up_to: LogIndex,
) -> Result<Option<OpenedView>, StartError> {
    let Some(finding) = base.astray() else { return Ok(None) };
    let reason = "an earlier run found that its records are not those of the leader";
    if let Err(error) = check_rebuildable(log, base) {
        tracing::error!(%error, "{reason}, and they cannot be made anew from what is here");
        return Ok(None);
    }
    tracing::warn!("{reason}; they are made anew from base snapshot and log");
    for records in records::found(storage)? {
        records.destroy()?;
    }
    let records = records::first(storage);
    let (view, verdict) = rebuild_and_judge(options, &records, log, base, &finding)?;
    follow(&view, log, up_to)?;
    if verdict != Verdict::NotMended {
        view.flush()?;
        base.unmark_astray().map_err(|source| StartError::Directory {
            action: "remove the mark of wrong records in",
            path: storage.directories().base().unwrap_or_default(),
            source,
        })?;
    }
    Ok(Some(OpenedView { view, records, rebuilt: Some(reason.into()) }))
}

/// Builds a record store up to the entry at which a check has found something, and judges it there.
pub(super) fn rebuild_and_judge(
    options: &NodeOptions,
    records: &Records,
    log: &LogReader,
    base: &Base,
    finding: &Finding,
) -> Result<(View, Verdict), StartError> {
    let view = rebuild(options, records, log, base, finding.index())?;
    let is_whole = base.covers() == LogIndex::ZERO;
    let verdict = finding.judge(&Noted::of(view.folded()), is_whole);
    Ok((view, verdict))
}

/// Removes a record store that another one has replaced, or that was not finished.
fn clear_away(records: &Records) {
    if let Err(error) = records.destroy() {
        tracing::warn!(%error, "a record store that is not used any more is left over until the next start");
    }
}

/// Opens the view on the record store as it is.
fn use_store(
    options: &NodeOptions,
    records: &Records,
    log: &LogReader,
    base: &Base,
    up_to: LogIndex,
    was_stopped: bool,
) -> Result<View, StartError> {
    let store = records.open(options)?;
    let is_replaceable = || check_rebuildable(log, base);
    let (log, fork) = (log.clone(), records.fork());
    let look_through = move |store: Arc<dyn RecordStore>| {
        if !was_stopped {
            // Everything is read once, also what the view reads only when somebody asks for it: what a crash has left
            // behind shows now and not to a caller.
            store.scan(&[], &[u8::MAX; 32], &mut |_, _| ControlFlow::Continue(()))?;
        }
        let view = open_and_follow(store, &log, up_to, fork)?;
        if !was_stopped {
            // A store that was killed in the middle of a flush may be readable and fail at the next one.
            view.flush()?;
        }
        Ok(view)
    };
    match records.directory() {
        Some(directory) => stall::watch_over(directory, stall::PATIENCE, store, is_replaceable, look_through)?,
        None => look_through(store),
    }
}

fn open_and_follow(
    store: Arc<dyn RecordStore>,
    log: &LogReader,
    up_to: LogIndex,
    fork: &dyn Fork,
) -> Result<View, StartError> {
    let view = View::open_with(CATALOG, store, fork)?;
    follow(&view, log, up_to)?;
    Ok(view)
}

/// Makes sure that what replaces a record store can be made, before the old one is destroyed.
pub(super) fn check_rebuildable(log: &LogReader, base: &Base) -> Result<(), StartError> {
    // What is before has gone, or stands under other indexes than the group's.
    let log_base = LogIndex(log.contiguous_from().0.saturating_sub(1));
    if log_base > LogIndex::ZERO {
        let found = base.verify();
        if !found.as_ref().is_ok_and(|covers| *covers >= log_base) {
            let base = found.map_or_else(|problem| problem, |covers| format!("it covers the log up to {covers}"));
            return Err(StartError::MissingEvents { folded: LogIndex::ZERO, first: log.contiguous_from(), base });
        }
    }
    Ok(())
}

/// Builds a record store where there is none.
pub(super) fn rebuild(
    options: &NodeOptions,
    records: &Records,
    log: &LogReader,
    base: &Base,
    up_to: LogIndex,
) -> Result<View, StartError> {
    let store = records.open(options)?;
    let store = match base.load(store.as_ref()) {
        Ok(()) => store,
        Err(problem) => {
            tracing::info!(problem, "rebuilding from the log alone");
            drop(store);
            records.destroy()?;
            records.open(options)?
        }
    };
    open_and_follow(store, log, up_to, records.fork())
}

/// Folds what the log has up to an entry, and the view has not.
pub(super) fn follow(view: &View, log: &LogReader, up_to: LogIndex) -> Result<(), StartError> {
    let folded = view.folded().index;
    let (first, last) = (log.first(), log.last().index);
    if folded > last {
        return Err(StartError::LogBehind { folded, last });
    }
    // Before the place from which on the log is whole, its entries stand under other indexes than the group's.
    let first = first.max(log.contiguous_from());
    if first > folded.next() {
        return Err(StartError::MissingEvents { folded, first, base: "none was needed".into() });
    }
    let mut batch = Vec::with_capacity(FOLD_BATCH);
    let mut outcome = Ok(());
    log.scan(folded.next(), &mut |entry| {
        if entry.position.index > up_to {
            return ControlFlow::Break(());
        }
        outcome = collect(view, &entry, &mut batch);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    fold(view, &mut batch)?;
    view.note_folded(up_to.min(last));
    Ok(())
}

/// Folds an entry, or puts it with others that are folded together.
fn collect(view: &View, entry: &Entry, batch: &mut Vec<Committed>) -> Result<(), StartError> {
    let index = entry.position.index;
    match entry.kind {
        EntryKind::Event => {
            let event = Event::decode(&entry.payload).map_err(|source| StartError::Event { index, source })?;
            batch.push(Committed { index, event: Arc::new(event) });
            if batch.len() == FOLD_BATCH { fold(view, batch) } else { Ok(()) }
        }
        EntryKind::Membership => {
            fold(view, batch)?;
            let after = membership(view)?.after_entry(&entry.payload)?;
            Ok(view.fold_membership(index, &after.encode())?)
        }
        EntryKind::Empty | EntryKind::Check => Ok(()),
    }
}

fn fold(view: &View, batch: &mut Vec<Committed>) -> Result<(), StartError> {
    view.fold(batch)?;
    batch.clear();
    Ok(())
}
