//! What must be found after a crash.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::domain::CATALOG;
use steeple_engine::event::Event;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::Entry;
use steeple_engine::record_store::MemoryStore;
use steeple_engine::view::{Committed, Digest, StreamRow, View};

use crate::node::{Kept, MiniNode, rows};
use crate::workload::Step;

/// The state at one revision.
struct Moment {
    payload: Bytes,
    digest: Digest,
    rows: Vec<StreamRow>,
}

/// What a run in which nothing fails leads to, revision by revision.
pub(crate) struct Expected {
    moments: Vec<Moment>,
}

fn entries(node: &MiniNode) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut visit = |entry| {
        found.push(entry);
        ControlFlow::Continue(())
    };
    node.log.scan(LogIndex::ZERO, &mut visit).expect("a log that opened can be read");
    found
}

impl Expected {
    /// Runs the workload on a disk that does not fail, without giving anything back.
    pub(crate) fn of(steps: &[Step]) -> Self {
        let mut kept = Kept::default();
        let mut node = MiniNode::open(&SimulatedDisk::new(), &mut kept).expect("an empty disk opens");
        for step in steps.iter().filter(|step| !matches!(step, Step::Compact)) {
            node.perform(step, &mut kept).expect("nothing fails");
        }
        let view = View::open(CATALOG, Arc::new(MemoryStore::new())).expect("an empty view opens");
        let mut moments = vec![Moment { payload: Bytes::new(), digest: view.folded().digest, rows: Vec::new() }];
        for entry in entries(&node) {
            let event = Arc::new(Event::decode(&entry.payload).expect("what was written can be read"));
            view.fold(&[Committed { index: entry.position.index, event }]).expect("it was folded before");
            moments.push(Moment { payload: entry.payload, digest: view.folded().digest, rows: rows(&view) });
        }
        Self { moments }
    }

    /// Checks what a start has found, and answers its revision.
    pub(crate) fn check(&self, node: &MiniNode, kept: &Kept) -> Result<u64, String> {
        let revision = node.revision();
        if !(kept.acknowledged..=kept.submitted).contains(&revision) {
            let (acknowledged, submitted) = (kept.acknowledged, kept.submitted);
            return Err(format!("revision {revision}; {acknowledged} was acknowledged, {submitted} submitted"));
        }
        if !(kept.term..=kept.term_asked).contains(&node.term()) {
            return Err(format!("term {}; {} was promised", node.term(), kept.term));
        }
        let moment = &self.moments[revision as usize];
        let recomputed = node.view.recompute_digest().map_err(|error| error.to_string())?.1;
        if node.view.folded().digest != moment.digest || recomputed != moment.digest {
            return Err(format!("the records of revision {revision} are others"));
        }
        if node.rows() != moment.rows {
            return Err(format!("the stream at revision {revision} is another"));
        }
        self.check_history(node, revision)?;
        Ok(revision)
    }

    /// The log holds every event that the stream still lists, as it was submitted, and none that was not.
    pub(crate) fn check_history(&self, node: &MiniNode, up_to: u64) -> Result<(), String> {
        let mut last = 0;
        for entry in entries(node) {
            if entry.tag <= last || entry.tag > node.revision() {
                return Err(format!("revision {} follows on {last} in the log", entry.tag));
            }
            last = entry.tag;
            if entry.tag <= up_to && entry.payload != self.moments[entry.tag as usize].payload {
                return Err(format!("the event of revision {} is another", entry.tag));
            }
        }
        for row in node.rows() {
            let entry = node.log.read_tag(row.revision.0).map_err(|error| error.to_string())?;
            if entry.is_none() {
                return Err(format!("the stream lists revision {}, which the log does not hold", row.revision));
            }
        }
        Ok(())
    }
}
