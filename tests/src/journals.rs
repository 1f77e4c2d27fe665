//! Content of CA journals, as SPIRE servers write it.

use prost::Message;

/// The journal's message, as far as tests need it.
#[derive(Clone, PartialEq, Message)]
struct Entries {
    #[prost(message, repeated, tag = "1")]
    x509_cas: Vec<X509Ca>,
    #[prost(message, repeated, tag = "2")]
    jwt_keys: Vec<Key>,
    #[prost(message, repeated, tag = "3")]
    wit_keys: Vec<Key>,
}

#[derive(Clone, PartialEq, Message)]
struct X509Ca {
    #[prost(string, tag = "1")]
    slot_id: String,
    #[prost(int64, tag = "7")]
    not_after: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Key {
    #[prost(string, tag = "1")]
    slot_id: String,
    #[prost(int64, tag = "3")]
    not_after: i64,
}

/// A journal with one X.509 CA, JWT key or WIT key for each expiry (Unix seconds) in the lists.
#[must_use]
pub fn content(x509: &[i64], jwt: &[i64], wit: &[i64]) -> Vec<u8> {
    let key = |&not_after: &i64| Key { slot_id: "B".into(), not_after };
    Entries {
        x509_cas: x509.iter().map(|&not_after| X509Ca { slot_id: "A".into(), not_after }).collect(),
        jwt_keys: jwt.iter().map(key).collect(),
        wit_keys: wit.iter().map(key).collect(),
    }
    .encode_to_vec()
}
