//! The one source of everything that is left to chance in a run.

/// Numbers that follow from a seed (splitmix64). Parts of a run that must not disturb each other take a [`Chance::fork`]
/// each, so that a change in what one of them draws leaves the others as they were.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The numbers that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another source, which follows from this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `limit`; 0 when the limit is.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.number() % limit }
    }

    /// A number from `from` up to and without `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// Whether something happens that does so `per_mille` times in a thousand.
    pub fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// A number of which small ones are more likely than large ones, below about six times `mean`.
    pub fn around(&mut self, mean: u64) -> u64 {
        // A geometric series of halves, evenly spread within each of them.
        let halvings = u64::from(self.number().trailing_zeros().min(5));
        mean * halvings + self.below(mean.max(1))
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// One of several; `None` when there is none.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(self.pick(from)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_forks_do_not_disturb_each_other() {
        let mut one = Chance::new(7);
        let mut other = Chance::new(7);
        let (mut fork, mut same_fork) = (one.fork(), other.fork());
        fork.number();
        fork.number();
        assert_eq!(one.number(), other.number());
        assert_ne!(fork.number(), same_fork.number());
        assert_ne!(Chance::new(8).number(), Chance::new(7).number());
    }
}
