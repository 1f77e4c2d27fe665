//! The statements that SPIRE v1.15.3 sends about registration entries, as its log shows them, in the words of PostgreSQL and
//! of SQLite.
//!
//! A list is one statement: a named subquery chooses the entries, and a union gives the rows of four tables about them, each
//! with `NULL` in the columns of the others. Conditions intersect; alternatives are a union.

use steeple_client::types::{MatchBehavior, RegistrationEntry, RegistrationEntryFilter, Selector};

/// Which words are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// A moment, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

/// What goes into a place of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Integer(i32),
    Long(i64),
    Flag(bool),
    Bytes(&'a [u8]),
    NoBytes,
    Moment(Moment),
}

/// A statement and what goes into its places.
#[derive(Clone, Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) text: String,
    pub(crate) values: Vec<Value<'a>>,
}

/// Columns of the rows of a list.
const COLUMNS: [&str; 20] = [
    "id AS e_id",
    "entry_id",
    "spiffe_id",
    "parent_id",
    "ttl AS reg_ttl",
    "admin",
    "downstream",
    "expiry",
    "store_svid",
    "hint",
    "created_at",
    "selector_id",
    "selector_type",
    "selector_value",
    "trust_domain",
    "dns_name_id",
    "dns_name",
    "revision_number",
    "jwt_svid_ttl AS reg_jwt_svid_ttl",
    "additional_attributes",
];

/// Where they are, for those who read rows.
pub(crate) mod column {
    pub(crate) const ID: usize = 0;
    pub(crate) const ENTRY_ID: usize = 1;
    pub(crate) const SPIFFE_ID: usize = 2;
    pub(crate) const PARENT_ID: usize = 3;
    pub(crate) const TTL: usize = 4;
    pub(crate) const ADMIN: usize = 5;
    pub(crate) const DOWNSTREAM: usize = 6;
    pub(crate) const EXPIRY: usize = 7;
    pub(crate) const STORE_SVID: usize = 8;
    pub(crate) const HINT: usize = 9;
    pub(crate) const CREATED_AT: usize = 10;
    pub(crate) const SELECTOR_ID: usize = 11;
    pub(crate) const SELECTOR_TYPE: usize = 12;
    pub(crate) const SELECTOR_VALUE: usize = 13;
    pub(crate) const TRUST_DOMAIN: usize = 14;
    pub(crate) const DNS_NAME_ID: usize = 15;
    pub(crate) const DNS_NAME: usize = 16;
    pub(crate) const REVISION: usize = 17;
    pub(crate) const JWT_TTL: usize = 18;
}

/// Which entries a list is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listing<'a> {
    /// Those with these entry ids.
    Ids(&'a [String]),
    /// Those that a filter selects, before SPIRE itself sorts out some of them.
    Filter(&'a RegistrationEntryFilter),
    /// Those that could be similar to an entry.
    Similar(&'a RegistrationEntry),
    /// So many behind a row.
    Page { after: Option<i32>, size: usize },
}

impl<'a> Statement<'a> {
    /// A statement with a `?` in each place.
    pub(crate) fn new(dialect: Dialect, text: impl Into<String>, values: Vec<Value<'a>>) -> Self {
        let text = text.into();
        Self { text: if dialect == Dialect::Postgres { numbered(&text) } else { text }, values }
    }

    /// All rows about the entries of a listing.
    pub(crate) fn list(dialect: Dialect, listing: Listing<'a>) -> Self {
        let mut values = Vec::new();
        let (chosen, id) = listing.subquery(&mut values);
        let chosen_only = |column: &str| format!("WHERE {column} IN (SELECT {id} FROM listing)");
        let own = |wanted: fn(usize) -> bool| {
            let column = |(place, name): (usize, &&str)| {
                if wanted(place) { (*name).to_owned() } else { null(dialect, place, name) }
            };
            COLUMNS.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
        };
        let entries = own(|place| !(column::SELECTOR_ID..=column::DNS_NAME).contains(&place));
        let branches = [
            format!("SELECT {entries} FROM registered_entries {}", chosen_only("id")),
            format!(
                "SELECT {} FROM bundles B INNER JOIN federated_registration_entries F ON B.id = F.bundle_id {}",
                sparse(&[(column::ID, "F.registered_entry_id"), (column::TRUST_DOMAIN, "B.trust_domain")]),
                chosen_only("F.registered_entry_id")
            ),
            format!(
                "SELECT {} FROM dns_names {}",
                sparse(&[
                    (column::ID, "registered_entry_id"),
                    (column::DNS_NAME_ID, "id"),
                    (column::DNS_NAME, "value")
                ]),
                chosen_only("registered_entry_id")
            ),
            format!(
                "SELECT {} FROM selectors {}",
                sparse(&[
                    (column::ID, "registered_entry_id"),
                    (column::SELECTOR_ID, "id"),
                    (column::SELECTOR_TYPE, "type"),
                    (column::SELECTOR_VALUE, "value")
                ]),
                chosen_only("registered_entry_id")
            ),
        ];
        // Fetches, and whatever is asked of SQLite, have duplicates removed of which there are none.
        let keeps_all = dialect == Dialect::Postgres && !matches!(listing, Listing::Ids(_));
        let branches = branches.join(if keeps_all { " UNION ALL " } else { " UNION " });
        let text = format!("WITH listing AS ({chosen}) {branches} ORDER BY e_id, selector_id, dns_name_id");
        Self::new(dialect, text, values)
    }

    /// Adds a record; it answers with the number of the row.
    pub(crate) fn insert(dialect: Dialect, table: &str, columns: &str, values: Vec<Value<'a>>) -> Self {
        let returning = if dialect == Dialect::Postgres { format!(" RETURNING {table}.id") } else { String::new() };
        let places = places(values.len());
        Self::new(dialect, format!("INSERT INTO {table} ({columns}) VALUES ({places}){returning}"), values)
    }
}

impl<'a> Listing<'a> {
    /// The query for the ids of the rows, and what its column is called.
    fn subquery(self, values: &mut Vec<Value<'a>>) -> (String, &'static str) {
        match self {
            Self::Ids(ids) => {
                values.extend(ids.iter().map(|id| Value::Text(id)));
                (format!("SELECT id FROM registered_entries WHERE entry_id IN ({})", places(ids.len())), "id")
            }
            Self::Filter(filter) => (intersection(conditions(filter, values)), "e_id"),
            Self::Similar(entry) => {
                let mut conditions =
                    vec!["SELECT id AS e_id FROM registered_entries WHERE parent_id = ? AND spiffe_id = ?".to_owned()];
                values.extend([Value::Text(&entry.parent_id), Value::Text(&entry.spiffe_id)]);
                conditions.extend(with_each_selector(&entry.selectors, values));
                (intersection(conditions), "e_id")
            }
            Self::Page { after, size } => {
                values.extend(after.map(Value::Integer));
                let behind = if after.is_some() { " WHERE id > ?" } else { "" };
                (format!("SELECT id AS e_id FROM registered_entries{behind} ORDER BY id ASC LIMIT {size}"), "e_id")
            }
        }
    }
}

/// A query for each condition of a filter.
fn conditions<'a>(filter: &'a RegistrationEntryFilter, values: &mut Vec<Value<'a>>) -> Vec<String> {
    let mut conditions = Vec::new();
    for (column, text) in [("parent_id", &filter.by_parent_id), ("spiffe_id", &filter.by_spiffe_id)] {
        if !text.is_empty() {
            conditions.push(format!("SELECT id AS e_id FROM registered_entries WHERE {column} = ?"));
            values.push(Value::Text(text));
        }
    }
    if let Some(by) = &filter.by_selectors {
        let each = with_each_selector(&by.selectors, values);
        match by.r#match() {
            MatchBehavior::Exact | MatchBehavior::Superset => conditions.extend(each),
            MatchBehavior::Subset | MatchBehavior::Any => conditions.push(set_of(each, "UNION")),
        }
    }
    if let Some(by) = &filter.by_federates_with {
        let places = places(by.trust_domain_ids.len());
        conditions.push(format!(
            "SELECT E.id AS e_id FROM registered_entries E \
             INNER JOIN federated_registration_entries FE ON FE.registered_entry_id = E.id \
             INNER JOIN bundles B ON B.id = FE.bundle_id GROUP BY E.id \
             HAVING COUNT(CASE WHEN B.trust_domain IN ({places}) THEN B.trust_domain ELSE NULL END) > 0"
        ));
        values.extend(by.trust_domain_ids.iter().map(|id| Value::Text(id)));
    }
    conditions
}

fn with_each_selector<'a>(selectors: &'a [Selector], values: &mut Vec<Value<'a>>) -> Vec<String> {
    let with = |selector: &'a Selector| {
        values.extend([Value::Text(&selector.r#type), Value::Text(&selector.value)]);
        "SELECT registered_entry_id AS e_id FROM selectors WHERE type = ? AND value = ?".to_owned()
    };
    selectors.iter().map(with).collect()
}

fn intersection(conditions: Vec<String>) -> String {
    set_of(conditions, "INTERSECT")
}

fn set_of(queries: Vec<String>, operator: &str) -> String {
    match <[String; 1]>::try_from(queries) {
        Ok([query]) => query,
        Err(queries) => format!("SELECT e_id FROM ({}) s_0", queries.join(&format!(" {operator} "))),
    }
}

/// A column that has nothing in the first branch, whose types are those of the whole union.
fn null(dialect: Dialect, place: usize, name: &str) -> String {
    let is_number = matches!(place, column::SELECTOR_ID | column::DNS_NAME_ID);
    let kind = if is_number && dialect == Dialect::Postgres { "::integer" } else { "" };
    format!("NULL{kind} AS {name}")
}

/// The columns of another branch, of which few have anything.
fn sparse(filled: &[(usize, &str)]) -> String {
    let filled_at = |place| filled.iter().find(|(at, _)| *at == place).map_or("NULL", |(_, name)| name);
    (0..COLUMNS.len()).map(filled_at).collect::<Vec<_>>().join(", ")
}

/// So many places.
pub(crate) fn places(count: usize) -> String {
    vec!["?"; count].join(",")
}

/// The same with the numbers that PostgreSQL wants. No text of ours has a question mark that is not a place.
fn numbered(text: &str) -> String {
    let mut numbered = String::with_capacity(text.len() + 64);
    for (number, part) in text.split('?').enumerate() {
        if number > 0 {
            numbered.push('$');
            numbered.push_str(&number.to_string());
        }
        numbered.push_str(part);
    }
    numbered
}
