//! Records in the form that they are sent in, and parts of lists.

use prost::Message;
use steeple_wire::packed::Packed;

use crate::grpc::limits;

/// Records in the form that they are sent in.
pub(crate) trait Parcel: Default + Send + 'static {
    /// How long they are in a message, with what goes around each.
    fn bytes(&self) -> usize;
}

/// Records as messages.
pub(crate) struct Items<M> {
    items: Vec<M>,
    bytes: usize,
}

impl<M> Default for Items<M> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }
}

impl<M: Message> Items<M> {
    pub(super) fn push(&mut self, item: M) {
        self.bytes += item.encoded_len() + limits::ITEM_FRAME_BYTES;
        self.items.push(item);
    }
}

impl<M: Message + 'static> Parcel for Items<M> {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<M> From<Items<M>> for Vec<M> {
    fn from(items: Items<M>) -> Self {
        items.items
    }
}

/// Registration entries as fields of a message.
#[derive(Default)]
pub(crate) struct EncodedEntries(pub(super) Vec<u8>);

impl EncodedEntries {
    /// A message with these entries and whatever else it has.
    pub(crate) fn pack<M>(self, message: M) -> Packed<M> {
        Packed { encoded: self.0, message }
    }
}

impl Parcel for EncodedEntries {
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Cuts a list so that no part but one of a single item is much larger than `bytes`.
pub(crate) fn split<M: Message>(items: Vec<M>, bytes: usize) -> Vec<Vec<M>> {
    let (mut parts, mut part, mut part_bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let item_bytes = item.encoded_len();
        if !part.is_empty() && part_bytes + item_bytes > bytes {
            parts.push(std::mem::take(&mut part));
            part_bytes = 0;
        }
        part_bytes += item_bytes;
        part.push(item);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use steeple_wire::spire::v1 as wire;

    use super::*;

    fn selector(bytes: usize) -> wire::Selector {
        wire::Selector { r#type: String::new(), value: "x".repeat(bytes) }
    }

    #[test]
    fn parts_are_no_larger_than_asked_unless_one_item_is() {
        let sizes = |parts: Vec<Vec<wire::Selector>>| parts.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(split(vec![selector(40), selector(40), selector(40)], 100)), [2, 1]);
        assert_eq!(sizes(split(vec![selector(40), selector(400), selector(40)], 100)), [1, 1, 1]);
        assert_eq!(sizes(split(Vec::<wire::Selector>::new(), 100)), Vec::<usize>::new());
    }
}
