//! Measured figures as a picture (SVG): lines over whatever grew, in panels side by side.

pub mod comparison;

use std::fmt::Write as _;

use serde_json::Value;

/// A panel with everything around it.
const PANEL_WIDTH: f64 = 360.0;
const PANEL_HEIGHT: f64 = 250.0;
/// Where its graph lies in it.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 346.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 208.0;
/// Above all panels.
const HEADING: f64 = 36.0;

/// Colours that people with the usual kinds of colour blindness can tell apart.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// About as wide as a letter of the names of lines.
const LETTER: f64 = 6.2;

/// How values are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero, equal differences equally far apart.
    Linear,
    /// Equal ratios equally far apart. What is not above zero is left out.
    Logarithmic,
}

/// What an axis shows, and how.
#[derive(Clone, Debug)]
pub struct Axis {
    name: String,
    scale: Scale,
}

impl Axis {
    /// An axis of such values.
    #[must_use]
    pub fn new(name: impl Into<String>, scale: Scale) -> Self {
        Self { name: name.into(), scale }
    }
}

/// A line through points. Its colour is that of its place among the lines of its panel.
#[derive(Clone, Debug)]
pub struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    is_dashed: bool,
}

impl Line {
    /// A line through these points.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, is_dashed: false }
    }

    /// The same, dashed, in the colour of the line before.
    #[must_use]
    pub fn dashed(self) -> Self {
        Self { is_dashed: true, ..self }
    }
}

/// One graph.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
}

impl Panel {
    /// A graph of these lines.
    #[must_use]
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, lines: Vec<Line>) -> Self {
        Self { title: title.into(), x, y, lines }
    }
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Plot {
    title: String,
    columns: usize,
    panels: Vec<Panel>,
}

impl Plot {
    /// An empty picture whose panels will lie in so many columns.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: usize) -> Self {
        Self { title: title.into(), columns: columns.max(1), panels: Vec::new() }
    }

    /// Adds a panel, unless none of its lines has a point.
    pub fn add(&mut self, panel: Panel) {
        if panel.lines.iter().any(|line| !line.points.is_empty()) {
            self.panels.push(panel);
        }
    }

    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let rows = self.panels.len().div_ceil(self.columns);
        let (width, height) = (PANEL_WIDTH * self.columns as f64, HEADING + PANEL_HEIGHT * rows as f64);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">"#
        );
        let _ = writeln!(text, r#"<rect width="{width}" height="{height}" fill="white"/>"#);
        label(&mut text, (12.0, 23.0), "start", 15, "black", &self.title);
        for (number, panel) in self.panels.iter().enumerate() {
            let (column, row) = (number % self.columns, number / self.columns);
            let (x, y) = (PANEL_WIDTH * column as f64, HEADING + PANEL_HEIGHT * row as f64);
            let _ = writeln!(text, r#"<g transform="translate({x} {y})">"#);
            panel.draw(&mut text);
            text.push_str("</g>\n");
        }
        text.push_str("</svg>\n");
        text
    }
}

/// Points of an array of objects, by JSON pointers into each; those without both numbers are left out.
#[must_use]
pub fn points<'a>(objects: impl IntoIterator<Item = &'a Value>, x: &str, y: &str, factor: f64) -> Vec<(f64, f64)> {
    let number = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_f64);
    let point = |object: &'a Value| Some((number(object, x)?, number(object, y)? * factor));
    objects.into_iter().filter_map(point).collect()
}

/// The values that an axis reaches from and to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: f64,
    high: f64,
    scale: Scale,
}

impl Range {
    /// A range of everything that is to be seen, of whole decades if `is_whole` and the scale has any.
    fn of(values: impl Iterator<Item = f64> + Clone, scale: Scale, is_whole: bool) -> Self {
        let high = values.clone().fold(f64::MIN, f64::max);
        if scale == Scale::Linear {
            return Self { low: 0.0, high: if high > 0.0 { high * 1.05 } else { 1.0 }, scale };
        }
        let low = values.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let (low, high) = if low.is_finite() { (low, high) } else { (1.0, 10.0) };
        if !is_whole {
            let (low, high) = if low < high { (low, high) } else { (low / 2.0, high * 2.0) };
            return Self { low, high, scale };
        }
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Self { low: 10_f64.powf(low), high: 10_f64.powf(high.max(low + 1.0)), scale }
    }

    /// Where a value lies, from 0 to 1; none where the scale has no place for it.
    fn place(&self, value: f64) -> Option<f64> {
        if self.scale == Scale::Linear {
            return Some((value - self.low) / (self.high - self.low));
        }
        (value > 0.0).then(|| (value / self.low).ln() / (self.high / self.low).ln())
    }

    /// Where it is in a panel, from left to right.
    fn across(&self, value: f64) -> Option<f64> {
        Some(LEFT + self.place(value)? * (RIGHT - LEFT))
    }

    /// Where it is in a panel, as pictures count: from above.
    fn up(&self, value: f64) -> Option<f64> {
        Some(BOTTOM - self.place(value)? * (BOTTOM - TOP))
    }

    /// Round values.
    fn ticks(&self) -> Vec<f64> {
        if self.scale == Scale::Logarithmic {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|decade| self.low * 10_f64.powi(decade)).collect();
        }
        const ABOUT: f64 = 4.0;
        let rough = self.high / ABOUT;
        let decade = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * decade);
        let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= self.high).collect()
    }
}

impl Panel {
    fn draw(&self, text: &mut String) {
        let all = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Range::of(all().map(|point| point.0), self.x.scale, false);
        let y = Range::of(all().map(|point| point.1), self.y.scale, true);
        label(text, (LEFT, 16.0), "start", 12, "black", &format!("{}: {}", self.title, self.y.name));
        draw_levels(text, y);
        let mut seen: Vec<f64> = all().map(|point| point.0).collect();
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        draw_below(text, x, &seen, &self.x.name);
        self.draw_lines(text, x, y);
    }

    /// The lines, and their names above them.
    fn draw_lines(&self, text: &mut String, x: Range, y: Range) {
        let (mut colour, mut name_at) = (0, (LEFT, 32.0));
        for (number, line) in self.lines.iter().enumerate() {
            if number > 0 && !line.is_dashed {
                colour += 1;
            }
            let shade = COLOURS[colour % COLOURS.len()];
            let placed = |point: &(f64, f64)| Some((x.across(point.0)?, y.up(point.1)?));
            let places: Vec<_> = line.points.iter().filter_map(placed).collect();
            draw_line(text, &places, shade, line.is_dashed);
            let name = format!("{} {}", if line.is_dashed { "- -" } else { "—" }, line.name);
            let width = LETTER * name.chars().count() as f64 + 10.0;
            if name_at.0 > LEFT && name_at.0 + width > PANEL_WIDTH {
                name_at = (LEFT, name_at.1 + 14.0);
            }
            label(text, name_at, "start", 11, shade, &name);
            name_at.0 += width;
        }
    }
}

/// A line across the graph at each round value.
fn draw_levels(text: &mut String, y: Range) {
    for tick in y.ticks() {
        let Some(height) = y.up(tick) else { continue };
        let _ =
            writeln!(text, r##"<line x1="{LEFT}" y1="{height:.1}" x2="{RIGHT}" y2="{height:.1}" stroke="#dddddd"/>"##);
        label(text, (LEFT - 5.0, height + 4.0), "end", 11, "black", &short(tick));
    }
}

/// A mark at each value for which there is something to see, and what grows.
fn draw_below(text: &mut String, x: Range, ticks: &[f64], name: &str) {
    for tick in ticks {
        let Some(place) = x.across(*tick) else { continue };
        let below = BOTTOM + 4.0;
        let _ = writeln!(text, r#"<line x1="{place:.1}" y1="{BOTTOM}" x2="{place:.1}" y2="{below}" stroke="black"/>"#);
        label(text, (place, BOTTOM + 16.0), "middle", 11, "black", &short(*tick));
    }
    label(text, (f64::midpoint(LEFT, RIGHT), BOTTOM + 31.0), "middle", 11, "black", name);
}

fn draw_line(text: &mut String, places: &[(f64, f64)], colour: &str, is_dashed: bool) {
    let mut path = String::new();
    for (number, (x, y)) in places.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
    }
    let dashes = if is_dashed { r#" stroke-dasharray="5 3""# } else { "" };
    let _ = writeln!(text, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>"#);
    for (x, y) in places {
        let _ = writeln!(text, r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5" fill="{colour}"/>"#);
    }
}

/// A number in few letters.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // As many digits as the number has, without what binary fractions add to it.
    format!("{}{unit}", (value * 1e6).round() / 1e6)
}

fn label(text: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, colour: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        text,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decade_is_as_wide_as_the_next_and_zero_has_no_place() {
        let range = Range::of([3.0, 250.0].into_iter(), Scale::Logarithmic, true);
        assert_eq!((range.low, range.high), (1.0, 1000.0));
        assert_eq!(range.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        let thirds = range.place(10.0).map(|place| (place * 3.0).round());
        assert_eq!((thirds, range.place(0.0)), (Some(1.0), None));
    }

    #[test]
    fn ticks_are_round_and_reach_from_zero_to_the_top() {
        let range = Range::of([0.0, 47_000.0].into_iter(), Scale::Linear, true);
        assert_eq!(range.ticks(), [0.0, 20_000.0, 40_000.0]);
        assert_eq!(range.place(0.0), Some(0.0));
        assert_eq!(Range::of([0.0].into_iter(), Scale::Linear, true).high, 1.0);
    }

    #[test]
    fn one_point_is_in_the_middle() {
        let range = Range::of([64.0].into_iter(), Scale::Logarithmic, false);
        assert_eq!(range.place(64.0), Some(0.5));
    }

    #[test]
    fn points_come_from_json() {
        let objects =
            [json!({"size": 10, "disk": {"log": 3}}), json!({"size": 20}), json!({"size": 30, "disk": {"log": 5}})];
        assert_eq!(points(&objects, "/size", "/disk/log", 2.0), [(10.0, 6.0), (30.0, 10.0)]);
    }

    #[test]
    fn a_picture_has_each_line_and_nothing_of_empty_panels() {
        let axis = || Axis::new("clients", Scale::Logarithmic);
        let mut plot = Plot::new("a < b & c", 2);
        let lines = vec![Line::new("one", vec![(1.0, 5.0), (10.0, 50.0)]), Line::new("two", vec![(1.0, 7.0)]).dashed()];
        plot.add(Panel::new("full", axis(), Axis::new("a second", Scale::Linear), lines));
        plot.add(Panel::new("empty", axis(), axis(), vec![Line::new("none", Vec::new())]));
        let svg = plot.svg();
        assert!(svg.contains(">a &lt; b &amp; c<") && svg.contains("one") && svg.contains("two"), "{svg}");
        assert!(svg.contains("M58.0") && svg.matches("<circle").count() == 3 && !svg.contains("empty"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.001, 0.30000000000000004, 1024.0, 10_000.0, 2_500_000.0].map(short),
            ["0.001", "0.3", "1024", "10k", "2.5M"]
        );
    }
}
