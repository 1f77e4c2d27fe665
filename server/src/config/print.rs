//! Writing a configuration, and the reference page.

use std::fmt::Write as _;

use super::{Config, KEYS, Key, Kind};

/// The configuration as a file that says everything.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{section}]");
        }
        let _ = writeln!(text, "{} = {}", key.short_name(), toml_value(key, config));
    }
    text
}

fn toml_value(key: &Key, config: &Config) -> String {
    let value = key.value(config);
    match key.kind {
        Kind::Flag | Kind::Count => value,
        Kind::List => {
            let values = value.split(',').filter(|value| !value.is_empty());
            toml::Value::Array(values.map(|value| toml::Value::String(value.to_owned())).collect()).to_string()
        }
        _ => toml::Value::String(value).to_string(),
    }
}

/// The tables of `docs/configuration.md`: every key with its flag, variable, default and meaning.
#[must_use]
pub fn reference() -> String {
    let defaults = Config::default();
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            let _ = write!(text, "\n## `[{section}]`\n\n| key | default | flag | environment variable | meaning |\n");
            text.push_str("| --- | --- | --- | --- | --- |\n");
        }
        let _ = writeln!(
            text,
            "| `{}` | `{}` | `--{}` | `{}` | {}{} |",
            key.short_name(),
            toml_value(key, &defaults),
            key.flag,
            key.variable(),
            key.summary,
            choices(key.kind),
        );
    }
    text
}

fn choices(kind: Kind) -> String {
    match kind {
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            format!(" One of {}.", words.join(", "))
        }
        _ => String::new(),
    }
}
