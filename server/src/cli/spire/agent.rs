//! `steeple spire agent`.

use clap::{Args, Subcommand};
use serde_json::json;
use steeple_client::types::{AttestedNode, AttestedNodeMask, Selector};
use tokio_stream::StreamExt as _;

use super::filter::AgentConditions;
use super::identity::{parse_selector, parse_spiffe_id, selectors_text};
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::instant::{now_micros, parse_duration, parse_instant, seconds_text};
use crate::cli::json as documents;
use crate::cli::output::Row;
use crate::cli::prune::prune_agents;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AgentCommand {
    /// Store an agent, as a server does when it attests
    Create(CreateArgs),
    /// Everything about an agent
    Show(NamedArgs),
    /// Agents in a table, in creation order
    List(ListArgs),
    /// How many agents there are
    Count(CountArgs),
    /// Change the given fields of an agent
    Update(UpdateArgs),
    /// Ban an agent: it keeps its record and may not attest again
    Ban(NamedArgs),
    /// Delete an agent with its selectors; it may attest again
    #[command(visible_alias = "delete")]
    Evict(NamedArgs),
    /// Delete agents whose certificates expired a while ago
    Purge(PurgeArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NamedArgs {
    /// SPIFFE ID of the agent
    #[arg(long, alias = "spiffeID", value_name = "SPIFFE-ID")]
    spiffe_id: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// SPIFFE ID of the agent
    #[arg(long, alias = "spiffeID", value_name = "SPIFFE-ID", value_parser = parse_spiffe_id)]
    spiffe_id: String,
    /// How it attested
    #[arg(long, alias = "attestationType", value_name = "TYPE")]
    attestation_type: String,
    /// Selector of the agent; can be repeated
    #[arg(long, value_name = "TYPE:VALUE", value_parser = parse_selector)]
    selector: Vec<Selector>,
    #[command(flatten)]
    fields: AgentFields,
    #[command(flatten)]
    target: Target,
}

/// Fields of an agent that may change.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct AgentFields {
    /// Serial number of its certificate
    #[arg(long, value_name = "NUMBER")]
    serial_number: Option<String>,
    /// When its certificate expires
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    not_after: Option<i64>,
    /// Whether it can attest again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    can_reattest: Option<bool>,
    /// Its version
    #[arg(long, value_name = "VERSION")]
    agent_version: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// SPIFFE ID of the agent
    #[arg(long, alias = "spiffeID", value_name = "SPIFFE-ID")]
    spiffe_id: String,
    /// Selector of the agent, in place of all that it has; can be repeated
    #[arg(long, value_name = "TYPE:VALUE", value_parser = parse_selector)]
    selector: Vec<Selector>,
    #[command(flatten)]
    fields: AgentFields,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Agents at the most
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    #[command(flatten)]
    conditions: AgentConditions,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CountArgs {
    #[command(flatten)]
    conditions: AgentConditions,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PurgeArgs {
    /// For how long
    #[arg(long, alias = "expiredFor", value_name = "DURATION", default_value = "720h", value_parser = parse_duration)]
    expired_for: std::time::Duration,
    /// Also agents that cannot attest again
    #[arg(long)]
    include_non_reattestable: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: AgentCommand) -> Result<(), CommandError> {
    match command {
        AgentCommand::Create(arguments) => create(arguments).await,
        AgentCommand::Show(arguments) => show(arguments).await,
        AgentCommand::List(arguments) => list(arguments).await,
        AgentCommand::Count(arguments) => count(arguments).await,
        AgentCommand::Update(arguments) => update(arguments).await,
        AgentCommand::Ban(arguments) => ban(arguments).await,
        AgentCommand::Evict(arguments) => evict(arguments).await,
        AgentCommand::Purge(arguments) => purge(arguments).await,
    }
}

impl AgentFields {
    fn node(&self, spiffe_id: String) -> AttestedNode {
        AttestedNode {
            spiffe_id,
            cert_serial_number: self.serial_number.clone().unwrap_or_default(),
            cert_not_after: self.not_after.unwrap_or(0) / 1_000_000,
            can_reattest: self.can_reattest.unwrap_or(false),
            agent_version: self.agent_version.clone().unwrap_or_default(),
            ..Default::default()
        }
    }

    fn mask(&self) -> AttestedNodeMask {
        AttestedNodeMask {
            cert_serial_number: self.serial_number.is_some(),
            cert_not_after: self.not_after.is_some(),
            can_reattest: self.can_reattest.is_some(),
            agent_version: self.agent_version.is_some(),
            ..Default::default()
        }
    }
}

async fn create(arguments: CreateArgs) -> Result<(), CommandError> {
    let (serial, not_after) = (&arguments.fields.serial_number, arguments.fields.not_after);
    if serial.as_ref().is_none_or(String::is_empty) || not_after.is_none() {
        return Err(CommandError::Usage("a new agent needs --serial-number and --not-after".into()));
    }
    let namespace = arguments.target.open().await?;
    let node = AttestedNode {
        attestation_data_type: arguments.attestation_type,
        ..arguments.fields.node(arguments.spiffe_id)
    };
    let mut node = namespace.create_attested_node(node).await?;
    if !arguments.selector.is_empty() {
        namespace.set_node_selectors(&node.spiffe_id, arguments.selector.clone()).await?;
        node.selectors = arguments.selector;
    }
    print(&arguments.target, &node)
}

async fn update(arguments: UpdateArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let mask = arguments.fields.mask();
    if mask == AttestedNodeMask::default() && arguments.selector.is_empty() {
        return Err(CommandError::Usage("no field to update is given; see --help".into()));
    }
    if mask != AttestedNodeMask::default() {
        namespace.update_attested_node(arguments.fields.node(arguments.spiffe_id.clone()), Some(mask)).await?;
    }
    if !arguments.selector.is_empty() {
        namespace.set_node_selectors(&arguments.spiffe_id, arguments.selector).await?;
    }
    print(&arguments.target, &fetch(&arguments.target, &arguments.spiffe_id).await?)
}

async fn show(arguments: NamedArgs) -> Result<(), CommandError> {
    print(&arguments.target, &fetch(&arguments.target, &arguments.spiffe_id).await?)
}

/// An agent with its selectors.
async fn fetch(target: &Target, spiffe_id: &str) -> Result<AttestedNode, CommandError> {
    let nodes = target.open().await?.fetch_attested_nodes(vec![spiffe_id.to_owned()]).await?;
    nodes.into_iter().next().ok_or_else(|| CommandError::NotFound(format!("there is no agent {spiffe_id}")))
}

fn print(target: &Target, node: &AttestedNode) -> Result<(), CommandError> {
    target.output().record(&documents::node(node), &fields(node))
}

fn fields(node: &AttestedNode) -> Vec<(&'static str, String)> {
    let yes = |flag: bool| if flag { "yes".to_owned() } else { String::new() };
    vec![
        ("SPIFFE ID", node.spiffe_id.clone()),
        ("Attestation type", node.attestation_data_type.clone()),
        ("Banned", yes(node.cert_serial_number.is_empty())),
        ("Serial number", node.cert_serial_number.clone()),
        ("Expires", seconds_text(node.cert_not_after)),
        ("Next serial number", node.new_cert_serial_number.clone()),
        ("Next expires", seconds_text(node.new_cert_not_after)),
        ("Can re-attest", yes(node.can_reattest)),
        ("Agent version", node.agent_version.clone()),
        ("Selectors", selectors_text(&node.selectors)),
    ]
}

async fn list(arguments: ListArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let records = namespace.stream_attested_nodes(arguments.conditions.filter(), true).await?;
    let mut records = records.take(arguments.limit.unwrap_or(usize::MAX));
    let mut rows = Vec::new();
    while let Some(node) = records.next().await {
        rows.push(row(&node?));
    }
    let columns = ["spiffe id", "attestation", "state", "expires", "re-attest", "selectors"];
    arguments.target.output().list("agents", &columns, rows)
}

fn row(node: &AttestedNode) -> Row {
    let state = if node.cert_serial_number.is_empty() { "banned" } else { "attested" };
    let cells = vec![
        node.spiffe_id.clone(),
        node.attestation_data_type.clone(),
        state.to_owned(),
        seconds_text(node.cert_not_after),
        if node.can_reattest { "yes".into() } else { "no".into() },
        selectors_text(&node.selectors),
    ];
    Row { cells, json: documents::node(node) }
}

async fn count(arguments: CountArgs) -> Result<(), CommandError> {
    let count = arguments.target.open().await?.count_attested_nodes(arguments.conditions.filter()).await?;
    arguments.target.output().say(&json!({ "count": count }), &format!("{count} agents"))
}

/// A banned agent is one without serial numbers.
async fn ban(arguments: NamedArgs) -> Result<(), CommandError> {
    let node = AttestedNode { spiffe_id: arguments.spiffe_id.clone(), ..Default::default() };
    let mask = AttestedNodeMask { cert_serial_number: true, new_cert_serial_number: true, ..Default::default() };
    arguments.target.open().await?.update_attested_node(node, Some(mask)).await?;
    let document = json!({ "spiffe_id": arguments.spiffe_id, "banned": true });
    arguments.target.output().say(&document, &format!("agent {} is banned", arguments.spiffe_id))
}

async fn evict(arguments: NamedArgs) -> Result<(), CommandError> {
    let node = arguments.target.open().await?.delete_attested_node(&arguments.spiffe_id).await?;
    arguments.target.output().say(&documents::node(&node), &format!("agent {} is evicted", arguments.spiffe_id))
}

async fn purge(arguments: PurgeArgs) -> Result<(), CommandError> {
    let age = i64::try_from(arguments.expired_for.as_micros()).unwrap_or(i64::MAX);
    let before = now_micros().saturating_sub(age);
    let namespace = arguments.target.open().await?;
    let purged = prune_agents(&namespace, before, arguments.include_non_reattestable).await?;
    arguments.target.output().say(&json!({ "purged": purged }), &format!("{purged} agents purged"))
}
