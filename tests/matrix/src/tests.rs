//! A part of the matrix that is run always.

use crate::cases::{matrix, targeted};

#[test]
fn patterns_of_damage_to_four_entries_are_repaired_or_safe() {
    let [recoverable, lost] = targeted(1);
    assert_eq!((recoverable.cases, lost.cases), (2401, 1695));
    assert_eq!(recoverable.repaired, recoverable.cases, "{:#?}", recoverable.examples);
    assert_eq!(lost.unavailable, lost.cases, "{:#?}", lost.examples);
}

#[test]
fn nothing_in_the_matrix_is_unsafe() {
    matrix(500, 7, &mut |row| {
        assert!(!row.is_bad(), "{row}\n{:#?}", row.examples);
        assert!(row.cases > 0);
    });
}
