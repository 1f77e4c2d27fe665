//! What happened in a run: as a hash that two runs of the same seed must share, and as lines for whoever looks into one.

use xxhash_rust::xxh3::Xxh3;

use crate::time::Instant;

/// The trace of a run.
pub struct Trace {
    hash: Xxh3,
    steps: u64,
    prints: bool,
}

impl Trace {
    /// An empty one; `prints` says whether lines go to the standard error output.
    #[must_use]
    pub fn new(prints: bool) -> Self {
        Self { hash: Xxh3::new(), steps: 0, prints }
    }

    /// Notes a step.
    pub fn note(&mut self, at: Instant, what: &str, numbers: &[u64]) {
        self.steps += 1;
        self.hash.update(&at.to_le_bytes());
        self.hash.update(what.as_bytes());
        for number in numbers {
            self.hash.update(&number.to_le_bytes());
        }
        if self.prints {
            eprintln!("{:>12.6} {what} {numbers:?}", at as f64 / 1e6);
        }
    }

    /// Adds an explanation, which is not part of the hash.
    pub fn explain(&self, line: impl FnOnce() -> String) {
        if self.prints {
            eprintln!("             | {}", line());
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// Steps noted.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}
