//! Documentation that names tests names those that exist, and all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SPIRE: &str = include_str!("../../docs/spire.md");

/// Tests of this binary, as `module::name`.
fn tests(directory: &Path, module: &str, found: &mut BTreeSet<String>) {
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let inner = match name {
            "mod" | "main" => module.to_owned(),
            name => format!("{module}{name}::"),
        };
        if path.is_dir() {
            tests(&path, &inner, found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        for item in source.split("#[test]\n").skip(1) {
            let name = item.trim_start().strip_prefix("fn ").and_then(|item| item.split('(').next());
            found.insert(format!("{inner}{}", name.expect("a function behind #[test]")));
        }
    }
}

/// What is written between backticks.
fn quoted() -> BTreeSet<&'static str> {
    SPIRE.split('`').skip(1).step_by(2).collect()
}

#[test]
fn tests_outside_of_this_binary_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut go_tests = String::new();
    for file in fs::read_dir(root.join("adapters/spire")).unwrap() {
        let path = file.unwrap().path();
        if path.to_str().unwrap().ends_with("_test.go") {
            go_tests += &fs::read_to_string(path).unwrap();
        }
    }
    // Names of the suite begin a row of its table; all other Go tests are the adapter's.
    let of_the_adapter = |name: &&&str| name.starts_with("Test") && !SPIRE.contains(&format!("\n| {name} |"));
    let quoted = quoted();
    let named: Vec<_> = quoted.iter().filter(of_the_adapter).collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        assert!(go_tests.contains(&format!("\nfunc {name}(t *testing.T) {{")), "{name} is not there");
    }
    let files = ["adapters/", "tests/", "engine/", "server/"];
    let paths: Vec<_> = quoted.iter().filter(|text| files.iter().any(|start| text.starts_with(start))).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for text in paths {
        // Commands have flags behind them.
        let path = text.split(' ').next().unwrap();
        assert!(root.join(path).exists(), "{path} is not there");
    }
}

#[test]
fn the_table_is_complete() {
    let mut found = BTreeSet::new();
    tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("it"), "", &mut found);
    assert!(found.len() > 150, "{}", found.len());
    let named: BTreeSet<&str> =
        quoted().into_iter().filter(|text| text.contains("::") && !text.starts_with("steeple::")).collect();
    let missing: Vec<_> = named.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "named and not there: {missing:?}");
    let items = found.iter().filter(|name| name.rsplit("::").next().unwrap().starts_with("test_"));
    let unnamed: Vec<_> = items.filter(|name| !named.contains(name.as_str())).collect();
    assert!(unnamed.is_empty(), "there and not named: {unnamed:?}");
    let rows = SPIRE.lines().filter(|line| line.starts_with("| Test")).count();
    assert_eq!(rows, 79);
}
