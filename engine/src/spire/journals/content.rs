//! What pruning has to know of a journal: when the last key in it expires.

use prost::Message;

/// The part of SPIRE's `Entries` message that matters here; other fields are skipped.
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
    #[prost(int64, tag = "7")]
    not_after: i64,
}

/// A JWT or WIT key.
#[derive(Clone, PartialEq, Message)]
struct Key {
    #[prost(int64, tag = "3")]
    not_after: i64,
}

/// Unix seconds at which the last X.509 CA, JWT key or WIT key expires; `None` for a journal without any.
pub(super) fn last_not_after(data: &[u8]) -> Result<Option<i64>, prost::DecodeError> {
    let entries = Entries::decode(data)?;
    let authorities = entries.x509_cas.iter().map(|authority| authority.not_after);
    let keys = entries.jwt_keys.iter().chain(&entries.wit_keys).map(|key| key.not_after);
    Ok(authorities.chain(keys).max())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A journal with one X.509 CA, JWT key or WIT key for each time in the lists.
    pub(in crate::spire::journals) fn journal(x509: &[i64], jwt: &[i64], wit: &[i64]) -> Vec<u8> {
        let key = |&not_after: &i64| Key { not_after };
        Entries {
            x509_cas: x509.iter().map(|&not_after| X509Ca { not_after }).collect(),
            jwt_keys: jwt.iter().map(key).collect(),
            wit_keys: wit.iter().map(key).collect(),
        }
        .encode_to_vec()
    }

    #[test]
    fn latest_key_of_any_kind_counts() {
        assert_eq!(last_not_after(&journal(&[], &[], &[])), Ok(None));
        assert_eq!(last_not_after(&journal(&[5, 9], &[7], &[1])), Ok(Some(9)));
        assert_eq!(last_not_after(&journal(&[5], &[7, 3], &[])), Ok(Some(7)));
        assert_eq!(last_not_after(&journal(&[], &[], &[-4])), Ok(Some(-4)));
    }

    #[test]
    fn other_fields_are_skipped() {
        // One X.509 CA: slot id "A", certificate of two bytes, not_after 300, upstream authority id "u".
        let ca = [0x0a, 1, b'A', 0x1a, 2, 1, 2, 0x38, 0xac, 0x02, 0x42, 1, b'u'];
        let mut data = vec![0x0a, u8::try_from(ca.len()).unwrap()];
        data.extend_from_slice(&ca);
        data.extend_from_slice(&[0x78, 1]); // field 15, unknown
        assert_eq!(last_not_after(&data), Ok(Some(300)));
    }

    #[test]
    fn damage_is_reported() {
        for data in [&b"garbage"[..], &[0x0a, 5, 1], &[0x0a, 2, 0x38, 0xff]] {
            assert!(last_not_after(data).is_err(), "{data:?}");
        }
    }
}
