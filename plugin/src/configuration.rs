//! What stands in the plugin's block of the server's configuration.

use std::path::PathBuf;
use std::time::Duration;

use steeple_client::tls::TlsFiles;

use crate::hcl::{self, Value};

const KNOWN: [&str; 8] =
    ["endpoints", "ca_file", "cert_file", "key_file", "server_name", "startup_timeout", "call_timeout", "namespace"];

const ENDPOINTS_MAX: usize = 64;

/// The block, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) endpoints: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) tls: Option<TlsFiles>,
    /// How long to wait for a node and a leader when the plugin is configured.
    pub(crate) startup_timeout: Duration,
    /// How long a call may take that has no deadline of its own.
    pub(crate) call_timeout: Duration,
}

impl Configuration {
    /// Reads the block, and collects every fault of it, so that an operator mends them at once. Reads files, and connects
    /// nowhere.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<String>> {
        let pairs = hcl::parse(text).map_err(|fault| vec![fault.to_string()])?;
        let mut reading = Reading::default();
        for (key, value) in pairs {
            reading.take(&key, value);
        }
        reading.check()
    }
}

/// The block while it is read.
#[derive(Default)]
struct Reading {
    faults: Vec<String>,
    endpoints: Vec<String>,
    namespace: Option<String>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
    startup_timeout: Option<Duration>,
    call_timeout: Option<Duration>,
}

impl Reading {
    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    fn take(&mut self, key: &str, value: Value) {
        match key {
            "endpoints" => self.endpoints(value),
            "namespace" => self.namespace = self.text(key, value),
            "ca_file" => self.ca_file = self.text(key, value).map(PathBuf::from),
            "cert_file" => self.cert_file = self.text(key, value).map(PathBuf::from),
            "key_file" => self.key_file = self.text(key, value).map(PathBuf::from),
            "server_name" => self.server_name = self.text(key, value),
            "startup_timeout" => self.startup_timeout = self.duration(key, value),
            "call_timeout" => self.call_timeout = self.duration(key, value),
            _ => self.fault(format!("unknown key {key:?}; known are {}", KNOWN.join(", "))),
        }
    }

    /// A text; none when it is empty, as if the key were absent.
    fn text(&mut self, key: &str, value: Value) -> Option<String> {
        match value {
            Value::Text(text) => Some(text).filter(|text| !text.is_empty()),
            Value::Word(_) | Value::List(_) => {
                self.fault(format!("{key}: a text in quotes is expected"));
                None
            }
        }
    }

    fn duration(&mut self, key: &str, value: Value) -> Option<Duration> {
        let text = self.text(key, value)?;
        let duration = humantime::parse_duration(&text).ok().filter(|duration| !duration.is_zero());
        if duration.is_none() {
            self.fault(format!("{key}: {text:?} is no positive duration such as \"15s\""));
        }
        duration
    }

    fn endpoints(&mut self, value: Value) {
        let Value::List(values) = value else { return self.fault("endpoints: a list of texts is expected") };
        for value in values {
            match value {
                Value::Text(text) if !self.endpoints.contains(&text) => self.endpoints.push(text),
                Value::Text(_) => {}
                Value::Word(_) | Value::List(_) => self.fault("endpoints: a list of texts is expected"),
            }
        }
    }

    fn check(mut self) -> Result<Configuration, Vec<String>> {
        let tls = self.tls();
        if self.endpoints.is_empty() {
            self.fault("endpoints is missing: name at least one node as \"host:port\"");
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            self.fault(format!("endpoints has {} nodes, {ENDPOINTS_MAX} are allowed", self.endpoints.len()));
        }
        for endpoint in self.endpoints.clone() {
            if let Err(reason) = check_address(&endpoint, tls.is_some()) {
                self.fault(format!("endpoints: {endpoint:?} {reason}"));
            }
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        Ok(Configuration {
            endpoints: self.endpoints,
            namespace: self.namespace.unwrap_or_else(|| "default".into()),
            tls,
            startup_timeout: self.startup_timeout.unwrap_or(Duration::from_secs(30)),
            call_timeout: self.call_timeout.unwrap_or(Duration::from_secs(15)),
        })
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let (certificate, key) = (self.cert_file.take(), self.key_file.take());
        let server_name = self.server_name.take();
        let Some(authority) = self.ca_file.take() else {
            if certificate.is_some() || key.is_some() || server_name.is_some() {
                self.fault(
                    "ca_file is missing: without an authority that vouches for the nodes, connections are not \
                     encrypted, and cert_file, key_file and server_name have no effect",
                );
            }
            return None;
        };
        let files = TlsFiles { server_name, ..TlsFiles::new(authority) };
        let files = match (certificate, key) {
            (Some(certificate), Some(key)) => files.with_identity(certificate, key),
            (None, None) => files,
            _ => {
                self.fault("cert_file and key_file belong together: one of them is missing");
                return Some(files);
            }
        };
        if let Err(error) = files.load() {
            self.fault(format!("ca_file, cert_file, key_file, server_name: {error}"));
        }
        Some(files)
    }
}

/// An address is `host:port`. A scheme is not needed; one that says something else about encryption than the configuration
/// does is refused, because an address must not decide that.
fn check_address(text: &str, encrypted: bool) -> Result<(), String> {
    let expected = if encrypted { "https" } else { "http" };
    let address = match text.split_once("://") {
        Some((scheme, address)) if scheme == expected => address.trim_end_matches('/'),
        Some(_) => return Err(format!("has the wrong scheme: it has to be {expected:?}, or left out")),
        None => text,
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains('/') && is_port(port) => Ok(()),
        _ => Err("is no host:port".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        Configuration::parse(text).unwrap_err().join("; ")
    }

    #[test]
    fn a_block_may_be_short() {
        let read = Configuration::parse(r#"endpoints = ["a:1", "http://b:2", "a:1"]"#).unwrap();
        assert_eq!(read.endpoints, ["a:1", "http://b:2"]);
        assert_eq!((read.namespace.as_str(), read.tls), ("default", None));
        assert_eq!((read.startup_timeout, read.call_timeout), (Duration::from_secs(30), Duration::from_secs(15)));
        let read = r#"endpoints = ["[::1]:7400"] namespace = "prod" call_timeout = "1m30s" startup_timeout = "500ms""#;
        let read = Configuration::parse(read).unwrap();
        assert_eq!((read.namespace.as_str(), read.call_timeout), ("prod", Duration::from_secs(90)));
        assert_eq!(read.startup_timeout, Duration::from_millis(500));
    }

    #[test]
    fn all_faults_are_told_at_once_and_by_key() {
        let told = faults("endpoint = \"a:1\"\ncall_timeout = \"soon\"\ncert_file = \"c\"\nnamespace = 3");
        for part in ["unknown key \"endpoint\"", "endpoints is missing", "call_timeout: \"soon\"", "ca_file is missing"]
        {
            assert!(told.contains(part), "no {part} in {told}");
        }
        assert!(told.contains("namespace: a text in quotes is expected"), "{told}");
        assert!(faults("").contains("endpoints is missing"));
        assert!(faults("endpoints").contains("line 1"));
        for address in ["a", "a:", ":1", "a:70000", "a:+1", "a/b:1", "https://a:1"] {
            assert!(faults(&format!("endpoints = [{address:?}]")).contains("endpoints: "), "{address}");
        }
        let files = "endpoints = [\"a:1\"]\nca_file = \"/does/not/exist\"\ncert_file = \"x\"";
        assert!(faults(files).contains("belong together"));
        assert!(faults("endpoints = [\"a:1\"]\nca_file = \"/does/not/exist\"").contains("/does/not/exist"));
        assert!(faults("endpoints = [\"a:1\"]\nserver_name = \"db\"").contains("ca_file is missing"));
        let name = "endpoints = [\"a:1\"]\nca_file = \"/does/not/exist\"\nserver_name = \"no name\"";
        assert!(faults(name).contains("`no name` is neither a host name"));
    }
}
