//! Members of a group and changes of them, from arbitrary bytes: the state first, then one change per line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_raft::{Membership, MembershipChange};

/// A change that cannot be read is refused before it gets into a log.
fn follow(membership: &mut Membership, payload: &[u8]) {
    let Ok(after) = membership.after_entry(payload) else { return };
    // What a log entry makes of a membership is stored, and read again at the next start.
    assert_eq!(Membership::decode(&after.encode()).ok().as_ref(), Some(&after));
    *membership = after;
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut membership = Membership::decode(first).unwrap_or_default();
    for line in lines {
        if let Ok(change) = MembershipChange::decode(line) {
            assert_eq!(MembershipChange::decode(&change.encode()).ok().as_ref(), Some(&change));
        }
        follow(&mut membership, line);
    }
});
