//! Namespaces: opening, clearing, deleting, and what must never come back.

use std::sync::Arc;

use super::commands::{CLEAR_STEP_MAX, NAME_BYTES_MAX};
use super::{Answer, Command, queries};
use crate::code::Code;
use crate::domain::{self, CATALOG};
use crate::event::Event;
use crate::ids::{LogIndex, NamespaceId, Timestamp};
use crate::index::Query;
use crate::local::{LocalError, LocalGroup, SeededEntropy};
use crate::spire;
use crate::spire::journals::records::Journal;
use crate::transaction::Transaction;
use crate::view::{Committed, Reader};

const NOW: i64 = 1_000;

fn group() -> LocalGroup {
    LocalGroup::new(1, Timestamp::from_seconds(NOW)).unwrap()
}

fn submit(group: &mut LocalGroup, namespace: NamespaceId, command: Command) -> Result<Answer, (Code, String)> {
    match group.submit(namespace, &domain::Command::Namespace(command)) {
        Ok(domain::Answer::Namespace(answer)) => Ok(answer),
        Ok(other) => panic!("a command about namespaces answered {other:?}"),
        Err(LocalError::Rejected(rejection)) => Err((rejection.code(), rejection.to_string())),
        Err(error) => panic!("{error}"),
    }
}

fn open(group: &mut LocalGroup, name: &str) -> (NamespaceId, bool) {
    match submit(group, NamespaceId::SYSTEM, Command::Open { name: name.into() }) {
        Ok(Answer::Opened { id, existing }) => (id, existing),
        other => panic!("opening answered {other:?}"),
    }
}

/// One record each.
fn fill(group: &mut LocalGroup, namespace: NamespaceId, records: usize) {
    for number in 0..records {
        let journal = Journal { active_x509_authority_id: number.to_string(), ..Journal::default() };
        set_journal(group, namespace, journal).unwrap();
    }
}

fn set_journal(group: &mut LocalGroup, namespace: NamespaceId, journal: Journal) -> Result<u64, LocalError> {
    let command = spire::Command::Journal(spire::journals::Command::Set(Some(journal)));
    match group.submit(namespace, &domain::Command::Spire(command))? {
        domain::Answer::Spire(spire::Answer::Journal(journal)) => Ok(journal.id),
        other => panic!("setting a journal answered {other:?}"),
    }
}

fn contents(group: &LocalGroup, namespace: NamespaceId) -> u64 {
    CATALOG.tables.iter().map(|table| group.read().count(namespace, table.id, &Query::all())).sum()
}

/// Puts items into a stream, in one event.
fn plant_items(group: &LocalGroup, namespace: NamespaceId, items: u64) {
    let folded = group.view().folded();
    let content = {
        let (reader, mut entropy) = (group.read(), SeededEntropy::new(0));
        let mut transaction = Transaction::new(&reader, CATALOG, namespace, folded.time, &mut entropy);
        for number in 0..items {
            transaction.emit(spire::NODES, number.to_be_bytes(), None);
        }
        transaction.into_content()
    };
    let event = Arc::new(Event {
        revision: folded.revision.next(),
        time: folded.time,
        namespace,
        request: None,
        changes: content.changes,
        items: content.items,
        marks: content.marks,
        answer: Vec::new(),
    });
    group.view().fold(&[Committed { index: LogIndex(event.revision.0), event }]).unwrap();
}

#[test]
fn open_creates_once_and_then_finds() {
    let mut group = group();
    assert_eq!(open(&mut group, "one"), (NamespaceId(1), false));
    assert_eq!(open(&mut group, "a/b-c_d.9"), (NamespaceId(2), false));
    let revision = group.revision();
    assert_eq!(open(&mut group, "one"), (NamespaceId(1), true));
    assert_eq!(group.revision(), revision, "finding a namespace is no event");

    assert_eq!(queries::find(&group.read(), "one"), Some(NamespaceId(1)));
    assert_eq!(queries::find(&group.read(), "two"), None);
    let listed = queries::list(&group.read(), NamespaceId::ZERO, 10).unwrap();
    let names: Vec<_> = listed.iter().map(|(id, namespace)| (id.0, namespace.name.as_str())).collect();
    assert_eq!(names, [(1, "one"), (2, "a/b-c_d.9")]);
    assert_eq!(queries::list(&group.read(), NamespaceId(1), 10).unwrap().len(), 1);
    assert_eq!(queries::list(&group.read(), NamespaceId::ZERO, 1).unwrap().len(), 1);
    assert_eq!(queries::fetch(&group.read(), NamespaceId(1)).unwrap().unwrap().created_at, NOW);
    assert_eq!(queries::fetch(&group.read(), NamespaceId(3)).unwrap(), None);
}

#[test]
fn names_are_checked() {
    let mut group = group();
    let refusal = |group: &mut LocalGroup, name: &str| {
        submit(group, NamespaceId::SYSTEM, Command::Open { name: name.into() }).unwrap_err()
    };
    assert_eq!(
        refusal(&mut group, ""),
        (Code::InvalidArgument, "namespace name has 0 bytes, it must have 1 to 255".into())
    );
    assert_eq!(refusal(&mut group, &"x".repeat(NAME_BYTES_MAX + 1)).0, Code::InvalidArgument);
    for name in ["a b", "é", "a\0", "a\n", "a:b"] {
        let (code, text) = refusal(&mut group, name);
        assert_eq!(code, Code::InvalidArgument, "{name:?}");
        assert!(text.contains("may only contain"), "{text}");
    }
    assert!(!open(&mut group, &"x".repeat(NAME_BYTES_MAX)).1);
}

#[test]
fn commands_are_refused_in_the_wrong_namespace() {
    let mut group = group();
    let (id, _) = open(&mut group, "one");
    for command in [Command::Open { name: "two".into() }, Command::Delete { name: "one".into() }] {
        let (code, text) = submit(&mut group, id, command).unwrap_err();
        assert_eq!((code, text.as_str()), (Code::InvalidArgument, "command does not belong in namespace 1"));
    }
    assert_eq!(submit(&mut group, NamespaceId::SYSTEM, Command::Clear).unwrap_err().0, Code::NotFound);
    assert_eq!(
        submit(&mut group, NamespaceId(9), Command::Clear).unwrap_err(),
        (Code::NotFound, "namespace 9 not found".into())
    );
}

#[test]
fn datastore_commands_need_a_namespace_that_is_there() {
    let mut group = group();
    let (first, _) = open(&mut group, "one");
    for (namespace, code) in [
        (NamespaceId::SYSTEM, Code::InvalidArgument),
        (NamespaceId(first.0 + 1), Code::NotFound),
        (NamespaceId(u64::MAX), Code::NotFound),
    ] {
        assert_eq!(set_journal(&mut group, namespace, Journal::default()).unwrap_err().code(), Some(code));
    }
    assert_eq!(set_journal(&mut group, first, Journal::default()).unwrap(), 1);
}

#[test]
fn namespaces_number_their_records_independently() {
    let mut group = group();
    let ((one, _), (two, _)) = (open(&mut group, "one"), open(&mut group, "two"));
    fill(&mut group, one, 3);
    assert_eq!(set_journal(&mut group, two, Journal::default()).unwrap(), 1);
    assert_eq!((contents(&group, one), contents(&group, two)), (3, 1));
}

#[test]
fn deletion_waits_for_clearing_and_never_reuses_the_id() {
    let mut group = group();
    let ((one, _), (two, _)) = (open(&mut group, "one"), open(&mut group, "two"));
    fill(&mut group, one, 2);
    fill(&mut group, two, 2);
    let delete = Command::Delete { name: "one".into() };
    assert_eq!(
        submit(&mut group, NamespaceId::SYSTEM, delete.clone()).unwrap_err(),
        (
            Code::FailedPrecondition,
            "namespace \"one\" is not empty: 2 records and stream items left, clear it first".into()
        )
    );
    assert_eq!(submit(&mut group, one, Command::Clear), Ok(Answer::Progress { changed: 2, more: false }));
    assert_eq!(submit(&mut group, NamespaceId::SYSTEM, delete.clone()), Ok(Answer::Nothing));
    assert_eq!(
        submit(&mut group, NamespaceId::SYSTEM, delete).unwrap_err(),
        (Code::NotFound, "namespace \"one\" not found".into())
    );
    assert!(!queries::exists(&group.read(), one));
    assert_eq!(set_journal(&mut group, one, Journal::default()).unwrap_err().code(), Some(Code::NotFound));
    assert_eq!(contents(&group, two), 2, "another namespace keeps its records");
    assert_eq!(open(&mut group, "one"), (NamespaceId(3), false));
}

#[test]
fn clearing_goes_in_bounded_steps() {
    let mut group = group();
    let (id, _) = open(&mut group, "one");
    fill(&mut group, id, CLEAR_STEP_MAX + 5);
    assert_eq!(
        submit(&mut group, id, Command::Clear),
        Ok(Answer::Progress { changed: CLEAR_STEP_MAX as u64, more: true })
    );
    assert_eq!(contents(&group, id), 5);
    assert_eq!(submit(&mut group, id, Command::Clear), Ok(Answer::Progress { changed: 5, more: false }));
    let revision = group.revision();
    assert_eq!(submit(&mut group, id, Command::Clear), Ok(Answer::Progress { changed: 0, more: false }));
    assert_eq!(group.revision(), revision);
    assert_eq!(set_journal(&mut group, id, Journal::default()).unwrap(), CLEAR_STEP_MAX as u64 + 6);
}

#[test]
fn clearing_stops_at_the_byte_budget() {
    let mut group = group();
    let (id, _) = open(&mut group, "one");
    for _ in 0..4 {
        set_journal(&mut group, id, Journal { data: vec![1; 9 << 20], ..Journal::default() }).unwrap();
    }
    assert_eq!(submit(&mut group, id, Command::Clear), Ok(Answer::Progress { changed: 2, more: true }));
    assert_eq!(submit(&mut group, id, Command::Clear), Ok(Answer::Progress { changed: 2, more: false }));
}

#[test]
fn clearing_gives_up_stream_items() {
    let mut group = group();
    let (id, _) = open(&mut group, "one");
    let items = CLEAR_STEP_MAX as u64 + 3;
    plant_items(&group, id, items);
    assert_eq!(group.read().stream(id, spire::NODES).last.0, items);
    assert_eq!(
        submit(&mut group, NamespaceId::SYSTEM, Command::Delete { name: "one".into() }).unwrap_err().0,
        Code::FailedPrecondition
    );
    assert_eq!(
        submit(&mut group, id, Command::Clear),
        Ok(Answer::Progress { changed: CLEAR_STEP_MAX as u64, more: true })
    );
    assert_eq!(submit(&mut group, id, Command::Clear), Ok(Answer::Progress { changed: 3, more: false }));
    let state = group.read().stream(id, spire::NODES);
    assert_eq!((state.last.0, state.low_water.0), (items, items + 1));
    assert_eq!(submit(&mut group, NamespaceId::SYSTEM, Command::Delete { name: "one".into() }), Ok(Answer::Nothing));
}
