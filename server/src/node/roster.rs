//! Which data directories stand behind the numbers of a group, and who may speak because of it.
//!
//! A node's number stands for what it has confirmed: entries, and votes. Both are in its data directory, which is named
//! by an *incarnation*, chosen when the directory is first used. A directory that was wiped comes back with another
//! incarnation, and the others refuse it. What they know of each other is in the group's membership; before it is there,
//! each node remembers durably with which incarnation a member called it first.
//!
//! Those who found a group have nothing to go by but each other. So a founder keeps silent (it is on *probation*) until
//! every other founder has admitted it, and each of them has remembered its incarnation by then. `docs/raft.md` has the
//! argument.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steeple_engine::disk::Disk;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::simulation::{Bug, is_planted};
use steeple_raft::{Incarnation, Membership};
use thiserror::Error;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::contacts::{Addresses, Contacts};
use crate::peer::{HandshakeError, Introduction};

/// The file, in the directory of the log.
const FILE: &str = "roster";

/// Its next version, until it is durable.
const NEW_FILE: &str = "roster.new";

/// Version of the file.
const VERSION: u32 = 1;

/// Room of one of the two copies in the file.
const COPY_BYTES: usize = 16 << 10;

/// Bytes before the text of a copy: its checksum, and its length.
const HEADER_BYTES: usize = 16;

/// Why the roster cannot be used.
#[derive(Debug, Error)]
pub enum RosterError {
    /// The disk failed.
    #[error("cannot {action} {FILE}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Neither copy is whole.
    #[error(
        "{FILE}, which names this data directory to the other nodes, is damaged; remove this node from its group, and add \
         it under a number that was never used, with an empty data directory"
    )]
    Damaged,
    /// A later version wrote it.
    #[error("{FILE} has version {found}; this build knows version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The log is gone.
    #[error(
        "the data directory was used before, and its log is gone, with what this node had confirmed; put the files back, or \
         remove this node from its group and add it under a number that was never used, with an empty data directory"
    )]
    LogLost,
}

/// What is remembered durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    incarnation: Incarnation,
    /// Whether the node may vote and confirm: not before every other founder has admitted it.
    confirmed: bool,
    /// With which data directory other members called first.
    #[serde(default)]
    recorded: BTreeMap<u64, Incarnation>,
}

/// What a node knows of the others and of itself.
pub(crate) struct Roster {
    own: Introduction,
    disk: Arc<dyn Disk>,
    contacts: Contacts,
    confirmed: AtomicBool,
    state: Mutex<State>,
    /// Told whenever another node has introduced itself or was recorded.
    changed: watch::Sender<()>,
}

struct State {
    kept: Kept,
    membership: Membership,
    /// The newest introduction of each node, members or not.
    heard: BTreeMap<NodeId, Introduction>,
    /// Up to where members are known to have had the committed log on their disks.
    held: BTreeMap<NodeId, LogIndex>,
    /// Who has admitted this node since it started.
    admitted_by: BTreeSet<NodeId>,
    /// Why others do not want this node, whatever it does.
    turned_away: Option<String>,
}

impl Roster {
    /// Reads what is remembered; a directory without a roster gets `fresh`. `is_used` says whether there is anything in
    /// its log, and `founds_with_others` whether an unused one begins on probation.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        own: NodeId,
        features: u32,
        fresh: Incarnation,
        founds_with_others: bool,
        is_used: bool,
    ) -> Result<Self, RosterError> {
        let kept = match read(disk.as_ref())? {
            Some(kept) => kept,
            None => {
                // A log without a roster was restored, or taken from before there were any. Others that know this node
                // by another incarnation will say so.
                let confirmed = is_used || !founds_with_others;
                let kept = Kept { version: VERSION, incarnation: fresh, confirmed, recorded: BTreeMap::new() };
                write(disk.as_ref(), &kept)?;
                kept
            }
        };
        let contacts = Contacts::open(Arc::clone(&disk), own);
        let own = Introduction { node: own, incarnation: kept.incarnation, features, log_end: None };
        Ok(Self {
            own,
            disk,
            contacts,
            confirmed: AtomicBool::new(kept.confirmed),
            state: Mutex::new(State {
                kept,
                membership: Membership::default(),
                heard: BTreeMap::new(),
                held: BTreeMap::new(),
                admitted_by: BTreeSet::new(),
                turned_away: None,
            }),
            changed: watch::Sender::new(()),
        })
    }

    /// Whether a directory without a log was used before.
    pub(super) fn is_left_over(disk: &dyn Disk) -> Result<bool, RosterError> {
        Ok(read(disk)?.is_some())
    }

    /// How this node introduces itself.
    pub(super) fn own(&self) -> Introduction {
        self.own
    }

    /// Whether this node may vote, confirm and stand for election.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::SeqCst)
    }

    /// Whether nobody can rely on what is in this directory, whose log ends at `last`: it is on probation, or was never
    /// used.
    pub(super) fn is_worthless(&self, last: LogIndex) -> bool {
        !self.is_confirmed() || last == LogIndex::ZERO
    }

    /// Follows the members of the group.
    pub(super) fn set_membership(&self, membership: &Membership) {
        let mut state = self.state.lock();
        state.membership = membership.clone();
        drop(state);
        self.changed.send_replace(());
    }

    /// Whether it has to be written down where the members are.
    pub(super) fn forgets_contacts(&self) -> bool {
        self.contacts.is_behind(&self.state.lock().membership)
    }

    /// Remembers durably where the members are. Waits for the disk.
    pub(super) fn keep_contacts(&self) {
        self.contacts.follow(|| self.state.lock().membership.clone());
    }

    /// Where the other members are, as far as that was remembered.
    pub(super) fn remembered(&self) -> Addresses {
        self.contacts.addresses()
    }

    /// Whether another node may take part. A member that is not known yet is remembered durably before this returns.
    pub(super) fn admit(&self, peer: &Introduction) -> Result<(), HandshakeError> {
        let from = peer.node;
        let mut state = self.state.lock();
        if state.membership.role(from).is_none() && state.membership.removed.contains(&from.0) {
            return Err(HandshakeError::Removed { from });
        }
        if let Some(known) =
            state.known(from).filter(|known| *known != peer.incarnation && !is_planted(Bug::WipedNodeVotes))
        {
            return Err(HandshakeError::WrongDirectory { from, theirs: peer.incarnation, known });
        }
        if let Some((end, held)) = peer.log_end.zip(state.held.get(&from).copied()).filter(|(end, held)| end < held) {
            return Err(HandshakeError::OldCopy { from, end, held });
        }
        let active = state.membership.features();
        if peer.features < active && !is_planted(Bug::OlderMemberAdmitted) {
            return Err(HandshakeError::Features { from, theirs: peer.features, active });
        }
        let is_new_member = state.membership.role(from).is_some() && state.known(from).is_none();
        if is_new_member {
            let mut kept = state.kept.clone();
            kept.recorded.insert(from.0, peer.incarnation);
            self.keep(&mut state, kept)?;
        }
        let is_news = state.heard.insert(from, *peer) != Some(*peer);
        drop(state);
        if is_news || is_new_member {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// Another node has admitted this one. Ends the probation once all have.
    pub(super) fn admitted_by(&self, node: NodeId) -> Result<(), HandshakeError> {
        let mut state = self.state.lock();
        state.admitted_by.insert(node);
        state.turned_away = None;
        let is_member = state.membership.role(self.own.node).is_some();
        if state.kept.confirmed || !is_member || !state.missing(self.own.node).is_empty() {
            return Ok(());
        }
        let kept = Kept { confirmed: true, ..state.kept.clone() };
        if let Err(error) = self.keep(&mut state, kept) {
            // Somebody has to be awaited still, or nobody would be greeted again.
            state.admitted_by.remove(&node);
            return Err(error);
        }
        self.confirmed.store(true, Ordering::SeqCst);
        tracing::info!("every founder knows this data directory: the group is founded");
        Ok(())
    }

    /// Founders that have not admitted this one; nobody when it is not on probation.
    pub(super) fn awaited(&self) -> BTreeSet<NodeId> {
        if self.is_confirmed() { BTreeSet::new() } else { self.state.lock().missing(self.own.node) }
    }

    /// Notes that a node does not admit this one because of its data directory.
    pub(super) fn note_turned_away(&self, reason: &str) {
        self.state.lock().turned_away = Some(reason.to_owned());
    }

    /// Why another node does not admit this one, if that cannot change by itself.
    pub(super) fn turned_away(&self) -> Option<String> {
        self.state.lock().turned_away.clone()
    }

    /// Notes up to where members had the committed log on their disks. Nobody ever gives that up.
    pub(super) fn note_held(&self, held: impl IntoIterator<Item = (NodeId, LogIndex)>) {
        let mut state = self.state.lock();
        for (node, index) in held {
            let known = state.held.entry(node).or_insert(index);
            *known = index.max(*known);
        }
        let State { held, membership, .. } = &mut *state;
        held.retain(|node, _| membership.role(*node).is_some());
    }

    /// Up to where a member is known to have had the committed log.
    #[cfg(test)]
    pub(super) fn held(&self, node: NodeId) -> Option<LogIndex> {
        self.state.lock().held.get(&node).copied()
    }

    /// Members whose data directory is known here, and not yet to the group.
    pub(super) fn unrecorded(&self) -> Vec<(NodeId, Incarnation)> {
        let state = self.state.lock();
        let members = state.membership.iter().filter(|(node, _)| state.membership.incarnation(*node).is_none());
        let known = members.filter_map(|(node, _)| {
            if node == self.own.node {
                return Some((node, self.own.incarnation));
            }
            // One that was heard of before it was a member was not remembered then.
            let heard = || state.heard.get(&node).map(|peer| peer.incarnation);
            Some((node, state.known(node).or_else(heard)?))
        });
        known.collect()
    }

    /// The newest introduction of a node; this node's own always.
    pub(super) fn heard(&self, node: NodeId) -> Option<Introduction> {
        if node == self.own.node { Some(self.own) } else { self.state.lock().heard.get(&node).copied() }
    }

    /// The version of the features that the group uses.
    pub(super) fn features(&self) -> u32 {
        self.state.lock().membership.features()
    }

    /// The version of the features that every member supports, when all have been heard of and it is more than the group
    /// uses.
    pub(super) fn features_to_raise(&self) -> Option<u32> {
        let state = self.state.lock();
        let supported = state.membership.iter().map(|(node, _)| match state.heard.get(&node) {
            _ if node == self.own.node => Some(self.own.features),
            heard => heard.map(|heard| heard.features),
        });
        let common = match is_planted(Bug::FeaturesRaisedTooEarly) {
            true => self.own.features,
            false => supported.collect::<Option<Vec<_>>>()?.into_iter().min()?,
        };
        (common > state.membership.features()).then_some(common)
    }

    /// Waits until something is known of a node, or until nobody can tell any more.
    pub(super) async fn until(&self, is_known: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_known(self) && changed.changed().await.is_ok() {}
    }

    /// Whether the group knows the data directory of a member.
    pub(super) fn is_recorded(&self, node: NodeId) -> bool {
        self.state.lock().membership.incarnation(node).is_some()
    }

    fn keep(&self, state: &mut State, kept: Kept) -> Result<(), HandshakeError> {
        write(self.disk.as_ref(), &kept).map_err(|error| {
            tracing::error!(%error, "what is known of the other nodes cannot be kept");
            HandshakeError::NotAdmitted(format!("node {} cannot remember who calls it: {error}", self.own.node))
        })?;
        state.kept = kept;
        Ok(())
    }
}

impl State {
    /// What the group knows counts more than what this node has seen by itself.
    fn known(&self, node: NodeId) -> Option<Incarnation> {
        self.membership.incarnation(node).or_else(|| self.kept.recorded.get(&node.0).copied())
    }

    fn missing(&self, own: NodeId) -> BTreeSet<NodeId> {
        let others = self.membership.iter().map(|(node, _)| node).filter(|node| *node != own);
        others.filter(|node| !self.admitted_by.contains(node)).collect()
    }
}

/// Writes a new file with two copies, and puts it in the place of the old one.
fn write(disk: &dyn Disk, kept: &Kept) -> Result<(), RosterError> {
    let failed = |action| move |source| RosterError::Io { action, source };
    let text = serde_json::to_vec(kept).unwrap_or_default();
    let mut copy = vec![0; COPY_BYTES];
    if HEADER_BYTES + text.len() > COPY_BYTES {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, "there are too many members");
        return Err(RosterError::Io { action: "write", source });
    }
    copy[..8].copy_from_slice(&xxh3_64(&text).to_le_bytes());
    copy[8..HEADER_BYTES].copy_from_slice(&(text.len() as u64).to_le_bytes());
    copy[HEADER_BYTES..HEADER_BYTES + text.len()].copy_from_slice(&text);
    disk.clear_name(NEW_FILE).map_err(failed("replace"))?;
    let file = disk.create(NEW_FILE, 2 * COPY_BYTES as u64).map_err(failed("create"))?;
    for offset in [0, COPY_BYTES as u64] {
        file.write_at(&copy, offset).map_err(failed("write"))?;
    }
    file.sync().map_err(failed("sync"))?;
    disk.rename(NEW_FILE, FILE).map_err(failed("replace"))?;
    disk.sync_directory().map_err(failed("sync"))
}

fn read(disk: &dyn Disk) -> Result<Option<Kept>, RosterError> {
    let file = match disk.open(FILE) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|source| RosterError::Io { action: "open", source })?,
    };
    let mut copy = vec![0; COPY_BYTES];
    for offset in [0, COPY_BYTES as u64] {
        if file.read_at(&mut copy, offset).is_ok()
            && let Some(text) = text_of(&copy)
        {
            return decode(text).map(Some);
        }
    }
    Err(RosterError::Damaged)
}

/// The text of a copy that is whole.
fn text_of(copy: &[u8]) -> Option<&[u8]> {
    let (checksum, rest) = copy.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let text = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (xxh3_64(text) == u64::from_le_bytes(*checksum)).then_some(text)
}

fn decode(text: &[u8]) -> Result<Kept, RosterError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(text).map_err(|_| RosterError::Damaged)?;
    if version != VERSION {
        return Err(RosterError::Version { found: version });
    }
    serde_json::from_slice(text).map_err(|_| RosterError::Damaged)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use steeple_engine::disk::SimulatedDisk;
    use steeple_engine::disk::simulated::Failure;
    use steeple_raft::{Member, MembershipChange, Step};

    use super::*;

    const OWN: NodeId = NodeId(1);
    const FRESH: Incarnation = Incarnation([1; 16]);

    fn open(disk: &SimulatedDisk) -> Roster {
        Roster::open(Arc::new(disk.clone()), OWN, 1, FRESH, true, false).unwrap()
    }

    fn founders() -> Membership {
        Membership::of_voters((1..=3).map(|node| (node, Member::default())).collect())
    }

    fn peer(node: u64, byte: u8) -> Introduction {
        Introduction { node: NodeId(node), incarnation: Incarnation([byte; 16]), features: 1, log_end: None }
    }

    #[test]
    fn the_file_is_what_it_always_was() {
        let golden = include_str!("golden/roster.json").trim_end();
        let disk = SimulatedDisk::new();
        let roster = open(&disk);
        roster.set_membership(&founders());
        for node in [2, 3] {
            roster.admit(&peer(node.into(), node)).unwrap();
            roster.admitted_by(NodeId(node.into())).unwrap();
        }
        let mut copy = xxh3_64(golden.as_bytes()).to_le_bytes().to_vec();
        copy.extend((golden.len() as u64).to_le_bytes());
        copy.extend(golden.as_bytes());
        copy.resize(COPY_BYTES, 0);
        let written = disk.contents(FILE).unwrap();
        assert_eq!(text_of(&written[..COPY_BYTES]).map(String::from_utf8_lossy).unwrap_or_default(), golden);
        assert_eq!(written, [copy.clone(), copy].concat());
        assert_eq!(serde_json::to_string(&decode(golden.as_bytes()).unwrap()).unwrap(), golden);
    }

    #[test]
    fn a_founder_is_confirmed_once_all_others_have_admitted_it_and_stays_so() {
        let disk = SimulatedDisk::new();
        let roster = open(&disk);
        roster.admitted_by(NodeId(2)).unwrap();
        assert!(!roster.is_confirmed(), "it does not know yet who the founders are");
        roster.set_membership(&founders());
        roster.admitted_by(NodeId(2)).unwrap();
        assert_eq!((roster.is_confirmed(), roster.awaited()), (false, BTreeSet::from([NodeId(3)])));
        roster.admitted_by(NodeId(3)).unwrap();
        assert!(roster.is_confirmed() && roster.awaited().is_empty());
        let again = Roster::open(Arc::new(disk.duplicate()), OWN, 1, Incarnation([9; 16]), true, true).unwrap();
        assert_eq!((again.is_confirmed(), again.own()), (true, peer(1, 1)));
    }

    #[test]
    fn a_founder_whose_disk_fails_at_the_last_word_goes_on_waiting_for_it() {
        let disk = SimulatedDisk::new();
        let roster = open(&disk);
        roster.set_membership(&founders());
        roster.admitted_by(NodeId(2)).unwrap();
        disk.fail_after(0, Failure::Once);
        roster.admitted_by(NodeId(3)).unwrap_err();
        assert_eq!((roster.is_confirmed(), roster.awaited()), (false, BTreeSet::from([NodeId(3)])));
        roster.admitted_by(NodeId(3)).unwrap();
        assert!(roster.is_confirmed());
    }

    #[test]
    fn a_member_is_remembered_by_its_first_data_directory_until_the_group_knows_better() {
        let disk = SimulatedDisk::new();
        let roster = open(&disk);
        roster.admit(&peer(4, 4)).unwrap();
        roster.admit(&peer(4, 5)).unwrap();
        roster.set_membership(&founders());
        roster.admit(&peer(2, 2)).unwrap();
        roster.admit(&peer(2, 2)).unwrap();
        let wrong = |known: u8, theirs: u8| {
            let (known, theirs) = (Incarnation([known; 16]), Incarnation([theirs; 16]));
            Err(HandshakeError::WrongDirectory { from: NodeId(2), theirs, known })
        };
        assert_eq!(roster.admit(&peer(2, 3)), wrong(2, 3));
        let later = open(&disk.duplicate());
        later.set_membership(&founders());
        assert_eq!(later.admit(&peer(2, 3)), wrong(2, 3), "also after a restart");
        assert_eq!(later.unrecorded(), [(OWN, FRESH), (NodeId(2), Incarnation([2; 16]))]);

        let step = Step::Incarnation { node: 2, incarnation: Incarnation([3; 16]) };
        let known = founders().after_entry(&MembershipChange::of(vec![step]).encode()).unwrap();
        later.set_membership(&known);
        later.admit(&peer(2, 3)).unwrap();
        assert_eq!(later.admit(&peer(2, 2)), wrong(3, 2));
        assert!(later.is_recorded(NodeId(2)) && !later.is_recorded(NodeId(3)));
    }

    #[test]
    fn a_node_that_supports_less_than_the_group_uses_is_refused() {
        let roster = open(&SimulatedDisk::new());
        let raised = MembershipChange::of(vec![Step::Features { version: 2 }]);
        roster.set_membership(&founders().after_entry(&raised.encode()).unwrap());
        let refused = roster.admit(&peer(2, 2)).unwrap_err();
        assert_eq!(refused, HandshakeError::Features { from: NodeId(2), theirs: 1, active: 2 });
        roster.admit(&Introduction { features: 2, ..peer(2, 2) }).unwrap();
        roster.admit(&Introduction { features: 3, ..peer(3, 3) }).unwrap();
    }

    #[test]
    fn a_node_that_was_removed_is_refused() {
        let roster = open(&SimulatedDisk::new());
        roster.set_membership(&founders());
        roster.admit(&peer(2, 2)).unwrap();
        let removed = MembershipChange::of(vec![Step::Remove { node: 2 }]);
        roster.set_membership(&founders().after_entry(&removed.encode()).unwrap());
        let refused = roster.admit(&peer(2, 2)).unwrap_err();
        assert_eq!(refused, HandshakeError::Removed { from: NodeId(2) });
        assert!(refused.to_string().contains("node 2 was removed from the group"), "{refused}");
        assert_eq!(roster.admit(&peer(2, 9)), Err(refused), "also with another disk");
        roster.admit(&peer(3, 3)).unwrap();
        roster.admit(&peer(4, 4)).unwrap();
    }

    #[test]
    fn a_log_that_ends_before_what_was_confirmed_is_refused() {
        let roster = open(&SimulatedDisk::new());
        roster.set_membership(&founders());
        roster.note_held([(NodeId(2), LogIndex(7)), (NodeId(9), LogIndex(9))]);
        roster.note_held([(NodeId(2), LogIndex(5))]);
        assert_eq!((roster.held(NodeId(2)), roster.held(NodeId(9))), (Some(LogIndex(7)), None));
        let ends_at = |index| Introduction { log_end: Some(LogIndex(index)), ..peer(2, 2) };
        roster.admit(&peer(2, 2)).unwrap();
        roster.admit(&ends_at(7)).unwrap();
        let (end, held) = (LogIndex(6), LogIndex(7));
        assert_eq!(roster.admit(&ends_at(6)), Err(HandshakeError::OldCopy { from: NodeId(2), end, held }));
    }

    #[test]
    fn one_copy_may_be_damaged_and_not_both() {
        let disk = SimulatedDisk::new();
        open(&disk);
        assert!(disk.flip(FILE, HEADER_BYTES as u64 + 3, 1));
        let refuse = |disk: &SimulatedDisk| Roster::open(Arc::new(disk.duplicate()), OWN, 1, FRESH, true, true).err();
        assert!(refuse(&disk).is_none());
        assert!(disk.flip(FILE, (COPY_BYTES + 9) as u64, 1));
        assert!(matches!(refuse(&disk), Some(RosterError::Damaged)));
        assert!(disk.shorten(FILE, 3));
        assert!(matches!(refuse(&disk), Some(RosterError::Damaged)));
    }

    #[test]
    fn another_version_of_the_file_is_told_as_such() {
        let disk = SimulatedDisk::new();
        let recorded = BTreeMap::new();
        write(&disk, &Kept { version: 2, incarnation: FRESH, confirmed: true, recorded }).unwrap();
        let refused = Roster::open(Arc::new(disk), OWN, 1, FRESH, true, true).err();
        assert!(matches!(refused, Some(RosterError::Version { found: 2 })));
    }
}
