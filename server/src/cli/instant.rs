//! Instants and durations as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a duration like `10m`, or a plain number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example `30s`, `10m` or `24h`"))
}

/// Reads an instant and gives microseconds since the Unix epoch.
pub(super) fn parse_instant(text: &str) -> Result<i64, String> {
    parse_instant_at(text, SystemTime::now())
}

fn parse_instant_at(text: &str, now: SystemTime) -> Result<i64, String> {
    let explain = || {
        format!("`{text}` is not an instant; write `now`, `now-10m`, `now+1h`, 2026-01-31T12:00:00Z or Unix seconds")
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000_000).filter(|micros| *micros >= 0).ok_or_else(explain);
    }
    let instant = match text.strip_prefix("now").map(|rest| rest.split_at_checked(1)) {
        Some(None) => Some(now),
        Some(Some(("-", rest))) => now.checked_sub(parse_duration(rest).map_err(|_| explain())?),
        Some(Some(("+", rest))) => now.checked_add(parse_duration(rest).map_err(|_| explain())?),
        _ => humantime::parse_rfc3339_weak(text).ok(),
    };
    instant.and_then(micros).ok_or_else(explain)
}

fn micros(instant: SystemTime) -> Option<i64> {
    i64::try_from(instant.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}

/// Microseconds since the Unix epoch, now.
pub(super) fn now_micros() -> i64 {
    micros(SystemTime::now()).unwrap_or(0)
}

/// Writes microseconds since the Unix epoch to the second; nothing for 0, which means "none".
pub(super) fn micros_text(micros: i64) -> String {
    u64::try_from(micros).ok().filter(|micros| *micros > 0).map_or_else(String::new, |micros| {
        let instant = UNIX_EPOCH.checked_add(Duration::from_micros(micros));
        // Beyond the year 9999 there is no such text.
        let printable = instant.filter(|_| micros < 253_402_300_800_000_000);
        printable.map_or_else(|| micros.to_string(), |instant| humantime::format_rfc3339_seconds(instant).to_string())
    })
}

/// Writes Unix seconds; nothing for 0, which means "never".
pub(super) fn seconds_text(seconds: i64) -> String {
    seconds.checked_mul(1_000_000).map_or_else(|| seconds.to_string(), micros_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_each_form() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let cases = [
            ("now", 1_000_000_000_000),
            ("now-10m", 999_400_000_000),
            ("now+1h", 1_003_600_000_000),
            ("1700000000", 1_700_000_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
            ("2023-11-14 22:13:20", 1_700_000_000_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_instant_at(text, now), Ok(expected), "{text}");
        }
        for text in ["", "later", "now*3", "now-", "now-x", "-5", "99999999999999999", "now-9999days"] {
            assert!(parse_instant_at(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_written_to_the_second() {
        assert_eq!(seconds_text(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(seconds_text(0), "");
        assert_eq!(seconds_text(i64::MAX), i64::MAX.to_string());
        assert_eq!(micros_text(1_700_000_000_999_999), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn durations_may_be_seconds() {
        assert_eq!(parse_duration("600"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert!(parse_duration("soon").is_err());
    }
}
