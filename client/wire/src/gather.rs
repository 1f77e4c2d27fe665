//! Writes of a connection, gathered while others have their turn.
//!
//! The library for HTTP/2 flushes after every message, however many are about to follow: with many calls at a time, each request
//! and each answer costs a call of the kernel, which is a quarter of what a call costs. Here a flush lets the tasks go first
//! that are ready on the same thread, which are those of the other calls, and then writes what all of them had to say at once.
//! A connection with one call at a time finds nobody to wait for.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What waits at the most. More than this goes out at once: gathering is for many small writes, and costs a copy.
const WAITING_BYTES_MAX: usize = 16 << 10;

/// A connection that gathers what is written until others have had their turn. Needs a runtime that is polled, like any
/// connection.
///
/// A flush is said to be done although it is still to come: what waits is written when the task that flushed reads, or flushes
/// again, for which it is woken. Closing the connection writes it first.
#[derive(Debug)]
pub struct Gathered<Connection> {
    connection: Connection,
    /// From `written` on, still to be written.
    waiting: Vec<u8>,
    written: usize,
    turn: Option<Arc<Turn>>,
    /// Writing has begun, and the connection took only a part so far.
    is_writing: bool,
}

/// The turn of the others.
#[derive(Debug)]
struct Turn {
    is_over: AtomicBool,
    /// Whoever waits for that.
    task: Waker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Turn {
    /// Lets others go first, and then wakes the task of the context.
    fn begin(context: &Context<'_>) -> Arc<Self> {
        let turn = Arc::new(Self { is_over: AtomicBool::new(false), task: context.waker().clone() });
        let waker = Waker::from(Arc::clone(&turn));
        // It is polled for what that leads to: the runtime wakes the waker when those who are ready have been polled.
        let _pending = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        turn
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl<Connection> Gathered<Connection> {
    /// Gathers what is written to this connection.
    pub fn new(connection: Connection) -> Self {
        Self { connection, waiting: Vec::new(), written: 0, turn: None, is_writing: false }
    }

    fn has_room(&self, bytes: usize) -> bool {
        !self.is_writing && self.waiting.len() + bytes <= WAITING_BYTES_MAX
    }
}

impl<Connection: AsyncWrite + Unpin> Gathered<Connection> {
    /// Writes what waits, and lets go what the layers below hold back of it: whoever is woken for it may flush no more.
    fn poll_write_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_writing = true;
        while self.written < self.waiting.len() {
            let bytes = ready!(Pin::new(&mut self.connection).poll_write(context, &self.waiting[self.written..]))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += bytes;
        }
        ready!(Pin::new(&mut self.connection).poll_flush(context))?;
        self.is_writing = false;
        self.waiting.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Whether what waits has waited for as long as it is to. Otherwise the task will be woken for it.
    fn is_due(&mut self, context: &Context<'_>) -> bool {
        if self.is_writing {
            return true;
        }
        match &self.turn {
            Some(turn) if turn.is_over() => {
                self.turn = None;
                true
            }
            // A connection is made by one task and goes on with another one.
            Some(turn) if turn.task.will_wake(context.waker()) => false,
            _ => {
                self.turn = Some(Turn::begin(context));
                false
            }
        }
    }
}

impl<Connection: AsyncWrite + Unpin> AsyncWrite for Gathered<Connection> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if !self.has_room(bytes) {
            ready!(self.poll_write_waiting(context))?;
        }
        if bytes > WAITING_BYTES_MAX {
            return Pin::new(&mut self.connection).poll_write_vectored(context, parts);
        }
        parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            if !self.is_due(context) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write_waiting(context))?;
        }
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(context))?;
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

impl<Connection: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<Connection> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever is woken for what waits may do no more than read, as a node does that has greeted and waits for an answer.
        // What is not taken now goes on with the next call, for which the task will be woken.
        let is_to_be_written = (self.turn.is_some() || self.is_writing) && self.is_due(context);
        let written = if is_to_be_written { self.poll_write_waiting(context) } else { Poll::Pending };
        match (Pin::new(&mut self.connection).poll_read(context, buffer), written) {
            // The other end is gone. What it has said before comes first; the next write fails again.
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (read, _) => read,
        }
    }
}

impl<Connection: Connected> Connected for Gathered<Connection> {
    type ConnectInfo = Connection::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What a connection was asked to write, call by call.
    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        /// What the other end has said.
        arrived: Vec<u8>,
        /// Whether the other end is gone.
        is_broken: bool,
        writes: Vec<Vec<u8>>,
        /// How many of them it has let go.
        flushed: usize,
        /// Bytes that it takes at a time; any number for 0. Then it says no once.
        takes: usize,
        says_no: bool,
        is_closed: bool,
    }

    impl Recorded {
        fn taking(bytes: usize) -> Self {
            Self(Arc::new(Mutex::new(State { takes: bytes, ..State::default() })))
        }

        fn writes(&self) -> Vec<Vec<u8>> {
            self.0.lock().unwrap().writes.clone()
        }
    }

    impl AsyncWrite for Recorded {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut state = self.0.lock().unwrap();
            if state.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = if state.takes == 0 { bytes.len() } else { bytes.len().min(state.takes) };
            state.says_no = !state.says_no && state.takes > 0;
            if state.says_no {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            state.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut state = self.0.lock().unwrap();
            state.flushed = state.writes.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.lock().unwrap().is_closed = true;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Recorded {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let arrived = std::mem::take(&mut self.0.lock().unwrap().arrived);
            buffer.put_slice(&arrived);
            if arrived.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    /// Writes, and says that it is flushed, in one go.
    fn say(gathered: &mut Gathered<Recorded>, context: &mut Context<'_>, bytes: &[u8]) {
        let written = Pin::new(&mut *gathered).poll_write(context, bytes);
        assert!(matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()));
        assert!(Pin::new(gathered).poll_flush(context).is_ready());
    }

    /// Says one text after the other on this task.
    async fn say_here(gathered: &mut Gathered<Recorded>, texts: &[&str]) {
        poll_fn(|context| {
            texts.iter().for_each(|text| say(gathered, context, text.as_bytes()));
            Poll::Ready(())
        })
        .await;
    }

    /// As the task of a connection: flushes whenever it is woken, until so many writes were made.
    async fn flush_until(gathered: &mut Gathered<Recorded>, writes: usize) {
        poll_fn(|context| {
            let _flushed = Pin::new(&mut *gathered).poll_flush(context);
            if gathered.connection.writes().len() >= writes { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_said_before_the_others_had_their_turn_is_written_at_once() {
        let recorded = Recorded::default();
        let mut gathered = Gathered::new(recorded.clone());
        say_here(&mut gathered, &["one ", "two ", "three"]).await;
        assert_eq!(recorded.writes(), Vec::<Vec<u8>>::new());
        let before = recorded.clone();
        let other = tokio::spawn(async move { before.writes().len() });
        flush_until(&mut gathered, 1).await;
        assert_eq!(recorded.writes(), [b"one two three"]);
        assert!(other.is_finished(), "it was ready before");
        assert_eq!(other.await.unwrap(), 0);
        // Each flush waits for a turn of its own.
        say_here(&mut gathered, &["four"]).await;
        assert_eq!(recorded.writes().len(), 1);
        flush_until(&mut gathered, 2).await;
        assert_eq!(recorded.writes()[1], b"four");
    }

    #[tokio::test]
    async fn a_task_that_takes_a_connection_over_is_woken_for_what_waits() {
        let recorded = Recorded::default();
        let mut gathered = Gathered::new(recorded.clone());
        say(&mut gathered, &mut Context::from_waker(Waker::noop()), b"preface");
        assert_eq!(recorded.writes(), Vec::<Vec<u8>>::new());
        let taken_over = tokio::spawn(async move { flush_until(&mut gathered, 1).await });
        taken_over.await.unwrap();
        assert_eq!(recorded.writes(), [b"preface"]);
    }

    #[tokio::test]
    async fn what_waits_is_written_also_by_a_task_that_only_reads() {
        for takes in [0, 3] {
            let recorded = Recorded::taking(takes);
            let mut gathered = Gathered::new(recorded.clone());
            say_here(&mut gathered, &["greeting"]).await;
            poll_fn(|context| {
                let mut bytes = [0; 8];
                let read = Pin::new(&mut gathered).poll_read(context, &mut ReadBuf::new(&mut bytes));
                assert!(read.is_pending());
                if recorded.writes().concat() == b"greeting" { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn whoever_only_reads_has_what_waits_written_and_let_go() {
        let recorded = Recorded::default();
        let mut gathered = Gathered::new(recorded.clone());
        say_here(&mut gathered, &["a greeting"]).await;
        tokio::task::yield_now().await;
        recorded.0.lock().unwrap().arrived = b"its answer".to_vec();
        let mut bytes = [0; 32];
        assert_eq!(gathered.read(&mut bytes).await.unwrap(), 10);
        let state = recorded.0.lock().unwrap();
        assert_eq!((state.writes.len(), state.flushed), (1, 1), "a layer below may hold it back");
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_before_a_write_fails() {
        let recorded = Recorded::default();
        let mut gathered = Gathered::new(recorded.clone());
        say_here(&mut gathered, &["one more request"]).await;
        tokio::task::yield_now().await;
        {
            let mut state = recorded.0.lock().unwrap();
            (state.is_broken, state.arrived) = (true, b"last answer".to_vec());
        }
        let mut bytes = [0; 32];
        let count = gathered.read(&mut bytes).await.unwrap();
        assert_eq!(bytes[..count], *b"last answer");
        let error = gathered.read(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(gathered.write_all(b"another").await.is_err() || gathered.shutdown().await.is_err());
    }

    #[tokio::test]
    async fn what_is_long_goes_out_at_once_and_in_its_place() {
        let recorded = Recorded::default();
        let mut gathered = Gathered::new(recorded.clone());
        let long = vec![7; WAITING_BYTES_MAX + 1];
        gathered.write_all(b"before").await.unwrap();
        gathered.write_all(&long).await.unwrap();
        assert_eq!(recorded.writes(), [b"before".to_vec(), long]);
        // Many short ones together are long as well.
        for _ in 0..9 {
            gathered.write_all(&[8; WAITING_BYTES_MAX / 8]).await.unwrap();
        }
        assert_eq!(recorded.writes()[2..], [vec![8; WAITING_BYTES_MAX]]);
    }

    #[tokio::test]
    async fn nothing_is_lost_or_swapped_by_a_connection_that_takes_little_at_a_time() {
        for takes in [1, 7, 1_000] {
            let recorded = Recorded::taking(takes);
            let mut gathered = Gathered::new(recorded.clone());
            let mut expected = Vec::new();
            for (number, bytes) in [3, WAITING_BYTES_MAX - 1, 5, 4, WAITING_BYTES_MAX * 2, 1].into_iter().enumerate() {
                let part = vec![number as u8; bytes];
                gathered.write_all(&part).await.unwrap();
                gathered.flush().await.unwrap();
                expected.extend(part);
            }
            gathered.write_all(b"end").await.unwrap();
            expected.extend(b"end");
            gathered.shutdown().await.unwrap();
            assert_eq!(recorded.writes().concat(), expected, "{takes}");
            assert!(recorded.0.lock().unwrap().is_closed);
        }
    }
}
