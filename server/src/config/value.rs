//! Values as text: how each kind is read and written.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Longest duration that is accepted: far beyond any use, far below any overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Values of one list.
const LIST_MAX: usize = 1_024;

/// Reads a duration like `10m`, `1h 30m` or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is not a duration ({error}); write for example `30s`, `10m` or `24h`"))?;
    if duration > DURATION_MAX {
        return Err(format!("`{text}` is more than 100 years; write `0` for \"for ever\" where that is allowed"));
    }
    Ok(duration)
}

/// Writes a duration in the largest unit that fits.
pub(super) fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    match units.into_iter().find(|(_, size)| milliseconds > 0 && milliseconds.is_multiple_of(*size)) {
        Some((unit, size)) if duration.subsec_nanos().is_multiple_of(1_000_000) => {
            format!("{}{unit}", milliseconds / size)
        }
        _ if duration.is_zero() => "0".into(),
        _ => humantime::format_duration(duration).to_string(),
    }
}

const BYTE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a size like `64MiB` or a plain number of bytes.
pub(super) fn bytes(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let trimmed = text.trim();
    let (digits, unit) = BYTE_UNITS
        .into_iter()
        .find_map(|(unit, size)| Some((trimmed.strip_suffix(unit)?.trim_end(), size)))
        .unwrap_or((trimmed, 1));
    let count: u64 = digits.parse().map_err(|_| format!("`{text}` is not a size; write for example `64MiB`"))?;
    let size = count.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))?;
    if range.contains(&size) {
        return Ok(size);
    }
    Err(format!("{} is out of range: {} to {}", bytes_text(size), bytes_text(*range.start()), bytes_text(*range.end())))
}

/// Writes a size in the largest unit that divides it.
pub(super) fn bytes_text(size: u64) -> String {
    if size == 0 {
        return "0".into();
    }
    let (unit, divisor) = BYTE_UNITS.into_iter().find(|(_, divisor)| size.is_multiple_of(*divisor)).unwrap_or(("B", 1));
    format!("{}{unit}", size / divisor)
}

/// Reads a whole number.
pub(super) fn count<Number>(text: &str, range: RangeInclusive<Number>) -> Result<Number, String>
where
    Number: FromStr + PartialOrd + Display,
{
    let allowed = || format!("{} to {}", range.start(), range.end());
    let number =
        text.trim().parse().map_err(|_| format!("`{text}` is not a whole number in the range {}", allowed()))?;
    if range.contains(&number) { Ok(number) } else { Err(format!("{number} is out of range: {}", allowed())) }
}

/// Reads a truth value.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

/// Reads a numeric address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!("`{text}` is not an address; write an IP address and a port, for example `127.0.0.1:7400`")
    })
}

/// Reads one of several words.
pub(super) fn choice<Value: Copy>(text: &str, choices: &[(&'static str, Value)]) -> Result<Value, String> {
    let found = choices.iter().find(|(word, _)| *word == text.trim());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let suggestion = super::error::Suggestion::nearest(text, choices.iter().map(|(word, _)| *word));
        format!("`{text}` is not one of {}{suggestion}", words.join(", "))
    })
}

/// Writes one of several words.
pub(super) fn choice_text<Value: Copy + PartialEq>(value: Value, choices: &[(&'static str, Value)]) -> String {
    choices.iter().find(|(_, known)| *known == value).map(|(word, _)| (*word).to_owned()).unwrap_or_default()
}

/// Reads values that are separated by commas; spaces around them do not count.
pub(super) fn list<Value>(text: &str, read: impl Fn(&str) -> Result<Value, String>) -> Result<Vec<Value>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<_> = text.split(',').map(|value| read(value.trim())).collect::<Result<_, _>>()?;
    if values.len() > LIST_MAX {
        return Err(format!("has {} values, {LIST_MAX} are allowed", values.len()));
    }
    Ok(values)
}

/// Writes values as they are read.
pub(super) fn list_text(values: &[impl Display]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
