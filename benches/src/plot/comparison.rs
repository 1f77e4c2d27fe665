//! Sides beside each other: a row of panels for each kind of work, with throughput, median and 99th percentile.

use serde_json::Value;

use super::{Axis, Line, Panel, Plot, Scale, points};

/// What each panel of a row shows: a field of a side's figures, and its name.
const COLUMNS: [(&str, &str); 3] = [("per_second", "a second"), ("p50_ms", "p50, ms"), ("p99_ms", "p99, ms")];

/// Adds a row for each kind of work that was measured with more than one number of clients. Each line of a table is an object
/// with the `work`, the number of clients at the pointer `x`, and the figures of each side at a pointer of its own.
pub fn rows(plot: &mut Plot, table: &[Value], x: &str, x_name: &str, sides: &[(&str, &str)]) {
    let mut kinds: Vec<(&Value, &Value)> = Vec::new();
    for line in table {
        let kind = (&line["work"], &line["entries"]);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (work, entries) in kinds {
        let lines: Vec<&Value> =
            table.iter().filter(|line| line["work"] == *work && line["entries"] == *entries).collect();
        if lines.len() < 2 {
            continue;
        }
        let size = entries.as_u64().map(|entries| format!(", {entries} entries")).unwrap_or_default();
        let title = format!("{}{size}", work.as_str().unwrap_or_default());
        for (field, name) in COLUMNS {
            let line = |(side, pointer): &(&str, &str)| {
                Line::new(*side, points(lines.iter().copied(), x, &format!("{pointer}/{field}"), 1.0))
            };
            let (x, y) = (Axis::new(x_name, Scale::Logarithmic), Axis::new(name, Scale::Logarithmic));
            plot.add(Panel::new(title.clone(), x, y, sides.iter().map(line).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_work_is_a_row_unless_it_has_one_point_only() {
        let figures = |per_second: u64| json!({ "per_second": per_second, "p50_ms": 1.5, "p99_ms": 9 });
        let line =
            |work: &str, clients: u64| json!({ "work": work, "clients": clients, "ours": figures(clients * 100) });
        let table = [line("put", 1), line("put", 64), line("scan", 1)];
        let mut plot = Plot::new("sides", 3);
        rows(&mut plot, &table, "/clients", "clients", &[("Ours", "/ours")]);
        let svg = plot.svg();
        assert_eq!(svg.matches(">put: ").count(), 3);
        assert!(!svg.contains("scan") && svg.matches("<circle").count() == 6, "{svg}");
    }
}
