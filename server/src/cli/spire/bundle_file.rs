//! Bundles in files: PEM with X.509 authorities, or the JSON that this program prints.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde::Deserialize;
use steeple_client::types::{Bundle, Certificate, PublicKey};

use super::entry_file::read_text;
use crate::cli::exit::CommandError;

/// Size above which a file is refused.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// X.509 certificates
    #[default]
    Pem,
    /// A bundle as `steeple spire bundle show --output json` prints it
    Json,
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path, format: Format, trust_domain_id: &str) -> Result<Bundle, CommandError> {
    let text = read_text(path, FILE_BYTES_MAX)?;
    let bundle = match format {
        Format::Pem => parse_pem(&text),
        Format::Json => parse_json(&text),
    };
    let bundle = bundle.map_err(|message| CommandError::Usage(format!("{}: {message}", path.display())))?;
    Ok(Bundle { trust_domain_id: trust_domain_id.to_owned(), ..bundle })
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

fn parse_pem(text: &str) -> Result<Bundle, String> {
    let mut root_cas = Vec::new();
    for (place, block) in text.split(BEGIN).skip(1).enumerate() {
        let (body, _) = block.split_once(END).ok_or_else(|| format!("certificate {} has no end", place + 1))?;
        let body: String = body.split_whitespace().collect();
        let der_bytes = STANDARD.decode(body).map_err(|error| format!("certificate {}: {error}", place + 1))?;
        root_cas.push(Certificate { der_bytes, ..Default::default() });
    }
    if root_cas.is_empty() {
        return Err(format!("there is no line {BEGIN}"));
    }
    Ok(Bundle { root_cas, ..Default::default() })
}

/// Writes the X.509 authorities of a bundle.
pub(super) fn to_pem(bundle: &Bundle) -> String {
    let mut text = String::new();
    for certificate in &bundle.root_cas {
        let body = STANDARD.encode(&certificate.der_bytes);
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        text = format!("{text}{BEGIN}\n{}\n{END}\n", lines.join("\n"));
    }
    text
}

fn parse_json(text: &str) -> Result<Bundle, String> {
    let file: FileBundle = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(Bundle {
        trust_domain_id: String::new(),
        root_cas: file.root_cas.into_iter().map(FileCertificate::decode).collect::<Result<_, _>>()?,
        jwt_signing_keys: file.jwt_signing_keys.into_iter().map(FileKey::decode).collect::<Result<_, _>>()?,
        refresh_hint: file.refresh_hint,
        sequence_number: file.sequence_number,
        wit_signing_keys: file.wit_signing_keys.into_iter().map(FileKey::decode).collect::<Result<_, _>>()?,
        unknown_fields: Vec::new(),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileBundle {
    #[serde(rename = "trust_domain_id")]
    _trust_domain_id: String,
    root_cas: Vec<FileCertificate>,
    jwt_signing_keys: Vec<FileKey>,
    wit_signing_keys: Vec<FileKey>,
    refresh_hint: i64,
    sequence_number: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCertificate {
    der_bytes: String,
    #[serde(default)]
    tainted_key: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    pkix_bytes: String,
    kid: String,
    #[serde(default)]
    not_after: i64,
    #[serde(default)]
    tainted_key: bool,
}

impl FileCertificate {
    fn decode(self) -> Result<Certificate, String> {
        let der_bytes = STANDARD.decode(self.der_bytes).map_err(|error| format!("der_bytes: {error}"))?;
        Ok(Certificate { der_bytes, tainted_key: self.tainted_key, unknown_fields: Vec::new() })
    }
}

impl FileKey {
    fn decode(self) -> Result<PublicKey, String> {
        let pkix_bytes = STANDARD.decode(self.pkix_bytes).map_err(|error| format!("pkix_bytes: {error}"))?;
        Ok(PublicKey {
            pkix_bytes,
            kid: self.kid,
            not_after: self.not_after,
            tainted_key: self.tainted_key,
            unknown_fields: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    fn bundle() -> Bundle {
        let certificate = |length: usize| Certificate { der_bytes: vec![0xa5; length], ..Default::default() };
        let key = PublicKey { pkix_bytes: vec![1, 2, 3], kid: "k".into(), not_after: 7, ..Default::default() };
        Bundle { root_cas: vec![certificate(10), certificate(500)], jwt_signing_keys: vec![key], ..Default::default() }
    }

    #[test]
    fn certificates_survive_pem() {
        let text = format!("a comment\n{}", to_pem(&bundle()));
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(parse_pem(&text).unwrap().root_cas, bundle().root_cas);
        assert!(parse_pem("").unwrap_err().contains("there is no line"));
        assert!(parse_pem(BEGIN).unwrap_err().contains("certificate 1 has no end"));
        assert!(parse_pem(&format!("{BEGIN}\n!!!\n{END}")).unwrap_err().contains("certificate 1: "));
    }

    #[test]
    fn bundles_survive_json() {
        let bundle = Bundle { sequence_number: 4, refresh_hint: 5, ..bundle() };
        assert_eq!(parse_json(&json::bundle(&bundle).to_string()).unwrap(), bundle);
        assert!(parse_json("{\"root_cas\": [{\"der_bytes\": \"!\"}]}").unwrap_err().contains("der_bytes"));
        assert!(parse_json("{\"roots\": []}").unwrap_err().contains("unknown field `roots`"));
    }
}
