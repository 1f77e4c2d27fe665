//! What is told of a run.

use std::time::Duration;

use serde_json::{Value, json};

use super::pace::Pace;
use super::schedule::{ACTIVITIES, AgentCalls, Mix};
use super::tally::{CLASSES, Call, Fates, HELD_SHARE, Latencies, Results, share};
use crate::cli::output::table;

/// A run that is over.
pub(in crate::cli::load) struct Report {
    pub(super) agents: u32,
    pub(super) workloads: u32,
    pub(super) seed: u64,
    pub(super) mix: Mix,
    pub(super) pace: Pace,
    pub(super) on_time: Duration,
    /// Calls that are due in a second when all of the load is.
    pub(super) calls_per_second: f64,
    pub(super) results: Results,
    /// How long nothing could be begun because too much was under way.
    pub(super) waited: Duration,
    /// What this process itself spent on processors.
    pub(super) cpu: Option<Duration>,
}

impl Report {
    /// Everything, for programs.
    pub(in crate::cli::load) fn json(&self) -> Value {
        let results = &self.results;
        let total = results.total();
        let held = self.results.held().map(|step| self.step_json(step));
        json!({
            "profile": "spire",
            "agents": self.agents,
            "workloads": self.workloads,
            "servers": self.mix.servers,
            "agent_calls": self.agent_calls(),
            "seed": self.seed,
            "duration_seconds": self.pace.duration().as_secs_f64(),
            "sync_interval_seconds": self.sync_interval().as_secs_f64(),
            "calls_per_second": self.calls_per_second,
            "on_time_milliseconds": self.on_time.as_secs_f64() * 1e3,
            "total": fates_json(&total),
            "activities_missed": results.missed,
            "held": held,
            "latest_activity": results.latest_activity().map(|number| ACTIVITIES[number]),
            "places_exhausted_seconds": self.waited.as_secs_f64(),
            "load_generator_cpu_seconds": self.cpu.map(|cpu| cpu.as_secs_f64()),
            "steps": (0..results.steps.len()).map(|step| self.step_json(step)).collect::<Vec<_>>(),
            "calls": self.calls().map(|(call, fates)| with(fates_json(fates), "call", call.name().into())).collect::<Vec<_>>(),
            "activities": self
                .activities()
                .map(|(name, fates)| with(fates_json(fates), "activity", name.into()))
                .collect::<Vec<_>>(),
            "errors": self.errors_json(),
            "windows": self.windows_json(),
        })
    }

    fn step_json(&self, step: usize) -> Value {
        let fates = &self.results.steps[step];
        let seconds = self.pace.step().as_secs_f64();
        let value = with(fates_json(fates), "step", (step + 1).into());
        let value = with(value, "share_percent", rounded(100.0 * self.share(step)));
        let value = with(value, "due_per_second", rounded(fates.due as f64 / seconds));
        with(value, "served_per_second", rounded(fates.served as f64 / seconds))
    }

    fn errors_json(&self) -> Vec<Value> {
        let errors = self.results.errors.iter();
        errors
            .map(|((call, kind), errors)| {
                json!({ "call": call, "kind": kind, "count": errors.count, "first": errors.example })
            })
            .collect()
    }

    fn windows_json(&self) -> Vec<Value> {
        let window = self.results.window.as_secs_f64();
        let mut values = Vec::new();
        for (number, counted) in self.results.windows.iter().enumerate() {
            let mut value = json!({
                "second": number as f64 * window,
                "due_per_second": rounded(counted.due as f64 / window),
                "served_per_second": rounded(counted.served as f64 / window),
            });
            for ((_, name), latencies) in CLASSES.iter().zip(&counted.latencies) {
                value = with(value, &name.replace(' ', "_"), latencies_json(latencies));
            }
            values.push(value);
        }
        values
    }

    /// Everything, for people.
    pub(in crate::cli::load) fn text(&self) -> String {
        let mut parts = vec![self.heading(), self.steps_table(), self.calls_table(), self.activities_table()];
        if !self.results.errors.is_empty() {
            parts.push(self.errors_table());
        }
        parts.push(self.verdict());
        parts.join("\n\n")
    }

    fn heading(&self) -> String {
        format!(
            "{} agents ({}) that sync every {:.1?}, {} workloads, {} SPIRE servers: {:.0} calls a second",
            self.agents,
            self.agent_calls(),
            self.sync_interval(),
            self.workloads,
            self.mix.servers,
            self.calls_per_second,
        )
    }

    fn steps_table(&self) -> String {
        let seconds = self.pace.step().as_secs_f64();
        let rows = self.results.steps.iter().enumerate().map(|(step, fates)| {
            let mut row = vec![
                format!("{:.0} %", 100.0 * self.share(step)),
                format!("{:.0}", fates.due as f64 / seconds),
                format!("{:.0}", fates.served as f64 / seconds),
            ];
            row.extend(cells(fates));
            row
        });
        let columns =
            ["load", "due/s", "served/s", "served", "on time", "p50 ms", "p99 ms", "max ms", "failed", "unanswered"];
        table(&columns, rows)
    }

    fn calls_table(&self) -> String {
        let rows = self.calls().map(|(call, fates)| named(call.name(), fates));
        table(&["call", "made", "served", "on time", "p50 ms", "p99 ms", "max ms", "failed", "unanswered"], rows)
    }

    fn activities_table(&self) -> String {
        let rows = self.activities().map(|(name, fates)| named(name, fates));
        table(&["calls of", "due", "served", "on time", "p50 ms", "p99 ms", "max ms", "failed", "unanswered"], rows)
    }

    fn errors_table(&self) -> String {
        let rows = self.results.errors.iter().map(|((call, kind), errors)| {
            vec![(*call).to_owned(), kind.clone(), errors.count.to_string(), errors.example.clone()]
        });
        table(&["call", "error", "count", "the first one"], rows)
    }

    /// What share was held, and what was late first.
    fn verdict(&self) -> String {
        let (results, total) = (&self.results, self.results.total());
        let mut lines = vec![format!(
            "{} of {} calls served ({:.2} %), {:.2} % within {:.1?}; {} activities left out; {} calls failed",
            total.served,
            total.due,
            100.0 * share(total.served, total.due),
            100.0 * total.share_on_time(),
            self.on_time,
            results.missed,
            total.failed,
        )];
        let limit = 100.0 * HELD_SHARE;
        lines.push(match results.held() {
            Some(step) => format!(
                "held ({limit:.0} % on time): {:.0} % of the load, {:.0} calls a second",
                100.0 * self.share(step),
                results.steps[step].served as f64 / self.pace.step().as_secs_f64(),
            ),
            None => format!("held ({limit:.0} % on time): not even the first step"),
        });
        if let Some(number) = results.latest_activity() {
            let late = 100.0 * (1.0 - results.activities[number].share_on_time());
            lines.push(format!("late most of all: {} ({late:.1} % of its calls)", ACTIVITIES[number]));
        }
        if !self.waited.is_zero() {
            lines.push(format!("as many calls under way as are allowed: for {:.1?}", self.waited));
        }
        if let Some(cpu) = self.cpu {
            let cores = cpu.as_secs_f64() / self.pace.duration().as_secs_f64();
            lines.push(format!("the load generator itself took {:.1?} of processor time, {cores:.2} cores", cpu));
        }
        lines.join("\n")
    }

    /// Calls that were made.
    fn calls(&self) -> impl Iterator<Item = (Call, &Fates)> {
        Call::ALL.into_iter().zip(&self.results.calls).filter(|(_, fates)| fates.due > 0)
    }

    /// Activities that were due.
    fn activities(&self) -> impl Iterator<Item = (&'static str, &Fates)> {
        ACTIVITIES.into_iter().zip(&self.results.activities).filter(|(_, fates)| fates.due > 0)
    }

    fn share(&self, step: usize) -> f64 {
        self.pace.share(u32::try_from(step).unwrap_or(u32::MAX - 1))
    }

    fn sync_interval(&self) -> Duration {
        Duration::from_micros(self.mix.sync_interval)
    }

    fn agent_calls(&self) -> &'static str {
        match self.mix.agent_calls {
            AgentCalls::Cached => "cached",
            AgentCalls::Uncached => "uncached",
        }
    }
}

fn with(mut value: Value, key: &str, content: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert(key.to_owned(), content);
    }
    value
}

/// To two digits behind the point.
fn rounded(number: f64) -> Value {
    json!((number * 100.0).round() / 100.0)
}

fn fates_json(fates: &Fates) -> Value {
    let counts = json!({
        "due": fates.due,
        "served": fates.served,
        "on_time": fates.on_time,
        "failed": fates.failed,
        "unanswered": fates.unanswered(),
        "served_percent": rounded(100.0 * share(fates.served, fates.due)),
        "on_time_percent": rounded(100.0 * fates.share_on_time()),
    });
    with(counts, "latency_milliseconds", latencies_json(&fates.latencies))
}

fn latencies_json(latencies: &Latencies) -> Value {
    json!({
        "count": latencies.count(),
        "p50": latencies.percentile(50.0),
        "p99": latencies.percentile(99.0),
        "max": latencies.longest(),
    })
}

fn named(name: &str, fates: &Fates) -> Vec<String> {
    let mut row = vec![name.to_owned(), fates.due.to_string()];
    row.extend(cells(fates));
    row
}

fn cells(fates: &Fates) -> [String; 7] {
    let milliseconds = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
    [
        format!("{:.2} %", 100.0 * share(fates.served, fates.due)),
        format!("{:.2} %", 100.0 * fates.share_on_time()),
        milliseconds(fates.latencies.percentile(50.0)),
        milliseconds(fates.latencies.percentile(99.0)),
        milliseconds(fates.latencies.longest()),
        fates.failed.to_string(),
        fates.unanswered().to_string(),
    ]
}
