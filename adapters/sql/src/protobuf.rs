//! Serialized messages of SPIRE. Our own messages have the same field numbers; fields that they do not have are kept aside
//! as they came.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use steeple_wire::spire::v1::{AdditionalAttributes, Bundle, Certificate, PublicKey};

/// Our own field for what is kept aside; no message of SPIRE has it.
const OUR_OWN_FROM: u32 = 100;

/// One field of a message: its number, the bytes of its content if it is a message or text, and all of it.
struct Field<'a> {
    number: u32,
    content: Option<&'a [u8]>,
    all: &'a [u8],
}

/// A message in its fields.
fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, prost::DecodeError> {
    let (mut fields, mut rest) = (Vec::new(), message);
    while !rest.is_empty() {
        let mut behind = rest;
        let (number, kind) = decode_key(&mut behind)?;
        let key_bytes = rest.len() - behind.len();
        skip_field(kind, number, &mut behind, DecodeContext::default())?;
        let all = &rest[..rest.len() - behind.len()];
        let content = match kind {
            WireType::LengthDelimited => Some(delimited(&all[key_bytes..])?),
            _ => None,
        };
        fields.push(Field { number, content, all });
        rest = behind;
    }
    Ok(fields)
}

/// What follows a length.
fn delimited(mut bytes: &[u8]) -> Result<&[u8], prost::DecodeError> {
    prost::encoding::decode_varint(&mut bytes)?;
    Ok(bytes)
}

/// The fields that our own message has, and those that it has not.
fn split(message: &[u8], known_to: u32) -> Result<(Vec<u8>, Vec<u8>), prost::DecodeError> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for field in fields(message)? {
        let part = if field.number <= known_to { &mut known } else { &mut unknown };
        // A field of theirs under a number of ours would come back as something else.
        if field.number < OUR_OWN_FROM || field.number > known_to {
            part.extend_from_slice(field.all);
        }
    }
    Ok((known, unknown))
}

/// A bundle.
pub(crate) fn bundle(message: &[u8]) -> Result<Bundle, prost::DecodeError> {
    let (known, unknown_fields) = split(message, 6)?;
    let mut bundle = Bundle { unknown_fields, ..Bundle::decode(known.as_slice())? };
    let (mut root_cas, mut jwt_keys, mut wit_keys) = (Vec::new(), Vec::new(), Vec::new());
    for field in fields(&known)? {
        match (field.number, field.content) {
            (2, Some(content)) => root_cas.push(certificate(content)?),
            (3, Some(content)) => jwt_keys.push(public_key(content)?),
            (6, Some(content)) => wit_keys.push(public_key(content)?),
            _ => {}
        }
    }
    bundle.root_cas = root_cas;
    bundle.jwt_signing_keys = jwt_keys;
    bundle.wit_signing_keys = wit_keys;
    Ok(bundle)
}

fn certificate(message: &[u8]) -> Result<Certificate, prost::DecodeError> {
    let (known, unknown_fields) = split(message, 2)?;
    Ok(Certificate { unknown_fields, ..Certificate::decode(known.as_slice())? })
}

fn public_key(message: &[u8]) -> Result<PublicKey, prost::DecodeError> {
    let (known, unknown_fields) = split(message, 4)?;
    Ok(PublicKey { unknown_fields, ..PublicKey::decode(known.as_slice())? })
}

/// Additional attributes of an entry; none when they say nothing.
pub(crate) fn additional_attributes(message: &[u8]) -> Result<Option<AdditionalAttributes>, prost::DecodeError> {
    let (known, unknown_fields) = split(message, 2)?;
    let attributes = AdditionalAttributes { unknown_fields, ..AdditionalAttributes::decode(known.as_slice())? };
    Ok(Some(attributes).filter(|attributes| *attributes != AdditionalAttributes::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 9 with the number 5, which none of our messages has.
    const STRANGE: [u8; 2] = [9 << 3, 5];

    fn with_strange(message: &impl Message) -> Vec<u8> {
        [message.encode_to_vec(), STRANGE.to_vec()].concat()
    }

    #[test]
    fn fields_that_nobody_knows_are_kept_where_they_were() {
        let key = PublicKey { kid: "k".into(), pkix_bytes: vec![1], not_after: 7, ..Default::default() };
        let plain = Bundle { trust_domain_id: "spiffe://a".into(), refresh_hint: 60, ..Default::default() };
        let mut message = plain.encode_to_vec();
        for number in [3, 6] {
            let key = with_strange(&key);
            message.extend([number << 3 | 2, u8::try_from(key.len()).unwrap()]);
            message.extend(key);
        }
        message.extend(STRANGE);
        let key = PublicKey { unknown_fields: STRANGE.to_vec(), ..key };
        let expected = Bundle {
            jwt_signing_keys: vec![key.clone()],
            wit_signing_keys: vec![key],
            unknown_fields: STRANGE.to_vec(),
            ..plain
        };
        assert_eq!(bundle(&message), Ok(expected));
    }

    #[test]
    fn attributes_that_say_nothing_are_none() {
        assert_eq!(additional_attributes(&[]), Ok(None));
        let attributes = AdditionalAttributes { jwt_svid_include_jti: true, ..Default::default() };
        assert_eq!(additional_attributes(&attributes.encode_to_vec()), Ok(Some(attributes)));
        let strange = additional_attributes(&STRANGE).unwrap().unwrap();
        assert_eq!(strange.unknown_fields, STRANGE);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[0xff][..], &[0x0a, 5, 1], b"certainly no bundle"] {
            assert!(bundle(bytes).is_err(), "{bytes:?}");
        }
    }
}
