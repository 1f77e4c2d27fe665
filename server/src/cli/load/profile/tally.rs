//! What became of the calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use steeple_client::Error;

use super::pace::Pace;
use super::schedule::ACTIVITIES;

/// A call of the datastore, as servers make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    FetchAttestedNode,
    FetchBundle,
    FetchJoinToken,
    GetNodeSelectors,
    FetchEntries,
    FetchNodes,
    ListEntriesByParent,
    ListEntriesBySelectors,
    ListEntriesBySpiffeId,
    ListEntries,
    ListEntryEvents,
    ListNodeEvents,
    ListFederationRelationships,
    ListBundles,
    SetNodeSelectors,
    CreateAttestedNode,
    UpdateAttestedNode,
    DeleteAttestedNode,
    CreateJoinToken,
    DeleteJoinToken,
    CreateOrReturnEntry,
    DeleteEntry,
    PruneEntries,
    PruneNodes,
    PruneEntryEvents,
    PruneNodeEvents,
    PruneJournals,
}

/// What a call costs a store, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Reads of one record.
    Point,
    /// Reads of many.
    List,
    /// Mutations.
    Write,
}

/// All classes, with their names.
pub(super) const CLASSES: [(Class, &str); 3] =
    [(Class::Point, "point reads"), (Class::List, "lists"), (Class::Write, "writes")];

impl Call {
    pub(super) const ALL: [Self; 27] = [
        Self::FetchAttestedNode,
        Self::FetchBundle,
        Self::FetchJoinToken,
        Self::GetNodeSelectors,
        Self::FetchEntries,
        Self::FetchNodes,
        Self::ListEntriesByParent,
        Self::ListEntriesBySelectors,
        Self::ListEntriesBySpiffeId,
        Self::ListEntries,
        Self::ListEntryEvents,
        Self::ListNodeEvents,
        Self::ListFederationRelationships,
        Self::ListBundles,
        Self::SetNodeSelectors,
        Self::CreateAttestedNode,
        Self::UpdateAttestedNode,
        Self::DeleteAttestedNode,
        Self::CreateJoinToken,
        Self::DeleteJoinToken,
        Self::CreateOrReturnEntry,
        Self::DeleteEntry,
        Self::PruneEntries,
        Self::PruneNodes,
        Self::PruneEntryEvents,
        Self::PruneNodeEvents,
        Self::PruneJournals,
    ];

    /// SPIRE's name of it; of lists also what selects.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FetchAttestedNode => "FetchAttestedNode",
            Self::FetchBundle => "FetchBundle",
            Self::FetchJoinToken => "FetchJoinToken",
            Self::GetNodeSelectors => "GetNodeSelectors",
            Self::FetchEntries => "FetchRegistrationEntries",
            Self::FetchNodes => "FetchAttestedNodes",
            Self::ListEntriesByParent => "ListRegistrationEntries by parent",
            Self::ListEntriesBySelectors => "ListRegistrationEntries by selectors",
            Self::ListEntriesBySpiffeId => "ListRegistrationEntries by SPIFFE ID",
            Self::ListEntries => "ListRegistrationEntries, a page",
            Self::ListEntryEvents => "ListRegistrationEntryEvents",
            Self::ListNodeEvents => "ListAttestedNodeEvents",
            Self::ListFederationRelationships => "ListFederationRelationships",
            Self::ListBundles => "ListBundles",
            Self::SetNodeSelectors => "SetNodeSelectors",
            Self::CreateAttestedNode => "CreateAttestedNode",
            Self::UpdateAttestedNode => "UpdateAttestedNode",
            Self::DeleteAttestedNode => "DeleteAttestedNode",
            Self::CreateJoinToken => "CreateJoinToken",
            Self::DeleteJoinToken => "DeleteJoinToken",
            Self::CreateOrReturnEntry => "CreateOrReturnRegistrationEntry",
            Self::DeleteEntry => "DeleteRegistrationEntry",
            Self::PruneEntries => "PruneRegistrationEntries",
            Self::PruneNodes => "PruneAttestedExpiredNodes",
            Self::PruneEntryEvents => "PruneRegistrationEntryEvents",
            Self::PruneNodeEvents => "PruneAttestedNodeEvents",
            Self::PruneJournals => "PruneCAJournals",
        }
    }

    pub(super) fn class(self) -> Class {
        match self as usize {
            0..=3 => Class::Point,
            4..=13 => Class::List,
            _ => Class::Write,
        }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u32>);

impl Default for Latencies {
    fn default() -> Self {
        // It grows as needed.
        Self(Histogram::new(2).expect("two digits are always possible"))
    }
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(MICROS_MAX);
        // What grows as needed has room for everything.
        let _ = self.0.record(micros.max(1));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds that so many per cent of the calls took at the most; none without calls.
    pub(super) fn percentile(&self, percent: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_percentile(percent) as f64 / 1e3)
    }

    /// Milliseconds of the longest.
    pub(super) fn longest(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1e3)
    }
}

/// An hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// Windows of time that a run is looked at in, at the most.
const WINDOWS_MAX: u64 = 300;

/// What became of calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Fates {
    /// Those that should have been made.
    pub(super) due: u64,
    /// Those that were answered as they should be.
    pub(super) served: u64,
    /// Those among them that were answered in time.
    pub(super) on_time: u64,
    /// Those that ended with an error.
    pub(super) failed: u64,
    /// Of those that were served, counted from when they were due.
    pub(super) latencies: Latencies,
}

impl Fates {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Served { latency, on_time } => {
                self.served += 1;
                self.on_time += u64::from(on_time);
                self.latencies.add(latency);
            }
            Outcome::Failed => self.failed += 1,
        }
    }

    /// Those without any answer: never sent, or sent and forgotten when the run ended.
    pub(super) fn unanswered(&self) -> u64 {
        self.due.saturating_sub(self.served + self.failed)
    }

    /// The share of what was due that was served in time.
    pub(super) fn share_on_time(&self) -> f64 {
        share(self.on_time, self.due)
    }
}

/// A part of a whole; the whole of nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[derive(Clone, Copy)]
enum Outcome {
    Served { latency: Duration, on_time: bool },
    Failed,
}

/// A part of a run's time.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Calls that became due in it.
    pub(super) due: u64,
    /// Calls that were served in it.
    pub(super) served: u64,
    /// Of the calls that were due in it, by class.
    pub(super) latencies: [Latencies; CLASSES.len()],
}

/// Where a call belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number of the activity's kind.
    pub(super) activity: usize,
    /// Since the beginning of the run, when the activity was due.
    pub(super) at: Duration,
}

/// What is due is counted before it is known what becomes of it: some calls are never answered.
#[derive(Debug, Default)]
struct Counted<Content> {
    due: AtomicU64,
    content: Mutex<Content>,
}

impl<Content: Clone> Counted<Content> {
    fn add_due(&self, calls: u64) {
        self.due.fetch_add(calls, Ordering::Relaxed);
    }

    /// What is counted so far, and how many calls were due.
    fn now(&self) -> (Content, u64) {
        (self.content.lock().clone(), self.due.load(Ordering::Relaxed))
    }
}

/// Counts what becomes of the calls while they are made.
pub(super) struct Tally {
    began: Instant,
    pace: Pace,
    on_time: Duration,
    window: Duration,
    calls: Vec<Counted<Fates>>,
    activities: Vec<Counted<Fates>>,
    steps: Vec<Counted<Fates>>,
    windows: Vec<Counted<Window>>,
    errors: Mutex<BTreeMap<(&'static str, String), Errors>>,
    missed: AtomicU64,
}

/// Errors of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// The text of the first.
    pub(super) example: String,
}

/// What became of all calls.
pub(super) struct Results {
    pub(super) window: Duration,
    pub(super) calls: Vec<Fates>,
    pub(super) activities: Vec<Fates>,
    pub(super) steps: Vec<Fates>,
    pub(super) windows: Vec<Window>,
    pub(super) errors: BTreeMap<(&'static str, String), Errors>,
    /// Activities that were never begun, because they were too late by then.
    pub(super) missed: u64,
}

impl Tally {
    pub(super) fn new(began: Instant, pace: Pace, on_time: Duration) -> Self {
        let seconds = pace.duration().as_secs().max(1);
        let window = Duration::from_secs(seconds.div_ceil(WINDOWS_MAX));
        // The last ones are for answers that come after the run.
        let windows = seconds.div_ceil(window.as_secs()) + 1;
        let fates = |count: usize| (0..count).map(|_| Counted::default()).collect();
        Self {
            began,
            pace,
            on_time,
            window,
            calls: fates(Call::ALL.len()),
            activities: fates(ACTIVITIES.len()),
            steps: fates(pace.steps() as usize),
            windows: (0..windows).map(|_| Counted::default()).collect(),
            errors: Mutex::default(),
            missed: AtomicU64::new(0),
        }
    }

    fn window_at(&self, moment: Duration) -> &Counted<Window> {
        let number = moment.as_nanos() / self.window.as_nanos().max(1);
        &self.windows[usize::try_from(number).unwrap_or(usize::MAX).min(self.windows.len() - 1)]
    }

    fn step_of(&self, place: Place) -> &Counted<Fates> {
        &self.steps[self.pace.step_at(place.at) as usize]
    }

    /// A call begins that is due at `due`.
    pub(super) fn begun(&self, place: Place, call: Call, due: Instant) {
        self.calls[call as usize].add_due(1);
        self.activities[place.activity].add_due(1);
        self.step_of(place).add_due(1);
        self.window_at(due.saturating_duration_since(self.began)).add_due(1);
    }

    /// A call has ended that was due at `due`.
    pub(super) fn answered(&self, place: Place, call: Call, due: Instant, error: Option<&Error>) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(due);
        let outcome = match error {
            None => Outcome::Served { latency, on_time: latency <= self.on_time },
            Some(error) => {
                self.failed(call, error);
                Outcome::Failed
            }
        };
        self.calls[call as usize].content.lock().add(outcome);
        self.activities[place.activity].content.lock().add(outcome);
        self.step_of(place).content.lock().add(outcome);
        if error.is_none() {
            let due_in = self.window_at(due.saturating_duration_since(self.began));
            due_in.content.lock().latencies[call.class() as usize].add(latency);
            self.window_at(now.saturating_duration_since(self.began)).content.lock().served += 1;
        }
    }

    fn failed(&self, call: Call, error: &Error) {
        let kind = error.kind().map_or_else(|| format!("{:?}", error.code()), |kind| kind.text().to_owned());
        let mut errors = self.errors.lock();
        let errors = errors.entry((call.name(), kind)).or_default();
        errors.count += 1;
        if errors.example.is_empty() {
            errors.example = error.to_string();
        }
    }

    /// Calls were due that nobody made: an earlier one failed, or the activity was given up.
    pub(super) fn not_made(&self, place: Place, calls: u64) {
        self.activities[place.activity].add_due(calls);
        self.step_of(place).add_due(calls);
        self.window_at(place.at).add_due(calls);
    }

    /// An activity was never begun.
    pub(super) fn missed(&self, place: Place, calls: u64) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        self.not_made(place, calls);
    }

    /// Everything so far.
    pub(super) fn results(&self) -> Results {
        let fates = |counted: &Counted<Fates>| {
            let (fates, due) = counted.now();
            Fates { due, ..fates }
        };
        let all = |counted: &[Counted<Fates>]| counted.iter().map(fates).collect();
        let window = |counted: &Counted<Window>| {
            let (window, due) = counted.now();
            Window { due, ..window }
        };
        Results {
            window: self.window,
            calls: all(&self.calls),
            activities: all(&self.activities),
            steps: all(&self.steps),
            windows: self.windows.iter().map(window).collect(),
            errors: self.errors.lock().clone(),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }
}

impl Results {
    /// What became of the calls altogether.
    pub(super) fn total(&self) -> Fates {
        let mut total = Fates::default();
        for step in &self.steps {
            total.due += step.due;
            total.served += step.served;
            total.on_time += step.on_time;
            total.failed += step.failed;
            // Histograms of one kind fit into each other.
            total.latencies.0 += &step.latencies.0;
        }
        total
    }

    /// The last of the steps up to which the load was held: no step before it fell behind either.
    pub(super) fn held(&self) -> Option<usize> {
        let held = self.steps.iter().take_while(|step| step.share_on_time() >= HELD_SHARE).count();
        held.checked_sub(1)
    }

    /// The activity of which the greatest share was late or not served at all, if any was.
    pub(super) fn latest_activity(&self) -> Option<usize> {
        let late = |number: &usize| 1.0 - self.activities[*number].share_on_time();
        let worst = (0..self.activities.len()).max_by(|one, other| late(one).total_cmp(&late(other)))?;
        (late(&worst) > 1.0 - HELD_SHARE).then_some(worst)
    }
}

/// A load is held when so much of what was due was served in time.
pub(super) const HELD_SHARE: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(steps: u32) -> Tally {
        Tally::new(Instant::now(), Pace::new(Duration::from_secs(10), steps), Duration::from_secs(1))
    }

    fn call(tally: &Tally, place: Place, due: Instant, error: Option<&Error>) {
        tally.begun(place, Call::FetchBundle, due);
        tally.answered(place, Call::FetchBundle, due, error);
    }

    fn place(seconds: u64) -> Place {
        Place { activity: 0, at: Duration::from_secs(seconds) }
    }

    #[test]
    fn calls_are_listed_in_the_order_of_their_numbers() {
        for (number, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, number);
        }
        assert_eq!(Call::GetNodeSelectors.class(), Class::Point);
        assert_eq!(Call::FetchEntries.class(), Class::List);
        assert_eq!(Call::ListBundles.class(), Class::List);
        assert_eq!(Call::SetNodeSelectors.class(), Class::Write);
        assert!(CLASSES.iter().enumerate().all(|(number, (class, _))| *class as usize == number));
    }

    #[test]
    fn a_call_is_timed_from_when_it_was_due() {
        let tally = tally(1);
        let now = Instant::now();
        call(&tally, place(0), now, None);
        let late = now.checked_sub(Duration::from_secs(3)).expect("a machine that has run for three seconds");
        call(&tally, place(0), late, None);
        let total = tally.results().total();
        assert_eq!((total.due, total.served, total.on_time), (2, 2, 1));
        assert!(total.latencies.longest().expect("calls") >= 2_900.0);
    }

    #[test]
    fn what_was_not_made_counts_as_due() {
        let tally = tally(2);
        call(&tally, place(1), Instant::now(), None);
        tally.missed(place(9), 3);
        call(&tally, place(9), Instant::now(), Some(&Error::DeadlineExceeded));
        tally.begun(place(9), Call::FetchBundle, Instant::now());
        let results = tally.results();
        assert_eq!(results.held(), Some(0));
        assert_eq!(results.missed, 1);
        assert_eq!((results.steps[1].due, results.steps[1].failed, results.steps[1].unanswered()), (5, 1, 4));
        assert_eq!(results.latest_activity(), Some(0));
        let [((call, kind), errors)] = results.errors.iter().collect::<Vec<_>>()[..] else { panic!("one error") };
        assert_eq!((*call, kind.as_str(), errors.count), ("FetchBundle", "DeadlineExceeded", 1));
    }

    #[test]
    fn a_load_without_calls_is_held() {
        let results = tally(3).results();
        assert_eq!((results.held(), results.latest_activity()), (Some(2), None));
        assert_eq!(results.total().latencies.percentile(50.0), None);
    }
}
