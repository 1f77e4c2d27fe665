//! Figures that were accepted, in a file that is part of the repository, and what new ones are beside them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// So much dearer, in per cent, may anything be. Seeds of hash tables differ from process to process, and a compiler's decisions
/// from change to change; both come to less.
const ALLOWED_PERCENT: f64 = 3.0;

/// What was counted, by names of cases.
pub type Figures = BTreeMap<String, f64>;

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// What the figures are.
    unit: String,
    /// With what they were counted.
    counted_with: Environment,
    /// How much dearer anything may be.
    pub allowed_percent: f64,
    figures: Figures,
}

/// What decides about the figures beside the program: who translates it, who counts, and what the C library chooses by the
/// processor, as how memory is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    compiler: String,
    host: String,
    c_library: String,
    valgrind: String,
    processor: String,
}

/// What a figure is beside the accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within what is allowed.
    AsBefore,
    /// Dearer than allowed.
    Worse,
    /// Cheaper by as much as it might have been dearer.
    Better,
    /// Not in the file.
    New,
    /// In the file alone.
    NotCounted,
}

/// One figure beside the accepted one.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is about.
    pub name: String,
    /// What was accepted.
    pub accepted: Option<f64>,
    /// What was counted.
    pub now: Option<f64>,
    /// What that means.
    pub verdict: Verdict,
}

/// Which cases were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that there are.
    All,
    /// Those that somebody asked for.
    Some,
}

impl Verdict {
    /// Whether the run fails for it. One that counts everything also finds what is missing here or there.
    #[must_use]
    pub fn fails(self, extent: Extent) -> bool {
        match self {
            Self::Worse => true,
            Self::New | Self::NotCounted => extent == Extent::All,
            Self::AsBefore | Self::Better => false,
        }
    }

    /// What people read.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::AsBefore => "",
            Self::Worse => "WORSE",
            Self::Better => "better: `-- --accept` keeps it",
            Self::New => "NEW: `-- --accept` keeps it",
            Self::NotCounted => "NOT COUNTED: `-- --accept` forgets it",
        }
    }
}

impl Line {
    /// How much dearer it is, in per cent.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        Some((self.now? / self.accepted? - 1.0) * 100.0)
    }
}

impl Environment {
    /// What there is now.
    ///
    /// # Errors
    /// When something of it is not there or does not say what it is.
    pub fn look() -> Result<Self, String> {
        let compiler = said(Command::new("rustc").arg("-vV"))?;
        let line = |name: &str| compiler.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Ok(Self {
            compiler: known("rustc", compiler.lines().next())?,
            host: known("rustc's host", line("host:"))?,
            c_library: known("getconf", said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?.lines().next())?,
            valgrind: known("valgrind", said(Command::new("valgrind").arg("--version"))?.lines().next())?,
            processor: known("/proc/cpuinfo", Some(Machine::look().cpu()))?,
        })
    }
}

/// What a program says.
fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn known(who: &str, text: Option<&str>) -> Result<String, String> {
    let text = text.unwrap_or_default().trim();
    if text.is_empty() { Err(format!("{who} does not say what it is")) } else { Ok(text.to_owned()) }
}

impl Accepted {
    /// Figures that are accepted from now on, with what an earlier file allows.
    #[must_use]
    pub fn new(counted_with: Environment, figures: Figures, earlier: Option<&Self>) -> Self {
        let unit = "instructions of one call".to_owned();
        let allowed_percent = earlier.map_or(ALLOWED_PERCENT, |earlier| earlier.allowed_percent);
        let figures = figures.into_iter().map(|(name, figure)| (name, figure.round())).collect();
        Self { unit, counted_with, allowed_percent, figures }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When there is none, or none with figures that something can be compared with.
    pub fn read(file: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        let accepted: Self = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        let is_figure = |figure: &f64| figure.is_finite() && *figure > 0.0;
        if accepted.figures.is_empty() || !accepted.figures.values().all(is_figure) {
            return Err(failed(&"has no figures, or one that nothing can be compared with"));
        }
        if !accepted.allowed_percent.is_finite() || accepted.allowed_percent < 0.0 {
            return Err(failed(&"allows no percentage"));
        }
        Ok(accepted)
    }

    /// The figures.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        std::fs::write(file, text + "\n").map_err(|error| failed(&error))
    }

    /// In what the figures were counted otherwise than now: what it was, and what it is.
    #[must_use]
    pub fn counted_otherwise(&self, now: &Environment) -> Vec<(String, String)> {
        let facts = |environment: &Environment| {
            let Environment { compiler, host, c_library, valgrind, processor } = environment.clone();
            [compiler, host, c_library, valgrind, processor]
        };
        let pairs = facts(&self.counted_with).into_iter().zip(facts(now));
        pairs.filter(|(before, now)| before != now).collect()
    }

    /// What counted figures are beside the accepted ones; those in the file alone only where all were to be counted.
    #[must_use]
    pub fn compare(&self, counted: &Figures, extent: Extent) -> Vec<Line> {
        let mut lines: Vec<Line> = counted.iter().map(|(name, now)| self.line(name, *now)).collect();
        if extent == Extent::All {
            let missing = self.figures.iter().filter(|(name, _)| !counted.contains_key(*name));
            lines.extend(missing.map(|(name, accepted)| Line {
                name: name.clone(),
                accepted: Some(*accepted),
                now: None,
                verdict: Verdict::NotCounted,
            }));
        }
        lines
    }

    fn line(&self, name: &str, now: f64) -> Line {
        let accepted = self.figures.get(name).copied();
        let mut line = Line { name: name.to_owned(), accepted, now: Some(now), verdict: Verdict::New };
        line.verdict = match line.percent() {
            None => Verdict::New,
            Some(percent) if percent > self.allowed_percent => Verdict::Worse,
            Some(percent) if percent < -self.allowed_percent => Verdict::Better,
            Some(_) => Verdict::AsBefore,
        };
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let [compiler, host, c_library, valgrind, processor] =
            ["rustc 1", "x86_64-unknown-linux-gnu", "glibc 2", "valgrind-3", "a processor"].map(str::to_owned);
        Environment { compiler, host, c_library, valgrind, processor }
    }

    fn figures(figures: &[(&str, f64)]) -> Figures {
        figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    fn accepted() -> Accepted {
        Accepted::new(environment(), figures(&[("fetch", 1_000.0), ("list", 2_000.0)]), None)
    }

    fn verdicts(counted: &[(&str, f64)], extent: Extent) -> Vec<(String, Verdict, bool)> {
        let lines = accepted().compare(&figures(counted), extent);
        lines.into_iter().map(|line| (line.name, line.verdict, line.verdict.fails(extent))).collect()
    }

    #[test]
    fn what_is_dearer_than_allowed_fails_and_what_is_cheaper_does_not() {
        let of = |now| verdicts(&[("fetch", now)], Extent::Some).remove(0);
        assert_eq!(of(1_029.0), ("fetch".to_owned(), Verdict::AsBefore, false));
        assert_eq!(of(1_031.0), ("fetch".to_owned(), Verdict::Worse, true));
        assert_eq!(of(969.0), ("fetch".to_owned(), Verdict::Better, false));
    }

    #[test]
    fn a_full_run_fails_for_what_is_missing_here_or_there() {
        let counted = [("fetch", 1_000.0), ("create", 5.0)];
        let all = verdicts(&counted, Extent::All);
        let expected =
            [("create", Verdict::New, true), ("fetch", Verdict::AsBefore, false), ("list", Verdict::NotCounted, true)];
        assert_eq!(all, expected.map(|(name, verdict, fails)| (name.to_owned(), verdict, fails)));
        let some = verdicts(&counted, Extent::Some);
        let expected = [("create", Verdict::New, false), ("fetch", Verdict::AsBefore, false)];
        assert_eq!(some, expected.map(|(name, verdict, fails)| (name.to_owned(), verdict, fails)));
    }

    #[test]
    fn what_counted_otherwise_is_named() {
        let now = Environment { valgrind: "valgrind-4".to_owned(), ..environment() };
        assert_eq!(accepted().counted_otherwise(&now), [("valgrind-3".to_owned(), "valgrind-4".to_owned())]);
        assert_eq!(accepted().counted_otherwise(&environment()), []);
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_none_without_figures() {
        let directory = crate::scratch_directory();
        let file = directory.path().join("accepted.json");
        assert!(Accepted::read(&file).is_err());
        accepted().write(&file).expect("a file");
        let mut read = Accepted::read(&file).expect("figures");
        assert_eq!((read.figures.clone(), read.allowed_percent), (accepted().figures, ALLOWED_PERCENT));
        for figure in [0.0, -1.0] {
            read.figures.insert("fetch".to_owned(), figure);
            read.write(&file).expect("a file");
            assert!(Accepted::read(&file).is_err(), "{figure}");
        }
        read.figures.clear();
        read.write(&file).expect("a file");
        assert!(Accepted::read(&file).is_err());
    }

    #[test]
    fn who_does_not_say_what_it_is_is_not_taken_for_known() {
        assert!(known("somebody", Some(" \n")).is_err() && known("somebody", None).is_err());
        assert_eq!(known("somebody", Some(" rustc 1\n")), Ok("rustc 1".to_owned()));
        assert!(said(&mut Command::new("/nobody/has/such/a/program")).is_err());
    }
}
