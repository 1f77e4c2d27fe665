//! Throughput and latency over requests in flight, as a picture.

use serde_json::Value;
use steeple_benches::plot::Plot;
use steeple_benches::plot::comparison::rows;

/// Draws what a document has: beside etcd, or three nodes beside one.
pub(crate) fn plot(document: &Value) -> String {
    let array = |pointer: &str| document.pointer(pointer).and_then(Value::as_array);
    let (title, lines, sides) = match (array("/etcd/comparisons"), array("/throughput")) {
        (Some(lines), _) => {
            let sides = [("Steeple", "/steeple"), ("etcd", "/etcd")];
            ("Three nodes beside three members of etcd on one machine", lines.as_slice(), sides)
        }
        (None, lines) => {
            let sides = [("three nodes", "/three"), ("one node", "/one")];
            ("Three nodes beside one, on one machine", lines.map_or(&[][..], Vec::as_slice), sides)
        }
    };
    let mut plot = Plot::new(title, 3);
    rows(&mut plot, lines, "/in_flight", "requests in flight", &sides);
    plot.svg()
}
