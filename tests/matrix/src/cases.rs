//! The experiments: which histories, which damage, how often.

use crate::chance::Chance;
use crate::damage::{
    BLOCK_BYTES, Damage, files, random_block, random_metadata, random_misdirected, random_old, why_not_recoverable,
};
use crate::group::{Group, Outcome};
use crate::history::{History, settled, troubled};
use crate::report::Row;
use crate::stores::{self, Parts};

/// Committed events of the history whose every pattern of damage is tried.
pub const TARGETED_ENTRIES: u64 = 4;

/// Damaged histories are made from this many different ones.
const HISTORIES: u64 = 100;

/// Histories of whole nodes, which take longer to make.
const WHOLE_HISTORIES: u64 = 40;

/// Which cases are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Each number of cases is divided by this.
    pub divisor: u64,
    /// Histories and damage follow from it.
    pub seed: u64,
    /// Only experiments with this in their names.
    pub only: Option<String>,
    /// Only the case with this seed.
    pub case: Option<u64>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { divisor: 1, seed: 1, only: None, case: None }
    }
}

impl Selection {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// The seeds of an experiment that has so many cases in full.
    fn seeds(&self, cases: u64) -> Vec<u64> {
        let all = 0..cases.div_ceil(self.divisor.max(1));
        let seeds = all.map(|case| self.seed.wrapping_add(case));
        seeds.filter(|seed| self.case.is_none_or(|case| case == *seed)).collect()
    }
}

/// Draws damage to one member.
type Draw<'a> = &'a dyn Fn(&History, u64, &mut Chance) -> Option<Damage>;

/// Damages the disks, lets the group recover, and counts what came of it.
pub fn run_case(row: &mut Row, mut history: History, damage: &[(u64, Damage)], seed: u64) -> Outcome {
    for (node, damage) in damage {
        if let Some(disk) = history.disks.get(node) {
            damage.apply(disk, &history.past_of(*node));
        }
    }
    let hopeless = why_not_recoverable(&history);
    let mut group = Group::over(std::mem::take(&mut history.disks), history.committed, seed);
    let outcome = group.recover();
    row.count(&outcome, hopeless, group.fetched, || format!("seed {seed}: {damage:?}"));
    outcome
}

/// Every pattern of damage to four entries on three members. `stride` leaves cases out.
#[must_use]
pub fn targeted(stride: usize) -> [Row; 2] {
    let history = settled(3, TARGETED_ENTRIES, 60, 1);
    let events = history.events();
    let mut rows =
        [Row::new("targeted, a copy of each entry survives"), Row::new("targeted, an entry has no copy left")];
    for pattern in (0..1_u64 << 12).step_by(stride.max(1)) {
        let is_hit = |place: usize, node: u64| pattern >> (place as u64 * 3 + node - 1) & 1 == 1;
        let all = events.iter().enumerate().flat_map(|(place, index)| (1..=3).map(move |node| (place, *index, node)));
        let damage: Vec<(u64, Damage)> = all
            .filter(|(place, _, node)| is_hit(*place, *node))
            .map(|(_, index, node)| (node, Damage::Entry { index }))
            .collect();
        let is_lost = (0..events.len()).any(|place| (1..=3).all(|node| is_hit(place, node)));
        run_case(&mut rows[usize::from(is_lost)], history.duplicate(), &damage, pattern);
    }
    rows
}

/// Damage by chance: on each member with a chance of one half, once or more.
fn by_chance(name: &'static str, seeds: &[u64], histories: &[History], draw: Draw<'_>) -> Row {
    let mut row = Row::new(name);
    for case_seed in seeds.iter().copied() {
        let mut chance = Chance::new(case_seed);
        let history = &histories[chance.below(histories.len() as u64) as usize];
        let mut damage = Vec::new();
        while damage.is_empty() {
            for node in history.disks.keys() {
                if chance.one_in(2) {
                    // On a member that was killed, damage to both an entry and its record is not told from a write that
                    // was never finished, so there is one place of damage.
                    let more = if history.killed.contains(node) { 1 } else { 2 };
                    damage.extend(
                        (0..1 + chance.below(more)).filter_map(|_| Some((*node, draw(history, *node, &mut chance)?))),
                    );
                }
            }
        }
        run_case(&mut row, history.duplicate(), &damage, case_seed);
    }
    row
}

fn settled_histories(seed: u64) -> Vec<History> {
    (0..HISTORIES / 5).map(|number| settled(3, 10 + number, 200 + 20 * number as usize, seed + number)).collect()
}

fn troubled_histories(nodes: u64, seed: u64) -> Vec<History> {
    (0..HISTORIES).map(|number| troubled(nodes, seed + number)).collect()
}

fn bad_block(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    let (file, block) = random_block(&history.disks[&node], chance)?;
    let content = (!chance.one_in(3)).then(|| chance.number());
    Some(Damage::Block { file, block, content })
}

fn unreadable_block(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    let (file, block) = random_block(&history.disks[&node], chance)?;
    Some(Damage::BlockError { file, block })
}

fn metadata(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    random_metadata(&history.disks[&node], chance)
}

fn bit(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    let (file, block) = random_block(&history.disks[&node], chance)?;
    Some(Damage::Bit { file, offset: block * 4096 + chance.below(4096) })
}

fn lost_write(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    random_old(&history.disks[&node], &history.past_of(node), chance)
}

fn misdirected_write(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    random_misdirected(&history.disks[&node], &history.past_of(node), chance)
}

/// Copies of term and vote, as long as one of a current state is left: one copy, a pair, or a whole file, damaged, lost
/// or of an earlier moment.
fn state_copies(history: &History, _node: u64, chance: &mut Chance) -> Option<Damage> {
    let file = if chance.one_in(2) { "state" } else { "state-twin" };
    let copy = chance.below(4);
    let moment = chance.below(history.past.len() as u64) as usize;
    let spoil = |copy: u64, chance: &mut Chance| match chance.below(3) {
        0 => Damage::Bit { file: file.into(), offset: copy * BLOCK_BYTES + chance.below(512) },
        1 => Damage::Block { file: file.into(), block: copy, content: Some(chance.number()) },
        _ => Damage::Old { file: file.into(), from: copy * BLOCK_BYTES, bytes: BLOCK_BYTES, moment },
    };
    Some(match chance.below(4) {
        0 => spoil(copy, chance),
        1 => Damage::All(vec![spoil(copy / 2 * 2, chance), spoil(copy / 2 * 2 + 1, chance)]),
        2 => Damage::OldFiles { files: vec![file.into()], moment },
        _ => Damage::All((0..4).map(|copy| spoil(copy, chance)).collect()),
    })
}

/// One copy or both of the header of a segment.
fn headers(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    let disk = &history.disks[&node];
    let segments: Vec<String> = files(disk).into_iter().filter(|file| file.starts_with("segment-")).collect();
    let file = segments.get(chance.below(segments.len() as u64) as usize)?.clone();
    let moment = chance.below(history.past.len() as u64) as usize;
    let spoil = |copy: u64, chance: &mut Chance| match chance.below(3) {
        0 => Damage::Bit { file: file.clone(), offset: copy * BLOCK_BYTES + chance.below(512) },
        1 => Damage::Block { file: file.clone(), block: copy, content: chance.one_in(2).then(|| chance.number()) },
        _ => Damage::Old { file: file.clone(), from: copy * BLOCK_BYTES, bytes: BLOCK_BYTES, moment },
    };
    Some(match chance.below(3) {
        0 => spoil(0, chance),
        1 => spoil(1, chance),
        _ => Damage::All(vec![spoil(0, chance), spoil(1, chance)]),
    })
}

/// Both files with term and vote of one member are those of an earlier moment, and of nobody else.
fn state_of_one(name: &'static str, seeds: &[u64], histories: &[History]) -> Row {
    let mut row = Row::new(name).outside_the_model();
    for case_seed in seeds.iter().copied() {
        let mut chance = Chance::new(case_seed);
        let history = &histories[chance.below(histories.len() as u64) as usize];
        let node = 1 + chance.below(history.disks.len() as u64);
        let moment = chance.below(history.past.len() as u64) as usize;
        let damage = Damage::OldFiles { files: vec!["state".into(), "state-twin".into()], moment };
        run_case(&mut row, history.duplicate(), &[(node, damage)], case_seed);
    }
    row
}

/// Any of the others.
fn anything(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    match chance.below(5) {
        0 => unreadable_block(history, node, chance),
        1 => bad_block(history, node, chance),
        2 => bit(history, node, chance),
        _ => {
            let indexes: Vec<u64> = history.committed.keys().copied().collect();
            let past_the_end = chance.below(indexes.len() as u64 + 2) + 1;
            Some(Damage::Entry { index: past_the_end })
        }
    }
}

fn lost_or_misdirected(history: &History, node: u64, chance: &mut Chance) -> Option<Damage> {
    if chance.one_in(2) { lost_write(history, node, chance) } else { misdirected_write(history, node, chance) }
}

/// The matrix, as far as it is selected. Rows are handed over as they are done.
pub fn matrix(selection: &Selection, done: &mut dyn FnMut(Row)) {
    if selection.wants("targeted") && selection.case.is_none() {
        targeted(usize::try_from(selection.divisor.clamp(1, 64)).unwrap_or(1)).into_iter().for_each(&mut *done);
    }
    let seed = selection.seed;
    let settled = settled_histories(seed);
    let (troubled, five) = (troubled_histories(3, seed), troubled_histories(5, seed));
    let mut run = |name: &'static str, cases: u64, histories: &[History], draw: Draw<'_>| {
        if selection.wants(name) {
            done(by_chance(name, &selection.seeds(cases), histories, draw));
        }
    };
    run("random block corruption", 5000, &settled, &bad_block);
    run("random block error", 5000, &settled, &unreadable_block);
    run("crashed and lagging members, several terms", 5000, &troubled, &anything);
    run("file metadata", 1000, &settled, &metadata);
    run("single bits", 5000, &troubled, &bit);
    run("five members, anything", 2000, &five, &anything);
    run("lost writes", 5000, &troubled, &lost_write);
    run("misdirected writes", 5000, &troubled, &misdirected_write);
    run("five members, lost and misdirected writes", 2000, &five, &lost_or_misdirected);
    run("copies of term and vote", 1000, &troubled, &state_copies);
    run("headers of segments", 1000, &troubled, &headers);
    let name = "outside the model: both state files of one member older";
    if selection.wants(name) {
        done(state_of_one(name, &selection.seeds(1000), &troubled));
    }
    if selection.wants("helical") && selection.case.is_none() {
        done(helical(&settled));
    }
    whole_nodes(selection, done);
}

/// What is damaged of whole nodes, and in how many cases.
const WHOLE_NODES: [(&str, u64, Parts); 5] = [
    ("whole nodes: snapshots and logs", 1000, Parts::SnapshotsAndLogs),
    ("whole nodes: manifests", 1000, Parts::Manifests),
    ("whole nodes: record stores", 1000, Parts::Records),
    ("whole nodes: snapshots and record stores", 2000, Parts::SnapshotsAndRecords),
    ("whole nodes: any mixture", 3000, Parts::All),
];

/// The rows of whole nodes.
fn whole_nodes(selection: &Selection, done: &mut dyn FnMut(Row)) {
    let is_helical_wanted = selection.wants(stores::HELICAL) && selection.case.is_none();
    let wanted: Vec<_> = WHOLE_NODES.iter().filter(|(name, ..)| selection.wants(name)).collect();
    if wanted.is_empty() && !is_helical_wanted {
        return;
    }
    let count = (WHOLE_HISTORIES / selection.divisor.max(1)).max(2);
    let histories = stores::histories(count, selection.seed);
    for (name, cases, parts) in wanted {
        done(stores::by_chance(name, *parts, &selection.seeds(*cases), &histories));
    }
    if is_helical_wanted {
        done(stores::helical(&histories));
    }
}

/// Every third block of every file, different thirds on each of three members.
#[must_use]
pub fn helical(histories: &[History]) -> Row {
    let mut row = Row::new("helical: every third block of every file");
    for (number, history) in histories.iter().enumerate() {
        for turn in 0..3 {
            let damage: Vec<(u64, Damage)> = (1..=3).map(|node| (node, Damage::Helical((node + turn) % 3))).collect();
            run_case(&mut row, history.duplicate(), &damage, number as u64);
        }
    }
    row
}
