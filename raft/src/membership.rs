//! Who belongs to a group, and the entries that change it.
//!
//! Members change by joint consensus (Raft dissertation, section 4.3), one change at a time, and a change takes effect
//! when it is applied. The payload of a membership entry is a [`MembershipChange`]; an empty payload leaves a joint
//! configuration. The membership in force is part of the view, written together with the folded position.
//!
//! Both are JSON with a version: they are tiny and rare, and an operator may have to read them in an emergency.

use std::collections::{BTreeMap, BTreeSet};

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use raft::storage::MemStorage;
use raft::{Config, RawNode};
use serde::{Deserialize, Serialize};
use steeple_engine::ids::NodeId;
use thiserror::Error;

use crate::incarnation::Incarnation;

/// Version of the encoding.
pub const VERSION: u32 = 1;

/// Members of a group at the most.
pub const MEMBERS_MAX: usize = 64;

/// Bytes of an encoded membership or change at the most.
pub const ENCODED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an address at the most.
pub const ADDRESS_BYTES_MAX: usize = 300;

/// Where a member can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Where its peers reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Votes and counts for commitment.
    Voter,
    /// Follows without a vote.
    Learner,
    /// Votes in the configuration that is being left.
    Outgoing,
}

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    version: u32,
    /// Who votes.
    pub voters: BTreeSet<u64>,
    /// Who votes in the configuration that is being left; empty outside of joint consensus.
    pub voters_outgoing: BTreeSet<u64>,
    /// Who follows without a vote.
    pub learners: BTreeSet<u64>,
    /// Who becomes a learner when the outgoing configuration is left.
    pub learners_next: BTreeSet<u64>,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
    /// Where members are.
    pub members: BTreeMap<u64, Member>,
    /// Which data directory is behind a member's number. Once it is known it never changes: another directory under the
    /// same number is one that has lost what the member had confirmed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incarnations: BTreeMap<u64, Incarnation>,
    /// The features that every member supports and all may use; see [`Membership::features`].
    #[serde(default, skip_serializing_if = "is_first_version")]
    features: u32,
    /// Numbers of members that there were and are no more, the highest [`REMOVED_MAX`] of them: none is given to another
    /// node.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<u64>,
}

/// How many numbers of former members are remembered.
pub const REMOVED_MAX: usize = 512;

/// The version of features that a group begins with.
pub const FIRST_FEATURES: u32 = 1;

fn is_first_version(features: &u32) -> bool {
    *features <= FIRST_FEATURES
}

/// What is wrong with a membership or a change of it.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// Not JSON of the form that is expected.
    #[error("membership cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("membership has version {found}; this build knows version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Larger than allowed.
    #[error("membership has {found} bytes or members; the limit is {limit}")]
    TooLarge {
        /// What was found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Node ids are positive.
    #[error("a node id is zero; node ids start at 1")]
    NodeZero,
    /// A node has two roles that exclude each other, or nobody votes.
    #[error("the roles of the members contradict each other")]
    Contradiction,
    /// An address is empty or too long.
    #[error("{address:?} is not an address: at most {ADDRESS_BYTES_MAX} bytes of host:port")]
    Address {
        /// The address.
        address: String,
    },
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// The node votes from now on. Also gives a voter a new address.
    Voter {
        /// Which node.
        node: u64,
        /// Where it is; absent keeps what is known.
        member: Option<Member>,
    },
    /// The node follows without a vote from now on.
    Learner {
        /// Which node.
        node: u64,
        /// Where it is; absent keeps what is known.
        member: Option<Member>,
    },
    /// The node does not belong to the group any more.
    Remove {
        /// Which node.
        node: u64,
    },
    /// The node has another address; its role stays.
    Address {
        /// Which node.
        node: u64,
        /// Where it is.
        member: Member,
    },
    /// The data directory of a member is known from now on.
    Incarnation {
        /// Which node.
        node: u64,
        /// Its data directory.
        incarnation: Incarnation,
    },
    /// Every member supports these features, and all may use them from now on.
    Features {
        /// Their version. A lower one than before changes nothing.
        version: u32,
    },
}

/// The payload of a membership entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipChange {
    version: u32,
    /// The members from now on, whoever was before: the first entry of a group, or the way back from a lost majority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founding: Option<BTreeMap<u64, Member>>,
    /// What changes, all of it together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl MembershipChange {
    /// A change made of steps that take effect together.
    #[must_use]
    pub fn of(steps: Vec<Step>) -> Self {
        Self { version: VERSION, founding: None, steps }
    }

    /// The members from now on, all of them voters, whoever was before.
    #[must_use]
    pub fn founding(members: BTreeMap<u64, Member>) -> Self {
        Self { version: VERSION, founding: Some(members), steps: Vec::new() }
    }

    /// Decodes the payload of a membership entry; an empty one leaves a joint configuration.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub fn decode_payload(payload: &[u8]) -> Result<Option<Self>, MembershipError> {
        if payload.is_empty() { Ok(None) } else { Self::decode(payload).map(Some) }
    }

    /// Checks ids, addresses and sizes.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub fn check(&self) -> Result<(), MembershipError> {
        let founding = self.founding.iter().flatten().map(|(node, member)| (*node, Some(member)));
        let steps = self.steps.iter().filter_map(|step| match step {
            Step::Voter { node, member } | Step::Learner { node, member } => Some((*node, member.as_ref())),
            Step::Remove { node } | Step::Incarnation { node, .. } => Some((*node, None)),
            Step::Address { node, member } => Some((*node, Some(member))),
            Step::Features { .. } => None,
        });
        let mut found = 0;
        for (node, member) in founding.chain(steps) {
            found += 1;
            check_node(node)?;
            member.map_or(Ok(()), check_member)?;
        }
        if self.founding.as_ref().is_some_and(BTreeMap::is_empty) {
            return Err(MembershipError::Contradiction);
        }
        check_limit(found, MEMBERS_MAX)
    }

    /// Encodes the payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Decodes a payload that is not empty, and checks it.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let change: Self = decode(bytes)?;
        check_version(change.version)?;
        change.check()?;
        Ok(change)
    }

    /// The members that the change names, with where they are.
    pub fn named(&self) -> impl Iterator<Item = (u64, Member)> + '_ {
        let founding = self.founding.iter().flatten().map(|(node, member)| (*node, member.clone()));
        let steps = self.steps.iter().filter_map(|step| match step {
            Step::Voter { node, member } | Step::Learner { node, member } => Some((*node, member.clone()?)),
            Step::Address { node, member } => Some((*node, member.clone())),
            Step::Remove { .. } | Step::Incarnation { .. } | Step::Features { .. } => None,
        });
        founding.chain(steps)
    }

    /// The membership after the change, to see whether it makes sense before it is proposed.
    #[must_use]
    pub fn voters_after(&self, membership: &Membership) -> BTreeSet<u64> {
        let mut voters = membership.voters.clone();
        for step in &self.steps {
            match step {
                Step::Voter { node, .. } => drop(voters.insert(*node)),
                Step::Learner { node, .. } | Step::Remove { node } => drop(voters.remove(node)),
                Step::Address { .. } | Step::Incarnation { .. } | Step::Features { .. } => {}
            }
        }
        voters
    }

    /// The change in the terms of the consensus crate. What changes no role adds nothing to it; where nothing else
    /// changes, it is carried by an addition of a voter that is one already.
    pub(crate) fn conf_change(&self, membership: &Membership) -> ConfChangeV2 {
        let roles = self.steps.iter().filter_map(|step| match step {
            Step::Voter { node, .. } => Some(single(ConfChangeType::AddNode, *node)),
            Step::Learner { node, .. } => Some(single(ConfChangeType::AddLearnerNode, *node)),
            Step::Remove { node } => Some(single(ConfChangeType::RemoveNode, *node)),
            Step::Address { .. } | Step::Incarnation { .. } | Step::Features { .. } => None,
        });
        let mut singles: Vec<_> = roles.collect();
        if singles.is_empty() {
            singles.extend(membership.voters.first().map(|voter| single(ConfChangeType::AddNode, *voter)));
        }
        let mut change = ConfChangeV2::default();
        // A leader leaves a joint configuration by an entry of its own (`Replica::applied`): the consensus crate forgets
        // that it is to do so when leadership moves.
        let is_simple = singles.len() == 1;
        change.set_transition(if is_simple { ConfChangeTransition::Auto } else { ConfChangeTransition::Explicit });
        change.set_changes(singles.into());
        change
    }
}

impl Membership {
    /// A membership of voters.
    #[must_use]
    pub fn of_voters(members: BTreeMap<u64, Member>) -> Self {
        Self { version: VERSION, voters: members.keys().copied().collect(), members, ..Self::default() }
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Decodes what [`Membership::encode`] wrote; nothing at all is the membership of nobody.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let membership: Self = decode(bytes)?;
        check_version(membership.version)?;
        membership.check()?;
        Ok(membership)
    }

    /// Checks that the roles do not contradict each other, and sizes. The consensus crate does not start from a membership
    /// that does not pass.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub fn check(&self) -> Result<(), MembershipError> {
        check_limit(self.members.len(), MEMBERS_MAX)?;
        let mut everyone =
            self.voters.iter().chain(&self.voters_outgoing).chain(&self.learners).chain(&self.learners_next);
        everyone.try_for_each(|node| check_node(*node))?;
        self.members.values().try_for_each(check_member)?;
        let votes = |node: &u64| self.voters.contains(node) || self.voters_outgoing.contains(node);
        let is_sound = !self.learners.iter().any(votes)
            && self.learners_next.is_subset(&self.voters_outgoing)
            && self.learners_next.is_disjoint(&self.voters)
            && (!self.voters.is_empty() || self.is_empty() && self.voters_outgoing.is_empty())
            && !(self.voters_outgoing.is_empty() && self.auto_leave);
        if is_sound { Ok(()) } else { Err(MembershipError::Contradiction) }
    }

    /// Whether nobody belongs to it: the state of a node that waits to be added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.learners.is_empty()
    }

    /// Whether the node is the only one that votes or follows.
    #[must_use]
    pub fn is_alone(&self, node: NodeId) -> bool {
        self.voters.len() == 1
            && self.voters.contains(&node.0)
            && self.voters_outgoing.is_empty()
            && self.learners.is_empty()
            && self.learners_next.is_empty()
    }

    /// What a node does; `None` when it is no member.
    #[must_use]
    pub fn role(&self, node: NodeId) -> Option<Role> {
        if self.voters.contains(&node.0) {
            Some(Role::Voter)
        } else if self.voters_outgoing.contains(&node.0) {
            Some(Role::Outgoing)
        } else if self.learners.contains(&node.0) || self.learners_next.contains(&node.0) {
            Some(Role::Learner)
        } else {
            None
        }
    }

    /// Where a member is.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node.0)
    }

    /// Everyone who takes part in any role, with their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (NodeId(*node), member))
    }

    pub(crate) fn conf_state(&self) -> ConfState {
        let list = |set: &BTreeSet<u64>| set.iter().copied().collect::<Vec<_>>();
        let mut state = ConfState::default();
        state.set_voters(list(&self.voters));
        state.set_voters_outgoing(list(&self.voters_outgoing));
        state.set_learners(list(&self.learners));
        state.set_learners_next(list(&self.learners_next));
        state.set_auto_leave(self.auto_leave);
        state
    }

    /// The membership after a change that left the consensus crate with `state`.
    pub(crate) fn after(&self, change: Option<&MembershipChange>, state: &ConfState) -> Self {
        let set = |list: &[u64]| list.iter().copied().collect::<BTreeSet<_>>();
        let mut members = self.members.clone();
        for step in change.iter().flat_map(|change| &change.steps) {
            let (node, member) = match step {
                Step::Voter { node, member } | Step::Learner { node, member } => (node, member.clone()),
                Step::Address { node, member } => (node, Some(member.clone())),
                Step::Remove { .. } | Step::Incarnation { .. } | Step::Features { .. } => continue,
            };
            if let Some(member) = member {
                members.insert(*node, member);
            }
        }
        members.extend(change.iter().filter_map(|change| change.founding.clone()).flatten());
        let mut after = Self {
            version: VERSION,
            voters: set(state.get_voters()),
            voters_outgoing: set(state.get_voters_outgoing()),
            learners: set(state.get_learners()),
            learners_next: set(state.get_learners_next()),
            auto_leave: state.auto_leave,
            members: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            features: self.features,
            removed: BTreeSet::new(),
        };
        members.retain(|node, _| after.role(NodeId(*node)).is_some());
        after.members = members;
        let is_founding = change.is_some_and(|change| change.founding.is_some());
        let mut incarnations = if is_founding { BTreeMap::new() } else { self.incarnations.clone() };
        for step in change.iter().flat_map(|change| &change.steps) {
            match step {
                Step::Incarnation { node, incarnation } => {
                    incarnations.entry(*node).or_insert(*incarnation);
                }
                Step::Features { version } => after.features = after.features.max(*version),
                Step::Voter { .. } | Step::Learner { .. } | Step::Remove { .. } | Step::Address { .. } => {}
            }
        }
        incarnations.retain(|node, _| after.role(NodeId(*node)).is_some());
        after.incarnations = incarnations;
        if !is_founding {
            let before =
                self.voters.iter().chain(&self.voters_outgoing).chain(&self.learners).chain(&self.learners_next);
            let gone = before.filter(|node| after.role(NodeId(**node)).is_none());
            after.removed = self.removed.iter().chain(gone).copied().collect();
            while after.removed.len() > REMOVED_MAX {
                after.removed.pop_first();
            }
        }
        after
    }

    /// The version of the features that all members may use: what a newer version brings is used only from there on, and
    /// a node that does not support it is refused.
    #[must_use]
    pub fn features(&self) -> u32 {
        self.features.max(FIRST_FEATURES)
    }

    /// The data directory behind a member's number, once it is known.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.incarnations.get(&node.0).copied()
    }

    /// The membership after the entry with this payload, which is a pure function of the two. A change that makes no sense
    /// changes nothing.
    ///
    /// # Errors
    /// When the payload cannot be read.
    pub fn after_entry(&self, payload: &[u8]) -> Result<Self, MembershipError> {
        let change = MembershipChange::decode_payload(payload)?;
        let mut state = self.conf_state();
        for step in self.conf_changes(change.as_ref()) {
            match apply(&state, &step) {
                Ok(after) => state = after,
                Err(error) => tracing::warn!(%error, "a change of members was void"),
            }
        }
        Ok(self.after(change.as_ref(), &state))
    }

    /// What a change means to the consensus crate, one after the other.
    pub(crate) fn conf_changes(&self, change: Option<&MembershipChange>) -> Vec<ConfChangeV2> {
        match change {
            None => vec![ConfChangeV2::default()],
            Some(MembershipChange { founding: Some(founding), .. }) => self.steps_to(founding),
            Some(change) => vec![change.conf_change(self)],
        }
    }

    /// The single changes that lead from this membership to the voters of `founding`, in an order in which there is a
    /// voter at every moment. A joint configuration is left first: nothing else can be done in one.
    pub(crate) fn steps_to(&self, founding: &BTreeMap<u64, Member>) -> Vec<ConfChangeV2> {
        let leave = (!self.voters_outgoing.is_empty()).then(ConfChangeV2::default);
        let add = founding.keys().filter(|node| !self.voters.contains(node));
        let others = self.voters.iter().chain(&self.learners).chain(&self.learners_next);
        let remove: BTreeSet<u64> = others.filter(|node| !founding.contains_key(node)).copied().collect();
        let changes = add
            .map(|node| single(ConfChangeType::AddNode, *node))
            .chain(remove.iter().map(|node| single(ConfChangeType::RemoveNode, *node)));
        let changes = changes.map(|change| {
            let mut change_v2 = ConfChangeV2::default();
            change_v2.set_changes(vec![change].into());
            change_v2
        });
        leave.into_iter().chain(changes).collect()
    }
}

/// What the consensus crate makes of a change, asked of a member that is nobody and holds nothing.
fn apply(state: &ConfState, change: &ConfChangeV2) -> raft::Result<ConfState> {
    let storage = MemStorage::new();
    if *state != ConfState::default() {
        storage.initialize_with_conf_state(state.clone());
    }
    let config = Config { id: u64::MAX, ..Config::default() };
    let mut nobody = RawNode::new(&config, storage, &slog::Logger::root(slog::Discard, slog::o!()))?;
    nobody.apply_conf_change(change)
}

fn single(kind: ConfChangeType, node: u64) -> ConfChangeSingle {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.set_node_id(node);
    single
}

/// Maps with string keys and plain numbers always encode.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MembershipError> {
    check_limit(bytes.len(), ENCODED_BYTES_MAX)?;
    Ok(serde_json::from_slice(bytes)?)
}

fn check_version(found: u32) -> Result<(), MembershipError> {
    if found == VERSION { Ok(()) } else { Err(MembershipError::Version { found }) }
}

fn check_limit(found: usize, limit: usize) -> Result<(), MembershipError> {
    if found <= limit { Ok(()) } else { Err(MembershipError::TooLarge { found, limit }) }
}

fn check_node(node: u64) -> Result<(), MembershipError> {
    if node == 0 { Err(MembershipError::NodeZero) } else { Ok(()) }
}

fn check_member(member: &Member) -> Result<(), MembershipError> {
    for address in [&member.peer_address, &member.client_address] {
        if address.len() > ADDRESS_BYTES_MAX || address.contains(char::is_whitespace) {
            return Err(MembershipError::Address { address: address.chars().take(80).collect() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_whomever_it_says_an_address_of() {
        let member = |host: &str| Member { peer_address: format!("{host}:1"), ..Member::default() };
        let founding = MembershipChange::founding([(1, member("a")), (2, member("b"))].into());
        assert_eq!(founding.named().collect::<Vec<_>>(), [(1, member("a")), (2, member("b"))]);
        let steps = vec![
            Step::Voter { node: 3, member: Some(member("c")) },
            Step::Voter { node: 1, member: None },
            Step::Remove { node: 2 },
            Step::Learner { node: 4, member: Some(member("d")) },
            Step::Address { node: 1, member: member("e") },
        ];
        let named: Vec<_> = MembershipChange::of(steps).named().collect();
        assert_eq!(named, [(3, member("c")), (4, member("d")), (1, member("e"))]);
    }
}
