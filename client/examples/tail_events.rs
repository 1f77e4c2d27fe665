//! Follows a namespace and goes on where it left off, also after it was killed.
//!
//! ```sh
//! cargo run -p steeple-client --example tail_events -- http://127.0.0.1:7400 default ./cursor
//! ```

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use steeple_client::{Client, Namespace, TailContent, TailOptions, TailStart};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:7400".into());
    let namespace = arguments.next().unwrap_or_else(|| "default".into());
    let cursor_file = arguments.next().map_or_else(|| PathBuf::from("cursor"), PathBuf::from);
    let spire = Client::connect(endpoint).await?.namespace(namespace);
    follow(&spire, &cursor_file, false, |line| println!("{line}")).await
}

/// Hands a line for each item to `show`, for ever or until everything that has happened was shown.
///
/// The cursor is stored once its message is dealt with: after a crash the last message may come again, and none is left
/// out. Whoever must not act twice remembers the number of the last item together with what it did.
pub(crate) async fn follow(
    spire: &Namespace,
    cursor_file: &Path,
    until_now: bool,
    mut show: impl FnMut(String),
) -> Result<(), Box<dyn Error>> {
    let start = load(cursor_file)?.map_or(TailStart::Oldest, TailStart::Cursor);
    let mut tail = spire.tail(TailOptions { start, ..TailOptions::default() });
    loop {
        let message = tail.next().await?;
        match &message.content {
            TailContent::Event(event) => {
                for item in &event.items {
                    let happened = match item.change.as_ref().map(|change| (&change.before, &change.after)) {
                        Some((None, Some(_))) => "created",
                        Some((Some(_), None)) => "deleted",
                        Some(_) => "updated",
                        None => "announced",
                    };
                    show(format!("{} {}: {} {happened}", item.stream, item.sequence, item.key));
                }
            }
            TailContent::Progress { live: true, .. } if until_now => {
                return Ok(store(cursor_file, &message.cursor)?);
            }
            TailContent::Progress { .. } => {}
        }
        store(cursor_file, &message.cursor)?;
    }
}

fn load(cursor_file: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(cursor_file) {
        Ok(cursor) => Ok(Some(cursor)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file in one step, so that it always holds a whole cursor.
fn store(cursor_file: &Path, cursor: &str) -> std::io::Result<()> {
    let next = cursor_file.with_extension("next");
    std::fs::write(&next, cursor)?;
    std::fs::rename(next, cursor_file)
}
