//! The experiments: which histories, which damage, how often.

use crate::chance::Chance;
use crate::damage::{
    BLOCK_BYTES, Damage, files, is_recoverable, random_block, random_metadata, random_misdirected, random_old,
};
use crate::group::{Group, Outcome};
use crate::history::{History, settled, troubled};
use crate::report::Row;

/// Committed events of the history whose every pattern of damage is tried.
pub const TARGETED_ENTRIES: u64 = 4;

/// Damaged histories are made from this many different ones.
const HISTORIES: u64 = 100;

/// Damages the disks, lets the group recover, and counts what came of it.
pub fn run_case(row: &mut Row, mut history: History, damage: &[(u64, Damage)], seed: u64) -> Outcome {
    for (node, damage) in damage {
        if let Some(disk) = history.disks.get(node) {
            damage.apply(disk, &history.past_of(*node));
        }
    }
    let recoverable = is_recoverable(&history);
    let mut group = Group::over(std::mem::take(&mut history.disks), history.committed, seed);
    let outcome = group.recover();
    row.count(&outcome, recoverable, group.fetched, || format!("seed {seed}: {damage:?}"));
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
fn by_chance(
    name: &'static str,
    cases: u64,
    seed: u64,
    histories: &[History],
    draw: &dyn Fn(&History, u64, &mut Chance) -> Option<Damage>,
) -> Row {
    let mut row = Row::new(name);
    for case in 0..cases {
        let case_seed = seed.wrapping_add(case);
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
fn state_of_one(cases: u64, seed: u64, histories: &[History]) -> Row {
    let mut row = Row::new("outside the model: both state files of one member older").outside_the_model();
    for case in 0..cases {
        let case_seed = seed.wrapping_add(case);
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

/// The whole matrix; each number of cases is divided by `divisor`. Rows are handed over as they are done.
pub fn matrix(divisor: u64, seed: u64, done: &mut dyn FnMut(Row)) {
    let stride = usize::try_from(divisor.clamp(1, 64)).unwrap_or(1);
    targeted(if divisor <= 1 { 1 } else { stride }).into_iter().for_each(&mut *done);
    let settled = settled_histories(seed);
    let cases = |count: u64| count.div_ceil(divisor.max(1));
    done(by_chance("random block corruption", cases(5000), seed, &settled, &bad_block));
    done(by_chance("random block error", cases(5000), seed, &settled, &unreadable_block));
    let troubled = troubled_histories(3, seed);
    done(by_chance("crashed and lagging members, several terms", cases(5000), seed, &troubled, &anything));
    done(by_chance("file metadata", cases(1000), seed, &settled, &metadata));
    done(by_chance("single bits", cases(5000), seed, &troubled, &bit));
    let five = troubled_histories(5, seed);
    done(by_chance("five members, anything", cases(2000), seed, &five, &anything));
    done(by_chance("lost writes", cases(5000), seed, &troubled, &lost_write));
    done(by_chance("misdirected writes", cases(5000), seed, &troubled, &misdirected_write));
    done(by_chance("five members, lost and misdirected writes", cases(2000), seed, &five, &|history, node, chance| {
        if chance.one_in(2) { lost_write(history, node, chance) } else { misdirected_write(history, node, chance) }
    }));
    done(by_chance("copies of term and vote", cases(1000), seed, &troubled, &state_copies));
    done(by_chance("headers of segments", cases(1000), seed, &troubled, &headers));
    done(state_of_one(cases(1000), seed, &troubled));
    done(helical(&settled));
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
