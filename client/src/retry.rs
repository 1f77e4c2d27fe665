//! Repeating calls until they succeed, fail for good, or run out of time.

use std::time::Duration;

use steeple_wire::status::ErrorKind;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;

use crate::RequestId;
use crate::error::{Error, Failure, sort};

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
    /// The next one while a group elects its leader.
    next_in_election: Duration,
}

impl Backoff {
    /// The first pause is about `shortest`; they double up to `longest`.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        let longest = longest.min(WAIT_MAX);
        let next = shortest.min(longest);
        Self { next, longest, next_in_election: next.min(ELECTION_PAUSE_MAX) }
    }

    /// The next pause, drawn from the upper half of its range so that clients which failed together come back apart.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        jitter(whole)
    }

    /// The next pause after this failure. Elections are over soon, and being late for the end of one is a pause in writing:
    /// so they have short pauses of their own, however many, which make no other one longer. An outcome is unknown because
    /// leadership has moved, so that is about an election as well.
    pub(crate) fn pause_after(&mut self, status: &Status) -> Duration {
        if !matches!(ErrorKind::of(status), Some(ErrorKind::NotLeader | ErrorKind::OutcomeUnknown)) {
            return self.pause();
        }
        let whole = self.next_in_election;
        self.next_in_election = (whole * 2).min(ELECTION_PAUSE_MAX);
        jitter(whole)
    }
}

/// Longer than anybody waits, and short enough to be added to any time.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// So much later, or after [`WAIT_MAX`].
pub(crate) fn later(from: Instant, wait: Duration) -> Instant {
    from + wait.min(WAIT_MAX)
}

fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// The longest pause while a group elects its leader.
const ELECTION_PAUSE_MAX: Duration = Duration::from_millis(100);

/// What is at stake when an attempt fails midway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stake {
    /// Nothing: the call only reads, or may be carried out twice without harm.
    None,
    /// A mutation under this id.
    Mutation(RequestId),
    /// A change of the group, which may be asked for again and has no id.
    Change,
}

/// What an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Time at the most.
    pub(crate) left: Duration,
    /// Attempts before it that were given up because a node took too long.
    pub(crate) timeouts: u32,
}

/// An attempt that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// How.
    pub(crate) status: Status,
    /// Whether another node is there to be asked at once.
    pub(crate) elsewhere: bool,
    /// Whether it was given up because the node took too long.
    pub(crate) timed_out: bool,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self { status, elsewhere: false, timed_out: false }
    }
}

/// Attempts at other nodes that are made without a pause between, at the most: enough to ask every node of a group and
/// follow a hint, and too few to keep a group busy that elects a leader.
pub(crate) const AT_ONCE_MAX: u32 = 4;

/// A mutation that may have been carried out is not repeated for longer than this after its first attempt. Nodes remember
/// request ids for a minute at the least; behind that a repetition could be taken for a new mutation.
pub(crate) const REPEATED_MAX: Duration = Duration::from_secs(45);

/// Repeats `attempt` until it succeeds, fails for good, or `deadline` passes.
pub(crate) async fn retry<T, Attempt, Running>(
    deadline: Instant,
    mut backoff: Backoff,
    stake: Stake,
    mut attempt: Attempt,
) -> Result<T, Error>
where
    Attempt: FnMut(Turn) -> Running,
    Running: Future<Output = Result<T, Failed>>,
{
    let mut so_far = SoFar::default();
    let (mut timeouts, mut at_once) = (0, 0);
    let repeated_until = later(Instant::now(), REPEATED_MAX);
    let mut deadline = deadline;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let failed = match timeout_at(deadline, attempt(Turn { left, timeouts })).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failed)) => failed,
            Err(_) => return Err(so_far.timed_out(stake)),
        };
        so_far.note(&failed.status)?;
        if let (Stake::Mutation(_), true) = (stake, so_far.may_have_happened) {
            deadline = deadline.min(repeated_until);
        }
        timeouts += u32::from(failed.timed_out);
        if failed.elsewhere && at_once < AT_ONCE_MAX && Instant::now() < deadline {
            at_once += 1;
            continue;
        }
        at_once = 0;
        let wake = Instant::now() + backoff.pause_after(&failed.status);
        if wake >= deadline {
            return Err(so_far.give_up(stake));
        }
        sleep_until(wake).await;
    }
}

/// What the attempts so far came to.
#[derive(Debug, Default)]
struct SoFar {
    may_have_happened: bool,
    message: Option<String>,
}

impl SoFar {
    /// Remembers a failed attempt, unless it failed for good.
    fn note(&mut self, status: &Status) -> Result<(), Error> {
        match sort(status) {
            Failure::Final(error) => Err(error),
            Failure::Transient { may_have_happened, message } => {
                tracing::debug!(%message, may_have_happened, "attempt failed");
                self.may_have_happened |= may_have_happened;
                self.message = Some(message);
                Ok(())
            }
        }
    }

    /// The error when time ran out between attempts.
    fn give_up(self, stake: Stake) -> Error {
        let message = self.message.unwrap_or_else(|| "no attempt was made".into());
        match stake {
            Stake::Mutation(request) if self.may_have_happened => Error::OutcomeUnknown { request, message },
            Stake::Change if self.may_have_happened => Error::ChangeUnknown { message },
            _ => Error::Unavailable { message },
        }
    }

    /// The error when time ran out during an attempt.
    fn timed_out(self, stake: Stake) -> Error {
        let no_answer = || "no answer before the deadline".to_owned();
        match (stake, self.message) {
            (Stake::Mutation(request), message) => {
                Error::OutcomeUnknown { request, message: message.unwrap_or_else(no_answer) }
            }
            (Stake::Change, message) => Error::ChangeUnknown { message: message.unwrap_or_else(no_answer) },
            (Stake::None, Some(message)) => Error::Unavailable { message },
            (Stake::None, None) => Error::DeadlineExceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use steeple_wire::status::ErrorKind;

    use super::*;

    const ID: RequestId = RequestId([7; 16]);

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(10), Duration::from_millis(40))
    }

    async fn run(stake: Stake, script: &[Result<u32, Status>]) -> (Result<u32, Error>, usize) {
        let attempts = Cell::new(0);
        let deadline = Instant::now() + Duration::from_secs(5);
        let result = retry(deadline, backoff(), stake, |_| {
            let step = script.get(attempts.get()).or(script.last()).cloned();
            attempts.set(attempts.get() + 1);
            async move { step.unwrap().map_err(Failed::from) }
        })
        .await;
        (result, attempts.get())
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut backoff = backoff();
        for whole in [10, 20, 40, 40] {
            let pause = backoff.pause();
            assert!(pause >= Duration::from_millis(whole) / 2 && pause <= Duration::from_millis(whole), "{pause:?}");
        }
    }

    #[test]
    fn pauses_in_an_election_are_short() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for kind in [ErrorKind::NotLeader, ErrorKind::OutcomeUnknown].repeat(10) {
            let pause = backoff.pause_after(&kind.status("text"));
            assert!(pause >= ELECTION_PAUSE_MAX / 2 && pause <= ELECTION_PAUSE_MAX, "{pause:?}");
        }
        let pauses = [1, 2, 4].map(|_| backoff.pause_after(&ErrorKind::Overloaded.status("busy")).as_secs_f64());
        for (pause, whole) in pauses.into_iter().zip([1.0, 2.0, 4.0]) {
            assert!(pause >= whole / 2.0 && pause <= whole, "the election made it longer: {pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn transient_failures_are_repeated() {
        let script = [Err(ErrorKind::Overloaded.status("busy")), Err(ErrorKind::OutcomeUnknown.status("?")), Ok(3)];
        let (result, attempts) = run(Stake::Mutation(ID), &script).await;
        assert_eq!((result.unwrap(), attempts), (3, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn final_failures_are_not() {
        let (result, attempts) = run(Stake::Mutation(ID), &[Err(Status::already_exists("taken"))]).await;
        assert!(result.unwrap_err().is_already_exists());
        assert_eq!(attempts, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_open_attempt_leaves_the_whole_open() {
        let script = [Err(ErrorKind::OutcomeUnknown.status("?")), Err(ErrorKind::Overloaded.status("busy"))];
        let (result, attempts) = run(Stake::Mutation(ID), &script).await;
        assert!(matches!(result, Err(Error::OutcomeUnknown { request: ID, .. })), "{result:?}");
        assert!(attempts > 2, "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_mutation_is_not_repeated_for_longer_than_its_id_is_remembered() {
        let begun = Instant::now();
        let attempt = |status: Status, stake| {
            retry(later(begun, Duration::MAX), backoff(), stake, move |_| {
                let (status, late) = (status.clone(), begun.elapsed() > REPEATED_MAX * 3);
                async move { if late { Ok(()) } else { Err(Failed::from(status)) } }
            })
        };
        let result = attempt(ErrorKind::OutcomeUnknown.status("?"), Stake::Mutation(ID)).await;
        assert!(matches!(result, Err(Error::OutcomeUnknown { .. })), "{result:?}");
        assert!(begun.elapsed() <= REPEATED_MAX && begun.elapsed() > REPEATED_MAX / 2, "{:?}", begun.elapsed());
        attempt(ErrorKind::OutcomeUnknown.status("?"), Stake::Change).await.unwrap();
        attempt(ErrorKind::Overloaded.status("busy"), Stake::Mutation(ID)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_group_that_stays_open_says_so() {
        let script = [Err(ErrorKind::OutcomeUnknown.status("?")), Err(ErrorKind::Overloaded.status("busy"))];
        let (result, _) = run(Stake::Change, &script).await;
        assert!(matches!(result, Err(Error::ChangeUnknown { .. })), "{result:?}");
        let (result, _) = run(Stake::Change, &script[1..]).await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    }

    #[test]
    fn no_wait_is_too_long_to_be_added_to_a_time() {
        let now = Instant::now();
        assert_eq!(later(now, Duration::MAX), now + WAIT_MAX);
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert!((0..3).all(|_| backoff.pause() <= WAIT_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_did_nothing_leave_nothing_open() {
        let (result, _) = run(Stake::Mutation(ID), &[Err(ErrorKind::Overloaded.status("busy"))]).await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
        let (result, _) = run(Stake::None, &[Err(Status::unavailable("gone"))]).await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn other_nodes_are_asked_at_once_and_not_for_ever() {
        let begun = Instant::now();
        let mut pauses = Vec::new();
        let mut last = begun;
        let result = retry(begun + Duration::from_secs(5), backoff(), Stake::None, |turn| {
            pauses.push(last.elapsed().as_millis());
            last = Instant::now();
            let status = ErrorKind::NotLeader.status("no");
            let failed = Failed { status, elsewhere: true, timed_out: true };
            async move { if turn.timeouts < 11 { Err(failed) } else { Ok(turn.timeouts) } }
        })
        .await;
        assert_eq!((result.unwrap(), pauses.len()), (11, 12));
        let paused: Vec<_> = pauses.iter().map(|pause| *pause > 0).collect();
        let free = [false; AT_ONCE_MAX as usize];
        assert_eq!(paused, [&[false][..], &free, &[true], &free, &[true], &[false]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_ends_with_the_deadline() {
        let deadline = Instant::now() + Duration::from_secs(1);
        let hang = |_| std::future::pending::<Result<(), Failed>>();
        let result = retry(deadline, backoff(), Stake::Mutation(ID), hang).await;
        assert!(matches!(result, Err(Error::OutcomeUnknown { .. })), "{result:?}");
        let result = retry(deadline, backoff(), Stake::Change, hang).await;
        assert!(matches!(result, Err(Error::ChangeUnknown { .. })), "{result:?}");
        let result = retry(deadline, backoff(), Stake::None, hang).await;
        assert!(matches!(result, Err(Error::DeadlineExceeded)), "{result:?}");
    }
}
