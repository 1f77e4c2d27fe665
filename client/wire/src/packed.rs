//! Answers of which a part is encoded already when they are put together.
//!
//! A node keeps its records in a form of its own and can write them as fields of a message at once, without messages of
//! their own in between. On the wire nobody can tell.

use std::ops::{Deref, DerefMut};

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint};
use prost::{DecodeError, Message};

use crate::events::v1 as events;
use crate::spire::v1;

/// What nodes answer `ListRegistrationEntries` with.
pub type ListRegistrationEntriesResponse = Packed<v1::ListRegistrationEntriesResponse>;

/// What nodes answer `StreamRegistrationEntries` with.
pub type StreamRegistrationEntriesResponse = Packed<v1::StreamRegistrationEntriesResponse>;

/// What nodes answer `FetchRegistrationEntries` with.
pub type FetchRegistrationEntriesResponse = Packed<v1::FetchRegistrationEntriesResponse>;

/// What nodes answer batches of mutations with.
pub type BatchResponse = Packed<v1::BatchResponse>;

/// The field that holds the outcomes of a batch.
pub const OUTCOMES: u32 = 1;

/// The field that holds the entries of each list of them.
pub const ENTRIES: u32 = 1;

/// What nodes send to a tail.
pub type TailResponse = Packed<events::TailResponse>;

/// Of a page of registration entries or attested nodes, where the next one begins: decoding this alone passes over the records,
/// which takes next to nothing beside decoding them.
#[derive(Clone, PartialEq, Message)]
pub struct PageEnd {
    /// As in the page.
    #[prost(message, optional, tag = "2")]
    pub pagination: Option<v1::Pagination>,
}

/// A message, and fields of it that are encoded. Whoever receives one finds everything in the message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed<M> {
    /// Whole fields, each with its number.
    pub encoded: Vec<u8>,
    /// The other fields.
    pub message: M,
}

impl<M> Deref for Packed<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M> DerefMut for Packed<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.message
    }
}

impl<M: Message> Message for Packed<M> {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.encoded);
        self.message.encode_raw(buffer);
    }

    fn merge_field(
        &mut self,
        number: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.message.merge_field(number, wire_type, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len() + self.message.encoded_len()
    }

    fn clear(&mut self) {
        self.encoded.clear();
        self.message.clear();
    }
}

/// Writes a text; nothing for an empty one, as the protocol has it.
pub fn put_text(bytes: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_element(bytes, number, text.as_bytes());
    }
}

/// Writes an element of a list, or other bytes, even if there are none.
pub fn put_element(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

/// Writes a number that has a sign; nothing for 0. The protocol has the bits of 64 for it.
pub fn put_number(bytes: &mut Vec<u8>, number: u32, value: i64) {
    put_count(bytes, number, value.cast_unsigned());
}

/// Writes a number that has none; nothing for 0.
pub fn put_count(bytes: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        encode_key(number, WireType::Varint, bytes);
        encode_varint(value, bytes);
    }
}

/// Writes a flag; nothing for one that is not set.
pub fn put_flag(bytes: &mut Vec<u8>, number: u32, is_set: bool) {
    put_number(bytes, number, i64::from(is_set));
}

/// Writes a message, even an empty one, with the fields that `put_fields` writes, and returns what that returns.
pub fn put_message<T>(bytes: &mut Vec<u8>, number: u32, put_fields: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    encode_key(number, WireType::LengthDelimited, bytes);
    let start = bytes.len();
    let outcome = put_fields(bytes);
    let length = (bytes.len() - start) as u64;
    // How long its length is shows only now: the fields make room for it.
    let shift = encoded_len_varint(length);
    bytes.resize(bytes.len() + shift, 0);
    let end = bytes.len();
    bytes.copy_within(start..end - shift, start + shift);
    let mut place = &mut bytes[start..start + shift];
    encode_varint(length, &mut place);
    outcome
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::spire::v1::{Pagination, RegistrationEntry, Selector};

    fn selector(value: &str) -> Selector {
        Selector { r#type: "unix".into(), value: value.into() }
    }

    fn put_selector(bytes: &mut Vec<u8>, selector: &Selector) {
        put_message(bytes, 1, |bytes| {
            put_text(bytes, 1, &selector.r#type);
            put_text(bytes, 2, &selector.value);
        });
    }

    #[test]
    fn what_is_put_is_what_the_message_has() {
        // Lengths below and above what one and two bytes can tell.
        for length in [0, 1, 100, 127, 128, 300, 16_383, 16_384, 70_000] {
            for number in [0, 1, -1, i32::MAX, i32::MIN] {
                let entry = RegistrationEntry {
                    selectors: vec![selector(""), selector(&"v".repeat(length))],
                    dns_names: vec![String::new(), "dns".into()],
                    hint: "h".repeat(length),
                    x509_svid_ttl: number,
                    created_at: i64::from(number) << 20,
                    admin: length % 2 == 1,
                    ..RegistrationEntry::default()
                };
                let mut bytes = b"before".to_vec();
                put_message(&mut bytes, ENTRIES, |bytes| {
                    entry.selectors.iter().for_each(|selector| put_selector(bytes, selector));
                    put_number(bytes, 4, entry.x509_svid_ttl.into());
                    put_flag(bytes, 7, entry.admin);
                    entry.dns_names.iter().for_each(|name| put_element(bytes, 10, name.as_bytes()));
                    put_text(bytes, 14, &entry.hint);
                    put_number(bytes, 15, entry.created_at);
                });
                let pagination = Some(Pagination { token: "next".into(), page_size: 1 });
                let plain =
                    v1::ListRegistrationEntriesResponse { entries: vec![entry], pagination: pagination.clone() };
                let packed = Packed {
                    encoded: bytes.split_off(6),
                    message: v1::ListRegistrationEntriesResponse { entries: Vec::new(), pagination },
                };
                assert_eq!(bytes, b"before");
                assert_eq!(packed.encoded_len(), plain.encoded_len());
                assert_eq!(packed.encode_to_vec(), plain.encode_to_vec());
                let received = ListRegistrationEntriesResponse::decode(packed.encode_to_vec().as_slice()).unwrap();
                assert_eq!((received.encoded.len(), received.message), (0, plain));
            }
        }
    }
}
