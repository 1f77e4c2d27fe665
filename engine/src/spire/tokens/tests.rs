//! Join tokens, case by case from section 11 of the specification.

use super::Command;
use super::limits::TOKEN_BYTES_MAX;
use super::queries::fetch_join_token;
use super::records::JoinToken;
use crate::spire::fixture::Datastore;
use crate::spire::limits::PRUNE_STEP_DEFAULT;
use crate::spire::{self, Answer, Code};

fn token(token: &str, expiry: i64) -> JoinToken {
    JoinToken { token: token.into(), expiry }
}

fn create(token: JoinToken) -> spire::Command {
    spire::Command::Token(Command::Create(Some(token)))
}

fn delete(token: &str) -> spire::Command {
    spire::Command::Token(Command::Delete { token: token.into() })
}

fn prune(expires_before: i64, limit: u32) -> spire::Command {
    spire::Command::Token(Command::Prune { expires_before, limit })
}

fn fetch(store: &Datastore, token: &str) -> Option<JoinToken> {
    store.query(|reader, namespace| fetch_join_token(reader, namespace, token)).unwrap()
}

#[test]
fn create_and_fetch() {
    let mut store = Datastore::new();
    assert_eq!(fetch(&store, "a"), None);
    assert_eq!(store.submit(create(token("a", 1_234))), Answer::Nothing);
    assert_eq!(fetch(&store, "a"), Some(token("a", 1_234)));
    assert_eq!(fetch(&store, "A"), None, "comparison is exact");
    assert_eq!(fetch(&store, ""), None);
}

#[test]
fn create_refuses() {
    let mut store = Datastore::new();
    store.submit(create(token("taken", 5)));
    let required = (Code::InvalidArgument, "token and expiry are required".to_owned());
    let taken = (Code::AlreadyExists, "datastore-sql: UNIQUE constraint failed: join_tokens.token".to_owned());
    for (command, refusal) in [
        (spire::Command::Token(Command::Create(None)), required.clone()),
        (create(token("", 5)), required.clone()),
        (create(token("a", 0)), required),
        (create(token("taken", 9)), taken),
    ] {
        assert_eq!(store.refuse(command.clone()), refusal, "{command:?}");
    }
    assert_eq!(store.refuse(create(token(&"x".repeat(TOKEN_BYTES_MAX + 1), 1))).0, Code::InvalidArgument);
    assert_eq!(fetch(&store, "taken"), Some(token("taken", 5)));
}

#[test]
fn delete_succeeds_once_and_leaves_others() {
    let mut store = Datastore::new();
    store.submit(create(token("a", 5)));
    store.submit(create(token("b", 5)));
    assert_eq!(store.submit(delete("a")), Answer::Nothing);
    assert_eq!(store.refuse(delete("a")), (Code::NotFound, "datastore-sql: record not found".into()));
    assert_eq!((fetch(&store, "a"), fetch(&store, "b")), (None, Some(token("b", 5))));
}

#[test]
fn prune_keeps_what_expires_at_the_instant() {
    let mut store = Datastore::new();
    store.submit(create(token("a", 100)));
    for (expires_before, left) in [(99, true), (100, true), (101, false)] {
        assert_eq!(store.finish(&prune(expires_before, 10)), [u64::from(!left)], "{expires_before}");
        assert_eq!(fetch(&store, "a").is_some(), left, "{expires_before}");
    }
    let revision = store.revision();
    store.submit(prune(1_000, 10));
    assert_eq!(store.revision(), revision, "pruning nothing is no event");
}

#[test]
fn prune_goes_in_bounded_steps_oldest_first() {
    let mut store = Datastore::new();
    for number in 0..5 {
        store.submit(create(token(&number.to_string(), 10 - number)));
    }
    assert_eq!(store.submit(prune(10, 2)), Answer::Progress { changed: 2, more: true });
    assert_eq!((fetch(&store, "4"), fetch(&store, "3")), (None, None));
    assert_eq!(store.finish(&prune(10, 2)), [2]);
    assert_eq!(fetch(&store, "0"), Some(token("0", 10)));
    assert_eq!(store.submit(prune(100, 0)), Answer::Progress { changed: 1, more: false }, "0 means a default");

    let step = i64::try_from(PRUNE_STEP_DEFAULT).unwrap();
    for number in 0..=step {
        store.submit(create(token(&number.to_string(), 1 + number)));
    }
    assert_eq!(store.finish(&prune(i64::MAX, 0)), [PRUNE_STEP_DEFAULT as u64, 1]);
}

#[test]
fn secrets_are_not_printed() {
    let secret = "c0ffee";
    let texts =
        [format!("{:?}", token(secret, 1)), format!("{:?}", create(token(secret, 1))), format!("{:?}", delete(secret))];
    assert!(texts.iter().all(|text| !text.contains(secret)), "{texts:?}");
}
