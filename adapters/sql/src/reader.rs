//! From rows to records, in the order in which they are taken over: each table in the order of its numbers, which is the
//! order of creation.

use std::collections::HashMap;

use steeple_wire::serialized;
use steeple_wire::spire::v1::imported_record::Record;
use steeple_wire::spire::v1::{
    AdditionalAttributes, AttestedNode, CaJournal, FederationRelationship, ImportedRecord, JoinToken, NodeSelectors,
    RegistrationEntry, Selector,
};

use crate::columns::{Column, Kind};
use crate::connection::{Row, Value};
use crate::source::{Found, Source};
use crate::{Error, ZoneOffset, times};

/// Entries that are read together, with all that belongs to them.
const ENTRIES_STEP: usize = 1_000;

/// The profile of an endpoint that has a SPIFFE ID.
const HTTPS_SPIFFE: &str = "https_spiffe";

impl Source {
    /// Hands over all that there is: bundles, federation relationships, entries, nodes, node selectors, join tokens, CA
    /// journals, each in creation order (node selectors by their SPIFFE IDs), and rows without owner at the end.
    ///
    /// # Errors
    /// When the database cannot be read, or the taker fails.
    pub async fn read<E: From<Error>>(&mut self, mut take: impl AsyncFnMut(Found) -> Result<(), E>) -> Result<(), E> {
        self.simple("bundles", BUNDLE, bundle, &mut take).await?;
        self.simple("federated_trust_domains", RELATIONSHIP, relationship, &mut take).await?;
        self.entries(&mut take).await?;
        // Not there before schema 24.
        let node_columns = if self.schema >= 24 { NODE } else { &NODE[..NODE.len() - 1] };
        self.simple("attested_node_entries", node_columns, node, &mut take).await?;
        self.node_selectors(&mut take).await?;
        self.simple("join_tokens", TOKEN, token, &mut take).await?;
        self.simple("ca_journals", JOURNAL, journal, &mut take).await?;
        for (table, from) in ORPHANS {
            let rows = self.count(table, from).await?;
            if rows > 0 {
                take(Found::Orphans { table, rows }).await?;
            }
        }
        Ok(())
    }

    /// A table of which each row is a record.
    async fn simple<E: From<Error>>(
        &mut self,
        table: &'static str,
        columns: &[Column],
        convert: fn(&mut Fields) -> Result<Record, String>,
        take: &mut impl AsyncFnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let zone = self.zone;
        let rest = format!("FROM {table} ORDER BY id");
        self.connection
            .each(table, columns, &rest, async |row| take(found(table, Fields::new(row, zone), convert)).await)
            .await
    }

    /// Entries, with what other tables say about them.
    async fn entries<E: From<Error>>(&mut self, take: &mut impl AsyncFnMut(Found) -> Result<(), E>) -> Result<(), E> {
        // Not there before schema 25.
        let columns = if self.schema >= 25 { ENTRY } else { &ENTRY[..ENTRY.len() - 1] };
        let mut after = -1;
        loop {
            let rest = format!("FROM registered_entries WHERE id > {after} ORDER BY id LIMIT {ENTRIES_STEP}");
            let rows = self.connection.rows("registered_entries", columns, &rest).await?;
            let Some(last) = rows.last().and_then(|row| number(row.first())) else { return Ok(()) };
            let mut parts = self.parts(after, last).await?;
            let count = rows.len();
            for row in rows {
                let parts = number(row.first()).and_then(|id| parts.remove(&id)).unwrap_or_default();
                let convert = |fields: &mut Fields| entry(fields, parts);
                take(found("registered_entries", Fields::new(row, self.zone), convert)).await?;
            }
            if count < ENTRIES_STEP {
                return Ok(());
            }
            after = last;
        }
    }

    /// What other tables say about the entries above `after` up to and with `last`.
    async fn parts(&mut self, after: i64, last: i64) -> Result<HashMap<i64, Parts>, Error> {
        let mut parts: HashMap<i64, Parts> = HashMap::new();
        let columns = [("registered_entry_id", Kind::Number), ("type", Kind::Text), ("value", Kind::Text)];
        let range = |table: &str, order: &str| {
            format!(
                "FROM {table} WHERE registered_entry_id > {after} AND registered_entry_id <= {last} \
                 ORDER BY registered_entry_id, {order}"
            )
        };
        for row in self.connection.rows("selectors", &columns, &range("selectors", "id")).await? {
            let mut fields = Fields::new(row, self.zone);
            let id = fields.number();
            let selector = Selector { r#type: fields.text(), value: fields.text() };
            parts.entry(id).or_default().selectors.push(selector);
        }
        let columns = [("registered_entry_id", Kind::Number), ("value", Kind::Text)];
        for row in self.connection.rows("dns_names", &columns, &range("dns_names", "id")).await? {
            let mut fields = Fields::new(row, self.zone);
            let id = fields.number();
            parts.entry(id).or_default().dns_names.push(fields.text());
        }
        let columns = [("registered_entry_id", Kind::Number), ("trust_domain", Kind::Text)];
        let joined = "federated_registration_entries JOIN bundles ON bundles.id = bundle_id";
        for row in self.connection.rows(FEDERATED, &columns, &range(joined, "bundle_id")).await? {
            let mut fields = Fields::new(row, self.zone);
            let id = fields.number();
            parts.entry(id).or_default().federates_with.push(fields.text());
        }
        Ok(parts)
    }

    /// Selectors of nodes, gathered by SPIFFE ID.
    async fn node_selectors<E: From<Error>>(
        &mut self,
        take: &mut impl AsyncFnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "node_resolver_map_entries";
        let columns = [("spiffe_id", Kind::Text), ("type", Kind::Text), ("value", Kind::Text)];
        let rest = format!("FROM {table} ORDER BY {}, id", self.connection.dialect().exactly("spiffe_id"));
        let (zone, mut gathered) = (self.zone, None::<NodeSelectors>);
        self.connection
            .each(table, &columns, &rest, async |row| {
                let mut fields = Fields::new(row, zone);
                let spiffe_id = fields.text();
                let selector = Selector { r#type: fields.text(), value: fields.text() };
                if let Some(same) = gathered.as_mut().filter(|gathered| gathered.spiffe_id == spiffe_id) {
                    same.selectors.push(selector);
                    return Ok(());
                }
                match gathered.replace(NodeSelectors { spiffe_id, selectors: vec![selector] }) {
                    Some(before) => take(record(Record::NodeSelectors(before))).await,
                    None => Ok(()),
                }
            })
            .await?;
        match gathered {
            Some(last) => take(record(Record::NodeSelectors(last))).await,
            None => Ok(()),
        }
    }
}

/// What other tables say about an entry.
#[derive(Debug, Default)]
struct Parts {
    selectors: Vec<Selector>,
    dns_names: Vec<String>,
    federates_with: Vec<String>,
}

const FEDERATED: &str = "federated_registration_entries";

/// Rows whose owner is gone: their table, and what finds them. Databases make one join of it, however many there are.
const ORPHANS: [(&str, &str); 3] = [
    (
        "selectors",
        "selectors WHERE NOT EXISTS (SELECT 1 FROM registered_entries WHERE registered_entries.id = registered_entry_id)",
    ),
    (
        "dns_names",
        "dns_names WHERE NOT EXISTS (SELECT 1 FROM registered_entries WHERE registered_entries.id = registered_entry_id)",
    ),
    (
        FEDERATED,
        "federated_registration_entries WHERE \
         NOT EXISTS (SELECT 1 FROM registered_entries WHERE registered_entries.id = registered_entry_id) \
         OR NOT EXISTS (SELECT 1 FROM bundles WHERE bundles.id = bundle_id)",
    ),
];

const BUNDLE: &[Column] = &[("id", Kind::Number), ("trust_domain", Kind::Text), ("data", Kind::Bytes)];

fn bundle(fields: &mut Fields) -> Result<Record, String> {
    let (trust_domain_id, data) = (fields.text(), fields.bytes());
    let bundle = serialized::bundle(&data).map_err(|error| format!("its data is no bundle: {error}"))?;
    if bundle.trust_domain_id != trust_domain_id {
        return Err(format!("it stands under {trust_domain_id:?} and is that of {:?}", bundle.trust_domain_id));
    }
    Ok(Record::Bundle(bundle))
}

const RELATIONSHIP: &[Column] = &[
    ("id", Kind::Number),
    ("trust_domain", Kind::Text),
    ("bundle_endpoint_url", Kind::Text),
    ("bundle_endpoint_profile", Kind::Text),
    ("endpoint_spiffe_id", Kind::Text),
];

fn relationship(fields: &mut Fields) -> Result<Record, String> {
    let mut relationship = FederationRelationship {
        trust_domain: fields.text(),
        bundle_endpoint_url: fields.text(),
        bundle_endpoint_profile: fields.text(),
        endpoint_spiffe_id: fields.text(),
        trust_domain_bundle: None,
    };
    if relationship.bundle_endpoint_profile != HTTPS_SPIFFE {
        // A server does not look at it either.
        relationship.endpoint_spiffe_id.clear();
    }
    Ok(Record::FederationRelationship(relationship))
}

const ENTRY: &[Column] = &[
    ("id", Kind::Number),
    ("entry_id", Kind::Text),
    ("spiffe_id", Kind::Text),
    ("parent_id", Kind::Text),
    ("ttl", Kind::Number),
    ("jwt_svid_ttl", Kind::Number),
    ("admin", Kind::Flag),
    ("downstream", Kind::Flag),
    ("store_svid", Kind::Flag),
    ("expiry", Kind::Number),
    ("revision_number", Kind::Number),
    ("hint", Kind::Text),
    ("created_at", Kind::Time),
    ("additional_attributes", Kind::Bytes),
];

fn entry(fields: &mut Fields, parts: Parts) -> Result<Record, String> {
    Ok(Record::RegistrationEntry(RegistrationEntry {
        entry_id: fields.text(),
        spiffe_id: fields.text(),
        parent_id: fields.text(),
        x509_svid_ttl: fields.short("ttl")?,
        jwt_svid_ttl: fields.short("jwt_svid_ttl")?,
        admin: fields.flag(),
        downstream: fields.flag(),
        store_svid: fields.flag(),
        entry_expiry: fields.number(),
        revision_number: fields.number(),
        hint: fields.text(),
        created_at: times::rounded_seconds(fields.time("created_at")?),
        additional_attributes: attributes(&fields.bytes())?,
        selectors: parts.selectors,
        dns_names: parts.dns_names,
        federates_with: parts.federates_with,
    }))
}

/// None when they say nothing, as a server reads them.
fn attributes(data: &[u8]) -> Result<Option<AdditionalAttributes>, String> {
    let read = serialized::attributes(data).map_err(|error| format!("its additional_attributes are none: {error}"))?;
    Ok(Some(read).filter(|read| *read != AdditionalAttributes::default()))
}

const NODE: &[Column] = &[
    ("id", Kind::Number),
    ("spiffe_id", Kind::Text),
    ("data_type", Kind::Text),
    ("serial_number", Kind::Text),
    ("expires_at", Kind::Time),
    ("new_serial_number", Kind::Text),
    ("new_expires_at", Kind::Time),
    ("can_reattest", Kind::Flag),
    ("agent_version", Kind::Text),
];

fn node(fields: &mut Fields) -> Result<Record, String> {
    Ok(Record::AttestedNode(AttestedNode {
        spiffe_id: fields.text(),
        attestation_data_type: fields.text(),
        cert_serial_number: fields.text(),
        cert_not_after: times::seconds(fields.time("expires_at")?),
        new_cert_serial_number: fields.text(),
        new_cert_not_after: times::seconds(fields.time("new_expires_at")?),
        can_reattest: fields.flag(),
        agent_version: fields.text(),
        selectors: Vec::new(),
    }))
}

const TOKEN: &[Column] = &[("id", Kind::Number), ("token", Kind::Text), ("expiry", Kind::Number)];

fn token(fields: &mut Fields) -> Result<Record, String> {
    Ok(Record::JoinToken(JoinToken { token: fields.text(), expires_at: fields.number() }))
}

const JOURNAL: &[Column] = &[("id", Kind::Number), ("active_x509_authority_id", Kind::Text), ("data", Kind::Bytes)];

fn journal(fields: &mut Fields) -> Result<Record, String> {
    let id = u64::try_from(fields.id).map_err(|_| "its number is negative".to_owned())?;
    Ok(Record::CaJournal(CaJournal { id, active_x509_authority_id: fields.text(), data: fields.bytes() }))
}

fn record(record: Record) -> Found {
    Found::Record(ImportedRecord { record: Some(record) })
}

fn found(table: &str, mut fields: Fields, convert: impl FnOnce(&mut Fields) -> Result<Record, String>) -> Found {
    fields.skip_id();
    match convert(&mut fields) {
        Ok(found) => record(found),
        Err(reason) => Found::Unreadable { what: format!("row {} of {table}", fields.id), reason },
    }
}

fn number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

/// The values of a row, one after the other. What is absent has the zero value of its kind: columns that a server added to
/// an old database are empty in the rows that were there.
struct Fields {
    values: std::vec::IntoIter<Value>,
    id: i64,
    zone: ZoneOffset,
}

impl Fields {
    fn new(row: Row, zone: ZoneOffset) -> Self {
        Self { values: row.into_iter(), id: 0, zone }
    }

    fn skip_id(&mut self) {
        self.id = self.number();
    }

    fn number(&mut self) -> i64 {
        match self.values.next() {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    fn short(&mut self, what: &str) -> Result<i32, String> {
        let number = self.number();
        i32::try_from(number).map_err(|_| format!("its {what} is {number}, which is out of range"))
    }

    fn flag(&mut self) -> bool {
        self.number() != 0
    }

    fn text(&mut self) -> String {
        match self.values.next() {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.values.next() {
            Some(Value::Bytes(bytes)) => bytes,
            _ => Vec::new(),
        }
    }

    fn time(&mut self, what: &str) -> Result<i64, String> {
        match self.values.next() {
            Some(Value::Number(micros)) => Ok(times::without_zero_time(micros)),
            Some(Value::Text(text)) => times::parse(&text, self.zone.0)
                .ok_or_else(|| format!("its {what} is {text:?}, which is no time that is known here")),
            _ => Ok(0),
        }
    }
}
