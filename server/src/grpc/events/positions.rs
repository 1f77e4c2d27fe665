//! Where a consumer stands, and the cursor that says so.

use steeple_engine::ids::{Revision, StreamId, StreamSequence};
use steeple_wire::cursor::Cursor;
use steeple_wire::status::ErrorKind;
use tonic::Status;

use super::stream_name;
use crate::grpc::scope::Scope;
use crate::node::tail::StreamPosition;

/// Where a consumer stands in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// Everything up to this event is behind it.
    pub(super) revision: Revision,
    /// The last item behind it, by stream.
    pub(super) streams: Vec<(StreamId, StreamSequence)>,
}

impl Positions {
    /// The text that a consumer keeps.
    pub(super) fn cursor(&self, scope: &Scope) -> String {
        Cursor {
            history: scope.node.history_id().0,
            namespace: scope.namespace.0,
            revision: self.revision.0,
            streams: self.streams.iter().map(|(stream, sequence)| (stream.0, sequence.0)).collect(),
        }
        .encode()
    }

    /// Reads a consumer's text; refuses one of another namespace or history.
    pub(super) fn of_cursor(scope: &Scope, text: &str) -> Result<Self, Status> {
        let cursor = Cursor::decode(text).map_err(|error| ErrorKind::CursorMalformed.status(error.to_string()))?;
        if cursor.history != scope.node.history_id().0 {
            let text =
                "the cursor belongs to a history that this node left (a backup was restored); start with Bootstrap";
            return Err(ErrorKind::CursorForeign.status(text));
        }
        if cursor.namespace != scope.namespace.0 {
            return Err(
                ErrorKind::CursorForeign.status("the cursor belongs to another namespace; start with Bootstrap")
            );
        }
        if cursor.revision > scope.node.revision().0 {
            let text = format!("the cursor is at revision {}, this node at {}", cursor.revision, scope.node.revision());
            return Err(ErrorKind::CursorAhead.status(text));
        }
        let streams = cursor.streams.iter().map(|(stream, sequence)| (StreamId(*stream), StreamSequence(*sequence)));
        Ok(Self { revision: Revision(cursor.revision), streams: streams.collect() })
    }

    /// The positions in some streams, all of which the cursor has to cover.
    pub(super) fn within(&self, streams: &[StreamId]) -> Result<Vec<StreamPosition>, Status> {
        let position = |stream: &StreamId| match self.streams.iter().find(|(other, _)| other == stream) {
            Some((_, after)) => Ok(StreamPosition { stream: *stream, after: *after }),
            None => {
                let text = format!("the cursor does not cover stream {}; start with Bootstrap", stream_name(*stream));
                Err(ErrorKind::CursorForeign.status(text))
            }
        };
        streams.iter().map(position).collect()
    }
}
