//! SPIRE's own messages in serialized form, as its SQL databases and its plugins have them.
//!
//! Our messages have the same field numbers. What else is in a message of SPIRE's, from a later version of it for example,
//! goes into `unknown_fields` and comes back as it was.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost::{DecodeError, Message};
use thiserror::Error;

use crate::spire::v1::{AdditionalAttributes, Bundle, Certificate, PublicKey};

/// Why bytes are no message.
#[derive(Debug, Error)]
pub enum SerializedError {
    /// A field is not what it should be.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The end is missing.
    #[error("it ends in the middle of a field")]
    Short,
    /// A kind of field that SPIRE's messages never had.
    #[error("it holds a group")]
    Group,
}

/// Reads a serialized `spire.common.Bundle`.
///
/// # Errors
/// When the bytes are no such message.
pub fn bundle(bytes: &[u8]) -> Result<Bundle, SerializedError> {
    let (mut plain, mut unknown_fields) = (Vec::new(), Vec::new());
    let (mut root_cas, mut jwt_signing_keys, mut wit_signing_keys) = (Vec::new(), Vec::new(), Vec::new());
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (2, Some(content)) => root_cas.push(certificate(content)?),
            (3, Some(content)) => jwt_signing_keys.push(public_key(content)?),
            (6, Some(content)) => wit_signing_keys.push(public_key(content)?),
            (1..=6, _) => plain.extend_from_slice(field.whole),
            _ => unknown_fields.extend_from_slice(field.whole),
        }
    }
    let plain = Bundle::decode(plain.as_slice())?;
    Ok(Bundle { root_cas, jwt_signing_keys, wit_signing_keys, unknown_fields, ..plain })
}

/// Writes a `spire.common.Bundle`.
#[must_use]
pub fn bundle_bytes(bundle: &Bundle) -> Vec<u8> {
    let mut bytes = Bundle { trust_domain_id: bundle.trust_domain_id.clone(), ..Bundle::default() }.encode_to_vec();
    for certificate in &bundle.root_cas {
        let plain = Certificate { unknown_fields: Vec::new(), ..certificate.clone() };
        put(&mut bytes, 2, &[plain.encode_to_vec(), certificate.unknown_fields.clone()].concat());
    }
    let put_keys = |bytes: &mut Vec<u8>, number, keys: &[PublicKey]| {
        for key in keys {
            let plain = PublicKey { unknown_fields: Vec::new(), ..key.clone() };
            put(bytes, number, &[plain.encode_to_vec(), key.unknown_fields.clone()].concat());
        }
    };
    put_keys(&mut bytes, 3, &bundle.jwt_signing_keys);
    let numbers =
        Bundle { refresh_hint: bundle.refresh_hint, sequence_number: bundle.sequence_number, ..Bundle::default() };
    bytes.extend(numbers.encode_to_vec());
    put_keys(&mut bytes, 6, &bundle.wit_signing_keys);
    bytes.extend_from_slice(&bundle.unknown_fields);
    bytes
}

fn certificate(bytes: &[u8]) -> Result<Certificate, SerializedError> {
    let (plain, unknown_fields) = split(bytes, 2)?;
    Ok(Certificate { unknown_fields, ..Certificate::decode(plain.as_slice())? })
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, SerializedError> {
    let (plain, unknown_fields) = split(bytes, 4)?;
    Ok(PublicKey { unknown_fields, ..PublicKey::decode(plain.as_slice())? })
}

/// Reads a serialized `spire.common.RegistrationEntry.AdditionalAttributes`.
///
/// # Errors
/// When the bytes are no such message.
pub fn attributes(bytes: &[u8]) -> Result<AdditionalAttributes, SerializedError> {
    let (plain, unknown_fields) = split(bytes, 2)?;
    Ok(AdditionalAttributes { unknown_fields, ..AdditionalAttributes::decode(plain.as_slice())? })
}

/// Writes a `spire.common.RegistrationEntry.AdditionalAttributes`.
#[must_use]
pub fn attributes_bytes(attributes: &AdditionalAttributes) -> Vec<u8> {
    let plain = AdditionalAttributes { unknown_fields: Vec::new(), ..attributes.clone() };
    [plain.encode_to_vec(), attributes.unknown_fields.clone()].concat()
}

/// The fields with numbers up to `known`, and the others.
fn split(bytes: &[u8], known: u32) -> Result<(Vec<u8>, Vec<u8>), SerializedError> {
    let (mut plain, mut unknown) = (Vec::new(), Vec::new());
    for field in Fields(bytes) {
        let field = field?;
        let part = if field.number <= known { &mut plain } else { &mut unknown };
        part.extend_from_slice(field.whole);
    }
    Ok((plain, unknown))
}

fn put(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

/// One field of a message.
struct Field<'a> {
    number: u32,
    /// With its number and length.
    whole: &'a [u8],
    /// What is in it, if it has a length.
    content: Option<&'a [u8]>,
}

/// Takes a message apart, one level deep. Ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, SerializedError> {
        let all = self.0;
        let mut rest = all;
        let (number, wire_type) = decode_key(&mut rest)?;
        let length = match wire_type {
            WireType::Varint => decode_varint(&mut rest).map(|_| 0)?,
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut rest)?,
            WireType::StartGroup | WireType::EndGroup => return Err(SerializedError::Group),
        };
        let length = usize::try_from(length).map_err(|_| SerializedError::Short)?;
        let (content, behind) = rest.split_at_checked(length).ok_or(SerializedError::Short)?;
        let whole = &all[..all.len() - behind.len()];
        self.0 = behind;
        Ok(Field { number, whole, content: (wire_type == WireType::LengthDelimited).then_some(content) })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, SerializedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Fields that no message of ours has, encoded.
    fn others() -> impl Strategy<Value = Vec<u8>> {
        vec((20..200_u32, vec(any::<u8>(), 0..10)), 0..3).prop_map(|fields| {
            let mut bytes = Vec::new();
            for (number, content) in fields {
                put(&mut bytes, number, &content);
            }
            bytes
        })
    }

    fn certificates() -> impl Strategy<Value = Certificate> {
        (vec(any::<u8>(), 0..20), any::<bool>(), others())
            .prop_map(|(der_bytes, tainted_key, unknown_fields)| Certificate { der_bytes, tainted_key, unknown_fields })
    }

    fn keys() -> impl Strategy<Value = PublicKey> {
        (vec(any::<u8>(), 0..20), "[a-z]{0,4}", any::<i64>(), any::<bool>(), others()).prop_map(
            |(pkix_bytes, kid, not_after, tainted_key, unknown_fields)| PublicKey {
                pkix_bytes,
                kid,
                not_after,
                tainted_key,
                unknown_fields,
            },
        )
    }

    fn bundles() -> impl Strategy<Value = Bundle> {
        let lists = (vec(certificates(), 0..3), vec(keys(), 0..3), vec(keys(), 0..3));
        ("[a-z:/.]{0,12}", lists, any::<i64>(), any::<u64>(), others()).prop_map(
            |(trust_domain_id, (root_cas, jwt_signing_keys, wit_signing_keys), hint, number, unknown_fields)| Bundle {
                trust_domain_id,
                root_cas,
                jwt_signing_keys,
                refresh_hint: hint,
                sequence_number: number,
                wit_signing_keys,
                unknown_fields,
            },
        )
    }

    proptest! {
        #[test]
        fn a_bundle_comes_back_as_it_was(written in bundles()) {
            let bytes = bundle_bytes(&written);
            prop_assert_eq!(bundle(&bytes).unwrap(), written.clone());
            prop_assert_eq!(bundle_bytes(&bundle(&bytes).unwrap()), bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            // What can be read can be written, and means the same again.
            if let Ok(read) = bundle(&bytes) {
                prop_assert_eq!(bundle(&bundle_bytes(&read)).unwrap(), read);
            }
            if let Ok(read) = attributes(&bytes) {
                prop_assert_eq!(attributes(&attributes_bytes(&read)).unwrap(), read);
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let bytes = [
            b"\x0a\x09spiffe://".as_slice(),
            b"\x12\x05\x0a\x01c\x10\x01",
            b"\x1a\x06\x12\x01k\x98\x06\x07",
            b"\x20\x3c",
            b"\xa2\x06\x02hi",
        ]
        .concat();
        let read = bundle(&bytes).unwrap();
        assert_eq!((read.trust_domain_id.as_str(), read.refresh_hint), ("spiffe://", 60));
        assert!(read.root_cas[0].tainted_key && read.root_cas[0].der_bytes == b"c");
        assert_eq!(
            (read.jwt_signing_keys[0].kid.as_str(), read.jwt_signing_keys[0].unknown_fields.as_slice()),
            ("k", &b"\x98\x06\x07"[..])
        );
        // A field with the number of ours for unknown ones is unknown like any other.
        assert_eq!(read.unknown_fields, b"\xa2\x06\x02hi");
        assert_eq!(bundle_bytes(&read), bytes);
    }

    #[test]
    fn half_a_message_is_none() {
        assert!(matches!(bundle(b"\x12\x7f"), Err(SerializedError::Short)));
        assert!(matches!(bundle(b"\x13"), Err(SerializedError::Group)));
        assert!(matches!(bundle(b"\x0a\x01\xff"), Err(SerializedError::Malformed(_))), "not UTF-8");
    }
}
