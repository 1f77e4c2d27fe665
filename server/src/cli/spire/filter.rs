//! Conditions on entries and agents.

use clap::{Args, ValueEnum};
use steeple_client::types::{
    AttestedNodeFilter, ByFederatesWith, BySelectors, MatchBehavior, RegistrationEntryFilter, Selector,
};

use super::identity::{parse_selector, parse_trust_domain_id};
use crate::cli::instant::parse_instant;

/// How a record's set has to relate to the given one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Match {
    /// The same elements
    Exact,
    /// None but given elements
    Subset,
    /// All given elements, maybe more
    #[default]
    Superset,
    /// At least one given element
    Any,
}

impl Match {
    fn behavior(self) -> i32 {
        match self {
            Self::Exact => MatchBehavior::Exact,
            Self::Subset => MatchBehavior::Subset,
            Self::Superset => MatchBehavior::Superset,
            Self::Any => MatchBehavior::Any,
        }
        .into()
    }
}

fn by_selectors(selectors: &[Selector], matching: Match) -> Option<BySelectors> {
    let condition = || BySelectors { r#match: matching.behavior(), selectors: selectors.to_vec() };
    (!selectors.is_empty()).then(condition)
}

/// Conditions on entries, all of which must hold.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Conditions")]
pub(super) struct EntryConditions {
    /// Entries of this parent
    #[arg(long, alias = "parentID", value_name = "SPIFFE-ID")]
    parent_id: Option<String>,
    /// Entries with this SPIFFE ID
    #[arg(long, alias = "spiffeID", value_name = "SPIFFE-ID")]
    spiffe_id: Option<String>,
    /// Entries with this hint
    #[arg(long)]
    hint: Option<String>,
    /// Entries with this selector; can be repeated
    #[arg(long, value_name = "TYPE:VALUE", value_parser = parse_selector)]
    selector: Vec<Selector>,
    /// How the selectors have to match
    #[arg(long, alias = "matchSelectorsOn", value_enum, default_value_t, requires = "selector")]
    r#match: Match,
    /// Entries that federate with this trust domain; can be repeated
    #[arg(long, alias = "federatesWith", value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    federates_with: Vec<String>,
    /// How the federated trust domains have to match
    #[arg(long, alias = "matchFederatesWithOn", value_enum, default_value_t, requires = "federates_with")]
    match_federates_with: Match,
    /// Entries of downstream servers, or with =false all others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    downstream: Option<bool>,
}

impl EntryConditions {
    /// As the node wants them.
    pub(super) fn filter(&self) -> RegistrationEntryFilter {
        let federates_with = (!self.federates_with.is_empty()).then(|| ByFederatesWith {
            r#match: self.match_federates_with.behavior(),
            trust_domain_ids: self.federates_with.clone(),
        });
        RegistrationEntryFilter {
            by_parent_id: self.parent_id.clone().unwrap_or_default(),
            by_spiffe_id: self.spiffe_id.clone().unwrap_or_default(),
            by_hint: self.hint.clone().unwrap_or_default(),
            by_selectors: by_selectors(&self.selector, self.r#match),
            by_federates_with: federates_with,
            by_downstream: self.downstream,
        }
    }
}

/// Conditions on agents, all of which must hold.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Conditions")]
pub(super) struct AgentConditions {
    /// Agents that attested this way
    #[arg(long, alias = "attestationType", value_name = "TYPE")]
    attestation_type: Option<String>,
    /// Banned agents, or with =false all others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    banned: Option<bool>,
    /// Agents whose certificates expire before this instant
    #[arg(long, alias = "expiresBefore", value_name = "WHEN", value_parser = parse_instant)]
    expires_before: Option<i64>,
    /// Agents whose certificates are valid at this instant
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    valid_at: Option<i64>,
    /// Agents that can attest again, or with =false all others
    #[arg(long, alias = "canReattest", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    can_reattest: Option<bool>,
    /// Agents with this selector; can be repeated
    #[arg(long, value_name = "TYPE:VALUE", value_parser = parse_selector)]
    selector: Vec<Selector>,
    /// How the selectors have to match
    #[arg(long, alias = "matchSelectorsOn", value_enum, default_value_t, requires = "selector")]
    r#match: Match,
}

impl AgentConditions {
    /// As the node wants them.
    pub(super) fn filter(&self) -> AttestedNodeFilter {
        AttestedNodeFilter {
            by_attestation_type: self.attestation_type.clone().unwrap_or_default(),
            by_banned: self.banned,
            by_expires_before_micros: self.expires_before.unwrap_or(0),
            valid_at_micros: self.valid_at.unwrap_or(0),
            by_can_reattest: self.can_reattest,
            by_spiffe_ids: Vec::new(),
            by_selectors: by_selectors(&self.selector, self.r#match),
        }
    }
}
