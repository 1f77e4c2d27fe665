//! Where the other members are, for a start that can ask nothing else: records and base snapshot, which say so, may be
//! lost, and the configuration may be older than the group.
//!
//! The file is a hint. Whoever is found under an address introduces itself, and a file that is missing or damaged is
//! written anew with the next change of members.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steeple_engine::disk::Disk;
use steeple_engine::ids::NodeId;
use steeple_raft::Membership;
use steeple_raft::membership::ENCODED_BYTES_MAX;
use xxhash_rust::xxh3::xxh3_64;

/// The file, in the directory of the log.
const FILE: &str = "contacts";

/// Its next version, until it is durable.
const NEW_FILE: &str = "contacts.new";

/// Version of the file.
const VERSION: u32 = 1;

/// Bytes before the text: its checksum.
const HEADER_BYTES: usize = 8;

/// Peer addresses by node.
pub(super) type Addresses = BTreeMap<u64, String>;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    peers: Addresses,
}

/// The file.
pub(super) struct Contacts {
    disk: Arc<dyn Disk>,
    own: NodeId,
    kept: Mutex<Addresses>,
    /// Held while the file is written, which nobody who only looks waits for.
    writing: Mutex<()>,
}

impl Contacts {
    /// Reads what is remembered. Whatever is wrong with it means that nobody is.
    pub(super) fn open(disk: Arc<dyn Disk>, own: NodeId) -> Self {
        let kept = Mutex::new(read(disk.as_ref()).unwrap_or_default());
        Self { disk, own, kept, writing: Mutex::default() }
    }

    /// The other members, as far as they are remembered.
    pub(super) fn addresses(&self) -> Addresses {
        self.kept.lock().clone()
    }

    /// What is to be remembered, if it is something else than is. A node that has just started may not have folded yet whom
    /// it remembers already: nobody is forgotten before it was removed.
    fn after(&self, kept: &Addresses, membership: &Membership) -> Option<Addresses> {
        let mut next = kept.clone();
        next.retain(|node, _| !membership.removed.contains(node));
        let others = membership.iter().filter(|(node, member)| *node != self.own && !member.peer_address.is_empty());
        next.extend(others.map(|(node, member)| (node.0, member.peer_address.clone())));
        (*kept != next).then_some(next)
    }

    /// Whether there is something to write down.
    pub(super) fn is_behind(&self, membership: &Membership) -> bool {
        self.after(&self.kept.lock(), membership).is_some()
    }

    /// Remembers the members as they are by the time of writing, if anything has changed. Waits for the disk.
    pub(super) fn follow(&self, membership: impl FnOnce() -> Membership) {
        let _writing = self.writing.lock();
        let membership = membership();
        let next = self.after(&self.kept.lock(), &membership);
        let Some(next) = next else { return };
        match write(self.disk.as_ref(), &next) {
            Ok(()) => *self.kept.lock() = next,
            Err(error) => tracing::warn!(%error, "where the other members are is not remembered for the next start"),
        }
    }
}

fn write(disk: &dyn Disk, peers: &Addresses) -> io::Result<()> {
    let text = serde_json::to_vec(&Kept { version: VERSION, peers: peers.clone() })?;
    let mut bytes = xxh3_64(&text).to_le_bytes().to_vec();
    bytes.extend(text);
    disk.clear_name(NEW_FILE)?;
    let file = disk.create(NEW_FILE, bytes.len() as u64)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(NEW_FILE, FILE)?;
    disk.sync_directory()
}

fn read(disk: &dyn Disk) -> Option<Addresses> {
    let file = disk.open(FILE).ok()?;
    let length =
        usize::try_from(file.size().ok()?).ok().filter(|length| *length <= HEADER_BYTES + ENCODED_BYTES_MAX)?;
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0).ok()?;
    let (checksum, text) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if xxh3_64(text).to_le_bytes() != *checksum {
        return None;
    }
    let kept: Kept = serde_json::from_slice(text).ok()?;
    (kept.version == VERSION).then_some(kept.peers)
}

#[cfg(test)]
mod tests {
    use steeple_engine::disk::SimulatedDisk;
    use steeple_raft::{Member, MembershipChange, Step};

    use super::*;

    fn open(disk: &SimulatedDisk) -> Contacts {
        Contacts::open(Arc::new(disk.clone()), NodeId(1))
    }

    fn member(node: u64) -> (u64, Member) {
        (node, Member { peer_address: format!("member-{node}:1"), client_address: String::new() })
    }

    fn addresses(nodes: &[u64]) -> Addresses {
        nodes.iter().map(|node| (*node, format!("member-{node}:1"))).collect()
    }

    fn after(membership: &Membership, step: Step) -> Membership {
        membership.after_entry(&MembershipChange::of(vec![step]).encode()).unwrap()
    }

    #[test]
    fn members_are_remembered_until_they_are_removed() {
        let disk = SimulatedDisk::new();
        let founders = Membership::of_voters((1..=3).map(member).collect());
        open(&disk).follow(|| founders.clone());
        assert_eq!(open(&disk).addresses(), addresses(&[2, 3]));
        let (node, fourth) = member(4);
        let more = after(&founders, Step::Voter { node, member: Some(fourth) });
        open(&disk).follow(|| more.clone());
        // The next start begins with older records.
        let contacts = open(&disk);
        contacts.follow(|| founders.clone());
        assert_eq!(contacts.addresses(), addresses(&[2, 3, 4]));
        contacts.follow(|| after(&more, Step::Remove { node: 2 }));
        assert_eq!(open(&disk).addresses(), addresses(&[3, 4]));
    }

    #[test]
    fn a_file_that_is_damaged_says_nothing_and_is_written_anew() {
        let disk = SimulatedDisk::new();
        let founders = Membership::of_voters((1..=3).map(member).collect());
        open(&disk).follow(|| founders.clone());
        let bytes = disk.contents(FILE).unwrap().len() as u64;
        for place in 0..bytes {
            let damaged = disk.duplicate();
            assert!(damaged.flip(FILE, place, 1));
            assert_eq!(open(&damaged).addresses(), Addresses::new(), "byte {place}");
        }
        assert!(disk.shorten(FILE, bytes - 1));
        let contacts = open(&disk);
        assert_eq!(contacts.addresses(), Addresses::new());
        contacts.follow(|| founders.clone());
        assert_eq!(open(&disk).addresses(), addresses(&[2, 3]));
    }

    #[test]
    fn the_file_is_what_it_always_was() {
        let golden = include_str!("golden/contacts.json").trim_end();
        let disk = SimulatedDisk::new();
        open(&disk).follow(|| Membership::of_voters((1..=3).map(member).collect()));
        let written = disk.contents(FILE).unwrap();
        assert_eq!(String::from_utf8_lossy(&written[HEADER_BYTES..]), golden);
        assert_eq!(written[..HEADER_BYTES], xxh3_64(golden.as_bytes()).to_le_bytes());
    }
}
