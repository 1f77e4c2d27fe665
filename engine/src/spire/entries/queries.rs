//! What can be asked about registration entries.

use std::collections::HashSet;

use super::records::{ArchivedEntry, Entry, indexes, similarity_key};
use super::validation;
use crate::ids::{NamespaceId, Sequence};
use crate::index::{Predicate, Query};
use crate::spire::pages::{Chunk, Few, Page, PageRequest, Window};
use crate::spire::selectors::{self, Match, SelectorFilter};
use crate::spire::{Error, flag_key, limits, tables};
use crate::view::{Reader, ReaderExtension, Record, ViewReader};

/// Conditions on entries, all of which must hold (4.3). Default selects every entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Empty means any.
    pub parent_id: String,
    /// Empty means any.
    pub spiffe_id: String,
    /// Empty means any.
    pub hint: String,
    /// By selectors.
    pub selectors: Option<SelectorFilter>,
    /// By federated trust domain ids; an empty list means any.
    pub federates_with: Option<(Match, Vec<String>)>,
    /// By the flag.
    pub downstream: Option<bool>,
}

/// Selectors or trust domains of a filter with which a list may still be one that the indexes can tell soon: putting them
/// in order and looking each of them up comes before anything else.
const KEYS_SOON_MAX: usize = 64;

/// A list of entries (7.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListEntries {
    /// Conditions.
    pub filter: EntryFilter,
    /// `None` for everything.
    pub page: Option<PageRequest>,
}

impl EntryFilter {
    /// Checks what can be checked without the state.
    ///
    /// # Errors
    /// When the selector filter is empty or a limit is exceeded.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(filter) = &self.selectors {
            if filter.selectors.is_empty() {
                return Err(selectors::Error::EmptyForEntries.into());
            }
            selectors::check_limits(&filter.selectors)?;
        }
        if let Some((_, trust_domain_ids)) = &self.federates_with {
            validation::check_trust_domains(trust_domain_ids)?;
        }
        Ok(())
    }

    /// Whether so little is asked for that looking up the sets in question takes no time worth mentioning.
    fn is_modest(&self) -> bool {
        let selectors = self.selectors.as_ref().map_or(0, |filter| filter.selectors.len());
        let trust_domains = self.federates_with.as_ref().map_or(0, |(_, ids)| ids.len());
        selectors.max(trust_domains) <= KEYS_SOON_MAX
    }

    /// The filter as conditions on the table's indexes.
    #[must_use]
    pub fn query(&self) -> Query {
        let texts =
            [(indexes::PARENT_ID, &self.parent_id), (indexes::SPIFFE_ID, &self.spiffe_id), (indexes::HINT, &self.hint)];
        let mut query = Query::all();
        for (index, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            query = query.and(Predicate::Is { index, key: text.as_bytes().to_vec() });
        }
        if let Some(filter) = &self.selectors {
            query = query.and(filter.predicate(indexes::SELECTORS));
        }
        if let Some((matching, ids)) = self.federates_with.as_ref().filter(|(_, ids)| !ids.is_empty()) {
            let keys = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
            query = query.and(matching.predicate(indexes::FEDERATES_WITH, keys));
        }
        if let Some(downstream) = self.downstream {
            query = query.and(Predicate::Is { index: indexes::DOWNSTREAM, key: flag_key(downstream).to_vec() });
        }
        query
    }
}

impl ListEntries {
    /// Checks what can be checked without the state, in the contract's order.
    ///
    /// # Errors
    /// When the page or the filter is wrong.
    pub fn check(&self) -> Result<Window, Error> {
        Window::check_size(self.page.as_ref())?;
        self.filter.check()?;
        Ok(Window::new(self.page.as_ref())?)
    }
}

/// The entry with this id, as stored (7.5).
///
/// # Errors
/// When the state cannot be read.
pub fn fetch_entry_record(
    reader: &dyn Reader,
    namespace: NamespaceId,
    entry_id: &str,
) -> Result<Option<Record>, Error> {
    Ok(reader.get_by_key(namespace, tables::ENTRIES, indexes::ENTRY_ID, entry_id.as_bytes())?)
}

/// The entry with this id (7.5).
///
/// # Errors
/// As [`fetch_entry_record`].
pub fn fetch_entry(reader: &dyn Reader, namespace: NamespaceId, entry_id: &str) -> Result<Option<Entry>, Error> {
    fetch_entry_record(reader, namespace, entry_id)?.map(|record| Ok(Entry::decode(&record.body)?)).transpose()
}

/// The entries with these ids, as stored, each once, in the order of the ids (7.5). Ids of no entry are passed over.
///
/// # Errors
/// When there are too many ids or the state cannot be read.
pub fn fetch_entry_records<S: AsRef<str>>(
    reader: &dyn Reader,
    namespace: NamespaceId,
    entry_ids: &[S],
) -> Result<Vec<Record>, Error> {
    limits::check_count("entry IDs", entry_ids.len(), limits::KEYS_MAX)?;
    let mut seen = HashSet::with_capacity(entry_ids.len());
    let mut records = Vec::with_capacity(entry_ids.len());
    for entry_id in entry_ids.iter().map(AsRef::as_ref).filter(|id| seen.insert(*id)) {
        records.extend(fetch_entry_record(reader, namespace, entry_id)?);
    }
    Ok(records)
}

/// The entries with these ids, as stored, each once, in creation order, if neither ids nor bytes are many.
///
/// # Errors
/// When the state cannot be read.
pub fn fetch_few_entry_records<S: AsRef<str>>(
    reader: &dyn Reader,
    namespace: NamespaceId,
    entry_ids: &[S],
    few: Few,
) -> Result<Option<Vec<Record>>, Error> {
    if entry_ids.len() > few.records {
        return Ok(None);
    }
    let find = |id: &S| reader.find(namespace, tables::ENTRIES, indexes::ENTRY_ID, id.as_ref().as_bytes());
    let mut found: Vec<Sequence> = entry_ids.iter().filter_map(find).collect();
    found.sort_unstable();
    found.dedup();
    let records = reader.get_up_to(namespace, tables::ENTRIES, &found, few.bytes)?;
    Ok((records.len() == found.len()).then_some(records))
}

/// The entries with these ids, each once, in the order of the ids (7.5).
///
/// # Errors
/// As [`fetch_entry_records`].
pub fn fetch_entries<S: AsRef<str>>(
    reader: &dyn Reader,
    namespace: NamespaceId,
    entry_ids: &[S],
) -> Result<Vec<Entry>, Error> {
    fetch_entry_records(reader, namespace, entry_ids)?.iter().map(|record| Ok(Entry::decode(&record.body)?)).collect()
}

/// A page of entries as stored, or all of them (7.6).
///
/// # Errors
/// When the request is wrong or the state cannot be read.
pub fn list_entry_records(
    reader: &dyn Reader,
    namespace: NamespaceId,
    request: &ListEntries,
) -> Result<Page<Record>, Error> {
    let window = request.check()?;
    let items = reader.records(namespace, tables::ENTRIES, &request.filter.query(), window.after, window.limit)?;
    let response = window.response(items.last().map(|record| record.sequence));
    Ok(Page { items, response })
}

/// A page of entries, or all of them (7.6).
///
/// # Errors
/// As [`list_entry_records`].
pub fn list_entries(reader: &dyn Reader, namespace: NamespaceId, request: &ListEntries) -> Result<Page<Entry>, Error> {
    list_entry_records(reader, namespace, request)?.try_map(|record| Ok(Entry::decode(&record.body)?))
}

/// The next entries of a list that is read piece by piece, as stored. The filter has been checked.
///
/// # Errors
/// When the state cannot be read.
pub fn list_entries_chunk(
    reader: &dyn Reader,
    namespace: NamespaceId,
    filter: &EntryFilter,
    after: Sequence,
    limit: usize,
) -> Result<Chunk<Record>, Error> {
    let selected = reader.select(namespace, tables::ENTRIES, &filter.query(), after, limit);
    Ok(Chunk::read(reader, namespace, tables::ENTRIES, &selected, limit)?)
}

/// The same up to the end of the list, or to `limit`, if it is a short one and the indexes can tell soon.
///
/// # Errors
/// When the state cannot be read.
pub fn list_few_entries(
    reader: &ViewReader<'_>,
    namespace: NamespaceId,
    filter: &EntryFilter,
    after: Sequence,
    limit: usize,
    few: Few,
) -> Result<Option<Vec<Record>>, Error> {
    if !filter.is_modest() {
        return Ok(None);
    }
    let query = filter.query();
    let Some(selected) = reader.select_few(namespace, tables::ENTRIES, &query, after, limit, few.records) else {
        return Ok(None);
    };
    let records = reader.get_up_to(namespace, tables::ENTRIES, &selected, few.bytes)?;
    Ok((records.len() == selected.len()).then_some(records))
}

/// How many entries a filter selects (7.7).
///
/// # Errors
/// When the filter is wrong.
pub fn count_entries(reader: &dyn Reader, namespace: NamespaceId, filter: &EntryFilter) -> Result<u64, Error> {
    filter.check()?;
    Ok(reader.count(namespace, tables::ENTRIES, &filter.query()))
}

/// Of the entries with the same SPIFFE ID, parent and set of selectors the one created first (7.3).
///
/// # Errors
/// When the state cannot be read.
pub fn find_similar(reader: &dyn Reader, namespace: NamespaceId, entry: &Entry) -> Result<Option<Record>, Error> {
    let key = similarity_key(&entry.spiffe_id, &entry.parent_id, &selectors::set(&entry.selectors)).to_vec();
    let query = Query::all().and(Predicate::Is { index: indexes::SIMILARITY, key });
    let mut after = Sequence::ZERO;
    while let Some(sequence) = reader.select(namespace, tables::ENTRIES, &query, after, 1).first().copied() {
        let record = reader.get_listed(namespace, tables::ENTRIES, sequence)?;
        if is_similar(Entry::view(&record.body)?, entry) {
            return Ok(Some(record));
        }
        after = sequence;
    }
    Ok(None)
}

fn is_similar(stored: &ArchivedEntry, entry: &Entry) -> bool {
    stored.spiffe_id == entry.spiffe_id
        && stored.parent_id == entry.parent_id
        && selectors::archived_set(&stored.selectors) == selectors::set(&entry.selectors)
}
