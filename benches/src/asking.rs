//! The same kind of question again and again by several clients, and how long the answers take.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// A client that asks, and waits for its answer before it asks again.
pub trait Asker: Send + 'static {
    /// What can go wrong.
    type Error: Send + 'static;

    /// Asks once; how many records came back.
    fn ask(&mut self) -> impl Future<Output = Result<u64, Self::Error>> + Send;
}

/// The time within which answers count.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What is answered before it is for warming up.
    pub begin: Instant,
    /// What is answered after it is left out.
    pub end: Instant,
}

impl Window {
    /// So long, after what clients need to get going.
    #[must_use]
    pub fn after(warm_up: Duration, length: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        Self { begin, end: begin + length }
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.end - self.begin
    }
}

/// What clients were told.
#[derive(Debug)]
pub struct Asked<E> {
    /// How long each answer took that counts.
    pub times: Vec<Duration>,
    /// Records in those answers.
    pub items: u64,
    /// Answers in all, those that do not count included, and no failures.
    pub answers: u64,
    /// What went wrong before the end.
    pub failures: Vec<E>,
}

impl<E> Default for Asked<E> {
    fn default() -> Self {
        Self { times: Vec::new(), items: 0, answers: 0, failures: Vec::new() }
    }
}

impl<E> Asked<E> {
    /// Takes note of an answer; whether to go on.
    pub fn note(&mut self, window: Window, asked: Instant, answer: Result<u64, E>) -> bool {
        let answered = Instant::now();
        self.answers += u64::from(answer.is_ok());
        if answered >= window.end {
            return false;
        }
        match answer {
            Ok(items) if answered >= window.begin => {
                self.times.push(answered - asked);
                self.items += items;
            }
            Ok(_) => {}
            Err(error) => self.failures.push(error),
        }
        true
    }
}

/// Lets each client ask until the time is over.
pub fn start<A: Asker>(clients: impl IntoIterator<Item = A>, window: Window) -> Vec<JoinHandle<Asked<A::Error>>> {
    clients.into_iter().map(|client| tokio::spawn(ask_again(client, window))).collect()
}

async fn ask_again<A: Asker>(mut client: A, window: Window) -> Asked<A::Error> {
    let mut told = Asked::default();
    loop {
        let asked = Instant::now();
        let answer = client.ask().await;
        if !told.note(window, asked, answer) {
            return told;
        }
    }
}

/// What all of them were told.
///
/// # Panics
/// When a client did.
pub async fn all_of<E>(clients: Vec<JoinHandle<Asked<E>>>) -> Asked<E> {
    let mut all = Asked::default();
    for client in clients {
        let told = client.await.expect("a client that ends");
        all.times.extend(told.times);
        all.failures.extend(told.failures);
        (all.items, all.answers) = (all.items + told.items, all.answers + told.answers);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_within_the_time_count() {
        let (now, second) = (Instant::now(), Duration::from_secs(1_000));
        let mut told = Asked::default();
        let before = Window { begin: now + second, end: now + second * 2 };
        assert!(told.note(before, now, Ok(1)) && told.note(before, now, Err("one")));
        let within = Window { begin: now, end: now + second };
        assert!(told.note(within, now, Ok(2)) && told.note(within, now, Err("two")));
        let over = Window { begin: now, end: now };
        assert!(!told.note(over, now, Ok(4)) && !told.note(over, now, Err("three")));
        assert_eq!((told.times.len(), told.items, told.answers), (1, 2, 3));
        assert_eq!(told.failures, ["one", "two"]);
    }
}
