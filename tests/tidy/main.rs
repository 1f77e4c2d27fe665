//! Rules of the project that no compiler checks: module docs, which way dependencies point, what the core may not touch.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates of the core, and what they may depend on inside the workspace.
const EDGES: [(&str, &[&str]); 9] = [
    ("engine", &[]),
    ("raft", &["steeple-engine"]),
    ("snapshot", &["steeple-engine"]),
    ("client/wire", &[]),
    ("client", &["steeple-wire"]),
    ("adapters/sql", &["steeple-wire"]),
    ("plugin", &["steeple-wire", "steeple-client"]),
    (
        "server",
        &[
            "steeple-engine",
            "steeple-raft",
            "steeple-snapshot",
            "steeple-wire",
            "steeple-client",
            "steeple-sql",
            "steeple-plugin",
        ],
    ),
    (
        "benches",
        &[
            "steeple-engine",
            "steeple-raft",
            "steeple-snapshot",
            "steeple-server",
            "steeple-client",
            "steeple-wire",
            "steeple-tests",
        ],
    ),
];

/// What the core must be handed instead of reaching for it.
const BANNED_IN_CORE: [&str; 6] =
    ["SystemTime::now", "Instant::now", "thread::spawn", "rand::random", "tokio::", "std::env::var"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies below the root").to_owned()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the tree can be read").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn files_below(folders: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut found);
    }
    assert!(found.len() > 10, "the tree was not found");
    found
}

#[test]
fn every_module_says_what_it_is() {
    // A module of tests is named, and where needed described, by the file that declares it.
    let is_test = |path: &Path| path.file_name().is_some_and(|name| name == "tests.rs");
    let mut all = files_below(&[
        "engine",
        "raft",
        "snapshot",
        "client",
        "plugin",
        "server",
        "adapters/sql",
        "tests/src",
        "tests/simulation/src",
        "benches",
        "fuzz",
    ]);
    all.retain(|path| {
        !is_test(path) && path.parent().is_none_or(|folder| folder.file_name().is_none_or(|name| name != "tests"))
    });
    let silent: Vec<&PathBuf> = all
        .iter()
        .filter(|path| {
            let text = fs::read_to_string(path).expect("a source file can be read");
            !text.lines().find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!"))
        })
        .collect();
    assert!(silent.is_empty(), "without a `//!` line at the top: {silent:#?}");
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in EDGES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest can be read");
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or(&manifest);
        for line in normal.lines().filter(|line| line.starts_with("steeple-")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or(line);
            assert!(allowed.contains(&name), "{folder} must not depend on {name}");
        }
    }
}

#[test]
fn the_core_is_handed_time_randomness_and_threads() {
    for path in files_below(&["engine/src", "raft/src", "snapshot/src"]) {
        if path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests")) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        for banned in BANNED_IN_CORE {
            let offending = code.lines().find(|line| line.contains(banned) && !line.trim_start().starts_with("//"));
            assert!(offending.is_none(), "{}: {offending:?} reaches for {banned}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_to_do_or_switched_off() {
    // Put together here so that this file does not find itself.
    let banned = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore"), concat!("FIX", "ME")];
    for path in
        files_below(&["engine", "raft", "snapshot", "client", "server", "plugin", "adapters/sql", "tests", "benches"])
    {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        for word in banned {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
}
