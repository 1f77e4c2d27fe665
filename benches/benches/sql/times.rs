//! Times as SQLite holds them for SPIRE: texts.

const MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
/// Days from the first of March of the year 0, where the count below begins, to the Unix epoch.
const EPOCH_DAYS: i64 = 719_468;
/// Days of 400 years, after which the calendar repeats itself.
const ERA_DAYS: i64 = 146_097;

/// `2026-11-21 22:19:00.123456+00:00`, of microseconds since the Unix epoch.
pub(crate) fn format(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(MICROS), micros.rem_euclid(MICROS));
    let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS));
    let time = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}+00:00")
}

/// The same the other way round.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let time = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    Some((days * DAY_SECONDS + time) * MICROS + number(20, 26)?)
}

/// The nearest whole seconds, as SPIRE shows them.
pub(crate) fn rounded_seconds(micros: i64) -> i64 {
    (micros + MICROS / 2).div_euclid(MICROS)
}

/// Year, month and day of a day since the epoch. Years begin in March here, so that a leap day is the last one.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * ERA_DAYS + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - EPOCH_DAYS
}
