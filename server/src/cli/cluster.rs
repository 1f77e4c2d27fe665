//! `steeple cluster`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple_client::administration::{
    AddMemberRequest, ChangeAddressRequest, ClusterMember, ClusterStatusResponse, MemberRole,
};

use super::connection::Connection;
use super::exit::CommandError;
use super::output::{Output, lines, print_json, print_line, table};

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Who the members of the group are and how they are doing; the leader knows most
    Status(StatusArgs),
    /// Add a node to the group; it has to be started with `[cluster] join`
    Add(AddArgs),
    /// Remove a node from the group, for good
    Remove(NodeArgs),
    /// Give a learner a vote
    Promote(NodeArgs),
    /// Make another voter the leader
    TransferLeader(NodeArgs),
    /// Change where a node is reached
    ChangeAddress(ChangeAddressArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Number of the node, never used before in this cluster
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// Where the other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer_address: String,
    /// Where clients reach it
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    client_address: String,
    /// Give it a vote at once, before it has anything; without this it is a learner until it is promoted
    #[arg(long)]
    voter: bool,
    /// What it is anyway without `--voter`
    #[arg(long, hide = true, conflicts_with = "voter")]
    learner: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// Number of the node
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct ChangeAddressArgs {
    /// Number of the node
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// Where the other nodes reach it from now on
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    #[arg(required_unless_present = "client_address")]
    peer_address: String,
    /// Where clients reach it from now on
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    client_address: String,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: ClusterCommand) -> Result<(), CommandError> {
    match command {
        ClusterCommand::Status(arguments) => status(arguments).await,
        ClusterCommand::Add(arguments) => add(arguments).await,
        ClusterCommand::Remove(NodeArgs { node, connection }) => {
            connection.admin().await?.remove_member(node).await?;
            let document = json!({ "node_id": node, "removed": true });
            connection.output.say(&document, &format!("node {node} is no member any more"))
        }
        ClusterCommand::Promote(NodeArgs { node, connection }) => {
            connection.admin().await?.promote_member(node).await?;
            let document = json!({ "node_id": node, "role": role_name(MemberRole::Voter) });
            connection.output.say(&document, &format!("node {node} has a vote"))
        }
        ClusterCommand::TransferLeader(NodeArgs { node, connection }) => {
            connection.admin().await?.transfer_leader(node).await?;
            connection.output.say(&json!({ "leader_node_id": node }), &format!("node {node} leads"))
        }
        ClusterCommand::ChangeAddress(arguments) => change_address(arguments).await,
    }
}

async fn status(arguments: StatusArgs) -> Result<(), CommandError> {
    let mut status = arguments.connection.admin().await?.cluster_status().await?;
    if let Some(members) = members_by_leader(&arguments.connection, &status).await {
        status.members = members;
    }
    match arguments.connection.output {
        Output::Json => print_json(&status_json(&status))?,
        Output::Table => {
            print_line(&lines(&status_fields(&status)))?;
            print_line("")?;
            let rows = status.members.iter().map(|member| member_cells(&status, member));
            print_line(&table(&COLUMNS, rows))?;
        }
    }
    if status.ready { Ok(()) } else { Err(CommandError::Failed(status.not_ready_reason)) }
}

/// The members as the leader sees them, when it is another node and can be asked. Only it knows how far they are.
async fn members_by_leader(connection: &Connection, status: &ClusterStatusResponse) -> Option<Vec<ClusterMember>> {
    let endpoint = vec![leader_address(status)?.to_owned()];
    let timeout = connection.timeout.min(LEADER_PATIENCE);
    let admin = Connection { endpoint, timeout, ..connection.clone() }.admin().await.ok()?;
    let told = admin.cluster_status().await.ok()?;
    // Another node may have its address by now.
    let is_leader = told.cluster_id == status.cluster_id && told.node_id == told.leader_node_id;
    is_leader.then_some(told.members)
}

/// Where clients reach the leader, unless it is the node that was asked.
fn leader_address(status: &ClusterStatusResponse) -> Option<&str> {
    let is_other = |member: &&ClusterMember| {
        member.node_id == status.leader_node_id && member.node_id != status.node_id && !member.client_address.is_empty()
    };
    status.members.iter().find(is_other).map(|member| member.client_address.as_str())
}

/// How long the leader may take to tell how the members are doing.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);

const COLUMNS: [&str; 8] = ["node", "role", "peers", "clients", "matched", "lag", "active", "features"];

fn status_fields(status: &ClusterStatusResponse) -> Vec<(&'static str, String)> {
    let leader = match status.leader_node_id {
        0 => "none known".into(),
        leader => format!("node {leader}"),
    };
    let state = if status.ready { "serving".into() } else { format!("NOT READY: {}", status.not_ready_reason) };
    vec![
        ("cluster", status.cluster_id.clone()),
        ("leader", format!("{leader}, term {}", status.term)),
        ("asked", format!("node {}, {state}", status.node_id)),
        ("revision", status.revision.to_string()),
        ("features", format!("version {}", status.features)),
        ("log", format!("folded {}, committed {}", status.folded_log_index, status.committed_log_index)),
    ]
}

fn member_cells(status: &ClusterStatusResponse, member: &ClusterMember) -> Vec<String> {
    let role = match member.role() {
        MemberRole::Voter if member.node_id == status.leader_node_id => "leader",
        role => role_name(role),
    };
    let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let text = |text: &str| if text.is_empty() { "-".into() } else { text.to_owned() };
    let mut lag = number(member.lag_entries);
    if member.needs_snapshot == Some(true) {
        lag.push_str(", needs a snapshot");
    }
    let active = match member.recently_active {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    vec![
        member.node_id.to_string(),
        role.into(),
        text(&member.peer_address),
        text(&member.client_address),
        number(member.matched_log_index),
        lag,
        active.into(),
        number(member.features.map(u64::from)),
    ]
}

fn status_json(status: &ClusterStatusResponse) -> Value {
    json!({
        "cluster_id": status.cluster_id,
        "group_id": status.group_id,
        "node_id": status.node_id,
        "leader_node_id": status.leader_node_id,
        "term": status.term,
        "revision": status.revision,
        "folded_log_index": status.folded_log_index,
        "committed_log_index": status.committed_log_index,
        "features": status.features,
        "ready": status.ready,
        "not_ready_reason": status.not_ready_reason,
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
    })
}

/// What a node does not know is `null`.
fn member_json(member: &ClusterMember) -> Value {
    json!({
        "node_id": member.node_id,
        "role": role_name(member.role()),
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "matched_log_index": member.matched_log_index,
        "lag_entries": member.lag_entries,
        "recently_active": member.recently_active,
        "features": member.features,
        "needs_snapshot": member.needs_snapshot,
    })
}

fn role_name(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Unspecified => "unknown",
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::Outgoing => "outgoing",
    }
}

async fn add(arguments: AddArgs) -> Result<(), CommandError> {
    let AddArgs { node, peer_address, client_address, voter, learner: _, connection } = arguments;
    let member =
        AddMemberRequest { node_id: node, peer_address: peer_address.clone(), client_address, as_learner: !voter };
    connection.admin().await?.add_member(member).await?;
    let role = role_name(if voter { MemberRole::Voter } else { MemberRole::Learner });
    let document = json!({ "node_id": node, "peer_address": peer_address, "role": role });
    connection.output.say(&document, &format!("node {node} at {peer_address} is a {role}"))
}

async fn change_address(arguments: ChangeAddressArgs) -> Result<(), CommandError> {
    let ChangeAddressArgs { node, peer_address, client_address, connection } = arguments;
    let document = json!({ "node_id": node, "peer_address": peer_address, "client_address": client_address });
    let addresses = ChangeAddressRequest { node_id: node, peer_address, client_address };
    connection.admin().await?.change_address(addresses).await?;
    connection.output.say(&document, &format!("node {node} has its new address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node_id: u64, role: MemberRole) -> ClusterMember {
        ClusterMember { node_id, role: role.into(), ..Default::default() }
    }

    #[test]
    fn what_a_node_does_not_know_is_shown_as_unknown() {
        let known = ClusterMember {
            matched_log_index: Some(9),
            lag_entries: Some(1),
            recently_active: Some(false),
            needs_snapshot: Some(true),
            client_address: "n:1".into(),
            features: Some(3),
            ..member(2, MemberRole::Voter)
        };
        let members = vec![member(1, MemberRole::Learner), known];
        let status = ClusterStatusResponse { leader_node_id: 2, members, ..Default::default() };
        assert_eq!(member_cells(&status, &status.members[0]), ["1", "learner", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(
            member_cells(&status, &status.members[1]),
            ["2", "leader", "-", "n:1", "9", "1, needs a snapshot", "NO", "3"]
        );
        assert_eq!(leader_address(&status), Some("n:1"));
        let asked = ClusterStatusResponse { node_id: 2, ..status.clone() };
        assert_eq!(leader_address(&asked), None, "it knows itself");
        let document = status_json(&status);
        assert_eq!(document["members"][0]["lag_entries"], Value::Null);
        assert_eq!(document["members"][1]["role"], "voter");
    }
}
