//! Damage to whole nodes: their logs, base snapshots, manifests and record stores, and mixtures of them. The logs do not reach
//! back to the beginning, so that records that are lost need a base snapshot, of their own or of another member.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::disk::{Disk, SimulatedDisk};
use steeple_engine::domain::CATALOG;
use steeple_engine::ids::{LogIndex, Revision, StreamSequence, Term};
use steeple_engine::log::{FaultPolicy, Log, LogOptions, Outline, Verification, read_identity};
use steeple_engine::record_store::{MemoryStore, RecordStore};
use steeple_engine::spire;
use steeple_engine::view::{Digest, Reader, View};
use steeple_server::node::Node;
use steeple_server::node::stepped::Shelf;

use crate::chance::Chance;
use crate::damage::{self, BLOCK_BYTES, Damage};
use crate::group::Outcome;
use crate::nodes::{Disks, NAMESPACE, Nodes, creation, namespace, prune};
use crate::report::Row;

/// Members of each group.
const MEMBERS: u64 = 3;

/// Rounds in which a group that is well does what it is asked to.
const PATIENCE_ROUNDS: usize = 300;

/// Rounds after which a group that got nowhere is taken for stuck: twenty elections and as many rounds of repair.
const RECOVERY_ROUNDS: usize = 600;

/// How often everything is read and flushed, and rounds in which members mend what that has brought to light.
const LOOKS: usize = 2;
const LOOK_ROUNDS: usize = 60;

/// Rounds between two flushes, which a process does by itself.
const FLUSH_ROUNDS: usize = 50;

/// Longer than anything is kept.
const LONG: Duration = Duration::from_secs(3600);

/// What is at the beginning of a snapshot.
const MANIFEST_BYTES: u64 = 512;

/// Rows of a stream that are read at once.
const ROWS_MAX: usize = 100_000;

/// What a group has left behind.
pub struct WholeHistory {
    disks: BTreeMap<u64, Disks>,
    /// The same at earlier moments, oldest first.
    past: Vec<BTreeMap<u64, Disks>>,
    /// Term of each committed entry.
    terms: BTreeMap<u64, Term>,
    /// What each event was.
    events: BTreeMap<u64, Bytes>,
    revision: Revision,
    digest: Digest,
}

/// What is left of a member.
struct Left {
    /// Its log.
    outline: Outline,
    /// How far it knows that to be committed.
    commit: LogIndex,
    /// Up to where it has records that are right, or can make them from its base snapshot.
    state: Option<LogIndex>,
}

impl WholeHistory {
    /// A group that has created, pruned, flushed and compacted, by chance, and whose logs have lost their beginnings; one
    /// member may have been away meanwhile.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x0510_74e5);
        let mut nodes = Nodes::new(MEMBERS, seed);
        let mut made = Making { terms: BTreeMap::new(), events: BTreeMap::new(), created: 0 };
        nodes.start_all();
        made.create(&mut nodes, 20 + chance.below(20), &mut chance);
        let away = chance.one_in(2).then(|| 1 + chance.below(MEMBERS));
        if let Some(away) = away {
            nodes.kill(away, CrashLoss::Nothing);
        }
        let mut past = vec![nodes.disks_now()];
        for step in 0..3 {
            made.create(&mut nodes, 10 + chance.below(40), &mut chance);
            if step < 2 {
                made.submit(&mut nodes, prune());
            }
            nodes.jump(LONG);
            made.create(&mut nodes, 20 + chance.below(20), &mut chance);
            past.push(nodes.disks_now());
            compact(&mut nodes, &mut chance, step == 0);
            if let Some(away) = away.filter(|_| step == 1) {
                nodes.start(away);
            }
        }
        made.create(&mut nodes, 5 + chance.below(30), &mut chance);
        if chance.one_in(2) {
            past.push(nodes.disks_now());
            made.create(&mut nodes, 1 + chance.below(10), &mut chance);
        }
        (0..40).for_each(|_| nodes.round());
        made.note(&nodes);
        let (_, leader) = nodes.leader().expect("a group that is well is led");
        let folded = leader.view().folded();
        drop(leader);
        for id in nodes.ids() {
            match chance.below(3) {
                0 => nodes.stop(id),
                1 => nodes.kill(id, CrashLoss::Nothing),
                _ => nodes.kill(id, CrashLoss::Everything),
            }
        }
        assert_eq!(nodes.violation, None, "seed {seed}");
        let Making { terms, events, .. } = made;
        Self { disks: nodes.into_disks(), past, terms, events, revision: folded.revision, digest: folded.digest }
    }

    fn disks(&self) -> BTreeMap<u64, Disks> {
        self.disks.iter().map(|(id, disks)| (*id, disks.duplicate())).collect()
    }
}

/// A history on its way.
struct Making {
    terms: BTreeMap<u64, Term>,
    events: BTreeMap<u64, Bytes>,
    created: u64,
}

impl Making {
    fn create(&mut self, nodes: &mut Nodes, count: u64, chance: &mut Chance) {
        for _ in 0..count {
            self.created += 1;
            let bytes = 20 + chance.below(600) as usize;
            self.submit(nodes, creation(self.created, bytes));
        }
        self.note(nodes);
    }

    /// Lets the group do something; it is well, so that it does.
    fn submit(&mut self, nodes: &mut Nodes, command: steeple_engine::domain::Command) {
        for _ in 0..PATIENCE_ROUNDS {
            if let Some((_, leader)) = nodes.leader() {
                let command = command.clone();
                let submitted = nodes.until_done(PATIENCE_ROUNDS, async move {
                    let namespace = leader.open_namespace(NAMESPACE).await.ok()?;
                    leader.submit(namespace, None, command).await.ok()
                });
                if submitted.flatten().is_some() {
                    return;
                }
            }
            nodes.round();
        }
        panic!("a group that is well does not get on: {}", nodes.obstacles());
    }

    /// Takes down what was committed since the last time.
    fn note(&mut self, nodes: &Nodes) {
        let Some((id, leader)) = nodes.leader() else { return };
        let next = self.terms.last_key_value().map_or(1, |(index, _)| index + 1);
        let committed = nodes.committed(id);
        let scanned = leader.log().scan(LogIndex(next), &mut |entry| {
            if entry.position.index > committed {
                return ControlFlow::Break(());
            }
            self.terms.insert(entry.position.index.0, entry.position.term);
            if entry.kind == steeple_engine::log::EntryKind::Event {
                self.events.insert(entry.tag, entry.payload);
            }
            ControlFlow::Continue(())
        });
        scanned.expect("a sound log");
        assert!(self.terms.len() as u64 >= committed.0, "everything was seen before it was given up");
    }
}

/// Lets members flush and give space back, some of them or all.
fn compact(nodes: &mut Nodes, chance: &mut Chance, all: bool) {
    for (_, node) in nodes.serving() {
        if all || !chance.one_in(3) {
            let compacted = nodes.until_done(PATIENCE_ROUNDS, async move { node.compact().await.is_ok() });
            assert_eq!(compacted, Some(true));
        } else if chance.one_in(2) {
            nodes.until_done(PATIENCE_ROUNDS, async move { drop(node.flush().await) });
        }
    }
}

/// What is damaged on a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Its log.
    Log(Damage),
    /// Its base snapshot, the manifest in front of it included.
    Base(Damage),
    /// All files of the log or of the base snapshot: every third block.
    Helical(u64),
    /// Its base snapshot is one of an earlier moment.
    OldBase(usize),
    /// Its record stores are gone.
    RecordsLost,
    /// A pair of them cannot be read.
    RecordsDamaged(u64),
    /// They cannot be flushed.
    RecordsNotFlushed,
    /// They are those of an earlier moment.
    OldRecords(usize),
}

impl Harm {
    fn carry_out(&self, id: u64, disks: &mut Disks, past: &[BTreeMap<u64, Disks>]) {
        let logs: Vec<SimulatedDisk> = past.iter().map(|past| past[&id].log.clone()).collect();
        match self {
            Self::Log(damage) => {
                damage.apply(&disks.log, &logs);
            }
            Self::Base(damage) => {
                damage.apply(&disks.base, &[]);
            }
            Self::Helical(from) => {
                Damage::Helical(*from).apply(&disks.log, &logs);
                damage_every_third(&disks.base, *from);
            }
            Self::OldBase(moment) => {
                let earlier = &past[*moment][&id].base;
                for name in disks.base.list().unwrap_or_default() {
                    match earlier.contents(&name) {
                        Some(old) => disks.base.place(&name, &old),
                        None => _ = disks.base.lose(&name),
                    }
                }
            }
            Self::RecordsLost => disks.stores = Shelf::default(),
            Self::RecordsDamaged(place) => {
                disks.stores.damage(*place);
            }
            Self::RecordsNotFlushed => disks.stores.fail_at_flush("damaged"),
            Self::OldRecords(moment) => disks.stores = past[*moment][&id].stores.crash(|unflushed| unflushed),
        }
    }
}

fn damage_every_third(disk: &SimulatedDisk, from: u64) {
    for file in disk.list().unwrap_or_default() {
        let blocks = disk.contents(&file).map_or(0, |content| (content.len() as u64).div_ceil(BLOCK_BYTES));
        for block in (from..blocks).step_by(3) {
            Damage::Block { file: file.clone(), block, content: Some(block) }.apply(disk, &[]);
        }
    }
}

/// Which parts of members an experiment damages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Base snapshots and logs.
    SnapshotsAndLogs,
    /// Manifests.
    Manifests,
    /// Record stores.
    Records,
    /// Base snapshots and record stores.
    SnapshotsAndRecords,
    /// Anything.
    All,
}

impl Parts {
    fn draw(self, id: u64, history: &WholeHistory, chance: &mut Chance) -> Option<Harm> {
        let disks = &history.disks[&id];
        match self {
            Self::SnapshotsAndLogs if chance.one_in(2) => log(id, history, chance),
            Self::SnapshotsAndLogs => base(id, disks, history, chance),
            Self::Manifests => manifest(disks, chance),
            Self::Records => Some(records(history, chance)),
            Self::SnapshotsAndRecords if chance.one_in(2) => base(id, disks, history, chance),
            Self::SnapshotsAndRecords => Some(records(history, chance)),
            Self::All => match chance.below(4) {
                0 => log(id, history, chance),
                1 => base(id, disks, history, chance),
                2 => manifest(disks, chance),
                _ => Some(records(history, chance)),
            },
        }
    }
}

fn log(id: u64, history: &WholeHistory, chance: &mut Chance) -> Option<Harm> {
    let disk = &history.disks[&id].log;
    let (file, block) = damage::random_block(disk, chance)?;
    let damage = match chance.below(5) {
        0 => Damage::Bit { file, offset: block * BLOCK_BYTES + chance.below(BLOCK_BYTES) },
        1 => Damage::Block { file, block, content: (!chance.one_in(3)).then(|| chance.number()) },
        2 => Damage::BlockError { file, block },
        3 => damage::random_metadata(disk, chance)?,
        _ => {
            let past: Vec<SimulatedDisk> = history.past.iter().map(|past| past[&id].log.clone()).collect();
            damage::random_old(disk, &past, chance)?
        }
    };
    Some(Harm::Log(damage))
}

fn base(_: u64, disks: &Disks, history: &WholeHistory, chance: &mut Chance) -> Option<Harm> {
    let files = disks.base.list().unwrap_or_default();
    let file = files.get(chance.below(files.len() as u64) as usize)?.clone();
    let bytes = disks.base.contents(&file)?.len() as u64;
    let block = chance.below(bytes.div_ceil(BLOCK_BYTES));
    Some(match chance.below(7) {
        0 => Harm::Base(Damage::Bit { file, offset: chance.below(bytes) }),
        1 => Harm::Base(Damage::Block { file, block, content: (!chance.one_in(3)).then(|| chance.number()) }),
        2 => Harm::Base(Damage::BlockError { file, block }),
        3 => Harm::Base(Damage::Missing(file)),
        4 => Harm::Base(Damage::Short(file, chance.below(bytes))),
        5 => Harm::Base(Damage::Long(file, 1 + chance.below(3 * BLOCK_BYTES))),
        _ => Harm::OldBase(chance.below(history.past.len() as u64) as usize),
    })
}

fn manifest(disks: &Disks, chance: &mut Chance) -> Option<Harm> {
    let file = disks.base.list().unwrap_or_default().into_iter().next()?;
    let bytes = disks.base.contents(&file)?.len() as u64;
    Some(Harm::Base(Damage::Bit { file, offset: chance.below(bytes.min(MANIFEST_BYTES)) }))
}

fn records(history: &WholeHistory, chance: &mut Chance) -> Harm {
    match chance.below(5) {
        0 => Harm::RecordsLost,
        1 | 2 => Harm::RecordsDamaged(chance.number()),
        3 => Harm::RecordsNotFlushed,
        _ => Harm::OldRecords(chance.below(history.past.len() as u64) as usize),
    }
}

/// Histories for these experiments, which take longer to make than to damage.
#[must_use]
pub fn histories(count: u64, seed: u64) -> Vec<WholeHistory> {
    (0..count).map(|number| WholeHistory::of(seed.wrapping_add(number))).collect()
}

/// Damages parts of members by chance: each member with a probability of one half, once or up to three times.
#[must_use]
pub fn by_chance(name: &'static str, parts: Parts, seeds: &[u64], histories: &[WholeHistory]) -> Row {
    let mut row = Row::new(name);
    for seed in seeds.iter().copied() {
        let mut chance = Chance::new(seed ^ 0xd15c);
        let history = &histories[chance.below(histories.len() as u64) as usize];
        let mut harm = Vec::new();
        while harm.is_empty() {
            for id in 1..=MEMBERS {
                if chance.one_in(2) {
                    let draws = 1 + chance.below(3);
                    harm.extend((0..draws).filter_map(|_| Some((id, parts.draw(id, history, &mut chance)?))));
                }
            }
        }
        run_case(&mut row, history, &harm, seed);
    }
    row
}

/// The name of [`helical`].
pub const HELICAL: &str = "outside the model: whole nodes, every third block of every file, records of two lost";

/// Every third block of all files, different thirds on each of the members, and record stores of two that cannot be read. Those
/// two do not know any more who votes, and the third one may need to be told by a majority that does: so this is only counted.
#[must_use]
pub fn helical(histories: &[WholeHistory]) -> Row {
    let mut row = Row::new(HELICAL).outside_the_model();
    for (number, history) in histories.iter().enumerate() {
        for spared in 1..=MEMBERS {
            let blocks = (1..=MEMBERS).map(|id| (id, Harm::Helical(id % MEMBERS)));
            let records = (1..=MEMBERS).filter(|id| *id != spared).map(|id| (id, Harm::RecordsDamaged(number as u64)));
            run_case(&mut row, history, &blocks.chain(records).collect::<Vec<_>>(), number as u64);
        }
    }
    row
}

/// Damages, lets the group recover, and counts what came of it.
pub fn run_case(row: &mut Row, history: &WholeHistory, harm: &[(u64, Harm)], seed: u64) -> Outcome {
    let mut disks = history.disks();
    for (id, harm) in harm {
        if let Some(disks) = disks.get_mut(id) {
            harm.carry_out(*id, disks, &history.past);
        }
    }
    let hopeless = why_not_recoverable(history, &disks);
    let mut nodes = Nodes::over(disks, seed);
    let outcome = recover(history, &mut nodes);
    row.count(&outcome, hopeless, nodes.fetched, || format!("seed {seed}: {harm:?}"));
    outcome
}

fn recover(history: &WholeHistory, nodes: &mut Nodes) -> Outcome {
    nodes.jump(LONG * 10);
    nodes.start_all();
    let (mut created, mut is_new) = (1_000_000, false);
    for round in 0..RECOVERY_ROUNDS {
        nodes.round();
        if round % FLUSH_ROUNDS == 0 {
            flush(nodes);
        }
        for (id, node) in nodes.serving() {
            if let Err(found) = check_state(history, &node) {
                return Outcome::Unsafe(format!("member {id}: {found}"));
            }
        }
        if nodes.serving().len() as u64 == MEMBERS && is_new {
            break;
        }
        if let Some((_, leader)) = nodes.leader().filter(|_| !is_new) {
            created += 1;
            let done = nodes.until_done(20, async move {
                let namespace = leader.open_namespace(NAMESPACE).await.ok()?;
                leader.submit(namespace, None, creation(created, 40)).await.ok()
            });
            is_new = done.flatten().is_some();
        }
    }
    for _ in 0..LOOKS {
        look_through(nodes);
    }
    judge(history, nodes, is_new)
}

/// Reads what nobody has asked for yet and flushes, which is how members find out that their record stores are damaged.
fn look_through(nodes: &mut Nodes) {
    for (_, node) in nodes.serving() {
        if let Some(namespace) = namespace(&node) {
            drop(
                node.read(|reader| reader.stream_rows(namespace, spire::REGISTRATIONS, StreamSequence::ZERO, ROWS_MAX)),
            );
        }
    }
    flush(nodes);
    for _ in 0..LOOK_ROUNDS {
        if nodes.serving().len() as u64 == MEMBERS {
            break;
        }
        nodes.round();
    }
}

fn flush(nodes: &mut Nodes) {
    for (_, node) in nodes.serving() {
        nodes.until_done(PATIENCE_ROUNDS, async move { drop(node.flush().await) });
    }
}

/// Records that are shown are those of the history, as long as nothing was added.
fn check_state(history: &WholeHistory, node: &Node) -> Result<(), String> {
    let folded = node.view().folded();
    if folded.revision == history.revision && folded.digest != history.digest {
        return Err(format!("its records at revision {} are not those that were committed", folded.revision));
    }
    Ok(())
}

fn judge(history: &WholeHistory, nodes: &mut Nodes, is_new: bool) -> Outcome {
    if !is_new {
        return Outcome::Unavailable(nodes.obstacles());
    }
    // Whoever is behind comes up.
    let newest = nodes.serving().values().map(Node::revision).max().unwrap_or_default();
    for _ in 0..PATIENCE_ROUNDS {
        if nodes.serving().values().all(|node| node.revision() >= newest) {
            break;
        }
        nodes.round();
    }
    let mut states = BTreeSet::new();
    for (id, node) in nodes.serving() {
        if let Err(found) = check_whole(history, &node) {
            return Outcome::Unsafe(format!("member {id}: {found}"));
        }
        states.insert((node.revision(), node.view().folded().digest.to_string()));
    }
    if states.len() > 1 {
        return Outcome::Unsafe(format!("members differ: {states:?}"));
    }
    match nodes.serving().len() as u64 {
        MEMBERS => Outcome::Repaired,
        serving if serving > MEMBERS / 2 => Outcome::Available(nodes.obstacles()),
        _ => Outcome::Unavailable(nodes.obstacles()),
    }
}

/// Everything that a member should have is there.
fn check_whole(history: &WholeHistory, node: &Node) -> Result<(), String> {
    let folded = node.view().folded();
    if folded.revision <= history.revision {
        return Err(format!("it is at revision {}, {} was acknowledged", folded.revision, history.revision));
    }
    let recomputed = node.view().recompute_digest().map_err(|error| error.to_string())?;
    if recomputed != (folded.revision, folded.digest) {
        return Err("its records are not those that it believes to have".into());
    }
    let Some(namespace) = namespace(node) else { return Err("its namespace is lost".into()) };
    let rows = node.read(|reader| reader.stream_rows(namespace, spire::REGISTRATIONS, StreamSequence::ZERO, ROWS_MAX));
    for row in rows.map_err(|error| error.to_string())? {
        let Some(expected) = history.events.get(&row.revision.0) else { continue };
        match node.log().read_tag(row.revision.0) {
            Ok(Some(entry)) if entry.payload == *expected => {}
            found => return Err(format!("event {} is {found:?}", row.revision)),
        }
    }
    Ok(())
}

/// Why a group cannot go on from what is left, whatever it does; `None` when it can. Nothing is changed.
fn why_not_recoverable(history: &WholeHistory, disks: &BTreeMap<u64, Disks>) -> Option<&'static str> {
    let left: Vec<Left> = disks.values().filter_map(left_of).collect();
    let majority = disks.len() / 2 + 1;
    if left.len() < majority {
        return Some("too few members still know their term and vote");
    }
    let is_intact = |index: u64, term: Term| left.iter().any(|left| left.outline.holds(LogIndex(index), term));
    let last = history.terms.last_key_value().map_or(0, |(index, _)| *index);
    // Whether all that the log of a member should hold is still there, with it or another one.
    let is_mendable = |left: &&Left| {
        history.terms.range(left.outline.base.index.0 + 1..=last).all(|(index, term)| is_intact(*index, *term))
    };
    let mendable: Vec<&Left> = left.iter().filter(is_mendable).collect();
    let begins = |left: &Left| left.outline.base.index;
    let has_state = |left: &&&Left| left.state.is_some_and(|state| state >= begins(left));
    let furthest = mendable.iter().filter(has_state).map(|left| left.commit.max(left.state.unwrap_or_default())).max();
    let startable = mendable.iter().filter(|left| has_state(left) || furthest.is_some_and(|end| end >= begins(left)));
    if mendable.len() < majority {
        Some("a committed entry has no intact copy")
    } else if furthest.is_none() {
        Some("no records, and no base snapshot to make them from, are left with a log that goes on behind them")
    } else if startable.count() < majority {
        Some("the only records that are left end before the log of another member begins")
    } else if left.iter().filter(|left| !left.outline.end_known).count() >= majority {
        Some("a majority has lost the ends of its logs, so that it may have had entries that nobody has")
    } else {
        None
    }
}

fn left_of(disks: &Disks) -> Option<Left> {
    let copy = disks.duplicate();
    let disk: Arc<dyn Disk> = Arc::new(copy.log.clone());
    let identity = read_identity(disk.as_ref()).ok()??;
    let options = LogOptions {
        segment_bytes: 32 << 10,
        segment_entries: 16,
        spare_segments: 0,
        verification: Verification::Everything,
        faults: FaultPolicy::Report,
        create: false,
    };
    let (writer, ..) = Log::open(disk, options, identity).ok()?;
    let outline = writer.outline().ok()?;
    let stored = copy.stores.stores().iter().filter_map(state_of).max();
    Some(Left { outline, commit: writer.hard_state().commit, state: stored.max(base_of(&copy.base)) })
}

/// How far a record store is folded, if it is of use.
fn state_of(store: &Arc<MemoryStore>) -> Option<LogIndex> {
    let store: Arc<dyn RecordStore> = Arc::clone(store) as _;
    store.scan(&[], &[u8::MAX; 32], &mut |_, _| ControlFlow::Continue(())).ok()?;
    store.flush().ok()?;
    View::open(CATALOG, store).ok().map(|view| view.folded().index)
}

/// How far a base snapshot reaches, if it is of use.
fn base_of(disk: &SimulatedDisk) -> Option<LogIndex> {
    let file = disk.open("base.snapshot").ok()?;
    let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?];
    file.read_at(&mut bytes, 0).ok()?;
    steeple_snapshot::verify(&bytes[..], &mut |_| {}).ok().map(|report| report.manifest.state.index)
}
