//! The SPIRE datastore's behaviour, end to end: client library, gRPC, node.
//!
//! Tests whose names begin with `test_` are the items of SPIRE's own conformance suite, under its names.

mod bad_input;
mod bundles;
mod ca_journals;
mod concurrency;
mod documentation;
mod events;
mod federation;
mod filters;
mod fuzz_seeds;
mod join_tokens;
mod logs;
mod nodes;
mod paging;
mod registration_entries;
mod requests;
mod restart;
mod silence;
