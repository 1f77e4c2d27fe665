//! A part of the matrix that is run always.

use crate::cases::{matrix, targeted};

#[test]
fn every_pattern_of_damage_to_four_entries_is_repaired_or_safe() {
    let [recoverable, lost] = targeted(1);
    assert_eq!((recoverable.cases, recoverable.repaired), (2401, 2401), "{:#?}", recoverable.examples);
    assert_eq!((lost.cases, lost.unavailable), (1695, 1695), "{:#?}", lost.examples);
}

#[test]
fn nothing_in_the_matrix_is_unsafe() {
    matrix(250, 7, &mut |row| {
        assert_eq!((row.unsafe_cases, row.missed), (0, 0), "{row}\n{:#?}", row.examples);
        assert!(row.cases > 0);
    });
}
