//! A run as a picture: what was due and what was served, and below it how long calls took.

use std::fmt::Write as _;

use super::report::Report;
use super::tally::{CLASSES, Window};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 940.0;

/// Colours that people with the usual kinds of colour blindness can tell apart.
const GREY: &str = "#777777";
const BLUE: &str = "#0072b2";
const CLASS_COLOURS: [&str; CLASSES.len()] = ["#009e73", "#e69f00", "#cc79a7"];

/// Where a graph lies, and what its axis shows.
struct Frame {
    top: f64,
    bottom: f64,
    low: f64,
    high: f64,
    /// Whether every decade is as high as the others.
    logarithmic: bool,
}

impl Frame {
    fn y(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(self.low).log10() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        let part = (scale(value) - low) / (high - low).max(f64::MIN_POSITIVE);
        self.bottom - part.clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

/// Draws a run.
pub(super) fn svg(report: &Report) -> String {
    // The last window is for answers that came after the run.
    let windows = report.results.windows.split_last().map_or(&[][..], |(_, windows)| windows);
    let seconds = report.results.window.as_secs_f64();
    let end = windows.len() as f64 * seconds;
    let x = |number: usize| LEFT + (number as f64 + 0.5) * seconds / end * (RIGHT - LEFT);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
    );
    let _ = writeln!(text, r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#);
    let title = format!(
        "{} agents, {} workloads, {} SPIRE servers; all of the load: {:.0} calls a second",
        report.agents, report.workloads, report.mix.servers, report.calls_per_second
    );
    label(&mut text, LEFT, 24.0, "start", 15, "black", &title);
    throughput(&mut text, windows, seconds, &x);
    latency(&mut text, windows, &x);
    for tick in ticks(end, 8) {
        let place = LEFT + tick / end * (RIGHT - LEFT);
        label(&mut text, place, 592.0, "middle", 12, "black", &format!("{tick:.0}"));
    }
    label(&mut text, f64::midpoint(LEFT, RIGHT), 612.0, "middle", 12, "black", "seconds");
    text.push_str("</svg>\n");
    text
}

fn throughput(text: &mut String, windows: &[Window], seconds: f64, x: &dyn Fn(usize) -> f64) {
    let most = windows.iter().map(|window| window.due.max(window.served)).max().unwrap_or(0) as f64 / seconds;
    let frame = Frame { top: 60.0, bottom: 290.0, low: 0.0, high: (most * 1.05).max(1.0), logarithmic: false };
    for tick in ticks(frame.high, 5) {
        grid_line(text, &frame, tick, &format!("{tick:.0}"));
    }
    let mut series = |place: f64, name: &str, colour: &str, count: &dyn Fn(&Window) -> u64| {
        let points = windows.iter().enumerate();
        let points = points.map(|(number, window)| Some((x(number), frame.y(count(window) as f64 / seconds))));
        line(text, points, colour, "");
        label(text, LEFT + 200.0 * place, 52.0, "start", 12, colour, name);
    };
    series(0.0, "calls due a second", GREY, &|window| window.due);
    series(1.0, "calls served a second", BLUE, &|window| window.served);
}

fn latency(text: &mut String, windows: &[Window], x: &dyn Fn(usize) -> f64) {
    let all = || windows.iter().flat_map(|window| &window.latencies);
    let low = all().filter_map(|latencies| latencies.percentile(50.0)).fold(f64::INFINITY, f64::min);
    let high = all().filter_map(|latencies| latencies.percentile(99.0)).fold(0.1, f64::max);
    let low = if low.is_finite() { low.min(high / 10.0) } else { high / 10.0 };
    let decade = |value: f64, up: bool| {
        let exponent = value.max(0.001).log10();
        10_f64.powf(if up { exponent.ceil() } else { exponent.floor() })
    };
    let frame =
        Frame { top: 340.0, bottom: 570.0, low: decade(low, false), high: decade(high, true), logarithmic: true };
    let mut tick = frame.low;
    while tick <= frame.high * 1.01 {
        grid_line(text, &frame, tick, &format!("{tick} ms"));
        tick *= 10.0;
    }
    for (class, ((_, name), colour)) in CLASSES.iter().zip(CLASS_COLOURS).enumerate() {
        for (percent, dashes) in [(50.0, "4 3"), (99.0, "")] {
            let points = windows.iter().enumerate().map(|(number, window)| {
                let latency = window.latencies[class].percentile(percent)?;
                Some((x(number), frame.y(latency)))
            });
            line(text, points, colour, dashes);
        }
        let place = LEFT + 200.0 * class as f64;
        label(text, place, 332.0, "start", 12, colour, &format!("{name}, p99 (dashed: p50)"));
    }
}

/// Round numbers from 0 up to `high`, about so many.
fn ticks(high: f64, about: u32) -> impl Iterator<Item = f64> {
    let rough = (high / f64::from(about)).max(1.0);
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..).map(move |number| f64::from(number) * step).take_while(move |tick| *tick <= high)
}

fn grid_line(text: &mut String, frame: &Frame, value: f64, name: &str) {
    let y = frame.y(value);
    let _ = writeln!(
        text,
        r##"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="#dddddd" stroke-width="1"/>"##
    );
    label(text, LEFT - 6.0, y + 4.0, "end", 12, "black", name);
}

/// A line through points, with gaps where there are none.
fn line(text: &mut String, points: impl Iterator<Item = Option<(f64, f64)>>, colour: &str, dashes: &str) {
    let (mut path, mut pen_is_down) = (String::new(), false);
    for point in points {
        if let Some((x, y)) = point {
            let _ = write!(path, "{}{x:.1} {y:.1}", if pen_is_down { "L" } else { "M" });
        }
        pen_is_down = point.is_some();
    }
    let _ = writeln!(
        text,
        r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linecap="round" stroke-dasharray="{dashes}"/>"#
    );
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, size: u32, colour: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        text,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(47_000.0, 5).collect::<Vec<_>>(), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0]);
        assert_eq!(ticks(3.0, 5).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_decade_is_as_high_as_the_next() {
        let frame = Frame { top: 0.0, bottom: 100.0, low: 1.0, high: 100.0, logarithmic: true };
        assert_eq!([1.0, 10.0, 100.0, 0.5].map(|value| frame.y(value).round()), [100.0, 50.0, 0.0, 100.0]);
    }

    #[test]
    fn a_line_has_gaps_where_nothing_is_known() {
        let mut text = String::new();
        let points = [Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 4.0)), Some((4.0, 4.0))];
        line(&mut text, points.into_iter(), "black", "");
        assert!(text.contains(r#"d="M0.0 1.0L1.0 2.0M3.0 4.0L4.0 4.0""#), "{text}");
    }

    #[test]
    fn words_cannot_break_the_picture() {
        let mut text = String::new();
        label(&mut text, 0.0, 0.0, "start", 12, "black", "a < b & c");
        assert!(text.contains(">a &lt; b &amp; c<"), "{text}");
    }
}
