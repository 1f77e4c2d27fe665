//! Removing the rows that streams have given up, in the background and in portions.
//!
//! Folding a mark only hides them ([`View::remove_given_up`](steeple_engine::view::View::remove_given_up)). They are looked
//! for whenever there may be some: at the start, when a mark was folded, when other records are served. So what a crash
//! cuts off is done by the next start.

use std::sync::{Arc, Weak};

use steeple_engine::simulation::reached;
use tokio::sync::Notify;

use super::Shared;
use super::group::Message;

/// Rows of a portion: removing them takes less than a millisecond, for which folding and reading wait.
const PORTION_ROWS: usize = 512;

/// Removes what there is each time that `given_up` says that there may be some.
pub(super) async fn run(shared: Weak<Shared>, given_up: Arc<Notify>) {
    loop {
        given_up.notified().await;
        loop {
            let Some(shared) = shared.upgrade() else { return };
            if !remove_portion(&shared).await {
                break;
            }
        }
    }
}

/// Removes some; whether there may be more.
async fn remove_portion(shared: &Shared) -> bool {
    if shared.failure.borrow().is_some() {
        return false;
    }
    let core = shared.core();
    let removing = Arc::clone(&core);
    match shared.work.blocking(move || removing.view.remove_given_up(PORTION_ROWS)).await {
        Ok(Ok(more)) => {
            if more {
                reached("rows: removed behind a mark");
            }
            more
        }
        Ok(Err(error)) => {
            // A group that has stopped needs no records.
            if let Some(inbox) = shared.inbox_sender() {
                drop(inbox.send(Message::StoreFailed(core, error.to_string())).await);
            }
            false
        }
        Err(_) => false,
    }
}
