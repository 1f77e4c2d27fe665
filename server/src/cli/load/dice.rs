//! Random numbers that follow from a seed, on every machine and with every version.

/// SplitMix64: enough for test data, and its sequence will never change.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// Dice for one thing: `kind` and `number` tell it from all others of the same seed.
    pub(super) fn new(seed: u64, kind: &str, number: u32) -> Self {
        let mut state = seed;
        for byte in kind.bytes().chain(number.to_le_bytes()) {
            state = mix(state.wrapping_add(u64::from(byte)).wrapping_add(STEP));
        }
        Self { state }
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number below `limit`, which must not be 0.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        // The bias of the remainder is below 2^-32.
        u32::try_from(self.next() % u64::from(limit)).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of several things.
    pub(super) fn pick<'a, Thing>(&mut self, things: &'a [Thing]) -> &'a Thing {
        let limit = u32::try_from(things.len()).unwrap_or(u32::MAX);
        &things[self.below(limit) as usize]
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let mut dice = Dice { state: 1_234_567 };
        assert_eq!(dice.next(), 6_457_827_717_110_365_317);
        assert_eq!(dice.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn all_faces_come_up() {
        let mut dice = Dice::new(1, "test", 0);
        let mut seen = [0; 6];
        for _ in 0..600 {
            seen[dice.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (60..160).contains(count)), "{seen:?}");
    }
}
