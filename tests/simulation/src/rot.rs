//! What disks do to the log that was durable: bits rot, writes get lost or go astray, sectors cannot be read.
//!
//! Of every entry that a member may have confirmed, a majority keeps an intact copy: only then is there anything to be
//! repaired from. So the log of a member is damaged when enough others are sound and hold the same. It stays counted as
//! damaged until its process has read all of it and found it whole.
//!
//! One place is damaged at a time, and no sector that holds parts of an entry and of its persist record both: what a
//! crash of the process leaves then can be told from an unfinished write (`docs/reliability.md`). In logs as small as
//! these, frames and records are close neighbours.

use std::collections::BTreeMap;
use std::ops::Range;

use steeple_engine::disk::simulated::{CrashLoss, SECTOR_BYTES};
use steeple_engine::disk::{Disk, SimulatedDisk};
use steeple_engine::ids::NodeId;

use crate::chance::Chance;
use crate::machine::Machine;
use crate::network::machine_of;
use crate::violation::Checked;
use crate::world::World;

/// Bytes of a sector.
const SECTOR: u64 = SECTOR_BYTES as u64;

/// Where the frames of a segment begin.
const FRAMES_BEGIN: u64 = 8192;

/// Where the header of a segment says where its records begin.
const RECORDS_BEGIN: Range<usize> = 96..104;

/// What the segments of a log held at an earlier moment.
pub(crate) type Remembered = BTreeMap<String, Vec<u8>>;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rot {
    Bit,
    Misdirected,
    Lost,
    Unreadable,
}

const ROTS: [Rot; 4] = [Rot::Bit, Rot::Misdirected, Rot::Lost, Rot::Unreadable];

impl Rot {
    fn name(self) -> &'static str {
        match self {
            Self::Bit => "log: bit rot",
            Self::Misdirected => "log: misdirected write",
            Self::Lost => "log: lost write",
            Self::Unreadable => "log: sector unreadable",
        }
    }
}

/// The segments of a log, as they are now.
fn segments(disk: &SimulatedDisk) -> Remembered {
    let names = disk.list().unwrap_or_default().into_iter().filter(|name| name.starts_with("segment-"));
    names.filter_map(|name| Some((name.clone(), disk.contents(&name)?))).collect()
}

/// The sectors of a segment that hold frames and nothing else.
fn frame_sectors(bytes: &[u8]) -> Range<u64> {
    let records = bytes.get(RECORDS_BEGIN).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes);
    FRAMES_BEGIN / SECTOR..records.min(bytes.len() as u64) / SECTOR
}

fn sector_of(bytes: &[u8], sector: u64) -> &[u8] {
    let begin = (sector * SECTOR) as usize;
    bytes.get(begin..begin + SECTOR_BYTES).unwrap_or_default()
}

/// A sector with frames in one of the segments.
fn pick_sector<'a>(chance: &mut Chance, segments: &'a Remembered) -> Option<(&'a str, u64)> {
    let used: Vec<(&str, u64)> = segments
        .iter()
        .flat_map(|(name, bytes)| {
            let is_used = |sector: &u64| sector_of(bytes, *sector).iter().any(|byte| *byte != 0);
            frame_sectors(bytes).filter(is_used).map(|sector| (name.as_str(), sector)).collect::<Vec<_>>()
        })
        .collect();
    chance.choose(&used).copied()
}

impl Machine {
    /// Damages the log in one place, as `rot` says; whether there was anything to damage.
    fn rot(&mut self, rot: Rot, chance: &mut Chance) -> bool {
        let now = segments(&self.disk);
        match rot {
            Rot::Bit => self.flip_bit(&now, chance),
            Rot::Unreadable => {
                let Some((name, sector)) = pick_sector(chance, &now) else { return false };
                self.disk.fail_reads_within(name, sector * SECTOR..(sector + 1) * SECTOR);
                true
            }
            Rot::Lost => self.lose_write(&now, chance).is_some(),
            Rot::Misdirected => {
                let Some((target, place)) = pick_sector(chance, &now) else { return false };
                let Some((name, sector)) = self.lose_write(&now, chance) else { return false };
                let written = sector_of(&now[&name], sector);
                self.disk.overwrite(target, place * SECTOR, written)
            }
        }
    }

    /// Flips a bit of an entry of a process that has ended; whether the log holds it.
    pub(crate) fn rot_entry(&mut self, payload: &[u8]) -> bool {
        let holder = segments(&self.disk).into_iter().find_map(|(name, bytes)| {
            let place = bytes.windows(payload.len().max(1)).position(|window| window == payload)?;
            Some((name, place))
        });
        let Some((name, place)) = holder else { return false };
        self.is_rotten = self.disk.flip(&name, (place + payload.len() / 2) as u64, 1);
        self.is_rotten
    }

    fn flip_bit(&mut self, now: &Remembered, chance: &mut Chance) -> bool {
        let names: Vec<&String> = now.keys().collect();
        let Some(name) = chance.choose(&names) else { return false };
        let used = now[*name].iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at as u64);
        let used: Vec<u64> = used.collect();
        let Some(place) = chance.choose(&used) else { return false };
        self.disk.flip(name, *place, 1 << chance.below(8))
    }

    /// Puts what a sector held earlier in its place again; which one.
    fn lose_write(&mut self, now: &Remembered, chance: &mut Chance) -> Option<(String, u64)> {
        let mut changed = Vec::new();
        for (name, bytes) in now {
            let Some(before) = self.remembered.get(name) else { continue };
            let differs = |sector: &u64| sector_of(bytes, *sector) != sector_of(before, *sector);
            changed.extend(frame_sectors(bytes).filter(differs).map(|sector| (name, sector)));
        }
        let (name, sector) = *chance.choose(&changed)?;
        let before = sector_of(&self.remembered[name], sector);
        self.disk.overwrite(name, sector * SECTOR, before).then(|| (name.clone(), sector))
    }
}

impl World {
    /// Damages the log of a machine, if enough others are sound; now and then its process is killed first, so that the next
    /// one finds the damage. Otherwise whoever reads there meets it.
    pub(crate) fn rot_log(&mut self, number: usize) -> Checked {
        if self.copies_suffice_without(number) {
            let rot = *self.chance.pick(&ROTS);
            // A drive that cannot read a sector is noticed by whoever reads it, and forgets that with a restart here.
            if rot == Rot::Unreadable || self.chance.happens(700) {
                self.crash_with(number, CrashLoss::Nothing)?;
            }
            let machine = &mut self.machines[number];
            if machine.rot(rot, &mut self.chance) {
                (machine.is_rotten, machine.is_failing) = (true, true);
                self.counters.fault("log damaged");
                self.counters.branch(rot.name());
                self.trace.explain(|| format!("member {number}: {}", rot.name()));
            }
        }
        for machine in &mut self.machines {
            machine.remembered = segments(&machine.disk);
        }
        Ok(())
    }

    /// Whether a majority of all voters is sound and holds everything that a machine may have confirmed, without that one.
    fn copies_suffice_without(&self, number: usize) -> bool {
        let Some(leader) = self.leader().and_then(|leader| self.machines[leader].node.as_ref()) else { return false };
        let (membership, last) = (leader.membership(), leader.last());
        let mut nodes = self.machines.iter().filter_map(|machine| machine.node.as_ref());
        let is_settled =
            *self.changes_under_way.lock() == 0 && nodes.all(|node| node.membership().voters_outgoing.is_empty());
        let is_sound = |id: &&u64| {
            let Some(machine) = self.machines.get(machine_of(NodeId(**id))) else { return false };
            let holds_all = machine.node.as_ref().is_some_and(|node| {
                node.last() == last && node.committed() == last.index && node.node().log().last() == last
            });
            machine.number != number && !machine.is_rotten && !machine.wiped && holds_all
        };
        let target = &self.machines[number];
        let votes = target.node.is_some() && membership.voters.contains(&target.id().0);
        let is_whole = !target.is_rotten && !target.wiped;
        let sound = membership.voters.iter().filter(is_sound).count();
        let are_complete = !self.is_anyone_without_records();
        is_settled && are_complete && votes && is_whole && sound > membership.voters.len() / 2
    }
}
