//! The figures that were accepted, in a file that is part of the repository.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// So much dearer, in per cent, may anything be. Seeds of hash tables differ from process to process, and a compiler's decisions
/// from change to change; both come to less.
const ALLOWED_PERCENT: f64 = 3.0;

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// What the figures are.
    unit: String,
    /// With what they were counted: another compiler may need other figures.
    compiler: String,
    pub(crate) allowed_percent: f64,
    pub(crate) figures: BTreeMap<String, f64>,
}

/// What a figure is beside the accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    AsBefore,
    Worse,
    Better,
    New,
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::AsBefore => "",
            Self::Worse => "WORSE",
            Self::Better => "better: `-- --accept` keeps it",
            Self::New => "new: `-- --accept` keeps it",
        }
    }
}

impl Accepted {
    /// Reads the file; nothing is accepted yet when there is none.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        if !file.exists() {
            let (unit, figures) = ("instructions of one call".to_owned(), BTreeMap::new());
            return Ok(Self { unit, compiler: compiler(), allowed_percent: ALLOWED_PERCENT, figures });
        }
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        serde_json::from_str(&text).map_err(|error| failed(&error))
    }

    pub(crate) fn write(&mut self, file: &Path) -> Result<(), String> {
        self.compiler = compiler();
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        std::fs::write(file, text + "\n").map_err(|error| failed(&error))
    }

    /// The accepted figure, and what a new one is beside it.
    pub(crate) fn judge(&self, name: &str, now: f64) -> (Option<f64>, Verdict) {
        let Some(before) = self.figures.get(name).copied() else { return (None, Verdict::New) };
        let percent = (now / before - 1.0) * 100.0;
        let verdict = match percent {
            percent if percent > self.allowed_percent => Verdict::Worse,
            percent if percent < -self.allowed_percent => Verdict::Better,
            _ => Verdict::AsBefore,
        };
        (Some(before), verdict)
    }
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output();
    version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
