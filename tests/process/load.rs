//! The load generator as a command.

use serde_json::Value;

use crate::steeple::{Site, run};

#[test]
fn a_run_is_told_on_the_terminal_in_a_file_and_in_a_picture() {
    let site = Site::new();
    let node = site.start();
    let (json, picture) = (site.beside("run.json"), site.beside("run.svg"));
    let (json_text, picture_text) = (json.to_str().expect("a path"), picture.to_str().expect("a path"));
    let endpoint = ["--endpoint", node.endpoint()];
    let line = "load --profile spire --agents 20 --workloads 100 --duration 2s --steps 2 --calls-per-second 40";
    let arguments: Vec<&str> =
        line.split(' ').chain(endpoint).chain(["--json", json_text, "--plot", picture_text]).collect();
    let output = run(&arguments);
    let (told, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{complaints}");
    for part in ["loaded 20 agents and 100 entries", "20 agents (cached)", "FetchAttestedNode", "agent sync", "held ("]
    {
        assert!(told.contains(part), "no `{part}` in\n{told}");
    }
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("a file")).expect("JSON");
    assert_eq!(report["steps"].as_array().expect("steps").len(), 2);
    let total = &report["total"];
    assert!(total["served"].as_u64() > Some(10) && total["served"] == total["due"], "{report:#}");
    assert!(report["load_generator_cpu_seconds"].as_f64() > Some(0.0), "{report:#}");
    let picture = std::fs::read_to_string(&picture).expect("a picture");
    // A text or a path that is not closed would leave these out of balance.
    assert_eq!(picture.matches("<text ").count(), picture.matches("</text>").count());
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>") && picture.contains("<path d=\"M"));
}
