//! Views: what folding produces, and how domains read it.

pub mod reader;
pub mod digest;
pub mod keys;
pub mod fold;
pub mod replay;
mod removal;
mod load;
mod state;
mod committed;
mod overlay;

#[cfg(test)]
mod tests;

pub use committed::{Committed, View, ViewError, ViewReader};
pub use digest::Digest;
pub use keys::{FoldedPosition, MEMBERSHIP_BYTES_MAX, StoreKey};
pub use load::{Fork, InTurn};
pub use overlay::{Overlay, OverlayReader};
pub use reader::{ReadError, Reader, ReaderExtension, Record, StreamRow, StreamState};
pub use replay::{MAX_MARK_SPAN, StoreFold};
