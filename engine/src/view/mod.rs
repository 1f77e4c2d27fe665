//! Views: what folding produces, and how domains read it.

pub mod reader;

pub use reader::{ReadError, Reader, ReaderExtension, Record, StreamRow, StreamState};
