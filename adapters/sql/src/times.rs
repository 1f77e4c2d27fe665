//! Times as databases write them, in microseconds since the Unix epoch.

const MICROS: i64 = 1_000_000;
/// The first moment of the year 1, which stands for "no time".
const ZERO_TIME_MICROS: i64 = -62_135_596_800 * MICROS;

/// Reads a date with or without a time of day, fraction of a second and offset from UTC. `offset_seconds` is that of texts
/// without one. The zero time is 0. `None` for anything else.
pub(crate) fn parse(text: &str, offset_seconds: i32) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let days = days(date)?;
    let rest = rest.strip_prefix([' ', 'T', 't']).unwrap_or(rest);
    let (time, offset) = split_offset(rest)?;
    let offset = offset.unwrap_or(offset_seconds);
    let micros = days.checked_mul(86_400 * MICROS)?.checked_add(time_of_day(time)?)?;
    Some(without_zero_time(micros - i64::from(offset) * MICROS))
}

/// A time with the zero time, in whatever zone it was written, as 0.
pub(crate) fn without_zero_time(micros: i64) -> i64 {
    // Nothing that is meant happened before the year 2.
    if micros < ZERO_TIME_MICROS + 365 * 86_400 * MICROS { 0 } else { micros }
}

/// Whole seconds, the nearest ones: as a server shows when an entry was created.
pub(crate) fn rounded_seconds(micros: i64) -> i64 {
    micros.saturating_add(MICROS / 2).div_euclid(MICROS)
}

/// Whole seconds, without the fraction: as a server shows when a certificate ends.
pub(crate) fn seconds(micros: i64) -> i64 {
    micros.div_euclid(MICROS)
}

/// Days since the epoch of `2026-01-31`.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the day that comes every four years is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468)
}

/// Microseconds of `12:20:30.5`, of `12:20`, or of nothing.
fn time_of_day(time: &str) -> Option<i64> {
    if time.is_empty() {
        return Some(0);
    }
    let mut parts = time.splitn(3, ':');
    let (hours, minutes) = (number(parts.next()?)?, number(parts.next()?)?);
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (number(seconds)?, 0),
            Some((seconds, fraction)) => (number(seconds)?, micros(fraction)?),
        },
    };
    let fits = hours < 24 && minutes < 60 && seconds <= 60;
    fits.then_some(((hours * 60 + minutes) * 60 + seconds) * MICROS + fraction)
}

/// Digits behind the point; those beyond the sixth are dropped.
fn micros(digits: &str) -> Option<i64> {
    let fits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let six: String = digits.chars().chain("000000".chars()).take(6).collect();
    if fits { six.parse().ok() } else { None }
}

/// The time of day, and the offset from UTC in seconds if there is one: `Z`, `+02:00`, `-0700` or `+02`, maybe with a zone's
/// name behind it.
fn split_offset(text: &str) -> Option<(&str, Option<i32>)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time.trim_end(), Some(0)));
    }
    let Some(place) = text.find(['+', '-']) else { return Some((text, None)) };
    let (time, offset) = text.split_at(place);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits: String = offset[1..].split(' ').next()?.chars().filter(|letter| *letter != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let seconds = (number(hours)? * 60 + number(minutes)?) * 60;
    Some((time.trim_end(), Some(sign * i32::try_from(seconds).ok()?)))
}

fn number(digits: &str) -> Option<i64> {
    let fits = (1..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    if fits { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let noon = 1_788_265_230 * MICROS;
        for (text, expected) in [
            ("2026-09-01 12:20:30.123456789+02:00", noon - 7_200 * MICROS + 123_456),
            ("2026-09-01T10:20:30Z", noon - 7_200 * MICROS),
            ("2026-09-01 10:20:30", noon - 7_200 * MICROS),
            ("2026-09-01 10:20", noon - 7_230 * MICROS),
            ("2026-09-01 05:20:30.5-0500", noon - 7_200 * MICROS + 500_000),
            ("2026-09-01 12:20:30 +02", noon - 7_200 * MICROS),
            ("2026-09-01 10:20:30.25 +0000 UTC", noon - 7_200 * MICROS + 250_000),
            ("1970-01-01", 0),
            ("1970-01-02", 86_400 * MICROS),
            ("2000-03-01 00:00:00", 951_868_800 * MICROS),
            ("1969-12-31 23:59:59", -MICROS),
        ] {
            assert_eq!(parse(text, 0), Some(expected), "{text}");
        }
    }

    #[test]
    fn texts_without_offset_have_that_of_the_connection() {
        assert_eq!(parse("1970-01-01 02:00:00", 7_200), Some(0));
        assert_eq!(parse("1970-01-01 02:00:00+00:00", 7_200), Some(7_200 * MICROS));
    }

    #[test]
    fn the_zero_time_is_none() {
        for text in ["0001-01-01 00:00:00+00:00", "0001-01-01 00:00:00", "0001-01-01T02:00:00+02:00", "0000-01-01"] {
            assert_eq!(parse(text, 0), Some(0), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "soon",
            "2026-13-01",
            "2026-09-01 25:00:00",
            "2026-09-01 10:20:3x",
            "2026-09-01 10:20:30+1",
            "2026-9-1",
        ] {
            assert_eq!(parse(text, 0), None, "{text}");
        }
    }

    #[test]
    fn seconds_are_rounded_or_cut() {
        assert_eq!((rounded_seconds(1_500_000), rounded_seconds(1_499_999)), (2, 1));
        assert_eq!((seconds(1_999_999), seconds(-1)), (1, -1));
    }
}
