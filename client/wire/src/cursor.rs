//! The text form of a consumer's position.
//!
//! `st1.` and hexadecimal digits of: history id (16 bytes), namespace (8), revision (8), number of streams (1), and for
//! each of them its number (2) and a sequence (8), ascending by stream; then a CRC32 of all that (4). Integers are big
//! endian. One position has one text.

use thiserror::Error;

const PREFIX: &str = "st1.";
const FIXED_BYTES: usize = 16 + 8 + 8 + 1;
const STREAM_BYTES: usize = 2 + 8;
const CHECKSUM_BYTES: usize = 4;

/// Streams in a cursor at the most.
pub const CURSOR_STREAMS_MAX: usize = 32;

/// Where a consumer stands: everything up to this revision is behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The unbroken line of revisions that it belongs to.
    pub history: [u8; 16],
    /// Number of the namespace.
    pub namespace: u64,
    /// The last event behind the consumer.
    pub revision: u64,
    /// The last item behind the consumer, by stream number; ascending.
    pub streams: Vec<(u16, u64)>,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CursorError {
    /// Another kind of text, or a version that this build does not know.
    #[error("cursor does not start with {PREFIX}")]
    Prefix,
    /// Something is missing or added.
    #[error("cursor has a wrong length")]
    Length,
    /// Something other than lower-case hexadecimal digits.
    #[error("cursor has a character that does not belong there")]
    Character,
    /// It was changed.
    #[error("cursor has a wrong checksum")]
    Checksum,
    /// Streams out of order.
    #[error("cursor lists its streams out of order")]
    Order,
}

impl Cursor {
    /// The last item behind the consumer in a stream; zero when the cursor does not name it.
    #[must_use]
    pub fn sequence(&self, stream: u16) -> u64 {
        self.streams.iter().find(|(number, _)| *number == stream).map_or(0, |(_, sequence)| *sequence)
    }

    /// The text.
    ///
    /// # Panics
    /// With more than [`CURSOR_STREAMS_MAX`] streams.
    #[must_use]
    pub fn encode(&self) -> String {
        assert!(self.streams.len() <= CURSOR_STREAMS_MAX, "{} streams in a cursor", self.streams.len());
        let mut streams = self.streams.clone();
        streams.sort_unstable();
        let mut bytes = Vec::with_capacity(FIXED_BYTES + streams.len() * STREAM_BYTES + CHECKSUM_BYTES);
        bytes.extend_from_slice(&self.history);
        bytes.extend_from_slice(&self.namespace.to_be_bytes());
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.push(streams.len() as u8);
        for (stream, sequence) in streams {
            bytes.extend_from_slice(&stream.to_be_bytes());
            bytes.extend_from_slice(&sequence.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        let mut text = String::with_capacity(PREFIX.len() + bytes.len() * 2);
        text.push_str(PREFIX);
        for byte in bytes {
            text.push(char::from(HEXADECIMAL[usize::from(byte >> 4)]));
            text.push(char::from(HEXADECIMAL[usize::from(byte & 15)]));
        }
        text
    }

    /// Reads the text.
    ///
    /// # Errors
    /// When it is not exactly what [`Cursor::encode`] makes.
    pub fn decode(text: &str) -> Result<Self, CursorError> {
        let digits = text.strip_prefix(PREFIX).ok_or(CursorError::Prefix)?.as_bytes();
        if digits.len() > 2 * (FIXED_BYTES + CURSOR_STREAMS_MAX * STREAM_BYTES + CHECKSUM_BYTES) {
            return Err(CursorError::Length);
        }
        let bytes = from_hexadecimal(digits)?;
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(CursorError::Length)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*checksum) {
            return Err(CursorError::Checksum);
        }
        Self::parse(content)
    }

    fn parse(content: &[u8]) -> Result<Self, CursorError> {
        let (history, rest) = content.split_first_chunk::<16>().ok_or(CursorError::Length)?;
        let (namespace, rest) = rest.split_first_chunk::<8>().ok_or(CursorError::Length)?;
        let (revision, rest) = rest.split_first_chunk::<8>().ok_or(CursorError::Length)?;
        let (count, rest) = rest.split_first().ok_or(CursorError::Length)?;
        let (rows, remainder) = rest.as_chunks::<STREAM_BYTES>();
        if rows.len() != usize::from(*count) || !remainder.is_empty() {
            return Err(CursorError::Length);
        }
        let streams: Vec<_> = rows.iter().map(parse_stream).collect();
        if !streams.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(CursorError::Order);
        }
        Ok(Self {
            history: *history,
            namespace: u64::from_be_bytes(*namespace),
            revision: u64::from_be_bytes(*revision),
            streams,
        })
    }
}

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

fn parse_stream(row: &[u8; STREAM_BYTES]) -> (u16, u64) {
    let [s0, s1, q @ ..] = *row;
    (u16::from_be_bytes([s0, s1]), u64::from_be_bytes(q))
}

fn from_hexadecimal(digits: &[u8]) -> Result<Vec<u8>, CursorError> {
    let (pairs, remainder) = digits.as_chunks::<2>();
    if !remainder.is_empty() {
        return Err(CursorError::Length);
    }
    pairs.iter().map(|[high, low]| Ok(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

fn nibble(digit: u8) -> Result<u8, CursorError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(CursorError::Character),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursors() -> impl Strategy<Value = Cursor> {
        let streams = proptest::collection::btree_map(any::<u16>(), any::<u64>(), 0..CURSOR_STREAMS_MAX);
        (any::<[u8; 16]>(), any::<u64>(), any::<u64>(), streams).prop_map(|(history, namespace, revision, streams)| {
            Cursor { history, namespace, revision, streams: streams.into_iter().collect() }
        })
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(cursor in cursors()) {
            let text = cursor.encode();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(Cursor::decode(&text), Ok(cursor));
        }

        #[test]
        fn a_changed_character_is_noticed(cursor in cursors(), place in any::<prop::sample::Index>(), to in "[ -~]") {
            let mut text = cursor.encode();
            let place = place.index(text.len());
            let same = text[place..].starts_with(&to);
            text.replace_range(place..=place, &to);
            prop_assert_eq!(Cursor::decode(&text).is_ok(), same);
        }

        #[test]
        fn a_cut_text_is_refused(cursor in cursors(), place in any::<prop::sample::Index>()) {
            let text = cursor.encode();
            prop_assert!(Cursor::decode(&text[..place.index(text.len())]).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,120}", tail in "[0-9a-f]{0,200}") {
            prop_assert!(Cursor::decode(&text).is_err());
            let prefixed = [PREFIX, &tail].concat();
            prop_assert!(Cursor::decode(&prefixed).is_err());
        }
    }

    #[test]
    fn each_damage_has_its_name() {
        let good = Cursor { revision: 9, streams: vec![(1, 4), (2, 5)], ..Cursor::default() };
        assert_eq!(good.sequence(2), 5);
        assert_eq!(good.sequence(3), 0);
        let text = good.encode();
        assert_eq!(Cursor::decode(""), Err(CursorError::Prefix));
        assert_eq!(Cursor::decode("st1."), Err(CursorError::Length));
        assert_eq!(Cursor::decode(&text.replace("st1", "st2")), Err(CursorError::Prefix));
        assert_eq!(Cursor::decode(&text[..text.len() - 1]), Err(CursorError::Length));
        assert_eq!(Cursor::decode(&format!("{}G", &text[..text.len() - 1])), Err(CursorError::Character));
        assert_eq!(Cursor::decode(&text[..text.len() - 2]), Err(CursorError::Checksum));
    }

    #[test]
    fn streams_are_put_in_order() {
        let cursor = Cursor { streams: vec![(7, 1), (3, 2)], ..Cursor::default() };
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap().streams, [(3, 2), (7, 1)]);
    }
}
