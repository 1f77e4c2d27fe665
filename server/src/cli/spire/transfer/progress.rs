//! How far it is: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Something that goes on for a while.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    /// On a terminal.
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    /// Begins at `done` of `total`.
    pub(super) fn new(what: &'static str, total: u64, done: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{prefix:10} {wide_bar} {pos}/{len} {per_sec} {eta}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style).with_prefix(what);
            bar.set_position(done);
            bar
        });
        Self { what, total, done, bar, told: Instant::now() }
    }

    /// So many more are done.
    pub(super) fn add(&mut self, more: u64) {
        self.done += more;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.told.elapsed() >= LINE_INTERVAL => {
                self.told = Instant::now();
                // What is only for a reader's patience must not stop the work.
                let _ = writeln!(std::io::stderr(), "{}: {} of {} records", self.what, self.done, self.total);
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
