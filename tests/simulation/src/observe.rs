//! What the checkers look at, and when.

use std::ops::ControlFlow;

use steeple_engine::event::Event;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::{Entry, EntryKind};

use crate::checkers::{digests, features, marks, queues, revisions, state_machine, streams};
use crate::history::Committed;
use crate::violation::{Checked, Violation};
use crate::world::{Event as WorldEvent, World};

/// Time between two looks of the slower checkers, in microseconds.
const CHECK_INTERVAL: u64 = 2 * crate::time::SECOND;

/// Calls that a member may be at work on: the clients' newest ones, and earlier ones that they gave up.
const SERVED_MAX: usize = 200;

impl World {
    /// Looks at a member after each of its steps.
    pub(crate) fn observe(&mut self, number: usize) -> Checked {
        let Some(node) = &self.machines[number].node else { return Ok(()) };
        let leadership = node.leadership();
        let view = node.node().view();
        let folded = view.folded();
        let log = node.node().log();
        if self.leaders.check(&self.history, number, leadership)? {
            self.counters.branch("election won");
            self.trace.explain(|| format!("member {number} leads term {}", leadership.term));
        }
        let active = node.membership().features();
        features::check_folded(number, self.machines[number].version, active)?;
        if active > self.version_used {
            self.version_used = active;
            self.counters.branch("features: a newer version is used");
        }
        let admitted = !node.is_on_probation();
        let machine = &mut self.machines[number];
        machine.was_admitted |= admitted;
        let from = machine.observed + 1;
        if folded.index.0 >= from {
            machine.observed = folded.index.0;
            self.take_folded(number, &log, from, folded.index.0)?;
            // One whose record store did not take a change knows of it and has not folded it: until it has another store.
            let machine = &self.machines[number];
            if let Some(node) = machine.node.as_ref().filter(|node| !node.has_ended() && !machine.is_broken()) {
                self.members.check(number, folded.index.0, node.membership())?;
            }
        }
        let machine = &mut self.machines[number];
        if folded.revision.0 < machine.observed_revision {
            let found = format!("member {number} went back from {} to {}", machine.observed_revision, folded.revision);
            return Err(Violation::new("revisions", found));
        }
        if folded.revision.0 > machine.observed_revision {
            machine.observed_revision = folded.revision.0;
            self.digests.check(number, folded.revision.0, folded.digest)?;
        }
        Ok(())
    }

    /// Compares what a member has folded with what others have, and takes up what is new.
    fn take_folded(&mut self, number: usize, log: &steeple_engine::log::LogReader, from: u64, to: u64) -> Checked {
        let first = LogIndex(from).max(log.contiguous_from());
        if first.0 > self.history.entries.len() as u64 + 1 && first.0 <= to {
            let found = format!("member {number} holds nothing below {first}, where nobody has folded anything yet");
            return Err(Violation::new("state machine safety", found));
        }
        let mut checked = Ok(());
        let scanned = log.scan(first, &mut |entry| {
            if entry.position.index.0 > to {
                return ControlFlow::Break(());
            }
            checked = self.take_entry(number, &entry);
            if checked.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Err(error) = scanned
            && !self.machines[number].is_broken()
        {
            return Err(Violation::new("log", format!("member {number} cannot read what it has folded: {error}")));
        }
        checked
    }

    fn take_entry(&mut self, number: usize, entry: &Entry) -> Checked {
        let committed = Committed::of(entry);
        let index = entry.position.index.0;
        state_machine::check(&self.history, number, index, &committed)?;
        if self.history.entry(index).is_some() {
            return Ok(());
        }
        self.history.entries.push(committed);
        if entry.kind == EntryKind::Membership {
            self.members.push(entry)?;
        }
        if entry.kind != EntryKind::Event {
            return Ok(());
        }
        let event = Event::decode(&entry.payload).map_err(|error| Violation::new("events", error))?;
        revisions::check(&self.history, &event)?;
        streams::check_event(&self.history, &event)?;
        marks::check(&mut self.history, &event)?;
        self.requests.check(&event)?;
        self.trace.explain(|| format!("revision {} is of request {:?}", event.revision, event.request));
        self.history.push_event(event);
        Ok(())
    }

    /// What is too much work for every step.
    pub(crate) fn check_slowly(&mut self) -> Checked {
        self.put(CHECK_INTERVAL, WorldEvent::Check);
        for number in 0..self.machines.len() {
            let machine = &self.machines[number];
            let Some(node) = &machine.node else { continue };
            let (waiting, limit) = node.waiting_messages();
            queues::check("messages of a group", waiting, limit)?;
            queues::check("calls of a member", machine.served(), SERVED_MAX)?;
            let recent = LogIndex(node.last().index.0.saturating_sub(64));
            self.logs.check(number, &node.node().log(), recent)?;
        }
        Ok(())
    }

    /// Whether the cluster is as it should be when nothing is wrong.
    pub(crate) fn has_recovered(&self) -> bool {
        self.leader().is_some() && self.clients_are_served() && self.members_are_equal()
    }

    /// Whether the group counts on a machine.
    fn is_member(&self, machine: &crate::machine::Machine) -> bool {
        let leader = self.leader().and_then(|leader| self.machines[leader].node.as_ref());
        leader.is_some_and(|leader| leader.membership().role(machine.id()).is_some())
    }

    fn members_are_equal(&self) -> bool {
        let newest = self.history.revision();
        self.machines.iter().filter(|machine| self.is_member(machine)).all(|machine| {
            machine.node.as_ref().is_some_and(|node| {
                // A joint configuration is left by then.
                let is_settled = node.membership().voters_outgoing.is_empty() && !node.is_taking_over();
                is_settled && node.node().revision().0 == newest
            })
        })
    }

    /// Everything once more, when nothing moves any more.
    pub(crate) fn check_at_the_end(&mut self) -> Checked {
        for number in 0..self.machines.len() {
            self.observe(number)?;
            let Some(node) = &self.machines[number].node else { continue };
            let handle = node.node().clone();
            self.logs.check(number, &handle.log(), LogIndex(1))?;
            if !self.is_member(&self.machines[number]) {
                continue;
            }
            self.acknowledged.check_held(number, handle.revision().0)?;
            if self.machines[number].is_broken() {
                // Its record store may answer nothing any more.
                continue;
            }
            digests::check_records(number, &handle.view())?;
            streams::check_rows(&self.history, number, &handle)?;
            if !node.has_work() {
                streams::check_removed(number, &handle.view())?;
            }
            self.check_keys(number, &handle)?;
        }
        for operation in self.clients.iter().filter_map(|client| client.operation.as_ref()) {
            self.register.unanswered(&operation.call, operation.began, true);
        }
        self.register.check()
    }

    /// Compares the contested entries of a member with what was committed.
    fn check_keys(&self, number: usize, node: &steeple_server::node::Node) -> Checked {
        use crate::checkers::stale_reads;
        let Some(namespace) = self.namespace else { return Ok(()) };
        for key in self.history.keys.keys() {
            let held = node.read(|reader| steeple_engine::spire::entries::queries::fetch_entry(reader, namespace, key));
            let held = held.map_err(|error| Violation::new("records", format!("member {number}: {error}")))?;
            let held = held.as_ref().map(crate::history::Held::of);
            stale_reads::check(&self.history, key, 0, node.revision().0, held)?;
        }
        Ok(())
    }
}
