//! What waits for a peer.

use std::task::{Context, Poll, Waker};

use super::super::limits::{BATCH_BYTES, BATCH_ENTRIES_MAX, BATCH_MESSAGES_MAX, QUEUE_MESSAGES_MAX};
use super::super::queue::{Dropped, Queue, Taken};
use super::support::{ONE, TWO, append, heartbeat};

fn take(queue: &Queue, reader: u64) -> Option<Taken> {
    match queue.poll_batch(reader, &Context::from_waker(Waker::noop())) {
        Poll::Ready(taken) => taken,
        Poll::Pending => panic!("nothing waits"),
    }
}

#[test]
fn small_messages_travel_together_and_large_ones_alone() {
    let queue = Queue::new(64 << 20);
    let reader = queue.next_reader();
    queue.accept();
    for index in 0..4 {
        assert!(queue.push(append(ONE, TWO, index, 100)).is_ok());
    }
    assert!(queue.push(append(ONE, TWO, 4, 3 << 20)).is_ok());
    assert!(queue.push(append(ONE, TWO, 5, BATCH_BYTES / 2)).is_ok());
    assert!(queue.push(append(ONE, TWO, 6, BATCH_BYTES / 2)).is_ok());
    let sizes: Vec<usize> = (0..4).map(|_| take(&queue, reader).unwrap().messages.len()).collect();
    assert_eq!(sizes, [4, 1, 1, 1]);
    assert_eq!(queue.holds().bytes, 0);
}

#[test]
fn batches_stay_within_what_a_receiver_counts() {
    let queue = Queue::new(64 << 20);
    let reader = queue.next_reader();
    queue.accept();
    for commit in 0..QUEUE_MESSAGES_MAX as u64 {
        assert!(queue.push(heartbeat(ONE, TWO, commit)).is_ok());
    }
    assert!(queue.push(heartbeat(ONE, TWO, 0)).is_err());
    assert_eq!(take(&queue, reader).unwrap().messages.len(), BATCH_MESSAGES_MAX);
    let mut crowded = append(ONE, TWO, 0, 0);
    crowded.entries = vec![raft::eraftpb::Entry::default(); BATCH_ENTRIES_MAX + 1].into();
    assert!(queue.push(crowded).is_err());
}

#[test]
fn a_full_queue_drops_what_comes_and_says_so_with_the_next_batch() {
    let queue = Queue::new(1_000);
    let reader = queue.next_reader();
    queue.accept();
    assert!(queue.push(append(ONE, TWO, 0, 700)).is_ok());
    let Err(Dropped(bytes)) = queue.push(append(ONE, TWO, 1, 700)) else { panic!("there was room") };
    assert!(bytes >= 700);
    assert!(take(&queue, reader).unwrap().after_loss);
    // Larger than the queue: alone it has to pass, or it never would.
    assert!(queue.push(append(ONE, TWO, 1, 7_000)).is_ok());
    assert!(!take(&queue, reader).unwrap().after_loss);
}

#[test]
fn a_stream_that_is_over_takes_nothing() {
    let queue = Queue::new(1_000);
    let older = queue.next_reader();
    let newer = queue.next_reader();
    queue.accept();
    assert!(queue.push(heartbeat(ONE, TWO, 1)).is_ok());
    assert!(take(&queue, older).is_none());
    assert_eq!(take(&queue, newer).unwrap().messages.len(), 1);
}

#[test]
fn nothing_goes_out_before_the_other_side_has_accepted() {
    let queue = Queue::new(1_000);
    assert!(queue.push(heartbeat(ONE, TWO, 1)).is_ok());
    let reader = queue.next_reader();
    assert!(queue.poll_batch(reader, &Context::from_waker(Waker::noop())).is_pending());
    queue.accept();
    assert_eq!(take(&queue, reader).unwrap().messages.len(), 1);
    let reader = queue.next_reader();
    assert!(queue.push(heartbeat(ONE, TWO, 2)).is_ok());
    assert!(queue.poll_batch(reader, &Context::from_waker(Waker::noop())).is_pending());
}
