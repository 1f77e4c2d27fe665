//! Members that are at the same revision hold the same records.

use std::collections::HashMap;

use steeple_engine::view::{Digest, View};

use crate::violation::{Checked, Violation};

const NAME: &str = "digests";

/// What members held, by revision.
#[derive(Default)]
pub struct Digests {
    known: HashMap<u64, Digest>,
}

impl Digests {
    /// Compares what a member holds with what others held at that revision.
    ///
    /// # Errors
    /// When they differ.
    pub fn check(&mut self, member: usize, revision: u64, digest: Digest) -> Checked {
        let known = *self.known.entry(revision).or_insert(digest);
        if known == digest {
            return Ok(());
        }
        Err(Violation::new(NAME, format!("member {member} holds {digest} at revision {revision}, another one {known}")))
    }
}

/// Compares the digest that is kept while folding with one that is made from all records.
///
/// # Errors
/// When they differ.
pub fn check_records(member: usize, view: &View) -> Checked {
    let kept = view.folded().digest;
    match view.recompute_digest() {
        Ok((_, found)) if found == kept => Ok(()),
        found => Err(Violation::new(NAME, format!("member {member} kept {kept}, its records make {found:?}"))),
    }
}
