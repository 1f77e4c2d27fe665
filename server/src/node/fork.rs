//! Work that is shared out to two threads, where a node has threads at all.

use std::thread;

use steeple_engine::view::Fork;

/// Does one piece of work in a thread of its own and the other one here.
pub(super) struct TwoThreads;

impl Fork for TwoThreads {
    fn both(&self, one: &mut (dyn FnMut() + Send), other: &mut (dyn FnMut() + Send)) {
        let is_refused = thread::scope(|scope| {
            let spawned = thread::Builder::new().name("steeple-start".into()).spawn_scoped(scope, &mut *one);
            other();
            spawned.is_err()
        });
        if is_refused {
            // There may be no more threads.
            one();
        }
    }
}
