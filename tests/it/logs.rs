//! Log lines that operators of SPIRE know (sections 7.10, 9.7, 9.8 and 13).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use steeple_client::Namespace;
use steeple_client::types::{AttestedNode, CaJournal, RegistrationEntry};
use steeple_server::node::NodeOptions;
use steeple_tests::journals::content;
use steeple_tests::records::{MICROS, NOW, entry, letters, node, selector};
use steeple_tests::server::Server;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// One line: level, text, fields.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    level: Level,
    message: String,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => drop(self.fields.insert(name, value.to_owned())),
        }
    }
}

/// Lines about SPIRE's records.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "steeple::spire" {
            let mut line = Line { level: *event.metadata().level(), message: String::new(), fields: BTreeMap::new() };
            event.record(&mut line);
            self.0.lock().unwrap().push(line);
        }
    }
}

fn line(message: &str, fields: &[(&'static str, &str)]) -> Line {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Line { level: Level::INFO, message: message.into(), fields }
}

fn entry_line(message: &str, entry: &RegistrationEntry) -> Line {
    let ids = [
        ("spiffe_id", entry.spiffe_id.as_str()),
        ("parent_id", entry.parent_id.as_str()),
        ("entry_id", entry.entry_id.as_str()),
    ];
    line(message, &ids)
}

/// Runs a test with client and services on one thread, whose lines are collected.
fn with_lines(test: impl AsyncFn(Namespace, Lines)) {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start(NodeOptions::in_memory()).await;
        let datastore = server.namespace().await;
        lines.take();
        test(datastore, lines.clone()).await;
        server.node.stop().await;
    });
}

/// The lines that the suite asserts, apart from the one about having connected to an SQL database.
#[test]
fn test_prune_registration_entries_logs() {
    with_lines(async |datastore, lines| {
        let expiring = |id| RegistrationEntry { entry_expiry: NOW, ..entry("ParentId", id, letters("A")) };
        let first = datastore.create_registration_entry(expiring("first")).await.unwrap();
        let second = datastore.create_registration_entry(expiring("second")).await.unwrap();
        datastore.prune_registration_entries(NOW * MICROS).await.unwrap();
        assert_eq!(lines.take(), []);
        datastore.prune_registration_entries((NOW + 1) * MICROS).await.unwrap();
        let expected = [&first, &second].map(|entry| entry_line("Pruned an expired registration", entry));
        assert_eq!(lines.take(), expected);
        datastore.prune_registration_entries((NOW + 1) * MICROS).await.unwrap();
        assert_eq!(lines.take(), []);
    });
}

#[test]
fn deletion_of_a_node_tells_what_went_with_it() {
    with_lines(async |datastore, lines| {
        for agent in ["deleted", "pruned"] {
            let node =
                AttestedNode { attestation_data_type: "join_token".into(), can_reattest: true, ..node(agent, NOW) };
            datastore.create_attested_node(node).await.unwrap();
            let alias = entry(agent, "alias", vec![selector("spiffe_id", agent)]);
            let alias = datastore.create_registration_entry(alias).await.unwrap();
            let cascaded = "Cascade-deleted registration entry on attested node deletion";
            let mut expected = vec![entry_line(cascaded, &alias)];
            if agent == "deleted" {
                datastore.delete_attested_node(agent).await.unwrap();
            } else {
                datastore.prune_attested_expired_nodes((NOW + 1) * MICROS, false, 0).await.unwrap();
                expected.push(line("Pruned expired agents", &[("count", "1")]));
            }
            assert_eq!(lines.take(), expected);
        }
    });
}

#[test]
fn pruned_journals_are_told() {
    with_lines(async |datastore, lines| {
        for data in [content(&[NOW], &[], &[]), content(&[NOW + 9], &[], &[]), vec![]] {
            datastore.set_ca_journal(CaJournal { data, ..Default::default() }).await.unwrap();
        }
        datastore.prune_ca_journals(NOW).await.unwrap();
        // Those without any key come first.
        let mut expected = ["1", "3"].map(|id| line("Pruned stale CA journal record", &[("ca_journal_id", id)]));
        let mut found = lines.take();
        found.sort_by_key(|line| line.fields["ca_journal_id"].clone());
        expected.sort_by_key(|line| line.fields["ca_journal_id"].clone());
        assert_eq!(found, expected);
    });
}

/// Secrets are in no line, whatever becomes of them.
#[test]
fn join_tokens_are_not_logged() {
    with_lines(async |datastore, lines| {
        datastore.create_join_token("s3cret", 1).await.unwrap();
        datastore.create_join_token("s3cret", 1).await.unwrap_err();
        datastore.prune_join_tokens(NOW * MICROS).await.unwrap();
        assert_eq!(lines.take(), []);
    });
}
