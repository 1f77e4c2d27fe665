//! All records of a namespace.

use steeple_client::Namespace;
use steeple_client::types::imported_record::Record;
use steeple_client::types::{AttestedNodeFilter, RegistrationEntryFilter};
use tokio_stream::StreamExt as _;

use crate::cli::exit::CommandError;

/// Records in one page, where there is no stream.
const PAGE: i32 = 100;

/// Hands over everything that an import can bring, each kind in creation order. It is not the state of one moment.
pub(super) async fn read(namespace: &Namespace, mut take: impl FnMut(Record)) -> Result<(), CommandError> {
    let mut token = String::new();
    loop {
        let (bundles, next) = namespace.list_bundles_page(&token, PAGE).await?;
        bundles.into_iter().for_each(|bundle| take(Record::Bundle(bundle)));
        match next.is_empty() {
            true => break,
            false => token = next,
        }
    }
    token.clear();
    loop {
        let (relationships, next) = namespace.list_federation_relationships_page(&token, PAGE).await?;
        relationships.into_iter().for_each(|relationship| take(Record::FederationRelationship(relationship)));
        match next.is_empty() {
            true => break,
            false => token = next,
        }
    }
    let mut entries = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await?;
    while let Some(entry) = entries.next().await {
        take(Record::RegistrationEntry(entry?));
    }
    let mut nodes = namespace.stream_attested_nodes(AttestedNodeFilter::default(), false).await?;
    while let Some(node) = nodes.next().await {
        take(Record::AttestedNode(node?));
    }
    let mut selectors = namespace.stream_node_selectors(0).await?;
    while let Some(selectors) = selectors.next().await {
        take(Record::NodeSelectors(selectors?));
    }
    tokens(namespace, &mut take).await?;
    namespace.list_ca_journals().await?.into_iter().for_each(|journal| take(Record::CaJournal(journal)));
    Ok(())
}

/// Hands over the join tokens.
pub(super) async fn tokens(namespace: &Namespace, take: &mut impl FnMut(Record)) -> Result<(), CommandError> {
    let mut token = String::new();
    loop {
        let (tokens, next) = namespace.list_join_tokens_page(&token, PAGE * 100).await?;
        tokens.into_iter().for_each(|token| take(Record::JoinToken(token)));
        if next.is_empty() {
            return Ok(());
        }
        token = next;
    }
}

/// One record of the same kind and key, if there is one.
pub(super) async fn fetch(namespace: &Namespace, record: &Record) -> Result<Option<Record>, CommandError> {
    Ok(match record {
        Record::Bundle(bundle) => namespace.fetch_bundle(&bundle.trust_domain_id).await?.map(Record::Bundle),
        Record::FederationRelationship(relationship) => namespace
            .fetch_federation_relationship(&relationship.trust_domain)
            .await?
            .map(Record::FederationRelationship),
        Record::RegistrationEntry(entry) => {
            namespace.fetch_registration_entry(&entry.entry_id).await?.map(Record::RegistrationEntry)
        }
        Record::AttestedNode(node) => namespace.fetch_attested_node(&node.spiffe_id).await?.map(Record::AttestedNode),
        Record::NodeSelectors(record) => {
            let selectors = namespace.get_node_selectors(&record.spiffe_id).await?;
            let spiffe_id = record.spiffe_id.clone();
            Some(Record::NodeSelectors(steeple_client::types::NodeSelectors { spiffe_id, selectors }))
        }
        Record::JoinToken(token) => namespace.fetch_join_token(&token.token).await?.map(Record::JoinToken),
        Record::CaJournal(journal) => {
            let journals = namespace.list_ca_journals().await?;
            journals.into_iter().find(|other| other.id == journal.id).map(Record::CaJournal)
        }
    })
}
