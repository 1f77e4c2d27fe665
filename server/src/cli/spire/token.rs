//! `steeple spire token`. The text of a token is a secret: it is printed where it is created, and nowhere else.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;
use steeple_client::types::{RegistrationEntry, Selector};

use super::entry_file::read_text;
use super::identity::{parse_spiffe_id, trust_domain_of};
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::instant::{now_micros, parse_duration, seconds_text};

/// Longest token that is read from standard input.
const TOKEN_BYTES_MAX: u64 = 4096;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Make a token with which one agent can attest, and print it
    #[command(visible_alias = "create")]
    Generate(GenerateArgs),
    /// Whether a token exists, and when it expires
    Show(TokenArgs),
    /// Delete a token
    Delete(TokenArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GenerateArgs {
    /// How long the token can be used
    #[arg(long, value_name = "DURATION", default_value = "600", value_parser = parse_duration)]
    ttl: std::time::Duration,
    /// SPIFFE ID to give to the agent besides its own, by an entry
    #[arg(long, alias = "spiffeID", value_name = "SPIFFE-ID", value_parser = parse_spiffe_id)]
    spiffe_id: Option<String>,
    /// The token; a random one when missing
    #[arg(long, value_name = "TEXT")]
    token: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TokenArgs {
    /// The token; - reads it from standard input, so that it stays out of the process list
    #[arg(default_value = "-")]
    token: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: TokenCommand) -> Result<(), CommandError> {
    match command {
        TokenCommand::Generate(arguments) => generate(arguments).await,
        TokenCommand::Show(arguments) => show(arguments).await,
        TokenCommand::Delete(arguments) => delete(arguments).await,
    }
}

async fn generate(arguments: GenerateArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let token = arguments.token.unwrap_or_else(|| token_text(rand::random()));
    let ttl = i64::try_from(arguments.ttl.as_secs()).unwrap_or(i64::MAX);
    let expires_at = (now_micros() / 1_000_000).saturating_add(ttl);
    namespace.create_join_token(&token, expires_at).await?;
    if let Some(spiffe_id) = arguments.spiffe_id {
        namespace.create_registration_entry(alias_entry(&token, spiffe_id)).await?;
    }
    let document = json!({ "token": token, "expires_at": expires_at });
    arguments.target.output().say(&document, &format!("Token: {token}"))
}

/// A random UUID.
fn token_text(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// The entry that gives the agent which attests with the token another SPIFFE ID.
fn alias_entry(token: &str, spiffe_id: String) -> RegistrationEntry {
    let trust_domain = trust_domain_of(&spiffe_id).unwrap_or_default();
    let parent_id = format!("spiffe://{trust_domain}/spire/agent/join_token/{token}");
    let selectors = vec![Selector { r#type: "spiffe_id".into(), value: parent_id.clone() }];
    RegistrationEntry { parent_id, spiffe_id, selectors, ..Default::default() }
}

/// The token of an argument; `-` stands for standard input.
fn token(argument: String) -> Result<String, CommandError> {
    let token = if argument == "-" { read_text(Path::new("-"), TOKEN_BYTES_MAX)?.trim().to_owned() } else { argument };
    if token.is_empty() { Err(CommandError::Usage("the token is empty".into())) } else { Ok(token) }
}

async fn show(arguments: TokenArgs) -> Result<(), CommandError> {
    let found = arguments.target.open().await?.fetch_join_token(token(arguments.token)?).await?;
    let found = found.ok_or_else(|| CommandError::NotFound("there is no such join token".into()))?;
    let sentence = format!("the token expires at {}", seconds_text(found.expires_at));
    arguments.target.output().say(&json!({ "expires_at": found.expires_at }), &sentence)
}

async fn delete(arguments: TokenArgs) -> Result<(), CommandError> {
    arguments.target.open().await?.delete_join_token(token(arguments.token)?).await?;
    arguments.target.output().say(&json!({ "deleted": true }), "the token is deleted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_uuids() {
        assert_eq!(token_text([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(token_text([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn the_alias_belongs_to_the_agent_of_the_token() {
        let entry = alias_entry("t", "spiffe://td.example/web".into());
        assert_eq!(entry.parent_id, "spiffe://td.example/spire/agent/join_token/t");
        assert_eq!(entry.selectors[0].value, entry.parent_id);
    }
}
