//! Instants with fractions of a second, compared with times in whole seconds.
//!
//! The store keeps seconds and callers give microseconds. Rounding the right way gives exactly what comparing with the
//! fraction would: a whole number is below an instant just when it is below the instant rounded up, and so on.

const MICROS: i64 = 1_000_000;

/// The second to compare with `<` or `>=`: `seconds < micros` just when `seconds < round_up(micros)`.
pub(crate) fn round_up(micros: i64) -> i64 {
    micros.div_euclid(MICROS) + i64::from(micros.rem_euclid(MICROS) != 0)
}

/// The second to compare with `<=` or `>`: `seconds <= micros` just when `seconds <= round_down(micros)`.
pub(crate) fn round_down(micros: i64) -> i64 {
    micros.div_euclid(MICROS)
}

/// An instant that is compared with `<` or `>=`, where 0 stands for none.
pub(crate) fn optional_round_up(micros: i64) -> i64 {
    // An instant just before the epoch must not become "none"; no certificate expires there.
    if micros == 0 { 0 } else { nonzero(round_up(micros)) }
}

/// An instant that is compared with `<=` or `>`, where 0 stands for none.
pub(crate) fn optional_round_down(micros: i64) -> i64 {
    if micros == 0 { 0 } else { nonzero(round_down(micros)) }
}

/// The first second of 1970 cannot be told from "none"; the one before stands in for it.
fn nonzero(seconds: i64) -> i64 {
    if seconds == 0 { -1 } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_every_comparison() {
        for micros in [-2_500_000, -2_000_000, -1, 0, 1, 999_999, 1_000_000, 1_000_001, 5_500_000] {
            for seconds in -4..8i64 {
                let instant = seconds * MICROS;
                assert_eq!(instant < micros, seconds < round_up(micros), "{seconds} < {micros}");
                assert_eq!(instant >= micros, seconds >= round_up(micros), "{seconds} >= {micros}");
                assert_eq!(instant <= micros, seconds <= round_down(micros), "{seconds} <= {micros}");
                assert_eq!(instant > micros, seconds > round_down(micros), "{seconds} > {micros}");
            }
        }
    }

    #[test]
    fn only_zero_means_none() {
        assert_eq!((optional_round_up(0), optional_round_down(0)), (0, 0));
        assert_eq!((optional_round_up(-1), optional_round_down(1)), (-1, -1));
        assert_eq!((optional_round_up(1), optional_round_down(1_000_000)), (1, 1));
        assert_eq!((round_up(i64::MAX), round_down(i64::MIN)), (9_223_372_036_855, -9_223_372_036_855));
    }
}
