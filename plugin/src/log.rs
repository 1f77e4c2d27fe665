//! Lines on standard error that a SPIRE server takes into its own log.
//!
//! Each is a JSON object in the form of the host's logging library. Its three own keys must hold texts, or the server ends
//! itself; and the time must have six digits behind the point, or the line loses its level. So nothing else may write
//! there.

use std::fmt;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Longer lines are cut by the host, and then taken for something else.
const LINE_BYTES_MAX: usize = 60 << 10;

/// Sends what is traced here and in the client, from a level on, and panics to standard error. Of libraries only what is
/// wrong: what they say of each message would drown the server's log.
pub(crate) fn install(level: LevelFilter) {
    let layer = Lines { write: |line: &str| drop(std::io::stderr().lock().write_all(line.as_bytes())) };
    // A second plugin in one process, as in tests, keeps the first one's.
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("steeple", level);
    drop(tracing_subscriber::registry().with(layer.with_filter(filter)).try_init());
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        tracing::error!("the plugin has a fault{place}: {}", panic.payload_as_str().unwrap_or("no reason is known"));
    }));
}

struct Lines<Write> {
    write: Write,
}

impl<S: Subscriber, Write: Fn(&str) + 'static> Layer<S> for Lines<Write> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        (self.write)(&line(event, SystemTime::now()));
    }
}

fn line(event: &Event<'_>, now: SystemTime) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let level = match *event.metadata().level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    finish(level, fields, now)
}

fn finish(level: &str, mut fields: Fields, now: SystemTime) -> String {
    let head = |fields: &mut Map<String, Value>, message: String| {
        fields.insert("@level".into(), level.into());
        fields.insert("@message".into(), message.into());
        fields.insert("@timestamp".into(), humantime::format_rfc3339_micros(now).to_string().into());
    };
    head(&mut fields.others, fields.message.clone());
    let mut line = Value::Object(std::mem::take(&mut fields.others)).to_string();
    if line.len() > LINE_BYTES_MAX {
        let mut short = Map::new();
        let message: String = fields.message.chars().take(1_000).collect();
        head(&mut short, format!("{message} (cut)"));
        line = Value::Object(short).to_string();
    }
    line.push('\n');
    line
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            // Those are ours.
            (name, _) if name.starts_with('@') => {}
            (name, value) => drop(self.others.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_line_has_what_the_host_expects() {
        let lines = Arc::new(Mutex::new(String::new()));
        let layer = Lines {
            write: {
                let lines = Arc::clone(&lines);
                move |line: &str| lines.lock().push_str(line)
            },
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(entry_id = "e\"1", count = 3_u64, "Pruned\nan entry");
        });
        let text = lines.lock().clone();
        assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["@level"], &line["@message"]), (&"info".into(), &"Pruned\nan entry".into()));
        assert_eq!((&line["entry_id"], &line["count"]), (&"e\"1".into(), &3.into()));
    }

    #[test]
    fn times_have_six_digits_behind_the_point() {
        let now = UNIX_EPOCH + Duration::from_micros(1_788_257_423_123_456);
        let line = finish("warn", Fields { message: "text".into(), ..Fields::default() }, now);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["@timestamp"], "2026-09-01T10:10:23.123456Z");
        let line: Value = serde_json::from_str(&finish("warn", Fields::default(), UNIX_EPOCH)).unwrap();
        assert_eq!(line["@timestamp"], "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_keeps_its_form() {
        let mut fields = Fields { message: "x".repeat(100_000), ..Fields::default() };
        fields.others.insert("much".into(), "y".repeat(100_000).into());
        let line = finish("error", fields, UNIX_EPOCH);
        assert!(line.len() < LINE_BYTES_MAX);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["@level"], "error");
        assert!(line["@message"].as_str().unwrap().ends_with("x (cut)"));
    }
}
