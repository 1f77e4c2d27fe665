//! Three nodes, what they have agreed upon, who believes to lead, and clients: every state that these can get into.

use stateright::{Model, Property};

use crate::machine::{Attempt, Input, Machine, Order, Past, Reply, Slot, Step};
use crate::mistake::Mistake;
use crate::verdict::{Record, Violation, Violations};

const NODES: usize = 3;

/// How much there is to walk through.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// What each client wants, and how often it asks for it at the most.
    pub(crate) orders: Vec<(Order, u8)>,
    /// Terms at the most, the first of which is open from the beginning.
    pub(crate) terms: u8,
    /// Messages of clients that are on their way for any time.
    pub(crate) late: u8,
}

/// All of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    agreed: Vec<Slot>,
    nodes: Vec<Node>,
    /// The newest term, and who was elected for it.
    term: u8,
    newest: usize,
    /// Nodes that have been elected so far are those below this one; which of the others comes next makes no difference.
    fresh: usize,
    clients: Vec<Vec<Asked>>,
    on_its_way: Option<(Attempt, usize)>,
    late_left: u8,
    violations: Violations,
}

/// A node, as far as it leads or has led.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    log: Vec<Slot>,
    leads: Option<Leads>,
    /// Rounds of confirmation that it has asked for in earlier leaderships, and one of them that a quorum has granted and
    /// of which it may still hear.
    rounds: u64,
    stale: Option<u64>,
    /// Of an earlier leadership; empty unless that mistake is put in.
    kept: Option<Deciding>,
}

/// A leadership that this node knows of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leads {
    term: u8,
    /// Entries of the log up to and with the one that opens the term.
    opened: usize,
    deciding: Option<Deciding>,
}

/// A leader with its term open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Deciding {
    past: Past,
    /// Entries folded.
    folded: usize,
    /// Rounds of confirmation: asked for, granted by a quorum, and known to be granted.
    asked: u64,
    granted: u64,
    confirmed: u64,
}

/// An attempt of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    /// Not answered. This many entries were agreed upon when it began.
    Since(usize),
    Answered(Kind),
}

/// What it was answered, as far as it matters later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Accepted,
    Repeated,
    Refused,
    Unknown,
    Undone,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client asks a leader.
    Submit { client: u8, node: usize },
    /// A client asks, and its message is on its way.
    Send { client: u8, node: usize },
    /// That message comes in.
    Deliver,
    /// A node is elected. It holds the first `entries` of the log of `source`, and opens its term behind them.
    Elect { node: usize, source: usize, entries: usize },
    /// One more entry of the newest leader is agreed upon, or all up to the one that opens its term.
    Agree,
    /// A leader has folded everything up to the entry that opens its term.
    Open { node: usize },
    /// A leader folds one entry that is agreed upon.
    Fold { node: usize },
    /// A quorum confirms the newest leader.
    Grant,
    /// A leader hears of that.
    Confirm { node: usize },
    /// A leader hears of a confirmation of an earlier leadership.
    ConfirmStale { node: usize },
    /// A leader learns that it does not lead any more, or gives up.
    StepDown { node: usize },
}

/// The model.
pub(crate) struct Cluster {
    scope: Scope,
    orders: Vec<Order>,
    mistake: Option<Mistake>,
    machine: Machine,
}

impl Cluster {
    pub(crate) fn new(scope: Scope, mistake: Option<Mistake>) -> Self {
        let orders = scope.orders.iter().map(|(order, _)| *order).collect();
        Self { scope, orders, mistake, machine: Machine::new(mistake) }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn record<'a>(&'a self, agreed: &'a [Slot]) -> Record<'a> {
        Record { machine: &self.machine, agreed, orders: &self.orders }
    }

    /// Begins to decide over what is folded.
    fn begin(node: usize, rounds: u64, term: u8, folded: &[Slot]) -> Deciding {
        // Clocks differ, and the one of the first leader is ahead of the others.
        let now = 1_000 - 100 * node as u64;
        let past = Past { folded: folded.to_vec(), rounds, now, term, inputs: Vec::new() };
        Deciding { past, folded: folded.len(), asked: rounds, granted: rounds, confirmed: rounds }
    }

    fn submit(&self, state: &mut State, attempt: Attempt, node: usize) {
        let order = self.orders[usize::from(attempt.client)];
        let holder = &mut state.nodes[node];
        let Some(Leads { term, deciding: Some(deciding), .. }) = &mut holder.leads else { return };
        let index = u8::try_from(holder.log.len() + 1).expect("a small model has short logs");
        deciding.past.inputs.push(Input::Submit { attempt, order, index, term: *term });
        let step = self.machine.step(&deciding.past);
        deciding.asked = deciding.asked.max(step.asked);
        if let Some(event) = step.proposed {
            holder.log.push(Slot { term: *term, event: Some(event), attempt: Some(attempt) });
        }
        self.follow(state, node, &step);
    }

    /// Takes up what a leader did: judges its answers and what it holds.
    fn follow(&self, state: &mut State, node: usize, step: &Step) {
        let record = self.record(&state.agreed);
        for (attempt, reply) in &step.replies {
            let asked = &mut state.clients[usize::from(attempt.client)][usize::from(attempt.number)];
            // Whoever was answered does not hear the second answer.
            let Asked::Since(since) = *asked else { continue };
            record.judge(&mut state.violations, *attempt, since, *reply);
            *asked = Asked::Answered(kind(*reply));
        }
        let Node { log, leads: Some(Leads { deciding: Some(deciding), .. }), .. } = &state.nodes[node] else { return };
        let in_flight = log.iter().skip(deciding.folded).filter(|slot| slot.event.is_some()).count();
        state.violations.check(step.undecided == in_flight, Violation::OverlayWrong);
        let held = self.machine.digest(&state.agreed[..deciding.folded]);
        state.violations.check(step.digest == held, Violation::ViewsDiffer);
    }

    fn elect(&self, state: &mut State, node: usize, source: usize, entries: usize) {
        self.step_down(state, node);
        let mut log = state.nodes[source].log[..entries].to_vec();
        state.term += 1;
        state.newest = node;
        state.fresh = state.fresh.max(node + 1);
        log.push(Slot { term: state.term, event: None, attempt: None });
        let leads = Leads { term: state.term, opened: log.len(), deciding: None };
        state.nodes[node].log = log;
        state.nodes[node].leads = Some(leads);
    }

    fn open(&self, state: &mut State, node: usize) {
        let holder = &mut state.nodes[node];
        let Some(leads) = &mut holder.leads else { return };
        let folded = leads.opened.min(state.agreed.len());
        leads.deciding = Some(match holder.kept.take() {
            None => Self::begin(node, holder.rounds, leads.term, &state.agreed[..folded]),
            Some(mut kept) => {
                let missing = (kept.folded..folded).map(|place| fold(&state.agreed, place));
                kept.past.inputs.extend(missing);
                kept.folded = folded;
                kept
            }
        });
    }

    fn fold(&self, state: &mut State, node: usize) {
        let Some(deciding) = state.nodes[node].deciding_mut() else { return };
        deciding.past.inputs.push(fold(&state.agreed, deciding.folded));
        deciding.folded += 1;
        let step = self.machine.step(&deciding.past);
        self.follow(state, node, &step);
    }

    fn confirm(&self, state: &mut State, node: usize) {
        let Some(deciding) = state.nodes[node].deciding_mut() else { return };
        deciding.confirmed = deciding.granted;
        let round = deciding.granted;
        self.hear_of(state, node, round);
    }

    fn hear_of(&self, state: &mut State, node: usize, round: u64) {
        let Some(deciding) = state.nodes[node].deciding_mut() else { return };
        deciding.past.inputs.push(Input::Confirm { round });
        let step = self.machine.step(&deciding.past);
        self.follow(state, node, &step);
    }

    fn step_down(&self, state: &mut State, node: usize) {
        let Some(Leads { deciding: Some(mut deciding), .. }) = state.nodes[node].leads.take() else { return };
        if deciding.granted > deciding.confirmed {
            state.nodes[node].stale = Some(deciding.granted);
        }
        if !self.has(Mistake::CountsRoundsAnew) {
            state.nodes[node].rounds = deciding.asked;
        }
        if self.has(Mistake::KeepsOverlay) {
            state.nodes[node].kept = Some(deciding);
            return;
        }
        deciding.past.inputs.push(Input::Abandon);
        let step = self.machine.step(&deciding.past);
        self.follow(state, node, &step);
    }

    fn agree(&self, state: &mut State) {
        let Node { log, leads: Some(leads), .. } = &state.nodes[state.newest] else { return };
        let entries = (state.agreed.len() + 1).max(leads.opened);
        let undone: Vec<Attempt> = state.attempts(Kind::Undone).collect();
        for slot in &log[state.agreed.len()..entries] {
            state.agreed.push(*slot);
            self.record(&state.agreed).judge_newest(&mut state.violations, &undone);
        }
    }

    /// Whether a leader may fold the entry that comes next: it is its own, or what it has inherited.
    fn may_fold(&self, node: &Node, agreed: &[Slot]) -> bool {
        let Some(Leads { deciding: Some(deciding), .. }) = &node.leads else { return false };
        let next = agreed.get(deciding.folded);
        next.is_some_and(|_| self.has(Mistake::FoldsBeforeSteppingDown) || node.log.get(deciding.folded) == next)
    }

    fn may_open(&self, node: &Node, agreed: &[Slot]) -> bool {
        let Some(leads) = &node.leads else { return false };
        let is_folded = agreed.len() >= leads.opened && agreed[..leads.opened] == node.log[..leads.opened];
        leads.deciding.is_none() && (is_folded || self.has(Mistake::DecidesBeforeFolding))
    }

    fn actions_of_clients(&self, state: &State, actions: &mut Vec<Action>) {
        for (client, (_, attempts)) in (0..).zip(&self.scope.orders) {
            if state.clients[usize::from(client)].len() >= usize::from(*attempts) {
                continue;
            }
            let deciding = |node: &usize| state.nodes[*node].deciding().is_some();
            actions.extend((0..NODES).filter(deciding).map(|node| Action::Submit { client, node }));
            if state.late_left > 0 {
                actions.extend((0..NODES.min(state.fresh + 1)).map(|node| Action::Send { client, node }));
            }
        }
        if state.on_its_way.is_some_and(|(_, node)| state.nodes[node].deciding().is_some()) {
            actions.push(Action::Deliver);
        }
    }

    fn actions_of_electors(&self, state: &State, actions: &mut Vec<Action>) {
        if state.term >= self.scope.terms {
            return;
        }
        let mut logs: Vec<&[Slot]> = Vec::new();
        for (source, holder) in state.nodes.iter().enumerate() {
            if !holder.log.starts_with(&state.agreed) {
                continue;
            }
            for entries in state.agreed.len()..=holder.log.len() {
                if logs.contains(&&holder.log[..entries]) {
                    continue;
                }
                logs.push(&holder.log[..entries]);
                let nodes = 0..NODES.min(state.fresh + 1);
                actions.extend(nodes.map(|node| Action::Elect { node, source, entries }));
            }
        }
    }
}

fn fold(agreed: &[Slot], place: usize) -> Input {
    Input::Fold { slot: agreed[place], index: u8::try_from(place + 1).expect("a small model has short logs") }
}

fn kind(reply: Reply) -> Kind {
    match reply {
        Reply::Accepted { .. } => Kind::Accepted,
        Reply::Repeated { .. } => Kind::Repeated,
        Reply::Unchanged { .. } | Reply::Rejected { .. } | Reply::Reused => Kind::Refused,
        Reply::Unknown => Kind::Unknown,
        Reply::Undone => Kind::Undone,
    }
}

impl Node {
    fn deciding(&self) -> Option<&Deciding> {
        self.leads.as_ref()?.deciding.as_ref()
    }

    fn deciding_mut(&mut self) -> Option<&mut Deciding> {
        self.leads.as_mut()?.deciding.as_mut()
    }
}

impl State {
    /// The attempts that were answered like this.
    fn attempts(&self, kind: Kind) -> impl Iterator<Item = Attempt> + '_ {
        let of_client = move |(client, asked): (u8, &Vec<Asked>)| {
            let numbered = (0..).zip(asked.clone());
            let answered = numbered.filter(move |(_, asked)| *asked == Asked::Answered(kind));
            answered.map(move |(number, _)| Attempt { client, number }).collect::<Vec<_>>()
        };
        (0..).zip(&self.clients).flat_map(of_client)
    }

    fn has_agreed(&self, attempt: Attempt) -> bool {
        self.agreed.iter().any(|slot| slot.attempt == Some(attempt))
    }

    fn begin_attempt(&mut self, client: u8) -> Attempt {
        let asked = &mut self.clients[usize::from(client)];
        let number = u8::try_from(asked.len()).expect("a small model has few attempts");
        asked.push(Asked::Since(self.agreed.len()));
        Attempt { client, number }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let agreed = vec![
            Slot { term: 0, event: Some(self.machine.first_event()), attempt: None },
            Slot { term: 1, event: None, attempt: None },
        ];
        let follower = Node { log: agreed.clone(), leads: None, rounds: 0, stale: None, kept: None };
        let mut nodes = vec![follower; NODES];
        nodes[0].leads = Some(Leads { term: 1, opened: 2, deciding: Some(Self::begin(0, 0, 1, &agreed)) });
        vec![State {
            agreed,
            nodes,
            term: 1,
            newest: 0,
            fresh: 1,
            clients: vec![Vec::new(); self.orders.len()],
            on_its_way: None,
            late_left: self.scope.late,
            violations: Violations::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.actions_of_clients(state, actions);
        self.actions_of_electors(state, actions);
        let newest = &state.nodes[state.newest];
        if newest.leads.is_some() && newest.log.len() > state.agreed.len() {
            actions.push(Action::Agree);
        }
        let can_grant = |leads: &Leads| leads.deciding.as_ref().is_some_and(|it| it.asked > it.granted);
        if newest.leads.as_ref().is_some_and(|leads| leads.term == state.term && can_grant(leads)) {
            actions.push(Action::Grant);
        }
        for (number, node) in state.nodes.iter().enumerate() {
            if self.may_open(node, &state.agreed) {
                actions.push(Action::Open { node: number });
            }
            if self.may_fold(node, &state.agreed) {
                actions.push(Action::Fold { node: number });
            }
            if node.deciding().is_some_and(|deciding| deciding.granted > deciding.confirmed) {
                actions.push(Action::Confirm { node: number });
            }
            if node.deciding().is_some() && node.stale.is_some() {
                actions.push(Action::ConfirmStale { node: number });
            }
            if node.leads.is_some() {
                actions.push(Action::StepDown { node: number });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Submit { client, node } => {
                let attempt = state.begin_attempt(client);
                self.submit(&mut state, attempt, node);
            }
            Action::Send { client, node } => {
                let attempt = state.begin_attempt(client);
                state.on_its_way = Some((attempt, node));
                state.late_left -= 1;
            }
            Action::Deliver => {
                let (attempt, node) = state.on_its_way.take()?;
                self.submit(&mut state, attempt, node);
            }
            Action::Elect { node, source, entries } => self.elect(&mut state, node, source, entries),
            Action::Agree => self.agree(&mut state),
            Action::Open { node } => self.open(&mut state, node),
            Action::Fold { node } => self.fold(&mut state, node),
            Action::Grant => {
                let newest = state.newest;
                let deciding = state.nodes[newest].deciding_mut()?;
                deciding.granted = deciding.asked;
            }
            Action::Confirm { node } => self.confirm(&mut state, node),
            Action::ConfirmStale { node } => {
                let round = state.nodes[node].stale.take()?;
                self.hear_of(&mut state, node, round);
            }
            Action::StepDown { node } => self.step_down(&mut state, node),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            never(Violation::AcceptanceNotFolded, |_, state: &State| {
                !state.violations.has(Violation::AcceptanceNotFolded)
            }),
            never(Violation::RejectionWrong, |_, state: &State| !state.violations.has(Violation::RejectionWrong)),
            never(Violation::CarriedOutTwice, |_, state: &State| !state.violations.has(Violation::CarriedOutTwice)),
            never(Violation::RepetitionWrong, |_, state: &State| !state.violations.has(Violation::RepetitionWrong)),
            never(Violation::UndoneTookEffect, |_, state: &State| !state.violations.has(Violation::UndoneTookEffect)),
            never(Violation::NumbersWrong, |_, state: &State| !state.violations.has(Violation::NumbersWrong)),
            never(Violation::ViewsDiffer, |_, state: &State| !state.violations.has(Violation::ViewsDiffer)),
            never(Violation::OverlayWrong, |_, state: &State| !state.violations.has(Violation::OverlayWrong)),
            Property::sometimes("an order is carried out", |_, state: &State| {
                state.attempts(Kind::Accepted).next().is_some()
            }),
            Property::sometimes("an order is refused", |_, state: &State| {
                state.attempts(Kind::Refused).next().is_some()
            }),
            Property::sometimes("two nodes decide at a time", |_, state: &State| {
                state.nodes.iter().filter(|node| node.deciding().is_some()).count() > 1
            }),
            Property::sometimes("an unknown outcome is that it happened", |_, state: &State| {
                state.attempts(Kind::Unknown).any(|attempt| state.has_agreed(attempt))
            }),
            Property::sometimes("an unknown outcome is that it is lost", |_, state: &State| {
                let is_in = |log: &[Slot], attempt| log.iter().any(|slot| slot.attempt == Some(attempt));
                let is_lost = |attempt| !state.nodes.iter().any(|node| is_in(&node.log, attempt));
                state.attempts(Kind::Unknown).any(is_lost)
            }),
        ];
        if self.scope.orders.iter().any(|(_, attempts)| *attempts > 1) {
            properties.push(Property::sometimes("a repetition is answered by another leader", |_, state: &State| {
                state.attempts(Kind::Repeated).any(|attempt| {
                    let first = Attempt { number: 0, ..attempt };
                    state.agreed.iter().any(|slot| slot.attempt == Some(first) && slot.term < state.term)
                        && state.clients[usize::from(attempt.client)][0] == Asked::Answered(Kind::Unknown)
                })
            }));
        }
        properties
    }
}

fn never(violation: Violation, holds: fn(&Cluster, &State) -> bool) -> Property<Cluster> {
    Property::always(violation.name(), holds)
}
