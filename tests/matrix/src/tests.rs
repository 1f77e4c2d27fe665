//! A part of the matrix that is run always.

use crate::cases::{Selection, matrix, targeted};

#[test]
fn patterns_of_damage_to_four_entries_are_repaired_or_safe() {
    let [recoverable, lost] = targeted(1);
    assert_eq!((recoverable.cases, lost.cases), (2401, 1695));
    assert_eq!(recoverable.repaired, recoverable.cases, "{:#?}", recoverable.examples);
    assert_eq!(lost.unavailable, lost.cases, "{:#?}", lost.examples);
    // Each of four entries is damaged on one member in three of its seven patterns and on two in three, times those of the
    // other entries: each damaged copy is fetched, and nothing else.
    let damaged_copies = 4 * (3 + 3 * 2) * 7_u64.pow(3);
    assert_eq!(recoverable.fetched, (damaged_copies, damaged_copies * 60));
}

#[test]
fn nothing_in_the_matrix_is_unsafe() {
    matrix(&Selection { divisor: 500, seed: 7, ..Selection::default() }, &mut |row| {
        assert!(!row.is_bad(), "{row}\n{:#?}", row.examples);
        assert!(row.cases > 0);
    });
}
