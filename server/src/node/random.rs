//! Where a node takes its random numbers from.

use parking_lot::Mutex;
use steeple_engine::local::SeededEntropy;
use steeple_engine::transaction::Entropy;

/// A source of random numbers.
pub(crate) enum Random {
    /// The operating system's.
    System,
    /// Numbers that follow from a seed, for a simulator.
    Seeded(Mutex<SeededEntropy>),
}

impl Random {
    /// The numbers that follow from a seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(SeededEntropy::new(seed)))
    }

    /// The next 128 bits.
    pub(crate) fn bits(&self) -> u128 {
        match self {
            Self::System => rand::random(),
            Self::Seeded(entropy) => entropy.lock().next_bits(),
        }
    }

    /// The next 128 bits, as bytes.
    pub(crate) fn bytes(&self) -> [u8; 16] {
        self.bits().to_be_bytes()
    }

    /// The next number.
    pub(crate) fn number(&self) -> u64 {
        let bits = self.bits();
        // The upper half: as good as the lower one.
        (bits >> 64) as u64
    }
}
