//! What one worker's part of a namespace should hold.

use std::collections::BTreeMap;

use steeple_client::types::{AttestedNode, Bundle, DeleteMode, RegistrationEntry, Selector};

use crate::operation::{Answer, Operation};

/// Records by key. Entries are kept under their SPIFFE IDs, which the workload never uses twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Records {
    pub(crate) entries: BTreeMap<String, RegistrationEntry>,
    pub(crate) nodes: BTreeMap<String, AttestedNode>,
    pub(crate) selectors: BTreeMap<String, Vec<Selector>>,
    pub(crate) bundles: BTreeMap<String, Bundle>,
    pub(crate) tokens: BTreeMap<String, i64>,
}

impl Records {
    /// What the operation makes of the records, and how it should be answered. Entries that it creates have no id and
    /// no time of creation: the node chooses these.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Answer {
        self.accept(operation).unwrap_or(Answer::Refused)
    }

    fn accept(&mut self, operation: &Operation) -> Option<Answer> {
        Some(match operation {
            Operation::CreateEntry(entry) => {
                let known = entry.federates_with.iter().all(|id| self.bundles.contains_key(id));
                known.then(|| self.entries.insert(entry.spiffe_id.clone(), entry.clone()))?;
                Answer::Entry(entry.clone())
            }
            Operation::UpdateEntry(input) => {
                let entry = self.entries.values_mut().find(|entry| entry.entry_id == input.entry_id)?;
                entry.selectors.clone_from(&input.selectors);
                entry.hint.clone_from(&input.hint);
                entry.x509_svid_ttl = input.x509_svid_ttl;
                entry.entry_expiry = input.entry_expiry;
                entry.revision_number += 1;
                Answer::Entry(entry.clone())
            }
            Operation::DeleteEntry(entry_id) => {
                let key = self.entries.iter().find(|(_, entry)| entry.entry_id == *entry_id)?.0.clone();
                Answer::Entry(self.entries.remove(&key)?)
            }
            Operation::PruneEntries { before } => {
                let expired = |entry: &RegistrationEntry| entry.entry_expiry != 0 && entry.entry_expiry < *before;
                Answer::Count(retain(&mut self.entries, |entry| !expired(entry)))
            }
            Operation::CreateNode(node) => {
                (!self.nodes.contains_key(&node.spiffe_id)).then_some(())?;
                self.nodes.insert(node.spiffe_id.clone(), node.clone());
                Answer::Node(node.clone())
            }
            Operation::UpdateNode(input) => {
                let node = self.nodes.get_mut(&input.spiffe_id)?;
                node.cert_serial_number.clone_from(&input.cert_serial_number);
                node.cert_not_after = input.cert_not_after;
                Answer::Node(node.clone())
            }
            Operation::DeleteNode(spiffe_id) => {
                let node = self.nodes.remove(spiffe_id)?;
                self.selectors.remove(spiffe_id);
                Answer::Node(node)
            }
            Operation::PruneNodes { before } => self.prune_nodes(*before),
            Operation::SetSelectors(spiffe_id, selectors) => {
                self.selectors.remove(spiffe_id);
                if !selectors.is_empty() {
                    self.selectors.insert(spiffe_id.clone(), selectors.clone());
                }
                Answer::Nothing
            }
            Operation::CreateBundle(bundle) => {
                (!self.bundles.contains_key(&bundle.trust_domain_id)).then_some(())?;
                self.bundles.insert(bundle.trust_domain_id.clone(), bundle.clone());
                Answer::Bundle(bundle.clone())
            }
            Operation::AppendBundle(addition) => {
                let bundle = self.bundles.get_mut(&addition.trust_domain_id)?;
                bundle.root_cas.extend(addition.root_cas.iter().cloned());
                bundle.sequence_number += 1;
                Answer::Bundle(bundle.clone())
            }
            Operation::DeleteBundle(id, mode) => return self.delete_bundle(id, *mode),
            Operation::CreateToken { token, expires_at } => {
                (!self.tokens.contains_key(token)).then_some(())?;
                self.tokens.insert(token.clone(), *expires_at);
                Answer::Nothing
            }
            Operation::DeleteToken(token) => self.tokens.remove(token).map(|_| Answer::Nothing)?,
            Operation::PruneTokens { before } => {
                Answer::Count(retain(&mut self.tokens, |expires_at| *expires_at >= *before))
            }
            // What these do depends on other workers or on the clock, and is checked elsewhere.
            Operation::Increment(_) | Operation::Take(_) | Operation::PruneEvents { .. } => Answer::Nothing,
        })
    }

    fn prune_nodes(&mut self, before: i64) -> Answer {
        let pruned: Vec<String> = self
            .nodes
            .values()
            .filter(|node| node.can_reattest && node.cert_not_after < before)
            .map(|node| node.spiffe_id.clone())
            .collect();
        for spiffe_id in &pruned {
            self.nodes.remove(spiffe_id);
            self.selectors.remove(spiffe_id);
        }
        Answer::Count(pruned.len() as u64)
    }

    fn delete_bundle(&mut self, id: &str, mode: DeleteMode) -> Option<Answer> {
        let federates = |entry: &RegistrationEntry| entry.federates_with.iter().any(|other| other == id);
        if !self.bundles.contains_key(id) || mode == DeleteMode::Restrict && self.entries.values().any(federates) {
            return None;
        }
        self.bundles.remove(id);
        match mode {
            DeleteMode::Restrict => {}
            DeleteMode::Delete => self.entries.retain(|_, entry| !federates(entry)),
            DeleteMode::Dissociate => {
                for entry in self.entries.values_mut().filter(|entry| federates(entry)) {
                    entry.federates_with.retain(|other| other != id);
                    entry.revision_number += 1;
                }
            }
        }
        Some(Answer::Nothing)
    }

    /// Takes over what the node chose for an entry.
    pub(crate) fn learn(&mut self, answered: &RegistrationEntry) {
        if let Some(entry) = self.entries.get_mut(&answered.spiffe_id) {
            entry.entry_id.clone_from(&answered.entry_id);
            entry.created_at = answered.created_at;
        }
    }

    /// The part of the records whose keys contain `tag`.
    pub(crate) fn part(&self, tag: &str) -> Self {
        fn part<T: Clone>(all: &BTreeMap<String, T>, tag: &str) -> BTreeMap<String, T> {
            all.iter().filter(|(key, _)| key.contains(tag)).map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        Self {
            entries: part(&self.entries, tag),
            nodes: part(&self.nodes, tag),
            selectors: part(&self.selectors, tag),
            bundles: part(&self.bundles, tag),
            tokens: part(&self.tokens, tag),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.nodes.len() + self.selectors.len() + self.bundles.len() + self.tokens.len()
    }

    /// Whether the node holds this, as far as it is known what the node chose.
    pub(crate) fn agrees_with(&self, actual: &Self) -> bool {
        let with_chosen = |entry: &RegistrationEntry| {
            let chosen = actual.entries.get(&entry.spiffe_id);
            chosen.map_or_else(|| entry.clone(), |chosen| with_chosen_of(entry, chosen))
        };
        let entries = self.entries.iter().map(|(key, entry)| (key.clone(), with_chosen(entry))).collect();
        Self { entries, ..self.clone() } == *actual
    }
}

/// The entry, with id and time of creation of another where it has none.
pub(crate) fn with_chosen_of(entry: &RegistrationEntry, chosen: &RegistrationEntry) -> RegistrationEntry {
    let mut entry = entry.clone();
    if entry.entry_id.is_empty() {
        entry.entry_id.clone_from(&chosen.entry_id);
    }
    if entry.created_at == 0 {
        entry.created_at = chosen.created_at;
    }
    entry
}

/// Keeps some, and tells how many went.
fn retain<T>(all: &mut BTreeMap<String, T>, mut keep: impl FnMut(&T) -> bool) -> u64 {
    let before = all.len();
    all.retain(|_, value| keep(value));
    (before - all.len()) as u64
}
