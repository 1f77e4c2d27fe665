//! What is counted: the ways that requests take through a node, without threads and network.

use std::hint::black_box;

use steeple_benches::appending::AppendingLog;
use steeple_benches::deployment::{Deployment, create_entry, creation_event, list_form};
use steeple_benches::population::{Group, NAMESPACE};
use steeple_benches::scratch_directory;
use steeple_engine::domain::Command;
use steeple_engine::event::Event;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire::entries::queries::{self, ListEntries};

/// Entries that are there: 50 of each agent and service.
const ENTRIES: u64 = 5_000;

/// Entries of one append.
const BATCH: u64 = 16;

/// Commands of a small batch and of a large one, whose events are folded in different ways.
const FEW: u64 = 8;
const MANY: u64 = 64;

/// Times that each is done before anything is counted.
const BEFORE: u64 = 8;

/// Creations that are counted.
const CREATED: u64 = 1024;

/// Part of the name of the function whose instructions count.
pub(crate) const MARK: &str = "instructions_of_this_count";

/// Something that is done again and again.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How often it is done while instructions are counted.
    pub(crate) times: u64,
    /// How many of what the figure is about are done each time.
    pub(crate) calls: u64,
    prepare: fn() -> Box<dyn FnMut()>,
}

/// All cases.
pub(crate) const CASES: [Case; 7] = [
    Case { name: "create: decide and fold 8", times: CREATED / FEW, calls: FEW, prepare: || create(FEW) },
    Case { name: "create: decide and fold 64", times: CREATED / MANY, calls: MANY, prepare: || create(MANY) },
    Case { name: "fetch", times: 256, calls: 1, prepare: fetch },
    Case { name: "list 50 by parent", times: 64, calls: 1, prepare: || list("parent") },
    Case { name: "list 50 by selectors", times: 64, calls: 1, prepare: || list("selectors_exact") },
    Case { name: "encode an event", times: 256, calls: 1, prepare: encode },
    Case { name: "append to the log", times: 64, calls: BATCH, prepare: append },
];

impl Case {
    /// Does it so often, after a few times that are not counted because of what is made ready once.
    pub(crate) fn run(&self, times: u64) {
        let mut work = (self.prepare)();
        (0..BEFORE).for_each(|_| work());
        instructions_of_this_count(&mut *work, times);
    }
}

#[inline(never)]
fn instructions_of_this_count(work: &mut dyn FnMut(), times: u64) {
    (0..times).for_each(|_| work());
}

fn deployment() -> Deployment {
    Deployment::new(1, ENTRIES)
}

/// The whole way of creations through the pipeline, so many at a time: decide, encode, overlay, fold, answer.
fn create(at_a_time: u64) -> Box<dyn FnMut()> {
    let deployment = deployment();
    let mut group = Group::filled(RecordStoreKind::Memory, &deployment);
    let mut next = ENTRIES;
    // Made before, so that only the node's part counts.
    let mut batches: Vec<Vec<Command>> = Vec::new();
    for _ in 0..CREATED / at_a_time + BEFORE {
        batches.push((next..next + at_a_time).map(|number| create_entry(deployment.entry(number))).collect());
        next += at_a_time;
    }
    Box::new(move || group.carry_out(NAMESPACE, batches.pop().expect("a batch for each time")))
}

fn fetch() -> Box<dyn FnMut()> {
    let deployment = deployment();
    let group = Group::filled(RecordStoreKind::Sled, &deployment);
    let ids: Vec<String> = (0..64).map(|turn| deployment.entry(deployment.shuffled(turn)).entry_id).collect();
    let mut turn = 0;
    Box::new(move || {
        turn += 1;
        let id = &ids[turn % ids.len()];
        let found = queries::fetch_entry_record(&group.view().read(), NAMESPACE, id).expect("a read");
        assert!(black_box(found).is_some(), "an entry is missing");
    })
}

fn list(form: &'static str) -> Box<dyn FnMut()> {
    let deployment = deployment();
    let group = Group::filled(RecordStoreKind::Sled, &deployment);
    let filter = |turn| list_form(&deployment, deployment.shuffled(turn) % deployment.agents(), form);
    let requests: Vec<ListEntries> = (0..16).map(|turn| ListEntries { filter: filter(turn), page: None }).collect();
    let (hits, mut turn) = (deployment.hits() as usize, 0);
    Box::new(move || {
        turn += 1;
        let request = &requests[turn % requests.len()];
        let found = queries::list_entry_records(&group.view().read(), NAMESPACE, request).expect("a list");
        assert_eq!(black_box(found).items.len(), hits);
    })
}

fn encode() -> Box<dyn FnMut()> {
    let event = event();
    Box::new(move || drop(black_box(black_box(&event).encode())))
}

fn append() -> Box<dyn FnMut()> {
    let directory = scratch_directory();
    let mut log = AppendingLog::open(directory.path());
    let payloads = vec![event().encode(); BATCH as usize];
    Box::new(move || {
        log.append(&payloads);
        // Stays until the log is gone.
        let _ = &directory;
    })
}

/// That of a creation.
fn event() -> Event {
    creation_event(&deployment(), 4_711)
}
