//! Values that take the place of the file's.

use std::ffi::OsString;

use super::error::Suggestion;
use super::{Config, ConfigError, KEYS, Key, Origin};

/// Values from the environment and from flags. Flags win over the environment, both over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Applied in this order.
    values: Vec<(&'static Key, String, Origin)>,
}

impl Overrides {
    /// Those that environment variables give. Variables that are no key's are left alone: container platforms set
    /// many that begin with the name of a service.
    ///
    /// # Errors
    /// When a key's variable is not UTF-8.
    pub fn from_environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut overrides = Self::default();
        for (name, value) in variables {
            let Some(key) = name.to_str().and_then(|name| KEYS.iter().find(|key| key.variable() == name)) else {
                continue;
            };
            let origin = Origin::Environment(key.variable());
            let Ok(value) = value.into_string() else {
                return Err(ConfigError::Value { origin, key: key.name, message: "is not UTF-8".into() });
            };
            overrides.values.push((key, value, origin));
        }
        Ok(overrides)
    }

    /// Adds the value of a flag.
    ///
    /// # Errors
    /// When no key has this flag.
    pub fn flag(&mut self, flag: &str, value: impl Into<String>) -> Result<(), ConfigError> {
        let origin = Origin::Flag(flag.to_owned());
        let Some(key) = KEYS.iter().find(|key| key.flag == flag) else {
            let suggestion = Suggestion::nearest(flag, KEYS.iter().map(|key| key.flag));
            return Err(ConfigError::UnknownKey { origin, key: flag.to_owned(), suggestion });
        };
        self.values.push((key, value.into(), origin));
        Ok(())
    }

    /// Changes `config` accordingly.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let rank = |origin: &Origin| u8::from(matches!(origin, Origin::Flag(_)));
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_by_key(|(_, _, origin)| rank(origin));
        for (key, value, origin) in values {
            (key.set)(config, value).map_err(|message| ConfigError::Value {
                origin: origin.clone(),
                key: key.name,
                message,
            })?;
        }
        Ok(())
    }
}
