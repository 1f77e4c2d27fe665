//! A flag for every key of the configuration.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};

use crate::config::{Config, ConfigError, KEYS, Kind, Overrides};

/// Values that flags give to keys of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigFlags {
    values: Vec<(&'static str, String)>,
}

impl ConfigFlags {
    /// The configuration: defaults, file, environment, these flags.
    pub(super) fn load(&self, file: Option<&PathBuf>) -> Result<Config, ConfigError> {
        let mut overrides = Overrides::from_environment(std::env::vars_os())?;
        for (flag, value) in &self.values {
            overrides.flag(flag, value.as_str())?;
        }
        Config::load(file.map(PathBuf::as_path), &overrides)
    }
}

impl clap::Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| {
            let argument = Arg::new(key.flag)
                .long(key.flag)
                .help(format!("{} [key: {}] [env: {}]", key.summary, key.name, key.variable()))
                .help_heading("Configuration");
            command.arg(with_value(argument, key.kind))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Says what follows the flag; a truth value may be left out.
fn with_value(argument: Arg, kind: Kind) -> Arg {
    match kind {
        Kind::Flag => argument.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
        Kind::Count => argument.value_name("NUMBER"),
        Kind::Bytes => argument.value_name("SIZE"),
        Kind::Duration => argument.value_name("DURATION"),
        Kind::Address => argument.value_name("ADDRESS"),
        Kind::Path => argument.value_name("PATH").value_hint(clap::ValueHint::AnyPath),
        Kind::Text => argument.value_name("TEXT"),
        Kind::List => argument.value_name("TEXT,..."),
        Kind::Choice(words) => argument.value_name("WORD").value_parser(words.to_vec()),
    }
}

impl clap::FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS {
            let value = matches.get_one::<String>(key.flag);
            self.values.extend(value.map(|value| (key.flag, value.clone())));
        }
        Ok(())
    }
}
