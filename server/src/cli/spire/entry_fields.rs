//! The fields of an entry as flags.

use clap::Args;
use steeple_client::types::{AdditionalAttributes, RegistrationEntry, RegistrationEntryMask, Selector};

use super::identity::{parse_selector, parse_spiffe_id, parse_trust_domain_id, trust_domain_of};
use crate::cli::instant::parse_instant;

/// Fields of an entry.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Fields of the entry")]
pub(super) struct EntryFields {
    /// SPIFFE ID of the parent
    #[arg(long, alias = "parentID", value_name = "SPIFFE-ID", value_parser = parse_spiffe_id)]
    parent_id: Option<String>,
    /// SPIFFE ID that the entry gives
    #[arg(long, alias = "spiffeID", value_name = "SPIFFE-ID", value_parser = parse_spiffe_id)]
    spiffe_id: Option<String>,
    /// Selector that a workload must have; can be repeated
    #[arg(long, value_name = "TYPE:VALUE", value_parser = parse_selector)]
    selector: Vec<Selector>,
    /// Trust domain to federate with, which must have a bundle; can be repeated
    #[arg(long, alias = "federatesWith", value_name = "TRUST-DOMAIN", value_parser = parse_trust_domain_id)]
    federates_with: Vec<String>,
    /// Lifetime of X.509 SVIDs, in seconds
    #[arg(long, alias = "x509SVIDTTL", value_name = "SECONDS")]
    x509_svid_ttl: Option<i32>,
    /// Lifetime of JWT SVIDs, in seconds
    #[arg(long, alias = "jwtSVIDTTL", value_name = "SECONDS")]
    jwt_svid_ttl: Option<i32>,
    /// Tells identities of one workload apart
    #[arg(long)]
    hint: Option<String>,
    /// DNS name for SVIDs; can be repeated
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// When the entry expires
    #[arg(long, alias = "entryExpiry", value_name = "WHEN", value_parser = parse_instant)]
    entry_expiry: Option<i64>,
    /// May use the server's API
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    admin: Option<bool>,
    /// Belongs to a downstream server
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    downstream: Option<bool>,
    /// Push the SVID into a secret store
    #[arg(long, alias = "storeSVID", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    store_svid: Option<bool>,
    /// Agents fetch the X.509 SVID only when asked
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_x509_svid_prefetch: Option<bool>,
    /// JWT SVIDs carry a `jti`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    jwt_svid_include_jti: Option<bool>,
    /// The entry is for nodes: its parent is the server
    #[arg(long, conflicts_with = "parent_id")]
    node: bool,
}

impl EntryFields {
    /// The entry, once everything that a new one needs is there.
    pub(super) fn new_entry(&self, entry_id: String) -> Result<RegistrationEntry, String> {
        let entry = self.entry(entry_id);
        let missing = [
            ("--spiffe-id", entry.spiffe_id.is_empty()),
            ("--parent-id (or --node)", entry.parent_id.is_empty()),
            ("at least one --selector", entry.selectors.is_empty()),
        ];
        match missing.into_iter().find(|(_, missing)| *missing) {
            Some((flag, _)) => Err(format!("a new entry needs {flag}; or give a file with --data")),
            None => Ok(entry),
        }
    }

    /// The entry with those fields that are given, and which they are.
    pub(super) fn changes(&self, entry_id: String) -> Result<(RegistrationEntry, RegistrationEntryMask), String> {
        let mask = self.mask();
        if mask == RegistrationEntryMask::default() {
            return Err("no field to update is given; see --help".into());
        }
        Ok((self.entry(entry_id), mask))
    }

    fn entry(&self, entry_id: String) -> RegistrationEntry {
        RegistrationEntry {
            entry_id,
            selectors: self.selector.clone(),
            parent_id: self.parent(),
            spiffe_id: self.spiffe_id.clone().unwrap_or_default(),
            x509_svid_ttl: self.x509_svid_ttl.unwrap_or(0),
            jwt_svid_ttl: self.jwt_svid_ttl.unwrap_or(0),
            federates_with: self.federates_with.clone(),
            admin: self.admin.unwrap_or(false),
            downstream: self.downstream.unwrap_or(false),
            entry_expiry: self.entry_expiry.unwrap_or(0) / 1_000_000,
            dns_names: self.dns.clone(),
            store_svid: self.store_svid.unwrap_or(false),
            hint: self.hint.clone().unwrap_or_default(),
            additional_attributes: self.attributes_over(None),
            ..Default::default()
        }
    }

    fn parent(&self) -> String {
        let server = || Some(format!("spiffe://{}/spire/server", trust_domain_of(self.spiffe_id.as_deref()?)?));
        let parent = if self.node { server() } else { self.parent_id.clone() };
        parent.unwrap_or_default()
    }

    /// The stored attributes with those that are given. An update replaces them as a whole.
    pub(super) fn attributes_over(&self, stored: Option<AdditionalAttributes>) -> Option<AdditionalAttributes> {
        let stored = stored.unwrap_or_default();
        let attributes = AdditionalAttributes {
            disable_x509_svid_prefetch: self.disable_x509_svid_prefetch.unwrap_or(stored.disable_x509_svid_prefetch),
            jwt_svid_include_jti: self.jwt_svid_include_jti.unwrap_or(stored.jwt_svid_include_jti),
            unknown_fields: stored.unknown_fields,
        };
        (attributes != AdditionalAttributes::default()).then_some(attributes)
    }

    fn mask(&self) -> RegistrationEntryMask {
        RegistrationEntryMask {
            selectors: !self.selector.is_empty(),
            parent_id: self.parent_id.is_some() || self.node,
            spiffe_id: self.spiffe_id.is_some(),
            x509_svid_ttl: self.x509_svid_ttl.is_some(),
            federates_with: !self.federates_with.is_empty(),
            entry_id: false,
            admin: self.admin.is_some(),
            downstream: self.downstream.is_some(),
            entry_expiry: self.entry_expiry.is_some(),
            dns_names: !self.dns.is_empty(),
            store_svid: self.store_svid.is_some(),
            jwt_svid_ttl: self.jwt_svid_ttl.is_some(),
            hint: self.hint.is_some(),
            additional_attributes: self.disable_x509_svid_prefetch.is_some() || self.jwt_svid_include_jti.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> EntryFields {
        EntryFields {
            parent_id: Some("spiffe://td.example/agent".into()),
            spiffe_id: Some("spiffe://td.example/web".into()),
            selector: vec![parse_selector("unix:uid:1").unwrap()],
            ..Default::default()
        }
    }

    #[test]
    fn a_new_entry_needs_its_identity() {
        assert!(fields().new_entry(String::new()).is_ok());
        let without = |change: fn(&mut EntryFields)| {
            let mut fields = fields();
            change(&mut fields);
            fields.new_entry(String::new()).unwrap_err()
        };
        assert!(without(|fields| fields.spiffe_id = None).contains("--spiffe-id"));
        assert!(without(|fields| fields.parent_id = None).contains("--parent-id"));
        assert!(without(|fields| fields.selector.clear()).contains("--selector"));
    }

    #[test]
    fn the_server_is_the_parent_of_node_entries() {
        let fields = EntryFields { parent_id: None, node: true, ..fields() };
        assert_eq!(fields.new_entry(String::new()).unwrap().parent_id, "spiffe://td.example/spire/server");
    }

    #[test]
    fn attributes_that_are_not_given_stay() {
        let stored = AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
            unknown_fields: vec![8, 1],
        };
        let fields = EntryFields { jwt_svid_include_jti: Some(true), ..Default::default() };
        let merged = AdditionalAttributes { jwt_svid_include_jti: true, ..stored.clone() };
        assert_eq!(fields.attributes_over(Some(stored)), Some(merged));
        let alone = AdditionalAttributes { jwt_svid_include_jti: true, ..Default::default() };
        assert_eq!(fields.attributes_over(None), Some(alone));
        assert_eq!(EntryFields::default().attributes_over(None), None);
    }

    #[test]
    fn an_update_sets_what_is_given() {
        let fields = EntryFields { hint: Some(String::new()), admin: Some(false), ..Default::default() };
        let (entry, mask) = fields.changes("e".into()).unwrap();
        assert_eq!(entry, RegistrationEntry { entry_id: "e".into(), ..Default::default() });
        assert_eq!(mask, RegistrationEntryMask { hint: true, admin: true, ..Default::default() });
        assert!(EntryFields::default().changes("e".into()).is_err());
    }
}
