//! How calls, answers, messages and snapshots travel, and what clients and consumers do with what they get.

use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use steeple_engine::code::Code;
use steeple_engine::domain::Answer;
use steeple_engine::ids::{NamespaceId, RequestId};
use steeple_engine::namespaces;
use steeple_engine::spire;
use steeple_engine::spire::entries::records::Entry;
use steeple_server::node::tail::TailError;
use steeple_server::node::{Accepted, SubmitError};
use steeple_server::peer::{FetchError, FetchedSnapshot, ProvideError};
use steeple_snapshot::ChunkReceiver;

use crate::checkers::{acknowledged, linearizability, lists, stale_reads, wiped};
use crate::client::{Listed, Operation, Reply, serve};
use crate::history::Held;
use crate::network::{CLIENTS, Fetch};
use crate::register::Answered;
use crate::time::{MILLISECOND, SECOND};
use crate::violation::{Checked, Violation};
use crate::workload::Call;
use crate::world::{Arriving, Event, FetchAnswer, FetchResult, World};

/// A snapshot on its way: to whom, from whom, what it is, and where it is awaited.
pub(crate) type FetchMail = (usize, usize, FetchResult, FetchAnswer);

/// Snapshots on their way out of members.
pub(crate) type FetchMailbox = Arc<Mutex<Vec<FetchMail>>>;

/// How long a client waits for an answer.
const ATTEMPT_MAX: u64 = 1_500 * MILLISECOND;

/// The attempt of a call that comes again after it was answered; no client counts so low.
const REPETITION: u64 = 0;

/// Answered calls that are kept for a script.
const ANSWERED_CALLS_MAX: usize = 500;

/// Bytes of a snapshot at the most.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

impl World {
    /// Hands what a machine wants to send to the network.
    ///
    /// # Errors
    /// When it must not say such a thing.
    pub(crate) fn send_out(&mut self, from: usize) -> Checked {
        let sent = self.machines[from].outbox.take();
        for (to, message) in sent.messages {
            if self.machines[from].wiped {
                wiped::check(from, &message)?;
            }
            let delays = self.network.delays(from, to, &mut self.counters);
            let (message, introduction) = (Box::new(message), self.machines[from].introduction());
            for delay in delays {
                self.put(delay, Event::Deliver { from, to, message: message.clone(), introduction });
            }
        }
        for to in sent.greetings {
            for delay in self.network.delays(from, to, &mut self.counters) {
                self.put(delay, Event::Greet { from, to });
            }
        }
        for fetch in sent.fetches {
            self.fetch(from, fetch);
        }
        Ok(())
    }

    /// Lets a machine send a snapshot to another one.
    pub(crate) fn fetch(&mut self, to: usize, fetch: Fetch) {
        self.counters.branch("snapshot: fetch begun");
        let from = fetch.from;
        let provider = self.machines.get(from).and_then(|machine| machine.snapshots());
        let (Some(provider), false) = (provider, self.network.is_cut(to, from)) else {
            drop(fetch.answer.send(Err(FetchError::NoWay)));
            return;
        };
        let (mailbox, minimum, receiver) = (Arc::clone(&self.fetched), fetch.wanted.minimum, self.machines[to].id());
        let send = async move {
            let opened = provider.open(receiver, None, minimum).await;
            let received = opened.map_err(not_provided).and_then(|mut served| {
                let broken = |error: &dyn std::fmt::Display| given_up(error.to_string());
                let mut receiver = ChunkReceiver::new(Vec::new(), SNAPSHOT_BYTES_MAX);
                while let Some(chunk) = served.next_chunk().map_err(|error| broken(&error))? {
                    receiver.accept(&chunk).map_err(|error| broken(&error))?;
                }
                FetchedSnapshot::in_memory(receiver.into_inner().into())
            });
            mailbox.lock().push((to, from, received, fetch.answer));
        };
        self.machines[from].serve(Box::pin(send));
        for _ in 0..2 {
            let receiver_or_sender = if self.chance.happens(700) { to } else { from };
            self.aim(receiver_or_sender, 100 * MILLISECOND, 700);
        }
        while self.machines[from].poll_served() {}
        self.take_mail();
        self.schedule(from);
    }

    /// A snapshot has arrived, if the way was open meanwhile.
    pub(crate) fn hand_over_snapshot(
        &mut self,
        to: usize,
        from: usize,
        (fetched, answer): (FetchResult, FetchAnswer),
    ) -> Checked {
        self.note("snapshot", &[to as u64, from as u64, u64::from(fetched.is_ok())]);
        let fetched = match self.network.is_cut(from, to) {
            true => Err(given_up("the way is cut".into())),
            false => fetched,
        };
        if fetched.is_ok() {
            self.counters.branch("snapshot: fetched");
        }
        // The process that asked may have ended.
        drop(answer.send(fetched));
        self.schedule(to);
        Ok(())
    }

    /// Puts what members have answered on its way.
    pub(crate) fn take_mail(&mut self) {
        let replies = std::mem::take(&mut *self.mailbox.lock());
        for (client, attempt, reply) in replies {
            let machine = self.clients[client].target;
            let mut delays = self.network.delays(machine, CLIENTS, &mut self.counters);
            if let Some(delay) = delays.pop() {
                self.put(delay, Event::Answer { client, attempt, reply: Box::new(reply) });
            }
        }
        self.take_told();
        let fetched = std::mem::take(&mut *self.fetched.lock());
        for mail in fetched {
            let Some((to, from, fetched, answer)) = self.withheld.take_snapshot(mail) else { continue };
            // Some are large, or come over a slow line.
            let usual = if self.chance.happens(300) { SECOND } else { 50 * MILLISECOND };
            let delay = MILLISECOND + self.chance.around(usual);
            self.put(delay, Event::Fetched { to, from, fetched: Box::new((fetched, answer)) });
        }
    }

    /// Whoever waits for a process that has died notices, or does not.
    pub(crate) fn break_connections(&mut self, machine: usize) {
        for client in 0..self.clients.len() {
            let waits = self.clients[client].operation.is_some() && self.clients[client].target == machine;
            if waits && self.chance.happens(700) {
                let (attempt, delay) = (self.clients[client].attempt, self.chance.between(100, 5_000));
                self.put(delay, Event::Answer { client, attempt, reply: Box::new(Reply::Broken) });
            }
        }
    }

    /// A client begins something new.
    pub(crate) fn begin(&mut self, number: usize) -> Checked {
        let value = self.next_value;
        let floor = self.answered.floor();
        let (keys, began) = (self.settings.keys, self.time.now());
        let clock = crate::time::right_time(&self.time).0;
        let client = &mut self.clients[number];
        if client.operation.is_some() {
            return Ok(());
        }
        let call = match client.namespace {
            None => Call::Open,
            Some(_) => Call::draw(&mut client.chance, keys, value, clock),
        };
        let mut request = [0; 16];
        request[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        request[8..].copy_from_slice(&client.chance.number().to_be_bytes());
        let seen = client.seen;
        // Every member reads, not only the one that decides.
        let goes_elsewhere = match call {
            Call::ReadStale(_) => true,
            Call::Read(_) | Call::List { .. } => client.chance.happens(400),
            _ => false,
        };
        let operation =
            Operation { call, request: RequestId(request), began, floor, seen, attempts: 0, uncertain: false };
        if goes_elsewhere {
            client.turn_elsewhere(self.machines.len());
        }
        self.trace.explain(|| format!("client {number} begins {:?}, request {:?}", operation.call, operation.request));
        self.next_value += 1;
        self.clients[number].operation = Some(operation);
        self.attempt(number)
    }

    /// A client tries again, unless something has happened meanwhile.
    pub(crate) fn try_again(&mut self, number: usize, attempt: u64) -> Checked {
        if self.clients[number].attempt == attempt { self.attempt(number) } else { Ok(()) }
    }

    /// A client calls a member.
    fn attempt(&mut self, number: usize) -> Checked {
        let client = &mut self.clients[number];
        client.attempt += 1;
        let (attempt, machine) = (client.attempt, client.target);
        let namespace = client.namespace.unwrap_or(NamespaceId::SYSTEM);
        let Some(operation) = &mut client.operation else { return Ok(()) };
        operation.attempts += 1;
        let call = Arriving { client: number, operation: operation.clone(), namespace };
        self.put(ATTEMPT_MAX, Event::GiveUp { client: number, attempt });
        if let Some(delay) = self.network.delays(CLIENTS, machine, &mut self.counters).pop() {
            self.put(delay, Event::Arrive { attempt, machine, call: Box::new(call) });
        }
        Ok(())
    }

    /// A call arrives at a member.
    pub(crate) fn arrive(&mut self, attempt: u64, number: usize, call: &Arriving) -> Checked {
        let Arriving { client, operation, namespace } = call;
        let client = *client;
        self.note("call", &[client as u64, attempt, number as u64]);
        // What is carried out when its request may be forgotten is another request; nothing is on its way for so long in
        // front of a process that stands still, or else.
        if self.time.now().max(self.machines[number].paused_until) > operation.began + self.settings.deadline() {
            self.counters.branch("call: came after its deadline");
            return Ok(());
        }
        if attempt == REPETITION {
            self.counters.fault("call repeated after its answer");
        }
        if self.clients[client].attempt != attempt {
            self.counters.branch("call: arrived after its client had given it up");
        }
        let machine = &mut self.machines[number];
        let Some(node) = &machine.node else {
            self.put(100, Event::Answer { client, attempt, reply: Box::new(Reply::Refused) });
            return Ok(());
        };
        let serving = serve(node, operation, *namespace, (client, attempt), &self.mailbox);
        machine.serve(serving);
        while self.machines[number].poll_served() {}
        self.take_mail();
        self.schedule(number);
        Ok(())
    }

    /// A client has waited long enough for an answer.
    pub(crate) fn give_up(&mut self, number: usize, attempt: u64) -> Checked {
        if self.clients[number].attempt != attempt || self.clients[number].operation.is_none() {
            return Ok(());
        }
        self.counters.operation("attempt without an answer");
        self.retry(number, true)
    }

    /// The last attempt has brought nothing; `uncertain` says that it may have been carried out.
    fn retry(&mut self, number: usize, uncertain: bool) -> Checked {
        let machines = self.machines.len();
        let now = self.time.now();
        let client = &mut self.clients[number];
        let Some(operation) = &mut client.operation else { return Ok(()) };
        operation.uncertain |= uncertain;
        // Less than a member remembers a request.
        let patience = (self.settings.window / 4).min(5 * SECOND);
        if now > operation.began + patience {
            let kind = if operation.uncertain { "given up, outcome unknown" } else { "given up, nothing happened" };
            let operation = operation.clone();
            self.counters.operation(kind);
            self.trace.explain(|| format!("client {number}: {kind}"));
            self.register.unanswered(&operation.call, operation.began, operation.uncertain);
            return self.finish(number, false);
        }
        // Nobody answers any more to what was asked before.
        client.attempt += 1;
        if uncertain {
            client.turn_elsewhere(machines);
        }
        let pause = 10 * MILLISECOND + client.chance.around(50 * MILLISECOND);
        let attempt = client.attempt;
        self.put(pause, Event::Retry { client: number, attempt });
        Ok(())
    }

    /// Ends an operation; the client goes on after a pause.
    fn finish(&mut self, number: usize, served: bool) -> Checked {
        let think = self.settings.think;
        let client = &mut self.clients[number];
        client.operation = None;
        client.attempt += 1;
        client.done += 1;
        if served && self.healing_since.is_some() {
            client.done_after += 1;
        }
        let pause = client.chance.around(think);
        self.put(pause, Event::Begin(number));
        Ok(())
    }

    /// An answer reaches a client.
    pub(crate) fn take_answer(&mut self, number: usize, attempt: u64, reply: Reply) -> Checked {
        let Some(operation) =
            self.clients[number].operation.clone().filter(|_| self.clients[number].attempt == attempt)
        else {
            return Ok(());
        };
        let machines = self.machines.len();
        match reply {
            Reply::Refused => {
                self.clients[number].turn_elsewhere(machines);
                self.retry(number, false)
            }
            Reply::Broken => self.retry(number, true),
            Reply::Read(Err(reason)) | Reply::Listed(Err(reason)) => {
                self.trace.explain(|| format!("client {number} does not read: {reason}"));
                self.clients[number].turn_elsewhere(machines);
                self.retry(number, false)
            }
            Reply::Read(Ok((revision, held))) => self.take_read(number, &operation, revision, held),
            Reply::Listed(Ok((revision, listed))) => self.take_list(number, &operation, revision, &listed),
            Reply::Submitted(Ok(accepted)) => self.take_accepted(number, &operation, &accepted),
            Reply::Submitted(Err(error)) => self.take_error(number, &operation, error),
        }
    }

    fn take_read(&mut self, number: usize, operation: &Operation, revision: u64, held: Option<Held>) -> Checked {
        let key = operation.call.key().unwrap_or_default();
        self.note("read", &[number as u64, revision, held.map_or(0, |held| held.value as u64)]);
        if matches!(operation.call, Call::ReadStale(_)) {
            stale_reads::check(&self.history, key, operation.seen, revision, held)?;
        } else {
            self.answered.check(&self.history, operation.floor, revision, false, "a read")?;
            linearizability::check_held(&self.history, key, revision, held)?;
            self.register.answered(&operation.call, operation.began, self.time.now(), Answered::Found(held));
        }
        self.clients[number].seen = self.clients[number].seen.max(revision);
        self.counters.operation(operation.call.kind());
        self.finish(number, true)
    }

    fn take_list(&mut self, number: usize, operation: &Operation, revision: u64, listed: &Listed) -> Checked {
        self.note("list", &[number as u64, revision, listed.len() as u64]);
        self.answered.check(&self.history, operation.floor, revision, false, "a list")?;
        if let Call::List { parent, group } = operation.call {
            lists::check(&self.history, (parent, group), revision, listed)?;
        }
        self.clients[number].seen = self.clients[number].seen.max(revision);
        self.counters.operation(operation.call.kind());
        self.finish(number, true)
    }

    fn take_accepted(&mut self, number: usize, operation: &Operation, accepted: &Accepted) -> Checked {
        let revision = accepted.revision.0;
        self.note("accepted", &[number as u64, revision]);
        let changed = acknowledged::tells_of_a_change(&accepted.answer);
        self.acknowledged.check(&self.history, operation.request, accepted, changed)?;
        self.answered.check(&self.history, operation.floor, revision, changed, operation.call.kind())?;
        if let Answer::Namespace(namespaces::Answer::Opened { id, .. }) = &accepted.answer {
            self.clients[number].namespace = Some(*id);
            self.namespace = Some(*id);
        }
        if let (Some(key), Answer::Spire(spire::Answer::Entry { entry, existing })) =
            (operation.call.key(), &accepted.answer)
        {
            self.check_entry(operation, key, revision, entry, *existing)?;
        }
        self.clients[number].seen = self.clients[number].seen.max(revision);
        self.counters.operation(operation.call.kind());
        let is_whole = accepted.answer.progress().is_none();
        if changed && is_whole {
            self.repeat_later(number, operation, revision);
        }
        self.finish(number, true)
    }

    /// Lets a call that was carried out and answered come again, as late as its request is surely remembered.
    fn repeat_later(&mut self, number: usize, operation: &Operation, revision: u64) {
        let namespace = self.clients[number].namespace.unwrap_or(NamespaceId::SYSTEM);
        let call = Arriving { client: number, operation: operation.clone(), namespace };
        if self.settings.script.is_some() {
            self.answered_calls.push_back((revision, call));
            if self.answered_calls.len() > ANSWERED_CALLS_MAX {
                self.answered_calls.pop_front();
            }
            return;
        }
        let latest = (operation.began + self.settings.deadline()).saturating_sub(self.time.now());
        let client = &mut self.clients[number];
        if latest > 0 && client.chance.happens(self.settings.repetition) {
            let (delay, machine) = (client.chance.below(latest), client.target);
            self.put(delay, Event::Arrive { attempt: REPETITION, machine, call: Box::new(call) });
        }
    }

    /// Lets all calls come again that caused these revisions and are surely remembered.
    pub(crate) fn repeat_calls(&mut self, machine: usize, revisions: &RangeInclusive<u64>) {
        let earliest = self.time.now().saturating_sub(self.settings.deadline());
        for (revision, call) in std::mem::take(&mut self.answered_calls) {
            if revisions.contains(&revision) && call.operation.began > earliest {
                self.put(MILLISECOND, Event::Arrive { attempt: REPETITION, machine, call: Box::new(call) });
            }
        }
    }

    /// Checks what the answer to a mutation of an entry says about it.
    fn check_entry(
        &mut self,
        operation: &Operation,
        key: &str,
        revision: u64,
        entry: &Entry,
        existing: bool,
    ) -> Checked {
        let held = Held::of(entry);
        let is_delete = matches!(operation.call, Call::Delete(_));
        // A deletion answers what there was before.
        let at = if is_delete { revision - 1 } else { revision };
        linearizability::check_held(&self.history, key, at, Some(held))?;
        let answered = match &operation.call {
            Call::Create(..) if existing => Answered::Exists(held),
            Call::Create(..) => Answered::Created,
            Call::Update(..) => Answered::Updated(held),
            _ => Answered::Deleted(held),
        };
        if existing && operation.uncertain {
            // Answers that changed nothing are not remembered: an earlier attempt may arrive late, and create it then.
            self.register.unanswered(&operation.call, operation.began, true);
        }
        self.register.answered(&operation.call, operation.began, self.time.now(), answered);
        Ok(())
    }

    fn take_error(&mut self, number: usize, operation: &Operation, error: SubmitError) -> Checked {
        let machines = self.machines.len();
        match error {
            SubmitError::Rejected { revision, rejection } => {
                self.note("rejected", &[number as u64, revision.0]);
                self.answered.check(&self.history, operation.floor, revision.0, false, "a rejection")?;
                let is_missing = rejection.code() == Code::NotFound;
                if let (Some(key), true) = (operation.call.key(), is_missing) {
                    linearizability::check_held(&self.history, key, revision.0, None)?;
                }
                if operation.uncertain {
                    // An earlier attempt may have been carried out, or may arrive yet; this says nothing about that.
                    self.register.unanswered(&operation.call, operation.began, true);
                } else if is_missing {
                    self.register.answered(&operation.call, operation.began, self.time.now(), Answered::Missing);
                }
                self.trace.explain(|| format!("client {number} is refused: {rejection}"));
                self.clients[number].seen = self.clients[number].seen.max(revision.0);
                self.counters.operation("refused");
                self.finish(number, true)
            }
            SubmitError::OutcomeUnknown(_) => self.retry(number, true),
            error @ (SubmitError::NotLeader { .. } | SubmitError::Unavailable(_)) => {
                self.clients[number].follow(&error, machines);
                self.retry(number, false)
            }
            error @ (SubmitError::RequestReused(_) | SubmitError::TooLarge { .. }) => {
                Err(Violation::new("answers", format!("{:?} was answered with {error}", operation.call)))
            }
        }
    }

    /// A consumer looks for what comes next.
    pub(crate) fn consume(&mut self, number: usize) -> Checked {
        let pause = self.consumers[number].chance.between(20 * MILLISECOND, 400 * MILLISECOND);
        self.put(pause, Event::Consume(number));
        let Some(namespace) = self.namespace else { return Ok(()) };
        if self.consumers[number].chance.happens(20) {
            // The consumer's own process ends, and goes on from what it had stored.
            let consumer = &mut self.consumers[number];
            consumer.tail = None;
            consumer.seen = consumer.stored.clone();
            self.counters.fault("consumer restarted");
        }
        let consumer = &mut self.consumers[number];
        let machine = &self.machines[consumer.target];
        let is_gone = consumer.tail.as_ref().is_none_or(|(life, _)| machine.node.is_none() || *life != machine.life);
        if is_gone {
            consumer.target = consumer.chance.below(self.machines.len() as u64) as usize;
            let machine = &self.machines[consumer.target];
            consumer.tail = match consumer.open(machine, namespace) {
                None => None,
                Some(Ok(tail)) => Some((machine.life, tail)),
                Some(Err(error)) => return self.take_tail_error(number, namespace, error),
            };
        }
        self.follow(number, namespace)
    }

    fn follow(&mut self, number: usize, namespace: NamespaceId) -> Checked {
        for _ in 0..64 {
            let consumer = &mut self.consumers[number];
            let Some((_, tail)) = &mut consumer.tail else { return Ok(()) };
            match tail.try_next() {
                Ok(Some(item)) => {
                    let positions: Vec<_> =
                        tail.positions().iter().map(|position| (position.stream, position.after.0)).collect();
                    consumer.seen.check(&self.history, namespace, &item)?;
                    if consumer.chance.happens(300) {
                        // What it stores is the cursor that it was handed, and must be where it stands.
                        consumer.stored = consumer.seen.at_cursor(&positions)?;
                    }
                    let revision = item.event.revision.0;
                    self.counters.operation("event followed");
                    self.note("followed", &[number as u64, revision]);
                }
                Ok(None) => break,
                Err(error) => return self.take_tail_error(number, namespace, error),
            }
        }
        Ok(())
    }

    fn take_tail_error(&mut self, number: usize, namespace: NamespaceId, error: TailError) -> Checked {
        let consumer = &mut self.consumers[number];
        consumer.tail = None;
        match error {
            TailError::Compacted { stream, oldest, .. } => {
                consumer.seen.skip_to(&self.history, namespace, stream, oldest.0)?;
                consumer.stored = consumer.seen.clone();
                self.counters.branch("tail: what comes next was pruned");
                Ok(())
            }
            // The member is behind the one that the consumer has followed before.
            TailError::Ahead { .. } => {
                self.counters.branch("tail: opened on a member that is behind");
                Ok(())
            }
            TailError::Stopped | TailError::TooMany { .. } => Ok(()),
            // Also one that was opened on a record store that has been replaced meanwhile.
            TailError::Query(_) if self.machines[consumer.target].had_broken_store() => Ok(()),
            TailError::Query(error) => Err(Violation::new("tails", error)),
        }
    }

    /// Whether every client was served since the faults have ended, and nothing waits.
    pub(crate) fn clients_are_served(&self) -> bool {
        self.clients.iter().all(|client| client.done_after >= 2)
    }
}

fn given_up(last: String) -> FetchError {
    FetchError::GaveUp { attempts: 1, last }
}

fn not_provided(error: ProvideError) -> FetchError {
    match error {
        ProvideError::NotNow(reason) => given_up(reason),
        error @ ProvideError::BeingMade => given_up(error.to_string()),
        ProvideError::Refused(reason) => FetchError::Refused(reason),
    }
}
