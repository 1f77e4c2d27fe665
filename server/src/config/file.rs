//! Reading the file.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Suggestion;
use super::{Config, ConfigError, KEYS, Key, Kind, Origin};

/// Size above which a file is surely not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Changes `config` as the file says.
pub(super) fn apply(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let text = read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.into(), maximum: FILE_BYTES_MAX });
    }
    apply_text(config, &text, path)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Changes `config` as `text` says.
pub(super) fn apply_text(config: &mut Config, text: &str, path: &Path) -> Result<(), ConfigError> {
    let place = Place { text, path };
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: place.origin(error.span().unwrap_or(0..0)),
        message: error.message().to_owned(),
    })?;
    for (section, content) in document.get_ref() {
        apply_section(config, &place, section, content)?;
    }
    Ok(())
}

fn apply_section(
    config: &mut Config,
    place: &Place<'_>,
    section: &Spanned<std::borrow::Cow<'_, str>>,
    content: &Spanned<DeValue<'_>>,
) -> Result<(), ConfigError> {
    let name = section.get_ref();
    let sections = KEYS.iter().map(Key::section);
    if !sections.clone().any(|known| known == name) {
        // A key without its section is the likely mistake when a key of that name exists.
        let known = sections.chain(KEYS.iter().map(|key| key.name));
        return Err(place.unknown(name.to_string(), section.span(), known));
    }
    let DeValue::Table(table) = content.get_ref() else {
        return Err(ConfigError::Syntax {
            origin: place.origin(section.span()),
            message: format!("`{name}` is a section; write `[{name}]` on a line of its own"),
        });
    };
    for (key, value) in table {
        apply_key(config, place, name, key, value)?;
    }
    Ok(())
}

fn apply_key(
    config: &mut Config,
    place: &Place<'_>,
    section: &str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), ConfigError> {
    let full = format!("{section}.{}", name.get_ref());
    let key = KEYS.iter().find(|key| key.name == full);
    let key = key.ok_or_else(|| place.unknown(full, name.span(), KEYS.iter().map(|key| key.name)))?;
    let set = |config| (key.set)(config, &as_text(key.kind, value.get_ref())?);
    set(config).map_err(|message| ConfigError::Value { origin: place.origin(value.span()), key: key.name, message })
}

/// The value as it would be written after a flag, if its TOML type suits the key.
fn as_text(kind: Kind, value: &DeValue<'_>) -> Result<String, String> {
    match (kind, value) {
        (Kind::Flag, DeValue::Boolean(value)) => Ok(value.to_string()),
        (Kind::Count | Kind::Bytes, DeValue::Integer(value)) if value.radix() == 10 => Ok(value.as_str().to_owned()),
        (Kind::Bytes, DeValue::String(value)) => Ok(value.to_string()),
        (Kind::Duration, DeValue::Integer(value)) if value.as_str() == "0" => Ok("0".into()),
        (Kind::Duration | Kind::Address | Kind::Path | Kind::Text | Kind::Choice(_), DeValue::String(value)) => {
            Ok(value.to_string())
        }
        (Kind::List, DeValue::Array(values)) => {
            values.iter().map(|value| item(value.get_ref())).collect::<Result<Vec<_>, _>>().map(|items| items.join(","))
        }
        (_, other) => Err(format!("expected {}, found a value of type {}", kind.expected(), other.type_str())),
    }
}

/// One value of a list.
fn item(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.contains(',') => {
            Err(format!("`{text}` contains a comma, which separates values"))
        }
        DeValue::String(text) if text.trim().is_empty() => Err("a value of the list is empty".into()),
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(format!("expected texts in quotes, found a value of type {}", other.type_str())),
    }
}

impl Kind {
    /// What to write in a file.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Flag => "`true` or `false`",
            Self::Count => "a whole number",
            Self::Bytes => "a size such as \"64MiB\"",
            Self::Duration => "a duration such as \"10m\" in quotes",
            Self::Address => "an address such as \"127.0.0.1:7400\" in quotes",
            Self::Path => "a path in quotes",
            Self::Text | Self::Choice(_) => "a text in quotes",
            Self::List => "a list of texts such as [\"one\", \"two\"]",
        }
    }
}

/// The file, for saying where something is.
struct Place<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Place<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.into(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn unknown<'a>(&self, key: String, span: Range<usize>, known: impl IntoIterator<Item = &'a str>) -> ConfigError {
        let suggestion = Suggestion::nearest(&key, known);
        ConfigError::UnknownKey { origin: self.origin(span), key, suggestion }
    }
}
