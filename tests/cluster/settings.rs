//! What the environment asks of the tests.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Mutex;

/// How long anything may take that happens by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// As many rounds as the environment asks for, or else this many.
pub(crate) fn rounds(usual: u64) -> u64 {
    number_from("STEEPLE_TEST_ROUNDS").unwrap_or(usual)
}

/// For how long memory and queues are looked at, if the environment does not ask for longer.
pub(crate) fn pressure_seconds(usual: u64) -> u64 {
    number_from("STEEPLE_TEST_PRESSURE_SECONDS").unwrap_or(usual)
}

/// For how long things go wrong at random, if the environment does not ask for longer.
pub(crate) fn chaos_seconds(usual: u64) -> u64 {
    number_from("STEEPLE_TEST_CHAOS_SECONDS").unwrap_or(usual)
}

/// How often log, snapshot and records are damaged, if the environment does not ask for more.
pub(crate) fn store_cases(usual: u64) -> u64 {
    number_from("STEEPLE_TEST_STORE_CASES").unwrap_or(usual)
}

/// What all clients' choices follow from.
pub(crate) fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = number_from("STEEPLE_TEST_SEED").unwrap_or_else(rand::random);
        println!("seed {seed}: STEEPLE_TEST_SEED={seed} repeats the choices of the clients");
        seed
    })
}

/// Runs a test. One cluster at a time: three nodes and their clients are enough for a small machine.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    static TURN: Mutex<()> = Mutex::const_new(());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let _turn = TURN.lock().await;
        test.await
    })
}
