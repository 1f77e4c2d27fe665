//! What nodes tell of their queues, and the kernel of their memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a node may take to tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// All metrics of a node by name and labels, if it tells them.
pub(crate) async fn metrics(address: SocketAddr) -> Option<BTreeMap<String, f64>> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| parse(body))
    };
    tokio::time::timeout(PATIENCE, asking).await.ok()?
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.into(), value.parse().ok()?)))
        .collect()
}

/// Memory of a process that is in use now, in bytes; `None` when there is no such process.
pub(crate) fn resident_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_apart_by_their_labels() {
        let text =
            "# TYPE depth gauge\ndepth{peer=\"2\",lane=\"bulk\"} 3\ndepth{peer=\"3\",lane=\"bulk\"} 4.5\n\nup 1\n";
        let metrics = parse(text);
        assert_eq!(metrics.len(), 3);
        assert_eq!(metrics["depth{peer=\"3\",lane=\"bulk\"}"], 4.5);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes(std::process::id()).expect("this process") > 1 << 20);
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
