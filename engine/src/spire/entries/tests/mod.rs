//! Behaviour of registration entries, named after the contract's subcases.

mod changing;
mod creating;
mod listing;
mod removing;

use super::Command;
use super::queries::fetch_entry;
use super::records::Entry;
use crate::spire::bundles::records::Bundle;
use crate::spire::fixture::Datastore;
use crate::spire::selectors::Selector;
use crate::spire::{self, Answer, bundles};

/// An entry in the contract's short notation: `foobarCB2` has the parent `foo`, the SPIFFE ID `bar`, the selectors C
/// and B (type and value are the letter) and federates with domain 2. Its id is the notation itself.
fn entry(notation: &str) -> Entry {
    let marks = &notation[6..];
    let selector = |letter: char| Selector { kind: letter.into(), value: letter.into() };
    Entry {
        entry_id: notation.into(),
        parent_id: notation[..3].into(),
        spiffe_id: notation[3..6].into(),
        selectors: marks.chars().filter(char::is_ascii_uppercase).map(selector).collect(),
        federates_with: marks.chars().filter(char::is_ascii_digit).map(domain).collect(),
        hint: match notation {
            "foobarAB1" | "bazbarAD12" => "external".into(),
            "foobarCB2" => "internal".into(),
            _ => String::new(),
        },
        ..Entry::default()
    }
}

fn domain(digit: char) -> String {
    format!("spiffe://federated-{digit}.example")
}

fn with_bundles(digits: &str) -> Datastore {
    let mut store = Datastore::new();
    for digit in digits.chars() {
        let bundle = Bundle { trust_domain_id: domain(digit), ..Bundle::default() };
        store.submit(spire::Command::Bundle(bundles::Command::Create(Some(bundle))));
    }
    store
}

fn create_command(entry: Entry) -> spire::Command {
    spire::Command::Entry(Command::CreateOrReturn(Some(entry)))
}

/// The entry as stored, which must be new.
fn create(store: &mut Datastore, entry: Entry) -> Entry {
    match store.submit(create_command(entry)) {
        Answer::Entry { entry, existing: false } => entry,
        other => panic!("creating a new entry answered {other:?}"),
    }
}

fn fetch(store: &Datastore, entry_id: &str) -> Option<Entry> {
    store.query(|reader, namespace| fetch_entry(reader, namespace, entry_id)).unwrap()
}

/// Keys of the registrations stream after the first `after` items.
fn announced(store: &Datastore, after: u64) -> Vec<String> {
    store.registrations(after).iter().map(|row| String::from_utf8(row.key.to_vec()).unwrap()).collect()
}
