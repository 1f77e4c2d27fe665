//! Messages of streams to consumers that may be slow, or never read at all.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::Status;

/// How long a consumer may leave a message lying while something is kept for it meanwhile.
const STALL_MAX: Duration = Duration::from_secs(60);

/// `None` when the consumer has gone, or took nothing for too long.
pub(super) async fn send<M>(sender: &mpsc::Sender<Result<M, Status>>, message: Result<M, Status>) -> Option<()> {
    send_within(STALL_MAX, sender, message).await
}

async fn send_within<M>(
    patience: Duration,
    sender: &mpsc::Sender<Result<M, Status>>,
    message: Result<M, Status>,
) -> Option<()> {
    sender.send_timeout(message, patience).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumer_that_reads_nothing_is_given_up() {
        let (sender, mut messages) = mpsc::channel(1);
        let patience = Duration::from_millis(1);
        assert_eq!(send_within(patience, &sender, Ok(1)).await, Some(()));
        assert_eq!(send_within(patience, &sender, Ok(2)).await, None);
        assert_eq!(messages.recv().await.unwrap().unwrap(), 1);
        assert_eq!(send_within(patience, &sender, Ok(3)).await, Some(()));
        drop(messages);
        assert_eq!(send(&sender, Ok(4)).await, None);
    }
}
