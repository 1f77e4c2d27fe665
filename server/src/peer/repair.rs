//! What members tell each other to repair a damaged log, and how it travels.
//!
//! Each question is a call of its own: a member asks seldom, and each answer counts alone. What arrives is decoded with
//! bounds and checked before it is believed; a peer that sends nonsense is one that has not answered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use steeple_engine::ids::{LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{Entry, EntryKind, Outline, Run};
use steeple_raft::{Configuration, Question, Statement};
use steeple_wire::peer::v1 as wire;
use steeple_wire::peer::v1::peer_client::PeerClient;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::connect::PeerConnector;
use super::identity::{Introduction, PeerIdentity};
use super::limits::{
    FETCHED_BYTES_MAX, FETCHED_ENTRIES_BYTES, FETCHED_ENTRIES_MAX, LOG_DESCRIPTION_BYTES_MAX, MEMBERS_MAX,
    POSITION_MAX, REPAIR_PATIENCE,
};
use super::snapshots::{RemoteOrigin, fetch};
use super::{FetchError, FetchOptions, FetchedSnapshot};

/// Entries of one term that another member asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedEntries {
    /// The first one.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// The term of all of them.
    pub term: Term,
}

impl WantedEntries {
    /// Takes as many of them as fit into an answer from whoever `read`s them, up to the first that is not there.
    pub fn gather(&self, read: impl Fn(LogIndex) -> Option<Entry>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for index in (self.first.0..=self.last.0).take(usize::try_from(FETCHED_ENTRIES_MAX).unwrap_or(usize::MAX)) {
            let Some(entry) = read(LogIndex(index)).filter(|entry| entry.position.term == self.term) else { break };
            bytes += entry.payload.len();
            if bytes > FETCHED_ENTRIES_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        entries
    }
}

/// Asks other members.
pub struct RepairClient {
    identity: PeerIdentity,
    connector: Arc<dyn PeerConnector>,
    channels: Mutex<BTreeMap<NodeId, Channel>>,
}

impl RepairClient {
    /// A client that speaks for a node.
    #[must_use]
    pub fn new(identity: PeerIdentity, connector: Arc<dyn PeerConnector>) -> Self {
        Self { identity, connector, channels: Mutex::default() }
    }

    /// What a member's log holds, and who says so.
    ///
    /// # Errors
    /// In words, when there is no answer in time, or none that makes sense.
    pub async fn describe_log(
        &self,
        to: NodeId,
        address: &str,
        question: Question,
    ) -> Result<(Introduction, Statement), String> {
        let request = wire::DescribeLogRequest {
            handshake: Some(self.identity.handshake(to)),
            from: question.from.0,
            fence: question.fence.0,
        };
        let call = async {
            let mut client =
                PeerClient::new(self.channel(to, address).await?).max_decoding_message_size(LOG_DESCRIPTION_BYTES_MAX);
            let answer = client.describe_log(request).await.map_err(|status| status.message().to_owned())?;
            let mut description = answer.into_inner();
            let accepted = description.accepted.take().unwrap_or_default();
            let introduction = Introduction::of_answer(to, &accepted).map_err(|error| error.to_string())?;
            let statement = statement_from_wire(description).ok_or("it tells what makes no sense")?;
            Ok((introduction, statement))
        };
        self.in_time(to, call).await
    }

    /// Entries of a member's log.
    ///
    /// # Errors
    /// In words, when there is no answer in time, or none that makes sense.
    pub async fn entries(&self, to: NodeId, address: &str, wanted: WantedEntries) -> Result<Vec<Entry>, String> {
        let request = wire::FetchEntriesRequest {
            handshake: Some(self.identity.handshake(to)),
            first: wanted.first.0,
            last: wanted.last.0,
            term: wanted.term.0,
        };
        let call = async {
            let mut client =
                PeerClient::new(self.channel(to, address).await?).max_decoding_message_size(FETCHED_BYTES_MAX);
            let answer = client.fetch_entries(request).await.map_err(|status| status.message().to_owned())?;
            answer
                .into_inner()
                .entries
                .into_iter()
                .map(entry_from_wire)
                .collect::<Option<Vec<Entry>>>()
                .ok_or_else(|| "it sends entries of an unknown kind".to_owned())
        };
        self.in_time(to, call).await
    }

    /// Fetches a snapshot from a member into a file beside `target`, going on with what an earlier attempt has left there.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch_snapshot(
        &self,
        from: NodeId,
        address: &str,
        minimum: LogIndex,
        target: PathBuf,
    ) -> Result<FetchedSnapshot, FetchError> {
        let origin = RemoteOrigin {
            identity: self.identity,
            node: from,
            address: address.to_owned(),
            connector: Arc::clone(&self.connector),
        };
        fetch(&origin, minimum, target, FetchOptions::default()).await
    }

    async fn in_time<T>(&self, to: NodeId, call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let outcome = timeout(REPAIR_PATIENCE, call).await.unwrap_or_else(|_| Err("no answer in time".into()));
        if outcome.is_err() {
            self.channels.lock().remove(&to);
        }
        outcome
    }

    async fn channel(&self, to: NodeId, address: &str) -> Result<Channel, String> {
        if let Some(channel) = self.channels.lock().get(&to) {
            return Ok(channel.clone());
        }
        let channel = self.connector.connect(address).await.map_err(|error| super::outgoing::with_sources(&*error))?;
        self.channels.lock().insert(to, channel.clone());
        Ok(channel)
    }
}

/// Numbers within what logs reach.
fn position(number: u64) -> Option<u64> {
    (number <= POSITION_MAX).then_some(number)
}

pub(super) fn question_from_wire(request: &wire::DescribeLogRequest) -> Option<Question> {
    Some(Question { from: LogIndex(position(request.from)?), fence: Term(position(request.fence)?) })
}

pub(super) fn wanted_from_wire(request: &wire::FetchEntriesRequest) -> Option<WantedEntries> {
    let (first, last) = (position(request.first)?, position(request.last)?);
    let wanted = WantedEntries { first: LogIndex(first), last: LogIndex(last), term: Term(position(request.term)?) };
    (1..=last).contains(&first).then_some(wanted)
}

pub(super) fn statement_to_wire(statement: &Statement) -> wire::LogDescription {
    let outline = &statement.outline;
    let runs = outline.runs.iter().map(|run| wire::LogRun {
        first: run.first.0,
        last: run.last.0,
        term: run.term.unwrap_or_default().0,
        intact: run.intact,
    });
    wire::LogDescription {
        term: statement.term.0,
        leads: statement.leads,
        commit: statement.commit.0,
        base_index: outline.base.index.0,
        base_term: outline.base.term.0,
        runs: runs.collect(),
        end_known: outline.end_known,
        accepted: None,
        voting: statement.configuration.as_ref().map(|configuration| wire::VotingMembers {
            voters: configuration.voters.iter().copied().collect(),
            voters_outgoing: configuration.voters_outgoing.iter().copied().collect(),
        }),
    }
}

fn statement_from_wire(description: wire::LogDescription) -> Option<Statement> {
    let run = |run: &wire::LogRun| Run {
        first: LogIndex(run.first),
        last: LogIndex(run.last),
        term: (run.term != 0).then_some(Term(run.term)),
        intact: run.intact,
    };
    let configuration = match description.voting {
        None => None,
        Some(voting) if voting.voters.len().max(voting.voters_outgoing.len()) > MEMBERS_MAX => return None,
        Some(voting) => Some(Configuration {
            voters: voting.voters.into_iter().collect(),
            voters_outgoing: voting.voters_outgoing.into_iter().collect(),
        }),
    };
    let base = LogPosition { term: Term(description.base_term), index: LogIndex(description.base_index) };
    let statement = Statement {
        term: Term(description.term),
        leads: description.leads,
        commit: LogIndex(description.commit),
        outline: Outline { base, runs: description.runs.iter().map(run).collect(), end_known: description.end_known },
        configuration,
    };
    statement.check().ok().map(|()| statement)
}

pub(super) fn entries_to_wire(entries: Vec<Entry>) -> wire::FetchEntriesAnswer {
    let entries = entries.into_iter().map(|entry| wire::StoredEntry {
        index: entry.position.index.0,
        term: entry.position.term.0,
        tag: entry.tag,
        kind: u32::from(entry.kind as u8),
        payload: entry.payload,
    });
    wire::FetchEntriesAnswer { entries: entries.collect() }
}

fn entry_from_wire(entry: wire::StoredEntry) -> Option<Entry> {
    let kinds = [EntryKind::Event, EntryKind::Empty, EntryKind::Membership, EntryKind::Check];
    let kind = kinds.into_iter().find(|kind| u32::from(*kind as u8) == entry.kind)?;
    let position = LogPosition { term: Term(position(entry.term)?), index: LogIndex(position(entry.index)?) };
    Some(Entry { position, kind, tag: entry.tag, payload: entry.payload })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn statement() -> Statement {
        let run = |first, last, term: Option<u64>, intact| Run {
            first: LogIndex(first),
            last: LogIndex(last),
            term: term.map(Term),
            intact,
        };
        Statement {
            term: Term(7),
            leads: true,
            commit: LogIndex(9),
            outline: Outline {
                base: LogPosition { term: Term(2), index: LogIndex(4) },
                runs: vec![run(5, 6, Some(3), true), run(7, 7, None, false), run(9, 12, Some(7), false)],
                end_known: true,
            },
            configuration: Some(Configuration { voters: [1, 2, 3].into(), voters_outgoing: [4].into() }),
        }
    }

    #[test]
    fn statements_and_entries_arrive_as_they_were_sent() {
        assert_eq!(statement_from_wire(statement_to_wire(&statement())), Some(statement()));
        let uncertain = Statement { configuration: None, ..statement() };
        assert_eq!(statement_from_wire(statement_to_wire(&uncertain)), Some(uncertain));
        for kind in [EntryKind::Event, EntryKind::Empty, EntryKind::Membership, EntryKind::Check] {
            let position = LogPosition { term: Term(2), index: LogIndex(4) };
            let entry = Entry { position, kind, tag: 3, payload: Bytes::from_static(b"what it holds") };
            let sent = entries_to_wire(vec![entry.clone()]).entries.remove(0);
            assert_eq!(entry_from_wire(sent), Some(entry));
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_taken() {
        let mut backwards = statement_to_wire(&statement());
        backwards.runs.reverse();
        assert_eq!(statement_from_wire(backwards), None);
        let mut crowded = statement_to_wire(&statement());
        crowded.voting = Some(wire::VotingMembers { voters: (0..1000).collect(), voters_outgoing: Vec::new() });
        assert_eq!(statement_from_wire(crowded), None);
        assert_eq!(entry_from_wire(wire::StoredEntry { kind: 9, ..Default::default() }), None);
        let ask = |first, last| wire::FetchEntriesRequest { first, last, ..Default::default() };
        assert_eq!(wanted_from_wire(&ask(5, 4)), None);
        assert_eq!(wanted_from_wire(&ask(0, 4)), None);
        assert_eq!(wanted_from_wire(&ask(1, u64::MAX)), None);
        assert!(question_from_wire(&wire::DescribeLogRequest { fence: u64::MAX, ..Default::default() }).is_none());
    }

    #[test]
    fn an_answer_is_bounded_and_ends_where_something_else_stands() {
        let entry = |index: u64, term: u64| Entry {
            position: LogPosition { term: Term(term), index: LogIndex(index) },
            kind: EntryKind::Event,
            tag: index,
            payload: Bytes::from(vec![0; 300 << 10]),
        };
        let wanted = WantedEntries { first: LogIndex(3), last: LogIndex(900), term: Term(2) };
        assert_eq!(wanted.gather(|index| Some(entry(index.0, 2))).len(), 3);
        assert_eq!(wanted.gather(|index| Some(entry(index.0, if index.0 < 5 { 2 } else { 3 }))).len(), 2);
        assert_eq!(wanted.gather(|_| None).len(), 0);
    }
}
