//! Which outcomes of a crash are tried.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// At most two to this many outcomes are all tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) bits: u32,
}

/// What is tried.
pub(crate) struct Outcomes {
    pub(crate) list: Vec<Vec<u32>>,
    /// Whether there is no other.
    pub(crate) is_all: bool,
}

impl Budget {
    /// The outcomes to try where each thing that a crash can take has so many: all of them if the budget allows, else
    /// nothing kept, everything kept, one thing kept or lost at a time, and some by chance.
    pub(crate) fn outcomes(self, choices: &[u32], seed: u64) -> Outcomes {
        let all = choices.iter().try_fold(1_u64, |all, choices| all.checked_mul(u64::from(*choices)));
        match all.filter(|all| *all <= 1 << self.bits) {
            Some(all) => Outcomes { list: (0..all).map(|number| nth(choices, number)).collect(), is_all: true },
            None => Outcomes { list: self.some(choices, seed), is_all: false },
        }
    }

    fn some(self, choices: &[u32], seed: u64) -> Vec<Vec<u32>> {
        let nothing = vec![0; choices.len()];
        let everything: Vec<u32> = choices.iter().map(|choices| choices - 1).collect();
        let mut list = vec![nothing.clone(), everything.clone()];
        let mut chance = StdRng::seed_from_u64(seed);
        // A long batch has hundreds of sectors: as many of them as the budget has outcomes stand for the others.
        let step = choices.len().div_ceil(1 << self.bits).max(1);
        for place in (0..choices.len()).step_by(step) {
            let (mut one, mut all_but_one) = (nothing.clone(), everything.clone());
            one[place] = everything[place];
            all_but_one[place] = chance.random_range(0..everything[place]);
            list.extend([one, all_but_one]);
        }
        let by_chance = (0..(1_u32 << self.bits) / 2)
            .map(|_| choices.iter().map(|choices| chance.random_range(0..*choices)).collect::<Vec<_>>());
        list.extend(by_chance);
        list
    }
}

/// Combinations counted like digits.
fn nth(choices: &[u32], mut number: u64) -> Vec<u32> {
    let mut outcome = Vec::with_capacity(choices.len());
    for choices in choices {
        outcome.push((number % u64::from(*choices)) as u32);
        number /= u64::from(*choices);
    }
    outcome
}
