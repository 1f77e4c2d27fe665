//! The client of a group of Steeple nodes.
//!
//! ```no_run
//! # async fn example() -> Result<(), steeple_client::Error> {
//! use steeple_client::types::{RegistrationEntry, Selector};
//! use steeple_client::{Client, TailOptions};
//!
//! let client = Client::connect("http://127.0.0.1:7400").await?;
//! let spire = client.namespace("production");
//!
//! let entry = RegistrationEntry {
//!     parent_id: "spiffe://td.example/agent".into(),
//!     spiffe_id: "spiffe://td.example/billing".into(),
//!     selectors: vec![Selector { r#type: "unix".into(), value: "uid:1000".into() }],
//!     ..Default::default()
//! };
//! let entry = spire.create_registration_entry(entry).await?;
//!
//! let mut tail = spire.tail(TailOptions::default());
//! loop {
//!     let message = tail.next().await?;
//!     // Persist `message.cursor` once the message is dealt with.
//!     println!("{message:?}");
//! }
//! # }
//! ```
//!
//! **Nodes.** A client is told of one node or several ([`Endpoints`]) and learns the other members of their group, and which
//! one leads, from them. An address that a node names is used only once it is found to belong to the same cluster. Mutations go to the leader and follow it when it changes. Nodes that fail are left alone for a
//! while, and one that keeps silent ([`Options::node_patience`]) is not waited for as long as there is another.
//!
//! **Retries.** Every mutation carries a request id, so sending it again is safe. While the deadline allows, calls are
//! repeated after a broken connection, after a node that is busy, through an election, and after an unknown outcome. What
//! is left is told by [`Error`]; [`Error::OutcomeUnknown`] and, for changes of the group,
//! [`Error::ChangeUnknown`] alone leave open whether it happened.
//!
//! **Many at a time.** [`Namespace::batch`] carries out several mutations with one call, and a [`Writer`] any number of them
//! over one stream, each with an outcome of its own.
//!
//! **Long lists.** A list comes in one answer, in [`Pages`], the next of which is under way while one is dealt with, or as a stream
//! of [`Records`]. A stream that breaks off has to begin anew, pages go on where they are.
//!
//! **Freshness.** Reads see everything acknowledged before them, whichever node answers. [`Namespace::stale`] gives that
//! up, though never behind what the same [`Namespace`] has already seen; such reads go round all nodes.
//!
//! **Tails.** A [`Tail`] survives the death of the node that it reads from: it goes on behind its last message at
//! another one, without gap or repetition. Nodes that are behind are passed over until they are far enough.

mod admin;
mod batch;
mod bootstrap;
mod call;
mod calls;
mod client;
mod cluster;
mod dialer;
mod error;
mod history;
mod namespace;
mod pages;
mod retry;
mod streams;
mod tail;
pub mod tls;
mod writer;

pub use admin::{Admin, SnapshotChunks};
pub use batch::{Operation, Outcome};
pub use bootstrap::{Bootstrap, BootstrapState};
pub use calls::entries::{Created, PrunedEntries};
pub use calls::imports::ImportBatch;
pub use calls::nodes::{DeletedNode, Pruned};
pub use client::{Client, Options};
pub use dialer::Endpoints;
pub use error::Error;
pub use history::{History, Moment};
pub use namespace::{Namespace, RequestId};
pub use pages::Pages;
pub use streams::Records;
pub use tail::{Tail, TailContent, TailMessage, TailOptions, TailStart, TailStream};
pub use writer::{Writer, WriterOptions, Written};

/// The protocol's messages about SPIRE's records.
pub mod types {
    pub use steeple_wire::spire::v1::*;
}

/// The protocol's messages about events.
pub mod events {
    pub use steeple_wire::events::v1::*;
}

/// The protocol's messages about a node.
pub mod administration {
    pub use steeple_wire::admin::v1::*;
}
