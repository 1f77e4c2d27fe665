//! Comparing a source with a namespace, record by record.

use std::collections::HashMap;

use prost::Message as _;
use serde_json::{Value, json};
use steeple_client::types::imported_record::Record;
use steeple_client::{Error, Namespace};
use xxhash_rust::xxh3::xxh3_128;

use super::judge::{Judge, normal};
use super::kind::{Counts, Kind, imported, key};
use super::lines::of_record;
use super::origin::{Found, Origin};
use super::progress::Progress;
use super::target;
use crate::cli::exit::CommandError;
use crate::cli::json::changed_fields;

/// Differences that are told one by one.
const TOLD_MAX: usize = 20;

/// How often the namespace is read again because a node ended in the middle of it.
const READ_AGAIN_MAX: u32 = 5;

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Of the source, without what cannot be taken over.
    pub(super) source: Counts,
    /// Of the namespace.
    pub(super) target: Counts,
    /// The same in both.
    pub(super) equal: Counts,
    /// In both, and different.
    pub(super) different: Counts,
    /// Only in the source.
    pub(super) missing: Counts,
    /// Only in the namespace.
    pub(super) extra: Counts,
    /// Equal, and not in the order of the source.
    pub(super) misplaced: Counts,
    /// The first differences, in words.
    pub(super) told: Vec<String>,
}

/// What is known of a record of the namespace.
struct Held {
    digest: u128,
    /// Its place among all records of the namespace.
    place: u64,
}

impl Comparison {
    /// Reads both sides, the namespace first.
    pub(super) async fn of(origin: &mut Origin, namespace: &Namespace) -> Result<Self, CommandError> {
        let mut comparison = Self::default();
        let mut held = comparison.read_target(namespace).await?;
        let (mut judge, mut last, mut differing) = (Judge::default(), [None; Kind::ALL.len()], Vec::new());
        let mut progress = Progress::new("comparing", comparison.target.total(), 0);
        origin
            .read(async |found| {
                // What cannot be taken over is told before an import, and is no difference.
                let Found::Record(record) = found else { return Ok(()) };
                let Ok(record) = judge.judge(record) else { return Ok(()) };
                progress.add(1);
                let told = comparison.note(record, &mut held, &mut last);
                if differing.len() < TOLD_MAX {
                    differing.extend(told);
                }
                Ok(())
            })
            .await?;
        for record in &differing {
            let text = describe(namespace, record).await?;
            comparison.told.push(text);
        }
        for (kind, key) in held.into_keys() {
            comparison.extra.add(kind);
            if comparison.told.len() < TOLD_MAX {
                comparison.told.push(format!("{} is not in the source", kind.name(&key)));
            }
        }
        Ok(comparison)
    }

    /// Whether the namespace holds exactly what the source has, in its order.
    pub(super) fn is_equal(&self) -> bool {
        self.equal.total() == self.source.total() && self.extra.total() == 0 && self.misplaced.total() == 0
    }

    /// Reads the namespace, from the beginning again when a list breaks off with the node that it came from.
    async fn read_target(&mut self, namespace: &Namespace) -> Result<HashMap<(Kind, String), Held>, CommandError> {
        let mut again = 0;
        loop {
            match self.try_to_read_target(namespace).await {
                Err(CommandError::Node(Error::Unavailable { .. })) if again < READ_AGAIN_MAX => again += 1,
                read => return read,
            }
        }
    }

    async fn try_to_read_target(
        &mut self,
        namespace: &Namespace,
    ) -> Result<HashMap<(Kind, String), Held>, CommandError> {
        let (mut held, mut place) = (HashMap::new(), 0);
        self.target = Counts::default();
        target::read(namespace, |record| {
            let (kind, key) = (Kind::of(&record), key(&record));
            self.target.add(kind);
            place += 1;
            held.insert((kind, key), Held { digest: digest(normal(record)), place });
        })
        .await?;
        Ok(held)
    }

    /// Compares one record of the source; gives it back when something is to be told about it.
    fn note(
        &mut self,
        record: Record,
        held: &mut HashMap<(Kind, String), Held>,
        last: &mut [Option<u64>; Kind::ALL.len()],
    ) -> Option<Record> {
        let kind = Kind::of(&record);
        self.source.add(kind);
        let Some(other) = held.remove(&(kind, key(&record))) else {
            self.missing.add(kind);
            return Some(record);
        };
        if other.digest != digest(record.clone()) {
            self.different.add(kind);
            return Some(record);
        }
        self.equal.add(kind);
        let in_order = last[kind as usize].is_none_or(|before| before < other.place);
        last[kind as usize] = Some(other.place);
        if in_order {
            return None;
        }
        self.misplaced.add(kind);
        Some(record)
    }

    /// The columns of [`Comparison::rows`].
    pub(super) const COLUMNS: [&str; 8] =
        ["kind", "source", "namespace", "equal", "different", "missing", "extra", "misplaced"];

    /// A row for each kind.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        Kind::ALL.into_iter().map(|kind| {
            let counts =
                [&self.source, &self.target, &self.equal, &self.different, &self.missing, &self.extra, &self.misplaced];
            let numbers = counts.into_iter().map(|counts| counts.of(kind).to_string());
            std::iter::once(kind.plural().replace('_', " ")).chain(numbers).collect()
        })
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "equal": self.is_equal(),
            "source": self.source.json(),
            "namespace": self.target.json(),
            "different": self.different.json(),
            "missing": self.missing.json(),
            "extra": self.extra.json(),
            "misplaced": self.misplaced.json(),
            "differences": self.told,
        })
    }
}

fn digest(record: Record) -> u128 {
    xxh3_128(&imported(record).encode_to_vec())
}

/// How a record of the source differs from what the namespace has.
async fn describe(namespace: &Namespace, record: &Record) -> Result<String, CommandError> {
    let name = Kind::of(record).name(&key(record));
    let Some(other) = target::fetch(namespace, record).await? else { return Ok(format!("{name} is missing")) };
    let fields = |record: Record| {
        let document = serde_json::to_value(of_record(record)).unwrap_or_default();
        // Under the name of its kind.
        document.as_object().and_then(|kind| kind.values().next().cloned()).unwrap_or_default()
    };
    let (ours, theirs) = (fields(normal(other)), fields(record.clone()));
    let mut names = changed_fields(&theirs, &ours);
    if ours.get("revision_number") != theirs.get("revision_number") {
        names.push("revision_number".into());
    }
    Ok(match names.as_slice() {
        [] => format!("{name} is not where it is in the order of the source"),
        names => format!("{name} differs in {}", names.join(", ")),
    })
}
