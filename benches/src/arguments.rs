//! What arguments of the benchmarks may be.

/// A number of seconds.
///
/// # Errors
/// When it is not a number above zero, or more than a day.
pub fn positive(text: &str) -> Result<f64, String> {
    const DAY: f64 = 86_400.0;
    let seconds = text.parse::<f64>().map_err(|error| format!("{error}"))?;
    if seconds > 0.0 && seconds <= DAY { Ok(seconds) } else { Err(format!("not above 0 and up to {DAY}")) }
}

/// How many there are of something of which there is at least one.
///
/// # Errors
/// When it is not a number from 1 on.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_measured_for_no_time_or_by_nobody() {
        assert_eq!((positive("0.5"), at_least_one("64")), (Ok(0.5), Ok(64)));
        for text in ["0", "-1", "NaN", "inf", "1e9", "soon", ""] {
            assert!(positive(text).is_err() && at_least_one(text).is_err(), "{text}");
        }
    }
}
