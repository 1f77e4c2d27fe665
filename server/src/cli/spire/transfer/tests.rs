//! From a database into a node, out of it again and into another namespace.

use std::path::Path;

use steeple_client::types::JoinToken;
use steeple_client::types::imported_record::Record;
use steeple_client::{Client, ImportBatch, Namespace};
use steeple_sql::fixture;

use super::compare::Comparison;
use super::judge::{Judge, Survey};
use super::kind::{Kind, imported};
use super::origin::{Found, Origin, Place};
use super::{export, import};
use crate::cli::exit::CommandError;
use crate::grpc::connect;
use crate::node::{Node, NodeOptions, NodeParts};

async fn client() -> Client {
    let node = tokio::task::spawn_blocking(|| Node::start(NodeOptions::in_memory(), NodeParts::default()));
    Client::from_channel(connect(node.await.unwrap().unwrap()).await.unwrap())
}

async fn open(client: &Client, name: &str) -> Namespace {
    client.admin().open_namespace(name).await.unwrap()
}

async fn database(directory: &Path, entries: u32) -> std::path::PathBuf {
    let path = directory.join("datastore.sqlite3");
    fixture::create(&path, 25).await.unwrap();
    fixture::add_entries(&path, entries).await.unwrap();
    path
}

async fn origin(kind: &str, path: &Path) -> Origin {
    let place: Place = format!("{kind}:{}", path.display()).parse().unwrap();
    Origin::open(&place, 0).await.unwrap()
}

async fn take_over(origin: &mut Origin, namespace: &Namespace) -> Result<u64, CommandError> {
    let survey = Survey::of(origin).await?;
    import::send(origin, namespace, &survey).await.map(|import| import.accepted)
}

async fn compare(origin: &mut Origin, namespace: &Namespace) -> Comparison {
    Comparison::of(origin, namespace).await.unwrap()
}

#[tokio::test]
async fn a_database_is_taken_over_and_comes_back_from_an_export() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path(), 2_500).await;
    let client = client().await;
    let (first, second) = (open(&client, "first").await, open(&client, "second").await);

    let mut database = origin("sqlite", &path).await;
    assert_eq!(take_over(&mut database, &first).await.unwrap(), 2_515);
    let comparison = compare(&mut database, &first).await;
    assert!(comparison.is_equal(), "{comparison:?}");
    assert_eq!(comparison.source.of(Kind::Entry), 2_503);
    assert!(!compare(&mut database, &second).await.is_equal());

    let exported = directory.path().join("export.jsonl");
    assert_eq!(export::to_file(&first, &exported, true).await.unwrap().total(), 2_515);
    let mut lines = origin("jsonl", &exported).await;
    assert_eq!(take_over(&mut lines, &second).await.unwrap(), 2_515);
    assert!(compare(&mut database, &second).await.is_equal(), "the copy of the copy is the original");

    let again = directory.path().join("again.jsonl");
    export::to_file(&second, &again, true).await.unwrap();
    let body = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().skip(1).filter(|line| !line.starts_with("{\"end\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(body(&exported), body(&again));
}

#[tokio::test]
async fn an_import_that_broke_off_goes_on_and_nothing_is_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path(), 1_200).await;
    let client = client().await;
    let namespace = open(&client, "ns").await;
    let mut database = origin("sqlite", &path).await;
    let survey = Survey::of(&mut database).await.unwrap();

    let (mut judge, mut records) = (Judge::default(), Vec::new());
    database
        .read(async |found| {
            if let Found::Record(record) = found {
                records.extend(judge.judge(record).ok().filter(|_| records.len() < 7).map(imported));
            }
            Ok(())
        })
        .await
        .unwrap();
    let batch = ImportBatch {
        fingerprint: survey.fingerprint,
        source: "before".into(),
        total: survey.counts.total(),
        position: 0,
        records,
    };
    namespace.import_records(batch).await.unwrap();
    assert_eq!(take_over(&mut database, &namespace).await.unwrap(), 1_215);
    assert_eq!(take_over(&mut database, &namespace).await.unwrap(), 1_215, "a third run has nothing to do");
    assert!(compare(&mut database, &namespace).await.is_equal());

    database.close().await;
    fixture::execute(&path, "DELETE FROM join_tokens WHERE token = 't-1'").await.unwrap();
    let mut changed = origin("sqlite", &path).await;
    let error = take_over(&mut changed, &namespace).await.unwrap_err();
    assert!(matches!(&error, CommandError::AlreadyExists(text) if text.contains("changed since")), "{error}");
}

#[tokio::test]
async fn differences_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path(), 3).await;
    let client = client().await;
    let namespace = open(&client, "ns").await;
    let mut database = origin("sqlite", &path).await;
    take_over(&mut database, &namespace).await.unwrap();

    let mut entry = namespace.fetch_registration_entry("first").await.unwrap().unwrap();
    entry.hint = "other".into();
    namespace.update_registration_entry(entry, None).await.unwrap();
    namespace.delete_registration_entry("entry-2").await.unwrap();
    namespace.create_join_token("s3cret", 5).await.unwrap();
    let comparison = compare(&mut database, &namespace).await;
    assert!(!comparison.is_equal());
    assert_eq!((comparison.different.total(), comparison.missing.total(), comparison.extra.total()), (1, 1, 1));
    let mut told = comparison.told.clone();
    told.sort();
    assert_eq!(
        told,
        [
            "a join token is not in the source",
            "entry entry-2 is missing",
            "entry first differs in hint, revision_number"
        ]
    );
    assert!(!comparison.json().to_string().contains("s3cret"));
}

#[tokio::test]
async fn order_is_compared_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path(), 3).await;
    let client = client().await;
    let namespace = open(&client, "ns").await;
    let mut database = origin("sqlite", &path).await;
    let survey = Survey::of(&mut database).await.unwrap();
    let (mut judge, mut records) = (Judge::default(), Vec::new());
    database
        .read(async |found| {
            if let Found::Record(record) = found {
                records.extend(judge.judge(record).ok().map(imported));
            }
            Ok(())
        })
        .await
        .unwrap();
    let place = records.iter().position(|record| matches!(record.record, Some(Record::RegistrationEntry(_)))).unwrap();
    records.swap(place, place + 1);
    let batch = ImportBatch {
        fingerprint: survey.fingerprint,
        source: "swapped".into(),
        total: survey.counts.total(),
        position: 0,
        records,
    };
    namespace.import_records(batch).await.unwrap();
    let comparison = compare(&mut database, &namespace).await;
    assert!(!comparison.is_equal());
    assert_eq!((comparison.misplaced.total(), comparison.different.total()), (1, 0));
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_known_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path(), 1).await;
    let damage = "UPDATE registered_entries SET hint = printf('%2000d', 1) WHERE id = 1;
        UPDATE bundles SET data = X'ffff' WHERE id = 2;";
    fixture::execute(&path, damage).await.unwrap();
    let mut database = origin("sqlite", &path).await;
    let survey = Survey::of(&mut database).await.unwrap();
    let refused: Vec<_> = survey.refused.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(refused, ["row 2 of bundles", "entry first"]);
    assert_eq!(survey.refused_total, 2);
    assert_eq!(survey.orphans.len(), 3);

    // The rest is taken over all the same.
    let client = client().await;
    let namespace = open(&client, "ns").await;
    assert_eq!(take_over(&mut database, &namespace).await.unwrap(), survey.counts.total());
    assert!(compare(&mut database, &namespace).await.is_equal());
}

#[tokio::test]
async fn tokens_can_be_left_out_of_an_export() {
    let directory = tempfile::tempdir().unwrap();
    let client = client().await;
    let namespace = open(&client, "ns").await;
    namespace.create_join_token("s3cret", 5).await.unwrap();
    let path = directory.path().join("export.jsonl");
    assert_eq!(export::to_file(&namespace, &path, false).await.unwrap().total(), 0);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("s3cret"));
    assert_eq!(export::to_file(&namespace, &path, true).await.unwrap().of(Kind::Token), 1);
    let other = open(&client, "other").await;
    take_over(&mut origin("jsonl", &path).await, &other).await.unwrap();
    let token = JoinToken { token: "s3cret".into(), expires_at: 5 };
    assert_eq!(other.fetch_join_token("s3cret").await.unwrap(), Some(token));
}

#[tokio::test]
async fn a_namespace_in_the_middle_of_an_import_is_not_exported() {
    let directory = tempfile::tempdir().unwrap();
    let client = client().await;
    let namespace = open(&client, "ns").await;
    let token = imported(Record::JoinToken(JoinToken { token: "t".into(), expires_at: 5 }));
    let batch = ImportBatch { total: 2, records: vec![token], source: "x".into(), ..Default::default() };
    namespace.import_records(batch).await.unwrap();
    let error = export::to_file(&namespace, &directory.path().join("e"), true).await.unwrap_err().to_string();
    assert!(error.contains("1 of 2 records"), "{error}");
}

#[tokio::test]
async fn a_namespace_in_use_is_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path(), 1).await;
    let client = client().await;
    let namespace = open(&client, "ns").await;
    namespace.create_join_token("t", 5).await.unwrap();
    let error = take_over(&mut origin("sqlite", &path).await, &namespace).await.unwrap_err();
    let advised = import::advise(error, "ns").to_string();
    assert!(advised.contains("join_tokens of this one were written to"), "{advised}");
    assert!(advised.contains("--namespace"), "{advised}");
}
