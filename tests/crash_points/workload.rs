//! What a node is told to do before it crashes.

use steeple_engine::domain::Command;
use steeple_engine::ids::NamespaceId;
use steeple_engine::namespaces;
use steeple_engine::spire::{self, entries, entries::records::Entry, events, selectors::Selector};

use crate::node::{NAMESPACE, time_of};

/// One thing to do.
pub(crate) enum Step {
    /// Decides commands, and makes their events durable together.
    Submit(Vec<(NamespaceId, Command)>),
    /// Promises not to vote below this term.
    Term(u64),
    /// Makes the record store durable.
    Flush,
    /// Writes a base snapshot.
    Snapshot,
    /// Gives back what nothing wants.
    Compact,
    /// The process is killed, and the next one starts on the same files.
    Kill,
    /// The process stops in order, and the next one starts on the same files.
    Stop,
}

fn command(command: entries::Command) -> (NamespaceId, Command) {
    (NAMESPACE, Command::Spire(spire::Command::Entry(command)))
}

/// Entries are of very different size: some events fit into one sector, some take a dozen.
fn entry(number: u64) -> Entry {
    let selectors = (0..=number % 3 * 20).map(|value| Selector { kind: "unix".into(), value: format!("uid:{value}") });
    Entry {
        entry_id: format!("entry-{number}"),
        spiffe_id: format!("spiffe://td.example/workload/{number}"),
        parent_id: "spiffe://td.example/node".into(),
        selectors: selectors.collect(),
        expiry: if number.is_multiple_of(4) { 500 } else { 0 },
        ..Entry::default()
    }
}

fn create(number: u64) -> (NamespaceId, Command) {
    command(entries::Command::CreateOrReturn(Some(entry(number))))
}

fn creates(numbers: std::ops::RangeInclusive<u64>) -> Step {
    Step::Submit(numbers.map(create).collect())
}

fn update(number: u64) -> (NamespaceId, Command) {
    command(entries::Command::Update(Some(Entry { hint: "changed".into(), ..entry(number) }), None))
}

fn delete(number: u64) -> (NamespaceId, Command) {
    command(entries::Command::Delete { entry_id: format!("entry-{number}") })
}

fn prune_entries() -> (NamespaceId, Command) {
    command(entries::Command::Prune { expires_before: 501, limit: 100 })
}

/// Stream items of the revisions before this one go.
fn prune_events(before: u64) -> (NamespaceId, Command) {
    let prune = events::Command::PruneEntryEvents { older_than_micros: time_of(before).0, limit: 100 };
    (NAMESPACE, Command::Spire(spire::Command::Event(prune)))
}

/// Touches everything: batches of several sectors and of several segments, a reused segment, a purge, a rewrite, restarts.
pub(crate) fn workload() -> Vec<Step> {
    let open = Command::Namespace(namespaces::Command::Open { name: "crash".into() });
    vec![
        Step::Term(1),
        Step::Submit(vec![(NamespaceId::SYSTEM, open)]),
        creates(1..=2),
        creates(3..=3),
        Step::Submit(vec![update(1), delete(2), update(3)]),
        creates(4..=9),
        Step::Term(2),
        Step::Flush,
        Step::Kill,
        Step::Submit(vec![update(4), update(5), delete(6), prune_entries()]),
        Step::Submit(vec![prune_events(12)]),
        Step::Flush,
        Step::Snapshot,
        Step::Compact,
        creates(10..=13),
        Step::Stop,
        creates(14..=16),
        Step::Submit((10..=14).map(update).collect()),
        Step::Submit(vec![delete(13), prune_events(24)]),
        Step::Flush,
        Step::Snapshot,
        Step::Compact,
        Step::Term(3),
        Step::Submit(vec![update(15), update(16)]),
        Step::Kill,
        Step::Submit((17..=19).flat_map(|number| [create(number), delete(number)]).collect()),
        Step::Submit(vec![prune_events(40)]),
        Step::Flush,
        Step::Snapshot,
        Step::Compact,
        creates(20..=21),
    ]
}

/// What a node is asked after a crash.
pub(crate) fn one_more() -> Step {
    let open = Command::Namespace(namespaces::Command::Open { name: "after".into() });
    Step::Submit(vec![(NamespaceId::SYSTEM, open)])
}
