//! Where work is done that takes long or waits for others: on the threads of a runtime, or in steps that whoever owns
//! the node takes when it wants to ([`super::stepped`]).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// The work was not finished.
#[derive(Clone, Debug, Error)]
pub(crate) enum CutOff {
    /// The node stops.
    #[error("the work was cut off")]
    Stopped,
    /// There is a bug in it.
    #[error("{0}")]
    Panicked(String),
}

impl From<tokio::task::JoinError> for CutOff {
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_panic() { Self::Panicked(error.to_string()) } else { Self::Stopped }
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A runtime with threads.
pub(crate) struct Threads {
    runtime: tokio::runtime::Handle,
    began: Instant,
}

/// Does a node's work.
pub(crate) enum Work {
    /// On threads. What is spawned for the node itself runs on this runtime.
    Threads(Threads),
    /// In steps.
    Steps(Arc<Steps>),
}

impl Work {
    /// On the threads of a runtime.
    pub(super) fn on(runtime: tokio::runtime::Handle) -> Self {
        Self::Threads(Threads { runtime, began: Instant::now() })
    }

    /// How long the node has been at work.
    pub(crate) fn now(&self) -> Duration {
        match self {
            Self::Threads(threads) => threads.began.elapsed(),
            Self::Steps(steps) => steps.time.lock().now,
        }
    }

    /// Lets time pass.
    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            Self::Threads(_) => tokio::time::sleep(duration).await,
            Self::Steps(steps) => Sleep { steps, until: self.now() + duration }.await,
        }
    }

    /// Waits for something, but not for longer than `patience`; `None` when that is over.
    pub(crate) async fn within<T>(&self, patience: Duration, awaited: impl Future<Output = T>) -> Option<T> {
        let (mut awaited, mut over) = (std::pin::pin!(awaited), std::pin::pin!(self.sleep(patience)));
        let either = std::future::poll_fn(|context| match awaited.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => over.as_mut().poll(context).map(|()| None),
        });
        either.await
    }

    /// Begins something that goes on by itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Threads(threads) => drop(threads.runtime.spawn(task)),
            Self::Steps(steps) => steps.push(Box::pin(task)),
        }
    }

    /// Does something that goes on when whoever waits for it does not. On threads it runs where the caller does.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CutOff> {
        match self {
            Self::Threads(_) => Ok(tokio::spawn(task).await?),
            Self::Steps(steps) => {
                let (done, result) = oneshot::channel();
                // Whoever asked may have gone.
                steps.push(Box::pin(async move { drop(done.send(task.await)) }));
                result.await.map_err(|_| CutOff::Stopped)
            }
        }
    }

    /// A place for something that takes many pieces of blocking work.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Threads(_) => {
                let (thread, mut work) = mpsc::channel::<Box<dyn FnOnce() + Send>>(1);
                let working = move || {
                    while let Some(work) = work.blocking_recv() {
                        work();
                    }
                };
                drop(tokio::task::spawn_blocking(working));
                Place::Thread(thread)
            }
            Self::Steps(_) => Place::Steps,
        }
    }

    /// Does something that waits for a disk or takes long, where that keeps nobody from anything.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CutOff> {
        match self {
            Self::Threads(_) => Ok(tokio::task::spawn_blocking(work).await?),
            Self::Steps(_) => {
                OneStep::default().await;
                Ok(work())
            }
        }
    }
}

/// Where the pieces of one long work are done, one after the other.
///
/// On threads it is one and the same thread for all of them. An allocator keeps what a thread has freed, or what others have
/// freed that a thread has allocated, until this thread is at work again: pieces of megabytes that go round all threads for
/// blocking work leave some of them behind in each.
pub(crate) enum Place {
    /// A thread that does what it is sent.
    Thread(mpsc::Sender<Box<dyn FnOnce() + Send>>),
    /// Whoever takes the steps.
    Steps,
}

impl Place {
    /// As [`Work::blocking`], for one piece at a time.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CutOff> {
        match self {
            Self::Thread(thread) => {
                let (done, result) = oneshot::channel();
                // Whoever asked may have gone.
                let work = Box::new(move || drop(done.send(work())));
                thread.send(work).await.map_err(|_| CutOff::Stopped)?;
                result.await.map_err(|_| CutOff::Stopped)
            }
            Self::Steps => {
                OneStep::default().await;
                Ok(work())
            }
        }
    }
}

/// Ends a step: the next one goes on behind it.
#[derive(Default)]
struct OneStep {
    is_over: bool,
}

impl Future for OneStep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Waits until whoever takes the steps has let enough time pass.
struct Sleep<'a> {
    steps: &'a Steps,
    until: Duration,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.steps.time.lock();
        if time.now >= self.until {
            return Poll::Ready(());
        }
        time.sleepers.push((self.until, context.waker().clone()));
        Poll::Pending
    }
}

/// Work that is done in steps, in the order in which it was begun.
#[derive(Default)]
pub(crate) struct Steps {
    tasks: Mutex<Vec<Stepped>>,
    time: Mutex<Time>,
}

#[derive(Default)]
struct Time {
    now: Duration,
    sleepers: Vec<(Duration, Waker)>,
}

struct Stepped {
    task: Task,
    ready: Arc<Ready>,
}

/// Whether a task can go on.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Steps {
    fn push(&self, task: Task) {
        self.tasks.lock().push(Stepped { task, ready: Arc::new(Ready(AtomicBool::new(true))) });
    }

    /// Drops what is not done. Tasks hold the node that they work for, which holds them.
    pub(super) fn give_up(&self) {
        // Outside of the locks: what is dropped may begin something else, which is given up with the next round.
        loop {
            let tasks = std::mem::take(&mut *self.tasks.lock());
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        let sleepers = std::mem::take(&mut self.time.lock().sleepers);
        drop(sleepers);
    }

    /// Lets time pass.
    pub(super) fn pass(&self, time: Duration) {
        let mut clock = self.time.lock();
        clock.now += time;
        let now = clock.now;
        for (_, waker) in clock.sleepers.extract_if(.., |(until, _)| *until <= now) {
            waker.wake();
        }
    }

    /// Whether there is something that can go on.
    pub(super) fn is_ready(&self) -> bool {
        self.tasks.lock().iter().any(|stepped| stepped.ready.0.load(Ordering::SeqCst))
    }

    /// Goes on with the oldest task that can; whether there was one.
    pub(super) fn step(&self) -> bool {
        let next = {
            let mut tasks = self.tasks.lock();
            let place = tasks.iter().position(|stepped| stepped.ready.0.swap(false, Ordering::SeqCst));
            place.map(|place| tasks.remove(place))
        };
        let Some(mut stepped) = next else { return false };
        let waker = Waker::from(Arc::clone(&stepped.ready));
        if stepped.task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.lock().push(stepped);
        }
        true
    }
}
