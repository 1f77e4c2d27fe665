//! What everything was measured on.

use std::fs;

use serde::Serialize;

/// Facts about the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    /// Processes that wanted to run in the last minute, before anything was measured.
    load_before: String,
}

impl Machine {
    /// The processor, as the kernel names it; empty when it does not.
    #[must_use]
    pub fn cpu(&self) -> &str {
        &self.cpu
    }

    /// Looks now.
    #[must_use]
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let value = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory_kib = line(&read("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|kib| kib.parse().ok());
        Self {
            cpu: line(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_kib.unwrap_or(0.0) / (1 << 20) as f64,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}
