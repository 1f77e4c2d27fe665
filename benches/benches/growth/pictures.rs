//! The measured figures as a picture.

use serde_json::Value;
use steeple_benches::plot::{Axis, Line, Panel, Plot, Scale, points};

use crate::ask::WORK;

/// Times so much bytes are mebibytes.
const IN_MEBIBYTES: f64 = 1.0 / (1 << 20) as f64;

/// Draws what a document has.
pub(crate) fn plot(document: &Value) -> String {
    let mut plot = Plot::new("What a node costs as it grows", 3);
    entries(&mut plot, document);
    events(&mut plot, document);
    namespaces(&mut plot, document);
    consumers(&mut plot, document);
    plot.svg()
}

fn of<'a>(document: &'a Value, part: &str) -> &'a [Value] {
    document.pointer(&format!("/{part}/points")).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries(plot: &mut Plot, document: &Value) {
    let measured = of(document, "entries");
    let x = || Axis::new("entries", Scale::Logarithmic);
    let linear = |name: &str| Axis::new(name, Scale::Linear);
    let line = |name: &str, pointer: &str, factor| Line::new(name, points(measured, "/entries", pointer, factor));
    for (place, clients) in clients(measured).into_iter().enumerate() {
        let mut lines = Vec::new();
        for (number, work) in WORK.iter().enumerate() {
            let place = number * clients_of(measured).max(1) + place;
            lines.push(line(work.name(), &format!("/latencies/{place}/p50_ms"), 1.0));
            lines.push(line("p99", &format!("/latencies/{place}/p99_ms"), 1.0).dashed());
        }
        let title = if clients == 1 { "one client".to_owned() } else { format!("{clients} clients") };
        plot.add(Panel::new(title, x(), Axis::new("p50, p99, ms", Scale::Logarithmic), lines));
    }
    plot.add(Panel::new(
        "memory",
        x(),
        linear("resident MiB"),
        vec![
            line("filled", "/memory_filled/resident", IN_MEBIBYTES),
            line("started again", "/memory_started/resident", IN_MEBIBYTES),
            line("everything loaded", "/memory_loaded/resident", IN_MEBIBYTES),
        ],
    ));
    plot.add(Panel::new(
        "with half as many events",
        x(),
        Axis::new("seconds", Scale::Logarithmic),
        vec![
            line("start", "/start_seconds", 1.0),
            line("load entries", "/load_entries/seconds", 1.0),
            line("load events", "/load_events/seconds", 1.0),
            line("snapshot", "/snapshot/seconds", 1.0),
        ],
    ));
    plot.add(Panel::new(
        "disk after compaction",
        x(),
        linear("times the raw bytes"),
        vec![
            line("no event retained", "/disk_to_raw_without_events", 1.0),
            line("half as many events", "/disk_to_raw_with_events", 1.0),
        ],
    ));
    plot.add(Panel::new(
        "written to disk",
        x(),
        linear("times the raw bytes"),
        vec![
            line("filling", "/filling_amplification_at_rest", 1.0),
            line("updates", "/steady_amplification_at_rest", 1.0),
        ],
    ));
}

fn events(plot: &mut Plot, document: &Value) {
    let measured = of(document, "events");
    let x = || Axis::new("retained events", Scale::Linear);
    let line = |name: &str, pointer: &str, factor| Line::new(name, points(measured, "/events", pointer, factor));
    let lines = vec![line("start", "/start_seconds", 1.0), line("catching up", "/catching_up/seconds", 1.0)];
    plot.add(Panel::new("retained events", x(), Axis::new("seconds", Scale::Linear), lines));
    let lines = vec![
        line("memory, started again", "/memory_started/resident", IN_MEBIBYTES),
        line("disk", "/disk/total", IN_MEBIBYTES),
    ];
    plot.add(Panel::new("retained events", x(), Axis::new("MiB", Scale::Linear), lines));
}

fn namespaces(plot: &mut Plot, document: &Value) {
    let measured = of(document, "namespaces");
    let x = || Axis::new("namespaces", Scale::Logarithmic);
    let line = |name: &str, pointer: &str, factor| Line::new(name, points(measured, "/namespaces", pointer, factor));
    let create = clients_of(measured);
    let lines = vec![
        line("list by parent, p50", "/latencies/0/p50_ms", 1.0),
        line("create, p50", &format!("/latencies/{create}/p50_ms"), 1.0),
        line("p99", &format!("/latencies/{create}/p99_ms"), 1.0).dashed(),
    ];
    let count = clients(measured).first().copied().unwrap_or_default();
    plot.add(Panel::new(format!("namespaces, clients: {count}"), x(), Axis::new("ms", Scale::Linear), lines));
    let lines = vec![
        line("filled", "/memory_filled/resident", IN_MEBIBYTES),
        line("started again", "/memory_started/resident", IN_MEBIBYTES),
    ];
    plot.add(Panel::new("namespaces, memory", x(), Axis::new("resident MiB", Scale::Linear), lines));
}

fn consumers(plot: &mut Plot, document: &Value) {
    let measured = of(document, "consumers");
    let x = || Axis::new("consumers of everything", Scale::Linear);
    let line = |name: &str, pointer: &str, factor| Line::new(name, points(measured, "/consumers", pointer, factor));
    let lines = vec![
        line("create, p50", "/create_p50_ms", 1.0),
        line("p99", "/create_p99_ms", 1.0).dashed(),
        line("arrived, p50", "/arrived_p50_ms", 1.0),
        line("p99", "/arrived_p99_ms", 1.0).dashed(),
    ];
    plot.add(Panel::new("consumers, one creation in 100 ms", x(), Axis::new("ms", Scale::Logarithmic), lines));
    let lines = vec![line("node", "/memory/resident", IN_MEBIBYTES)];
    plot.add(Panel::new("consumers, memory", x(), Axis::new("resident MiB", Scale::Linear), lines));
}

/// Numbers of clients that each question was asked by, in order.
fn clients(measured: &[Value]) -> Vec<u64> {
    let Some(latencies) = measured.first().and_then(|point| point["latencies"].as_array()) else { return Vec::new() };
    let first = latencies.first().map(|latency| &latency["work"]);
    let same = latencies.iter().filter(|latency| Some(&latency["work"]) == first);
    same.filter_map(|latency| latency["clients"].as_u64()).collect()
}

fn clients_of(measured: &[Value]) -> usize {
    clients(measured).len()
}
