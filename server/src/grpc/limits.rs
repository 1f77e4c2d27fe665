//! Limits to what a request may hold and an answer may be. Those on single records are the engine's.

use steeple_engine::spire::limits as records;
use steeple_wire::MESSAGE_BYTES_MAX;
use steeple_wire::status::ErrorKind;
use tonic::Status;

/// Mutations of one batch.
pub const BATCH_MUTATIONS_MAX: usize = 1_000;
/// Batches of one stream that are under way.
pub const STREAM_BATCHES_MAX: usize = 256;
/// Bytes of the batches of one stream that are under way, behind which no more are taken.
pub const STREAM_BYTES_MAX: usize = 16 << 20;
/// Keys that a tail filters by.
pub const TAIL_KEYS_MAX: usize = 10_000;
/// Items of one list of stream items.
pub const ITEMS_MAX: usize = 1_000;
/// Versions that a history shows when the request does not say.
pub const HISTORY_VERSIONS_MAX: usize = 100_000;
/// Stream items that are searched, newest first, for the end of a record that is gone.
pub const HISTORY_SEARCH_ITEMS_MAX: u64 = 200_000;
/// Newest events of the log among which the end of a record is looked for that no stream item tells of.
pub const HISTORY_SEARCH_EVENTS_MAX: u64 = 5_000_000;
/// Records or items read under one lock.
pub const READ_STEP: usize = 4_096;
/// Bytes of records in one answer; the rest of the message is left for what goes around them.
pub const ANSWER_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (1 << 20);
/// What goes around one item of a list in a message, at the most.
pub const ITEM_FRAME_BYTES: usize = 6;
/// Bytes of a request id.
pub const REQUEST_ID_BYTES: usize = 16;
/// Where a member is reached.
pub const ADDRESS_BYTES_MAX: usize = 512;
/// A text that names a record or a token.
pub const KEY_BYTES_MAX: usize = records::SPIFFE_ID_BYTES_MAX;

/// Refuses more of something than there may be.
pub(crate) fn check_count(what: &str, count: usize, max: usize) -> Result<(), Status> {
    if count > max {
        return Err(ErrorKind::LimitExceeded.status(format!("{count} {what} were given, {max} are allowed")));
    }
    Ok(())
}

/// Refuses longer texts than there may be.
pub(crate) fn check_bytes(what: &str, bytes: usize, max: usize) -> Result<(), Status> {
    if bytes > max {
        return Err(ErrorKind::LimitExceeded.status(format!("{what} is {bytes} bytes long, {max} are allowed")));
    }
    Ok(())
}
