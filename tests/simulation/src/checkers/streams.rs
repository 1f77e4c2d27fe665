//! Streams number their items 1, 2, 3, ... in commit order, every member lists the same ones, and none keeps what was given
//! up.

use std::ops::ControlFlow;

use steeple_engine::domain::CATALOG;
use steeple_engine::event::Event;
use steeple_engine::ids::StreamSequence;
use steeple_engine::view::{Reader, StoreKey, View};
use steeple_server::node::Node;

use crate::history::History;
use crate::violation::{Checked, Violation};

const NAME: &str = "streams";

/// Checks an event that was just committed.
///
/// # Errors
/// When an item does not follow on the one before it.
pub fn check_event(history: &History, event: &Event) -> Checked {
    for (place, item) in event.items.iter().enumerate() {
        let known = history.streams.get(&(event.namespace, item.stream)).map_or(0, Vec::len) as u64;
        let before = event.items[..place].iter().filter(|other| other.stream == item.stream).count() as u64;
        let expected = known + before + 1;
        if item.sequence.0 != expected {
            let found = format!(
                "revision {} has item {} of stream {}, where {expected} was to come",
                event.revision, item.sequence, item.stream
            );
            return Err(Violation::new(NAME, found));
        }
    }
    Ok(())
}

/// Checks the rows that a member lists against what was committed.
///
/// # Errors
/// When it lists other ones.
pub fn check_rows(history: &History, member: usize, node: &Node) -> Checked {
    node.read(|reader| {
        for namespace in reader.namespaces() {
            for stream in CATALOG.streams {
                let state = reader.stream(namespace, stream.id);
                let rows = reader.stream_rows(namespace, stream.id, StreamSequence(0), usize::MAX);
                let rows = rows.map_err(|error| Violation::new(NAME, format!("member {member}: {error}")))?;
                let items = history.streams.get(&(namespace, stream.id)).map_or(&[][..], Vec::as_slice);
                let mut expected = state.low_water.0.max(1);
                for row in rows {
                    let known = items.get(row.sequence.0 as usize - 1);
                    let agrees =
                        known.is_some_and(|item| item.revision == row.revision.0 && item.key[..] == row.key[..]);
                    if row.sequence.0 != expected || !agrees {
                        let found = format!(
                            "member {member} lists item {} of stream {} as {row:?}, where {expected} is {known:?}",
                            row.sequence, stream.name
                        );
                        return Err(Violation::new(NAME, found));
                    }
                    expected += 1;
                }
                if expected != state.last.0 + 1 {
                    let found =
                        format!("member {member} lists stream {} up to {expected}, not {}", stream.name, state.last);
                    return Err(Violation::new(NAME, found));
                }
            }
        }
        Ok(())
    })
}

/// Checks that a member which has nothing left to do holds no row of what its streams have given up.
///
/// # Errors
/// When it does.
pub fn check_removed(member: usize, view: &View) -> Checked {
    let reader = view.read();
    for namespace in reader.namespaces() {
        for stream in CATALOG.streams {
            let row = |sequence| StoreKey::Row(namespace, stream.id, sequence).encode();
            let mark = reader.stream(namespace, stream.id).low_water;
            let mut left = None;
            let scanned = view.store().scan(&row(StreamSequence::ZERO), &row(mark), &mut |key, _| {
                left = StoreKey::decode(key);
                ControlFlow::Break(())
            });
            scanned.map_err(|error| Violation::new(NAME, format!("member {member}: {error}")))?;
            if let Some(left) = left {
                let found =
                    format!("member {member} keeps {left:?}, and stream {} has given up all below {mark}", stream.name);
                return Err(Violation::new(NAME, found));
            }
        }
    }
    Ok(())
}
