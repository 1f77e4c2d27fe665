//! Entries in a JSON file: what `spire-server entry create -data` takes, a bare list of such entries, what
//! `spire-server entry show -output json` prints, and what this program prints.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use steeple_client::types::{AdditionalAttributes, RegistrationEntry, Selector};

use super::identity::{parse_spiffe_id, parse_trust_domain_id};
use crate::cli::exit::CommandError;

/// Size above which a file is refused.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<RegistrationEntry>, CommandError> {
    let text = read_text(path, FILE_BYTES_MAX)?;
    parse(&text).map_err(|message| CommandError::Usage(format!("{}: {message}", path.display())))
}

/// The content of a file, or of standard input for `-`.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, CommandError> {
    let failed = |source| CommandError::File { action: "read", path: path.display().to_string(), source };
    let mut text = String::new();
    let input: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    input.take(bytes_max + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > bytes_max {
        return Err(CommandError::Usage(format!("{} is larger than {bytes_max} bytes", path.display())));
    }
    Ok(text)
}

/// Reads the text of a file.
fn parse(text: &str) -> Result<Vec<RegistrationEntry>, String> {
    // Told apart by the first character, so that an error can name its place.
    let entries = match text.trim_start().chars().next() {
        Some('[') => serde_json::from_str::<Vec<FileEntry>>(text).map_err(|error| error.to_string())?,
        Some('{') => serde_json::from_str::<FileEntries>(text).map_err(|error| error.to_string())?.entries,
        _ => return Err("expected a list of entries, or an object like {\"entries\": [...]}".into()),
    };
    if entries.is_empty() {
        return Err("there are no entries in it".into());
    }
    let numbered = entries.into_iter().enumerate();
    numbered.map(|(place, entry)| entry.check().map_err(|message| format!("entry {}: {message}", place + 1))).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntries {
    entries: Vec<FileEntry>,
    /// In what `spire-server` prints; of no meaning here.
    #[serde(default, rename = "next_page_token")]
    _next_page_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct FileEntry {
    selectors: Vec<FileSelector>,
    parent_id: SpiffeId,
    spiffe_id: SpiffeId,
    #[serde(alias = "ttl")]
    x509_svid_ttl: i32,
    jwt_svid_ttl: i32,
    federates_with: Vec<String>,
    #[serde(alias = "id")]
    entry_id: String,
    admin: bool,
    downstream: bool,
    #[serde(rename = "entryExpiry", alias = "entry_expiry", alias = "expires_at")]
    entry_expiry: Seconds,
    dns_names: Vec<String>,
    store_svid: bool,
    hint: String,
    additional_attributes: Option<FileAttributes>,
    /// Assigned by the store; there so that what was printed can be read.
    #[serde(rename = "revision_number")]
    _revision_number: Seconds,
    /// Assigned by the store; there so that what was printed can be read.
    #[serde(rename = "created_at")]
    _created_at: Seconds,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSelector {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileAttributes {
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

/// A text, or the parts of it that SPIRE's API has.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SpiffeId {
    Text(String),
    Parts { trust_domain: String, path: String },
}

impl Default for SpiffeId {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl SpiffeId {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts { trust_domain, path } => format!("spiffe://{trust_domain}{path}"),
        }
    }
}

/// A number, or a text with one, as protobuf's JSON has it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

impl Default for Seconds {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Seconds {
    fn number(&self) -> Result<i64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| format!("`{text}` is not a number")),
        }
    }
}

impl FileEntry {
    fn check(self) -> Result<RegistrationEntry, String> {
        if self.selectors.is_empty() {
            return Err("it has no selectors".into());
        }
        let spiffe_id = parse_spiffe_id(&self.spiffe_id.text()).map_err(|message| format!("spiffe_id: {message}"))?;
        let parent_id = parse_spiffe_id(&self.parent_id.text()).map_err(|message| format!("parent_id: {message}"))?;
        let entry_expiry = self.entry_expiry.number().map_err(|message| format!("entryExpiry: {message}"))?;
        let federates_with = self.federates_with.iter().map(|domain| parse_trust_domain_id(domain));
        let federates_with =
            federates_with.collect::<Result<_, _>>().map_err(|message| format!("federates_with: {message}"))?;
        let selector = |selector: FileSelector| Selector { r#type: selector.kind, value: selector.value };
        let attributes = self.additional_attributes.map(|attributes| AdditionalAttributes {
            disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: attributes.jwt_svid_include_jti,
            unknown_fields: Vec::new(),
        });
        Ok(RegistrationEntry {
            selectors: self.selectors.into_iter().map(selector).collect(),
            parent_id,
            spiffe_id,
            x509_svid_ttl: self.x509_svid_ttl,
            federates_with,
            entry_id: self.entry_id,
            admin: self.admin,
            downstream: self.downstream,
            entry_expiry,
            dns_names: self.dns_names,
            store_svid: self.store_svid,
            jwt_svid_ttl: self.jwt_svid_ttl,
            hint: self.hint,
            additional_attributes: attributes,
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    const SMALL: &str = r#"{"selectors": [{"type": "unix", "value": "uid:1"}], "spiffe_id": "spiffe://td.example/a",
        "parent_id": "spiffe://td.example/agent"}"#;

    fn error(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn both_forms_are_read() {
        let listed = parse(&format!("[{SMALL}]")).unwrap();
        let wrapped = parse(&format!(" {{\"entries\": [{SMALL}, {SMALL}]}}")).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(wrapped, [listed[0].clone(), listed[0].clone()]);
        assert_eq!(listed[0].selectors, [Selector { r#type: "unix".into(), value: "uid:1".into() }]);
    }

    #[test]
    fn the_example_file_is_read_with_every_field() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/entries.json");
        let entries = read(&path).unwrap();
        let full = entries.iter().find(|entry| entry.entry_id == "billing-api").unwrap();
        let expected = RegistrationEntry {
            entry_id: "billing-api".into(),
            selectors: full.selectors.clone(),
            spiffe_id: "spiffe://prod.example/billing/api".into(),
            parent_id: "spiffe://prod.example/spire/agent/k8s_psat/prod/node-1".into(),
            x509_svid_ttl: 3600,
            jwt_svid_ttl: 300,
            federates_with: full.federates_with.clone(),
            dns_names: vec!["billing.prod.example".into()],
            hint: "internal".into(),
            ..Default::default()
        };
        assert_eq!(*full, expected);
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn older_names_and_the_form_of_the_api_are_read() {
        let entry = parse(
            r#"{"entries": [{
                "id": "e1",
                "spiffe_id": {"trust_domain": "td.example", "path": "/a"},
                "parent_id": {"trust_domain": "td.example", "path": "/agent"},
                "selectors": [{"type": "unix", "value": "uid:1"}],
                "ttl": 60, "federates_with": ["other.example"], "expires_at": "1700000000",
                "revision_number": "3", "created_at": "1690000000"
            }], "next_page_token": ""}"#,
        )
        .unwrap()
        .remove(0);
        assert_eq!((entry.entry_id.as_str(), entry.spiffe_id.as_str()), ("e1", "spiffe://td.example/a"));
        assert_eq!((entry.x509_svid_ttl, entry.entry_expiry), (60, 1_700_000_000));
        assert_eq!(entry.federates_with, ["spiffe://other.example"]);
        assert_eq!((entry.revision_number, entry.created_at), (0, 0));
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let entry = RegistrationEntry {
            entry_id: "e".into(),
            selectors: vec![Selector { r#type: "unix".into(), value: "uid:1".into() }],
            spiffe_id: "spiffe://td.example/a".into(),
            parent_id: "spiffe://td.example/agent".into(),
            federates_with: vec!["spiffe://other.example".into()],
            entry_expiry: 5,
            store_svid: true,
            additional_attributes: Some(AdditionalAttributes {
                jwt_svid_include_jti: true,
                ..AdditionalAttributes::default()
            }),
            ..Default::default()
        };
        let printed = serde_json::json!({ "entries": [json::entry(&entry)] }).to_string();
        assert_eq!(parse(&printed).unwrap(), [entry]);
    }

    #[test]
    fn bad_input_is_refused_with_its_place() {
        let cases = [
            ("", "expected a list of entries"),
            ("\"entries\"", "expected a list of entries"),
            ("[]", "there are no entries"),
            ("{}", "missing field `entries`"),
            ("[{", "line 1 column 2"),
            (&format!("[{SMALL}, {}]", SMALL.replace("spiffe_id", "spifeid")), "unknown field `spifeid`"),
            (
                &format!("[{SMALL}, {}]", SMALL.replace("spiffe://td.example/a\"", "a\"")),
                "entry 2: spiffe_id: `a` is not",
            ),
            (
                &format!("[{}]", SMALL.replace("\"parent_id\": \"spiffe://td.example/agent\"", "\"admin\": true")),
                "entry 1: parent_id:",
            ),
            (
                &format!("[{}]", SMALL.replace("{\"type\": \"unix\", \"value\": \"uid:1\"}", "")),
                "entry 1: it has no selectors",
            ),
            (&format!("[{}]", SMALL.replace("\"value\"", "\"val\"")), "unknown field `val`"),
            (&format!("[{}]", SMALL.replace("}]", "}], \"x509_svid_ttl\": \"1h\"")), "invalid type: string"),
            (&format!("[{}]", SMALL.replace("}]", "}], \"x509_svid_ttl\": 99999999999")), "expected i32"),
            (
                &format!("[{}]", SMALL.replace("}]", "}], \"expires_at\": \"soon\"")),
                "entry 1: entryExpiry: `soon` is not a number",
            ),
            (
                &format!("[{}]", SMALL.replace("}]", "}], \"federates_with\": [\"A B\"]")),
                "entry 1: federates_with: `A B`",
            ),
        ];
        for (text, expected) in cases {
            let found = error(text);
            assert!(found.contains(expected), "{text:?} gave {found:?} without {expected:?}");
        }
    }
}
