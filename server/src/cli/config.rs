//! `steeple config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::config_flags::ConfigFlags;
use super::exit::CommandError;
use super::output::print_line;
use crate::config::to_toml;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the whole configuration as a node would see it
    Print(ConfigArgs),
    /// Say whether a configuration is right
    Check(ConfigArgs),
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "STEEPLE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: ConfigFlags,
}

pub(super) fn run(command: ConfigCommand) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Print(arguments) => {
            let config = arguments.flags.load(arguments.config.as_ref())?;
            print_line(to_toml(&config).trim_end())
        }
        ConfigCommand::Check(arguments) => {
            arguments.flags.load(arguments.config.as_ref())?;
            print_line("the configuration is right")
        }
    }
}
