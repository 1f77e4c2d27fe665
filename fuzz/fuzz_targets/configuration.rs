//! A configuration file from arbitrary text, and arbitrary values for its keys from the environment.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use steeple_server::config::{Config, KEYS, Overrides, to_toml};

fn parse(text: &str, overrides: &Overrides) -> Option<Config> {
    Config::parse(text, Path::new("fuzz.toml"), overrides).ok()
}

fn check(config: &Config) {
    let printed = to_toml(config);
    assert_eq!(
        parse(&printed, &Overrides::default()).as_ref(),
        Some(config),
        "what is printed says the same: {printed}"
    );
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Some(config) = parse(&text, &Overrides::default()) {
        check(&config);
    }
    // The first character chooses a key, the rest is its value.
    let Some((choice, value)) = bytes.split_first() else { return };
    let key = &KEYS[usize::from(*choice) % KEYS.len()];
    let value = String::from_utf8_lossy(value).into_owned();
    let Ok(overrides) = Overrides::from_environment([(key.variable().into(), value.into())]) else { return };
    if let Some(config) = parse("", &overrides) {
        check(&config);
    }
});
