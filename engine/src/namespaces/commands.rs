//! What can be asked of namespaces.

#![expect(missing_docs, reason = "the archived form that rkyv derives has no docs")]

use super::records::{NAMESPACES, Namespace};
use super::{Error, queries};
use crate::ids::{NamespaceId, Sequence};
use crate::index::Query;
use crate::table::Catalog;
use crate::transaction::Transaction;
use crate::view::{Reader, ReaderExtension};

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Records that one clearing step removes at the most, and items that it takes from each stream.
pub const CLEAR_STEP_MAX: usize = 1_000;

/// Bytes of records after which a clearing step stops, so that large records do not make a huge event.
pub const CLEAR_STEP_BYTES_MAX: usize = 16 << 20;

/// A change to the list of namespaces, or to a namespace as a whole.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// In the system namespace: creates the namespace unless there is one of this name.
    Open {
        /// 1 to [`NAME_BYTES_MAX`] bytes of ASCII letters, digits, `-`, `_`, `.` and `/`.
        name: String,
    },
    /// In the namespace itself: removes up to [`CLEAR_STEP_MAX`] records and answers [`Answer::Progress`].
    Clear,
    /// In the system namespace: removes a namespace that holds nothing any more.
    Delete {
        /// Which one.
        name: String,
    },
}

/// What a command answers when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Answer {
    /// The namespace is there.
    Opened {
        /// Its id.
        id: NamespaceId,
        /// Whether it was there before.
        existing: bool,
    },
    /// How far a bounded command came. With `more`, submitting it again goes on.
    Progress {
        /// Records and stream items that this step removed.
        changed: u64,
        /// Whether there is more to do.
        more: bool,
    },
    /// Done, nothing to say.
    Nothing,
}

impl Answer {
    /// Whether the command is complete; only then is it remembered under its request id.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Progress { more: true, .. })
    }
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused; the transaction must then be dropped.
    pub fn decide(&self, transaction: &mut Transaction<'_>, catalog: Catalog) -> Result<Answer, Error> {
        match self {
            Self::Open { name } => open(transaction, name),
            Self::Clear => clear(transaction, catalog),
            Self::Delete { name } => delete(transaction, catalog, name),
        }
    }

    /// Tells this command from another one under the same request id.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .unwrap_or_else(|error| unreachable!("archiving into memory fails only when memory does: {error}"));
        xxhash_rust::xxh3::xxh3_64(&archive)
    }
}

fn open(transaction: &mut Transaction<'_>, name: &str) -> Result<Answer, Error> {
    check_system(transaction)?;
    check_name(name)?;
    if let Some(id) = queries::find(transaction.reader(), name) {
        return Ok(Answer::Opened { id, existing: true });
    }
    let namespace = Namespace { name: name.to_owned(), created_at: transaction.now().seconds() };
    let (sequence, _) = transaction.insert(NAMESPACES, namespace.encode())?;
    Ok(Answer::Opened { id: NamespaceId(sequence.0), existing: false })
}

/// Removes records table by table, oldest first, and gives up as many items of each stream.
///
/// Bounding all of them keeps the event small and its folding short, whatever the namespace holds.
fn clear(transaction: &mut Transaction<'_>, catalog: Catalog) -> Result<Answer, Error> {
    let namespace = transaction.namespace();
    if !queries::exists(transaction.reader(), namespace) {
        return Err(Error::NotFound(namespace));
    }
    let before = contents(transaction.reader(), catalog, namespace);
    let removed = clear_records(transaction, catalog)? + clear_streams(transaction, catalog);
    Ok(Answer::Progress { changed: removed, more: removed < before })
}

fn clear_records(transaction: &mut Transaction<'_>, catalog: Catalog) -> Result<u64, Error> {
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let (mut removed, mut bytes) = (0, 0);
    for table in catalog.tables {
        let room = CLEAR_STEP_MAX - removed;
        for sequence in reader.select(namespace, table.id, &Query::all(), Sequence::ZERO, room) {
            if bytes >= CLEAR_STEP_BYTES_MAX {
                return Ok(removed as u64);
            }
            let record = reader.get_listed(namespace, table.id, sequence)?;
            transaction.delete(table.id, &record);
            removed += 1;
            bytes += record.body.len();
        }
    }
    Ok(removed as u64)
}

fn clear_streams(transaction: &mut Transaction<'_>, catalog: Catalog) -> u64 {
    let mut removed = 0;
    for stream in catalog.streams {
        let state = transaction.reader().stream(transaction.namespace(), stream.id);
        let end = state.last.next().min((state.low_water.0 + CLEAR_STEP_MAX as u64).into());
        removed += end.0 - state.low_water.0;
        transaction.raise_low_water(stream.id, end);
    }
    removed
}

fn delete(transaction: &mut Transaction<'_>, catalog: Catalog, name: &str) -> Result<Answer, Error> {
    check_system(transaction)?;
    let reader = transaction.reader();
    let (id, record) = queries::record(reader, name)?.ok_or_else(|| Error::NameNotFound(name.to_owned()))?;
    match contents(reader, catalog, id) {
        0 => {
            transaction.delete(NAMESPACES, &record);
            Ok(Answer::Nothing)
        }
        left => Err(Error::NotEmpty { name: name.to_owned(), left }),
    }
}

/// Records and stream items of a namespace.
fn contents(reader: &dyn Reader, catalog: Catalog, namespace: NamespaceId) -> u64 {
    let records: u64 = catalog.tables.iter().map(|table| reader.count(namespace, table.id, &Query::all())).sum();
    let items = catalog.streams.iter().map(|stream| {
        let state = reader.stream(namespace, stream.id);
        state.last.next().0 - state.low_water.0
    });
    records + items.sum::<u64>()
}

fn check_system(transaction: &Transaction<'_>) -> Result<(), Error> {
    match transaction.namespace() {
        NamespaceId::SYSTEM => Ok(()),
        other => Err(Error::Misplaced(other)),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::NameLength { found: name.len() });
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)) {
        return Err(Error::NameCharacters { name: name.to_owned() });
    }
    Ok(())
}
