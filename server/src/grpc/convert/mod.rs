//! Between messages of the protocol and types of the engine. One module for each collection; `from_wire` takes what a
//! client sent, `to_wire` makes what it gets.

pub(crate) mod answers;
pub(crate) mod bundles;
pub(crate) mod entries;
pub(crate) mod federation;
pub(crate) mod filters;
pub(crate) mod imports;
pub(crate) mod journals;
pub(crate) mod nodes;
pub(crate) mod records;
pub(crate) mod times;
pub(crate) mod tokens;

#[cfg(test)]
mod tests;

/// What a row is about, as text. Keys of both streams are texts of requests.
pub(crate) fn key_text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Microseconds as the protocol has them.
pub(crate) fn micros(time: steeple_engine::ids::Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
