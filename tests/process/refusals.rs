//! A node that cannot run says why, in one line, and ends with an exit code that scripts can use.

use std::net::TcpListener;
use std::process::Output;

use crate::steeple::{Site, run};

/// Holds the end of a command against what it should say.
fn assert_refused(output: &Output, code: i32, said: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for part in said {
        assert!(errors[0].contains(part), "`{part}` is not in: {text}");
    }
}

fn dev(data: &str, listen: &str) -> Output {
    run(&["dev", "--data", data, "--listen", listen, "--http-listen", "127.0.0.1:0"])
}

#[test]
fn a_data_directory_serves_one_node_at_a_time() {
    let site = Site::new();
    let mut first = site.start();
    assert_refused(&dev(&site.data_text(), "127.0.0.1:0"), 1, &["is in use by another process", "group-0"]);
    assert_refused(&run(&["log", "verify", &site.data_text()]), 1, &["is in use by another process"]);
    first.kill();
    // A killed node leaves nothing behind that keeps the next one out.
    site.start().stop();
}

#[test]
fn a_node_whose_messages_cannot_be_written_serves_and_stops_in_good_order() {
    let site = Site::new();
    site.start_without_room_for_messages().stop();
    site.start().stop();
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::new();
    assert_refused(&dev(&site.data_text(), &address), 1, &[&address, "in use"]);
    assert!(!site.data().exists(), "nothing was made");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let site = Site::new();
    let file = site.data();
    std::fs::write(&file, "not a directory").expect("a file");
    let inside = file.join("inside");
    assert_refused(&dev(inside.to_str().expect("a path"), "127.0.0.1:0"), 1, &["cannot create", "inside"]);
    assert_refused(&dev(file.to_str().expect("a path"), "127.0.0.1:0"), 1, &["cannot create", "data"]);
}

#[test]
fn a_node_without_a_usable_configuration_ends_with_the_code_for_usage() {
    let site = Site::new();
    let data = site.data_text();
    assert_refused(&run(&["dev", "--data", &data, "--store-flush-interval", "1us"]), 2, &["store.flush_interval"]);
    assert!(!site.data().exists(), "nothing was made");
}
