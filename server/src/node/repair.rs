//! Before a group starts: a member whose log is damaged has its peers help it, and takes no part until the log is whole.
//!
//! The rules are those of [`steeple_raft::repair`]. Here are the files, the questions to the other members and the answers
//! to theirs: a damaged member tells what it holds, so that several of them can help each other.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steeple_engine::domain::CATALOG;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::{
    Entry, EntryKind, FaultPolicy, Log, LogError, LogIdentity, LogOptions, LogReader, Verification, read_identity,
};
use steeple_engine::record_store::RecordStore;
use steeple_engine::view::View;
use steeple_raft::{
    Configuration, Incarnation, Member, Membership, MembershipChange, Need, Obstacle, Patient, Question, Statement,
    Wanted,
};
use tokio::sync::watch;

use super::base::Base;
use super::errors::StartError;
use super::install::{self, Arrived, Served};
use super::open::{Directories, open_disk};
use super::options::{ClusterOrigin, NodeOptions};
use super::roster::Roster;
use super::storage::Storage;
use super::{records, stall};
use crate::peer::repair::{RepairClient, WantedEntries};
use crate::peer::{BoxFuture, Delivered, Delivery, HandshakeError, Introduction, PeerIdentity, PeerSink};

/// Pause between two rounds of questions.
const ASK_PAUSE: Duration = Duration::from_millis(400);

/// Entries behind the records that are looked at for a change of members; with more, the members are not certain.
const UNFOLDED_MAX: u64 = 1 << 20;

/// Damaged places that are named in the process's log.
const FAULTS_SHOWN_MAX: usize = 10;

/// Its presence makes the next start read all of the log.
const SUSPICION_FILE: &str = "log.suspect";

/// The log while it is open here: until it is whole.
type SharedPatient = Arc<Mutex<Option<Patient>>>;

/// What members are told that ask when the log is whole and the node is about to start.
const STARTING: &str = "the node is starting";

/// A member whose log is damaged, with its log open.
pub(crate) struct Damaged {
    pub(crate) identity: PeerIdentity,
    storage: Storage,
    patient: SharedPatient,
    /// The other members, and where they are.
    peers: BTreeMap<NodeId, String>,
    base: Arc<Base>,
    roster: Arc<Roster>,
    /// Why members said nothing in the last round; empty for those that did.
    silent: Mutex<BTreeMap<NodeId, String>>,
}

/// Notes that damage was met while the log was read, so that the next start looks for all of it.
pub(super) fn suspect(options: &NodeOptions) {
    if let Some(path) = suspicion_path(options)
        && let Err(error) = fs::write(&path, b"")
    {
        tracing::warn!(%error, path = %path.display(), "the next start will not look through all of the log");
    }
}

/// Whether damage was met before this start.
pub(crate) fn is_suspect(options: &NodeOptions) -> bool {
    suspicion_path(options).is_some_and(|path| path.exists())
}

/// All of the log has been read.
pub(crate) fn clear_suspicion(options: &NodeOptions) {
    if let Some(path) = suspicion_path(options) {
        drop(fs::remove_file(path));
    }
}

fn suspicion_path(options: &NodeOptions) -> Option<PathBuf> {
    Directories::new(options.data.clone()).group().map(|group| group.join(SUSPICION_FILE))
}

impl Damaged {
    /// Opens the damaged log of a member. `None` when it has nobody to ask.
    ///
    /// # Errors
    /// When the log cannot be opened even with holes.
    pub(crate) fn open(options: &NodeOptions) -> Result<Option<Self>, StartError> {
        Self::open_in(&Storage::new(options.data.clone()), options)
    }

    /// As [`Damaged::open`], for a log that is kept there.
    ///
    /// # Errors
    /// As for that.
    pub(super) fn open_in(storage: &Storage, options: &NodeOptions) -> Result<Option<Self>, StartError> {
        let disk = open_disk(storage)?;
        let identity = read_identity(disk.as_ref())?.ok_or(LogError::Missing)?;
        let (features, fresh) = (options.cluster.features, Incarnation(rand::random()));
        let roster = Roster::open(Arc::clone(&disk), identity.node, features, fresh, false, true)?;
        let log_options = LogOptions {
            faults: FaultPolicy::Report,
            verification: Verification::Everything,
            create: false,
            ..options.log
        };
        let (writer, log, recovery) = Log::open(disk, log_options, identity)?;
        let told = ToldMembers::by(stored_membership(options, storage), &log);
        let mut peers = told.peers(options, identity.node);
        // What the log named may have been purged.
        peers.extend(roster.remembered().into_iter().map(|(node, address)| (NodeId(node), address)));
        if peers.is_empty() {
            return Ok(None);
        }
        recovery.check_term()?;
        recovery.faults.iter().take(FAULTS_SHOWN_MAX).for_each(|fault| tracing::warn!(%fault, "the log is damaged"));
        tracing::warn!(places = recovery.faults.len(), "the log is damaged; other members are asked for help");
        if let Some(membership) = &told.membership {
            roster.set_membership(membership);
        }
        let is_settled = !told.is_changed && roster.is_confirmed();
        let configuration = told.membership.filter(|_| is_settled).map(|membership| Configuration::of(&membership));
        let LogIdentity { cluster, group, node, .. } = identity;
        let base = Arc::new(Base::open(storage));
        let patient = Arc::new(Mutex::new(Some(Patient::new(writer, configuration))));
        let Introduction { incarnation, features, .. } = roster.own();
        let identity = PeerIdentity { cluster, group, node, incarnation, features };
        let roster = Arc::new(roster);
        let storage = storage.clone();
        Ok(Some(Self { identity, storage, patient, peers, base, roster, silent: Mutex::default() }))
    }

    /// Whether nothing is wrong with the log.
    pub(crate) fn is_whole(&self) -> bool {
        let is_whole = |patient: &Patient| patient.statement().is_ok_and(|statement| statement.outline.is_whole());
        self.patient.lock().as_ref().is_some_and(is_whole)
    }

    /// The other members.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    /// What it knows of whoever is behind the members' numbers.
    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Does something with the log, unless that has been given back.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Patient) -> T) -> Option<T> {
        self.patient.lock().as_mut().map(work)
    }

    /// Gives the log back, and closes it as the end of a process does.
    pub(super) fn close(&self) -> Result<(), LogError> {
        let patient = self.patient.lock().take();
        patient.map_or(Ok(()), |patient| patient.into_writer().close())
    }

    /// Makes a snapshot of another member the base snapshot, and puts it in the place of a log that is not whole, which is
    /// closed.
    pub(super) fn take_over(&self, arrived: Arrived) -> Result<(), String> {
        let has_lost_records = self.is_whole();
        begin_from(&self.base, &self.patient, arrived)?;
        if has_lost_records {
            self.forget_records();
        }
        Ok(())
    }

    /// What takes up the questions of other members meanwhile.
    pub(crate) fn sink(&self) -> Arc<dyn PeerSink> {
        Arc::new(PatientSink { patient: Arc::clone(&self.patient), roster: Arc::clone(&self.roster) })
    }

    /// Asks and repairs until the log is whole. `progress` says what is in the way.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub(crate) async fn repair(
        self,
        client: &RepairClient,
        progress: &watch::Sender<String>,
    ) -> Result<(), StartError> {
        let mut last_reason = String::new();
        loop {
            let need = self.round(client).await?;
            let reason = match need {
                Need::Nothing => break,
                Need::Patience(obstacle) => obstacle.to_string(),
                Need::Entries(_) | Need::Answers => "entries are being fetched from other members".to_owned(),
                Need::Snapshot { at_least, .. } => match self.take_over_snapshot(client, at_least).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => format!(
                        "damaged entries are older than what other members keep of the log, and a snapshot that reaches entry \
                         {at_least} was not fetched yet: {reason}"
                    ),
                },
            };
            if reason != last_reason {
                tracing::warn!(reason, "the log is damaged; the node takes no part until it is repaired");
                last_reason.clone_from(&reason);
            }
            let holes = self.patient.lock().as_ref().map_or(0, |patient| patient.holes().len());
            metrics::gauge!("steeple_log_holes").set(holes as f64);
            progress.send_replace(reason);
            tokio::time::sleep(ASK_PAUSE).await;
        }
        // The node itself opens the log now.
        let Some(patient) = self.patient.lock().take() else { return Ok(()) };
        let (entries, bytes) = patient.filled();
        tokio::task::spawn_blocking(|| patient.into_writer().close())
            .await
            .map_err(|error| StartError::Failed(error.to_string()))??;
        metrics::gauge!("steeple_log_holes").set(0.0);
        metrics::counter!("steeple_log_repaired_entries_total").increment(entries);
        tracing::info!(entries, bytes, "the log is repaired with the help of other members");
        Ok(())
    }

    /// Fetches a snapshot of what came before a log that is whole, for a member that has lost it. Asks until somebody has
    /// one that reaches to where the log begins: one that reaches to its end nobody may be able to make, when what this
    /// member has confirmed was committed with its word.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn replace_by_snapshot(
        self,
        client: &RepairClient,
        progress: &watch::Sender<String>,
    ) -> Result<(), StartError> {
        let at_least = self.on_log(|patient| Ok(patient.base())).await?;
        while let Err(reason) = self.take_over_snapshot(client, at_least).await {
            tracing::warn!(reason, "records and base snapshot are lost; a snapshot of another member is needed");
            progress.send_replace(format!("a snapshot of another member is needed: {reason}"));
            tokio::time::sleep(ASK_PAUSE).await;
        }
        self.forget_records();
        Ok(())
    }

    /// Takes away records that were of no use: the next start makes them from the snapshot, and need not find out again.
    fn forget_records(&self) {
        for records in records::found(&self.storage).unwrap_or_default() {
            if let Err(error) = records.destroy() {
                tracing::warn!(%error, "a record store that is of no use is left over");
            }
        }
    }

    /// Makes a snapshot of another member the base snapshot, and puts it in the place of a log that is not whole. It holds
    /// everything that such a log reached to, so that nothing confirmed is lost with it.
    async fn take_over_snapshot(&self, client: &RepairClient, at_least: LogIndex) -> Result<(), String> {
        let target = self.base.incoming_path().ok_or("a node in memory has no snapshots")?;
        let mut last = "nobody has one".to_owned();
        for (node, address) in &self.peers {
            let fetched = match client.fetch_snapshot(*node, address, at_least, target.clone()).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    last = format!("node {node}: {error}");
                    continue;
                }
            };
            let (target, base, patient) = (target.clone(), Arc::clone(&self.base), Arc::clone(&self.patient));
            let installing = tokio::task::spawn_blocking(move || {
                fetched.publish().map_err(|error| error.to_string())?;
                begin_from(&base, &patient, Arrived::File(target))
            });
            let served = installing.await.map_err(|error| error.to_string())??;
            tracing::info!(from = %node, ?served, "a snapshot has taken the place of what was lost");
            return Ok(());
        }
        Err(last)
    }

    /// One round of questions, and everything that follows from the answers.
    async fn round(&self, client: &RepairClient) -> Result<Need, StartError> {
        self.ask_all(client).await?;
        loop {
            let need = self.on_log(|patient| patient.step()).await?;
            let Need::Entries(wanted) = need else { return Ok(need) };
            let mut taken = 0;
            for wanted in &wanted {
                taken += self.fetch(client, wanted).await?;
            }
            if taken == 0 {
                // Whoever has them cannot hand them out now, or does not have them any more, or has others.
                let first = wanted.first().map_or(LogIndex::ZERO, |wanted| wanted.first);
                let last = wanted.last().map_or(first, |wanted| wanted.last);
                return Ok(Need::Patience(Obstacle::NotTaken { first, last }));
            }
        }
    }

    async fn ask_all(&self, client: &RepairClient) -> Result<(), StartError> {
        let question = self.on_log(|patient| patient.ask()).await?;
        let asking = self
            .peers
            .iter()
            .map(|(node, address)| async move { (*node, client.describe_log(*node, address, question).await) });
        for (node, answer) in futures_of(asking).await {
            let heard = answer.and_then(|(who, statement)| self.hear(&who, statement));
            let reason = heard.err().unwrap_or_default();
            let before = self.silent.lock().insert(node, reason.clone());
            if !reason.is_empty() && before.as_ref() != Some(&reason) {
                tracing::info!(peer = %node, reason, "a member does not say what its log holds");
            }
        }
        Ok(())
    }

    /// Takes an answer, unless another data directory stands behind the member's number than its group knows: what that
    /// does not hold says nothing.
    pub(super) fn hear(&self, who: &Introduction, statement: Statement) -> Result<(), String> {
        self.roster.admit(who).map_err(|error| error.to_string())?;
        let mut patient = self.patient.lock();
        patient.as_mut().map_or(Ok(()), |patient| patient.hear(who.node, statement)).map_err(|error| error.to_string())
    }

    /// Fetches entries from the first member that has some, and puts them back.
    async fn fetch(&self, client: &RepairClient, wanted: &Wanted) -> Result<usize, StartError> {
        let range = WantedEntries { first: wanted.first, last: wanted.last, term: wanted.term };
        for source in &wanted.sources {
            let Some(address) = self.peers.get(source) else { continue };
            match client.entries(*source, address, range).await {
                Ok(entries) => {
                    let taken = self.on_log(move |patient| patient.receive(entries)).await?;
                    if taken > 0 {
                        return Ok(taken);
                    }
                }
                Err(reason) => tracing::debug!(peer = %source, reason, "a member does not hand out entries"),
            }
        }
        Ok(0)
    }

    /// Works on the log where that may take its time.
    async fn on_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Patient) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, StartError> {
        let patient = Arc::clone(&self.patient);
        let working = tokio::task::spawn_blocking(move || patient.lock().as_mut().map(work));
        let worked = working.await.map_err(|error| StartError::Failed(error.to_string()))?;
        Ok(worked.ok_or_else(|| StartError::Failed(STARTING.into()))??)
    }
}

/// Makes a snapshot that has arrived the base snapshot, and closes the log, which belongs to the node from now on.
fn begin_from(base: &Arc<Base>, patient: &SharedPatient, arrived: Arrived) -> Result<Served, String> {
    let mut slot = patient.lock();
    let writer = slot.as_mut().ok_or(STARTING)?.writer_mut();
    let served = install::begin_from(base, arrived, writer).map_err(|error| error.to_string())?;
    let whole = slot.take().map(Patient::into_writer);
    whole.map_or(Ok(()), |writer| writer.close()).map_err(|error| error.to_string())?;
    Ok(served)
}

/// All of them at the same time, in order.
async fn futures_of<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, outcome) in waiting.iter_mut().zip(&mut done) {
            if outcome.is_none()
                && let std::task::Poll::Ready(found) = future.as_mut().poll(context)
            {
                *outcome = Some(found);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Who belonged to the group when the records were folded last, and how far they are folded: by the record store, or by
/// the base snapshot.
fn stored_membership(options: &NodeOptions, storage: &Storage) -> Option<(Membership, LogIndex)> {
    let found = records::found(storage).unwrap_or_default();
    let by_store = found.iter().find_map(|records| {
        let store = records.open(options).ok()?;
        let read = |store: Arc<dyn RecordStore>| {
            let view = View::open(CATALOG, store).ok()?;
            Some((view.membership()?.to_vec(), view.folded().index))
        };
        match records.directory() {
            // A member can get what it held from the others.
            Some(directory) => stall::watch_over(directory, stall::PATIENCE, store, || Ok(()), read)
                .inspect_err(|error| tracing::warn!(%error, "the record store does not say who the members are"))
                .ok()?,
            None => read(store),
        }
    });
    let by_base = || {
        let manifest = Base::open(storage).manifest()?;
        Some((manifest.membership, manifest.state.index)).filter(|(membership, _)| !membership.is_empty())
    };
    let (membership, folded) = by_store.or_else(by_base)?;
    Some((Membership::decode(&membership).ok()?, folded))
}

/// What records and log together say about the members.
struct ToldMembers {
    /// Who belonged to the group when the records were folded last.
    membership: Option<Membership>,
    /// Whom the log names behind that, and where they are.
    named: BTreeMap<u64, Member>,
    /// Whether the log holds a change of members that the records do not know, or may have held one.
    is_changed: bool,
}

impl ToldMembers {
    /// Goes on from what was folded with the entries behind it that can be read. What is damaged is not looked at: if it
    /// was a change and is committed, a majority of the others has it.
    fn by(stored: Option<(Membership, LogIndex)>, log: &LogReader) -> Self {
        let (membership, folded) = stored.map_or((None, LogIndex::ZERO), |(membership, at)| (Some(membership), at));
        let last = log.last().index;
        let oldest = folded.next().max(log.first());
        let nearest = LogIndex(last.0.saturating_sub(UNFOLDED_MAX)).next();
        // What was purged before it was folded, and what is too much to be looked at, may have changed the members.
        let is_seamless = log.contiguous_from() <= folded.next() && nearest <= oldest;
        let mut told = Self { membership, named: BTreeMap::new(), is_changed: !is_seamless };
        for index in oldest.max(nearest).0..=last.0 {
            let Ok(Some(entry)) = log.read(LogIndex(index)) else { continue };
            if entry.kind == EntryKind::Membership {
                told.is_changed = true;
                // One that this build cannot read names nobody.
                let change = MembershipChange::decode_payload(&entry.payload).ok().flatten();
                told.named.extend(change.iter().flat_map(MembershipChange::named));
            }
        }
        told
    }

    /// Whom to ask, and where. Also those who may have left: where records were lost with it, the log may know of members
    /// that came later, and the start of the group may be all that is known else.
    fn peers(&self, options: &NodeOptions, own: NodeId) -> BTreeMap<NodeId, String> {
        let mut members = match (&self.membership, &options.cluster.origin) {
            (Some(membership), _) => membership.members.clone(),
            (None, ClusterOrigin::Founding { members, .. } | ClusterOrigin::Joining { members, .. }) => members.clone(),
            (None, ClusterOrigin::Alone(_)) => BTreeMap::new(),
        };
        members.extend(self.named.clone());
        let others = members.into_iter().filter(|(node, member)| *node != own.0 && !member.peer_address.is_empty());
        others.map(|(node, member)| (NodeId(node), member.peer_address)).collect()
    }
}

/// Answers other members for a damaged one. What they say as if it took part is passed over.
struct PatientSink {
    patient: SharedPatient,
    roster: Arc<Roster>,
}

impl PeerSink for PatientSink {
    fn deliver(&self, _delivery: Delivery) -> Delivered {
        Delivered::Taken
    }

    fn admit(&self, peer: &Introduction) -> Result<(), HandshakeError> {
        self.roster.admit(peer)
    }

    fn describe_log(&self, _from: NodeId, question: Question) -> BoxFuture<'static, Result<Statement, String>> {
        let patient = Arc::clone(&self.patient);
        Box::pin(async move {
            let answering =
                tokio::task::spawn_blocking(move || patient.lock().as_mut().map(|patient| patient.answer(&question)));
            let answered = answering.await.map_err(|error| error.to_string())?;
            answered.ok_or(STARTING)?.map_err(|error| error.to_string())
        })
    }

    fn entries(&self, wanted: WantedEntries) -> BoxFuture<'static, Result<Vec<Entry>, String>> {
        let patient = Arc::clone(&self.patient);
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || {
                let patient = patient.lock();
                patient.as_ref().map(|patient| wanted.gather(|index| patient.entry(index)))
            });
            reading.await.map_err(|error| error.to_string())?.ok_or_else(|| STARTING.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use steeple_engine::disk::SimulatedDisk;
    use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogPosition, Term};
    use steeple_engine::log::LogWriter;
    use steeple_raft::Step;

    use super::*;

    /// The newest entry that the log does not hold any more.
    const PURGED: LogIndex = LogIndex(100);

    fn purged_log() -> (LogWriter, LogReader) {
        let identity = LogIdentity {
            cluster: ClusterId([1; 16]),
            group: GroupId(0),
            node: NodeId(1),
            history: HistoryId([1; 16]),
        };
        let options = LogOptions { create: true, ..LogOptions::default() };
        let (mut writer, log, _) = Log::open(Arc::new(SimulatedDisk::new()), options, identity).unwrap();
        writer.reset_to(LogPosition { index: PURGED, term: Term(1) }, 0).unwrap();
        (writer, log)
    }

    fn told(stored: Option<u64>, log: &LogReader) -> ToldMembers {
        ToldMembers::by(stored.map(|index| (Membership::default(), LogIndex(index))), log)
    }

    #[test]
    fn what_was_purged_before_it_was_folded_may_have_changed_the_members() {
        let (mut writer, log) = purged_log();
        assert!(!told(Some(100), &log).is_changed);
        assert!(told(Some(99), &log).is_changed);
        assert!(told(None, &log).is_changed);

        let joins =
            Step::Learner { node: 4, member: Some(Member { peer_address: "four:1".into(), ..Member::default() }) };
        let payload = Bytes::from(MembershipChange::of(vec![joins]).encode());
        let position = LogPosition { index: PURGED.next(), term: Term(1) };
        let entry = Entry { position, kind: EntryKind::Membership, tag: 0, payload };
        writer.append(&[entry]).unwrap();
        let told = told(Some(100), &log);
        assert!(told.is_changed);
        assert_eq!(told.named.keys().collect::<Vec<_>>(), [&4]);
    }
}
