//! Memory that a node takes before it needs it.

use std::time::{Duration, Instant};

use steeple_client::Error;

use crate::steeple::Site;

/// Longer than the allocator keeps what is free when nobody has told it to: a second.
const LONGER_THAN_USUAL: Duration = Duration::from_millis(2_500);

/// The kernel counts by processor, and tells only about what that is together.
const SEEN_BYTES: u64 = 250 << 20;

#[tokio::test]
async fn a_node_keeps_what_it_was_told_to_take_of_memory() -> Result<(), Error> {
    let site = Site::new();
    let mut plain = site.start();
    assert!(plain.resident_bytes() < SEEN_BYTES / 2, "a node alone takes {} bytes", plain.resident_bytes());
    plain.stop();
    let node = site.start_with(&["--reserved-memory=300MiB"]);
    let namespace = node.client().await.namespace("default");
    let (begin, mut written) = (Instant::now(), 0);
    while begin.elapsed() < LONGER_THAN_USUAL {
        assert!(node.resident_bytes() >= SEEN_BYTES, "{} bytes after {written} tokens", node.resident_bytes());
        namespace.create_join_token(format!("token-{written}"), i64::MAX).await?;
        written += 1;
    }
    Ok(())
}
