//! `steeple spire bundle`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use steeple_client::types::{Bundle, BundleMask, DeleteMode};

use super::bundle_file::{self, Format};
use super::identity::parse_trust_domain_id;
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::instant::parse_instant;
use crate::cli::json as documents;
use crate::cli::output::{Output, Row, print_line};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BundleCommand {
    /// Store a new bundle
    Create(WriteArgs),
    /// Store a bundle in place of the one there is, if any
    Set(WriteArgs),
    /// Add certificates and keys to a bundle
    Append(WriteArgs),
    /// Change the refresh hint or sequence number of a bundle
    Update(UpdateArgs),
    /// One bundle
    Show(ShowArgs),
    /// Bundles in a table, in creation order
    List(AllArgs),
    /// How many bundles there are
    Count(AllArgs),
    /// Delete a bundle
    Delete(DeleteArgs),
    /// Remove expired certificates and keys
    Prune(PruneArgs),
    /// Mark an authority as no longer to be trusted for signing
    Taint(AuthorityArgs),
    /// Remove a tainted authority
    Revoke(AuthorityArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WriteArgs {
    /// Trust domain of the bundle
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    id: String,
    /// File with the bundle; - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    path: PathBuf,
    /// What is in the file
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// Trust domain of the bundle
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    id: String,
    /// Seconds after which the bundle should be fetched again
    #[arg(long, value_name = "SECONDS")]
    refresh_hint: Option<i64>,
    /// Sequence number
    #[arg(long, value_name = "NUMBER")]
    sequence_number: Option<u64>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Trust domain of the bundle
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    id: String,
    /// Print the X.509 authorities as PEM
    #[arg(long)]
    pem: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AllArgs {
    #[command(flatten)]
    target: Target,
}

/// What becomes of entries that federate with a deleted bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Refuse while there are any
    #[default]
    Restrict,
    /// Delete them
    Delete,
    /// Take the bundle out of them
    Dissociate,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs {
    /// Trust domain of the bundle
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    id: String,
    /// What becomes of entries that federate with it
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Trust domain of the bundle
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    id: String,
    /// What expired before this instant goes
    #[arg(long, value_name = "WHEN", default_value = "now", value_parser = parse_instant)]
    before: i64,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AuthorityArgs {
    /// Trust domain of the bundle
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    id: String,
    /// Subject key id of an X.509 authority
    #[arg(long, value_name = "HEX", conflicts_with = "jwt_key", required_unless_present = "jwt_key")]
    x509_key: Option<String>,
    /// Key id of a JWT authority
    #[arg(long, value_name = "KEY-ID")]
    jwt_key: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: BundleCommand) -> Result<(), CommandError> {
    match command {
        BundleCommand::Create(arguments) => {
            let stored = arguments.target.open().await?.create_bundle(arguments.read()?).await?;
            print(&arguments.target, &stored)
        }
        BundleCommand::Set(arguments) => {
            let stored = arguments.target.open().await?.set_bundle(arguments.read()?).await?;
            print(&arguments.target, &stored)
        }
        BundleCommand::Append(arguments) => {
            let stored = arguments.target.open().await?.append_bundle(arguments.read()?).await?;
            print(&arguments.target, &stored)
        }
        BundleCommand::Update(arguments) => update(arguments).await,
        BundleCommand::Show(arguments) => show(arguments).await,
        BundleCommand::List(arguments) => list(arguments).await,
        BundleCommand::Count(arguments) => {
            let count = arguments.target.open().await?.count_bundles().await?;
            arguments.target.output().say(&json!({ "count": count }), &format!("{count} bundles"))
        }
        BundleCommand::Delete(arguments) => delete(arguments).await,
        BundleCommand::Prune(arguments) => prune(arguments).await,
        BundleCommand::Taint(arguments) => taint(arguments).await,
        BundleCommand::Revoke(arguments) => revoke(arguments).await,
    }
}

impl WriteArgs {
    fn read(&self) -> Result<Bundle, CommandError> {
        bundle_file::read(&self.path, self.format, &self.id)
    }
}

fn print(target: &Target, bundle: &Bundle) -> Result<(), CommandError> {
    target.output().record(&documents::bundle(bundle), &fields(bundle))
}

fn fields(bundle: &Bundle) -> Vec<(&'static str, String)> {
    let tainted = bundle.root_cas.iter().filter(|certificate| certificate.tainted_key).count();
    let kids = bundle
        .jwt_signing_keys
        .iter()
        .map(|key| if key.tainted_key { format!("{} (tainted)", key.kid) } else { key.kid.clone() });
    vec![
        ("Trust domain", bundle.trust_domain_id.clone()),
        ("X.509 authorities", format!("{} ({tainted} tainted)", bundle.root_cas.len())),
        ("JWT authorities", kids.collect::<Vec<_>>().join(", ")),
        ("Refresh hint", bundle.refresh_hint.to_string()),
        ("Sequence number", bundle.sequence_number.to_string()),
    ]
}

async fn update(arguments: UpdateArgs) -> Result<(), CommandError> {
    let mask = BundleMask {
        refresh_hint: arguments.refresh_hint.is_some(),
        sequence_number: arguments.sequence_number.is_some(),
        ..Default::default()
    };
    if mask == BundleMask::default() {
        return Err(CommandError::Usage("no field to update is given; see --help".into()));
    }
    let bundle = Bundle {
        trust_domain_id: arguments.id,
        refresh_hint: arguments.refresh_hint.unwrap_or(0),
        sequence_number: arguments.sequence_number.unwrap_or(0),
        ..Default::default()
    };
    print(&arguments.target, &arguments.target.open().await?.update_bundle(bundle, Some(mask)).await?)
}

async fn show(arguments: ShowArgs) -> Result<(), CommandError> {
    let bundle = arguments.target.open().await?.fetch_bundle(&arguments.id).await?;
    let bundle = bundle.ok_or_else(|| CommandError::NotFound(format!("there is no bundle {}", arguments.id)))?;
    if arguments.pem && arguments.target.output() == Output::Table {
        return print_line(bundle_file::to_pem(&bundle).trim_end());
    }
    print(&arguments.target, &bundle)
}

async fn list(arguments: AllArgs) -> Result<(), CommandError> {
    let bundles = arguments.target.open().await?.list_bundles().await?;
    let columns = ["trust domain", "x.509", "jwt", "refresh hint", "sequence"];
    arguments.target.output().list("bundles", &columns, bundles.iter().map(row).collect())
}

fn row(bundle: &Bundle) -> Row {
    let cells = vec![
        bundle.trust_domain_id.clone(),
        bundle.root_cas.len().to_string(),
        bundle.jwt_signing_keys.len().to_string(),
        bundle.refresh_hint.to_string(),
        bundle.sequence_number.to_string(),
    ];
    Row { cells, json: documents::bundle(bundle) }
}

async fn delete(arguments: DeleteArgs) -> Result<(), CommandError> {
    let mode = match arguments.mode {
        Mode::Restrict => DeleteMode::Restrict,
        Mode::Delete => DeleteMode::Delete,
        Mode::Dissociate => DeleteMode::Dissociate,
    };
    arguments.target.open().await?.delete_bundle(&arguments.id, mode).await?;
    done(&arguments.target, &arguments.id, "deleted")
}

async fn prune(arguments: PruneArgs) -> Result<(), CommandError> {
    let changed = arguments.target.open().await?.prune_bundle(&arguments.id, arguments.before).await?;
    let sentence = if changed { "expired authorities were removed" } else { "nothing was removed" };
    arguments.target.output().say(&json!({ "changed": changed }), sentence)
}

async fn taint(arguments: AuthorityArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    match (&arguments.x509_key, &arguments.jwt_key) {
        (Some(key), _) => namespace.taint_x509_ca(&arguments.id, key).await?,
        (None, key) => drop(namespace.taint_jwt_key(&arguments.id, key.clone().unwrap_or_default()).await?),
    }
    done(&arguments.target, &arguments.id, "changed: the authority is tainted")
}

async fn revoke(arguments: AuthorityArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    match (&arguments.x509_key, &arguments.jwt_key) {
        (Some(key), _) => namespace.revoke_x509_ca(&arguments.id, key).await?,
        (None, key) => drop(namespace.revoke_jwt_key(&arguments.id, key.clone().unwrap_or_default()).await?),
    }
    done(&arguments.target, &arguments.id, "changed: the authority is revoked")
}

fn done(target: &Target, id: &str, what: &str) -> Result<(), CommandError> {
    target.output().say(&json!({ "trust_domain_id": id }), &format!("bundle {id} is {what}"))
}
