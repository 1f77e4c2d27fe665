//! `steeple spire federation`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use steeple_client::types::{Bundle, FederationRelationship, FederationRelationshipMask};

use super::bundle_file::{self, Format};
use super::identity::{parse_spiffe_id, parse_trust_domain_name};
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::json as documents;
use crate::cli::output::Row;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum FederationCommand {
    /// Say how the bundle of another trust domain is fetched
    Create(WriteArgs),
    /// One relationship
    Show(NamedArgs),
    /// Relationships in a table, in creation order
    List(AllArgs),
    /// How many relationships there are
    Count(AllArgs),
    /// Change the given fields of a relationship
    Update(WriteArgs),
    /// Delete a relationship; the bundle stays
    Delete(NamedArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WriteArgs {
    /// Name of the other trust domain
    #[arg(long, alias = "trustDomain", value_name = "NAME", value_parser = parse_trust_domain_name)]
    trust_domain: String,
    /// Where its bundle is served
    #[arg(long, alias = "bundleEndpointURL", value_name = "URL")]
    bundle_endpoint_url: Option<String>,
    /// How the endpoint proves who it is
    #[arg(long, alias = "bundleEndpointProfile", value_name = "PROFILE", value_parser = ["https_web", "https_spiffe"])]
    bundle_endpoint_profile: Option<String>,
    /// SPIFFE ID of the endpoint, for https_spiffe
    #[arg(long, alias = "endpointSpiffeID", value_name = "SPIFFE-ID", value_parser = parse_spiffe_id)]
    #[arg(requires = "bundle_endpoint_profile")]
    endpoint_spiffe_id: Option<String>,
    /// File with a bundle to store as well
    #[arg(long, alias = "trustDomainBundlePath", value_name = "FILE")]
    trust_domain_bundle_path: Option<PathBuf>,
    /// What is in the file
    #[arg(long, alias = "trustDomainBundleFormat", value_enum, default_value_t)]
    trust_domain_bundle_format: Format,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NamedArgs {
    /// Name of the other trust domain
    #[arg(long, alias = "trustDomain", value_name = "NAME", value_parser = parse_trust_domain_name)]
    trust_domain: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AllArgs {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: FederationCommand) -> Result<(), CommandError> {
    match command {
        FederationCommand::Create(arguments) => create(arguments).await,
        FederationCommand::Show(arguments) => show(arguments).await,
        FederationCommand::List(arguments) => list(arguments).await,
        FederationCommand::Count(arguments) => {
            let count = arguments.target.open().await?.list_federation_relationships().await?.len();
            arguments.target.output().say(&json!({ "count": count }), &format!("{count} relationships"))
        }
        FederationCommand::Update(arguments) => update(arguments).await,
        FederationCommand::Delete(arguments) => delete(arguments).await,
    }
}

impl WriteArgs {
    fn relationship(&self) -> Result<FederationRelationship, CommandError> {
        Ok(FederationRelationship {
            trust_domain: self.trust_domain.clone(),
            bundle_endpoint_url: self.bundle_endpoint_url.clone().unwrap_or_default(),
            bundle_endpoint_profile: self.bundle_endpoint_profile.clone().unwrap_or_default(),
            endpoint_spiffe_id: self.endpoint_spiffe_id.clone().unwrap_or_default(),
            trust_domain_bundle: self.bundle()?,
        })
    }

    fn bundle(&self) -> Result<Option<Bundle>, CommandError> {
        let id = format!("spiffe://{}", self.trust_domain);
        let read = |path: &PathBuf| bundle_file::read(path, self.trust_domain_bundle_format, &id);
        self.trust_domain_bundle_path.as_ref().map(read).transpose()
    }
}

async fn create(arguments: WriteArgs) -> Result<(), CommandError> {
    if arguments.bundle_endpoint_url.is_none() || arguments.bundle_endpoint_profile.is_none() {
        let needed = "a new relationship needs --bundle-endpoint-url and --bundle-endpoint-profile";
        return Err(CommandError::Usage(needed.into()));
    }
    let stored = arguments.target.open().await?.create_federation_relationship(arguments.relationship()?).await?;
    print(&arguments.target, &stored)
}

async fn update(arguments: WriteArgs) -> Result<(), CommandError> {
    let mask = FederationRelationshipMask {
        bundle_endpoint_url: arguments.bundle_endpoint_url.is_some(),
        bundle_endpoint_profile: arguments.bundle_endpoint_profile.is_some(),
        trust_domain_bundle: arguments.trust_domain_bundle_path.is_some(),
    };
    if mask == FederationRelationshipMask::default() {
        return Err(CommandError::Usage("no field to update is given; see --help".into()));
    }
    let relationship = arguments.relationship()?;
    let stored = arguments.target.open().await?.update_federation_relationship(relationship, Some(mask)).await?;
    print(&arguments.target, &stored)
}

fn print(target: &Target, relationship: &FederationRelationship) -> Result<(), CommandError> {
    let bundle = relationship.trust_domain_bundle.as_ref();
    let fields = [
        ("Trust domain", relationship.trust_domain.clone()),
        ("Endpoint URL", relationship.bundle_endpoint_url.clone()),
        ("Endpoint profile", relationship.bundle_endpoint_profile.clone()),
        ("Endpoint SPIFFE ID", relationship.endpoint_spiffe_id.clone()),
        ("Bundle", bundle.map_or("none".into(), |bundle| format!("{} X.509 authorities", bundle.root_cas.len()))),
    ];
    target.output().record(&documents::relationship(relationship), &fields)
}

async fn show(arguments: NamedArgs) -> Result<(), CommandError> {
    let found = arguments.target.open().await?.fetch_federation_relationship(&arguments.trust_domain).await?;
    let missing = || CommandError::NotFound(format!("there is no relationship with {}", arguments.trust_domain));
    print(&arguments.target, &found.ok_or_else(missing)?)
}

async fn list(arguments: AllArgs) -> Result<(), CommandError> {
    let relationships = arguments.target.open().await?.list_federation_relationships().await?;
    let columns = ["trust domain", "profile", "endpoint url", "bundle"];
    arguments.target.output().list("relationships", &columns, relationships.iter().map(row).collect())
}

fn row(relationship: &FederationRelationship) -> Row {
    let cells = vec![
        relationship.trust_domain.clone(),
        relationship.bundle_endpoint_profile.clone(),
        relationship.bundle_endpoint_url.clone(),
        if relationship.trust_domain_bundle.is_some() { "yes".into() } else { "no".into() },
    ];
    Row { cells, json: documents::relationship(relationship) }
}

async fn delete(arguments: NamedArgs) -> Result<(), CommandError> {
    arguments.target.open().await?.delete_federation_relationship(&arguments.trust_domain).await?;
    let document = json!({ "trust_domain": arguments.trust_domain, "deleted": true });
    arguments.target.output().say(&document, &format!("the relationship with {} is deleted", arguments.trust_domain))
}
