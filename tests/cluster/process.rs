//! A node in a process of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::RngExt;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::door::Door;

/// How long a start or an ordered stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Ports that the kernel does not hand out by itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The file that shifts a node's clock, by as many microseconds as it says.
const CLOCK_FILE: &str = "clock";

/// Names another program than the one that was built with the tests: for long runs, which builds must not disturb.
const PROGRAM_VARIABLE: &str = "STEEPLE_TEST_PROGRAM";

/// The program under test.
fn program() -> OsString {
    std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| env!("CARGO_BIN_EXE_steeple-under-test").into())
}

/// Runs the `steeple` command to its end.
pub(crate) async fn steeple(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    without_settings(&mut command);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("a process")
}

/// As [`steeple`], which has to succeed.
pub(crate) async fn steeple_does(arguments: &[&str]) {
    let output = steeple(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Keeps settings of whoever runs the tests away from a command.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STEEPLE_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
}

/// A node: its files, its addresses, and its process while there is one.
pub(crate) struct NodeProcess {
    /// Its number in the group.
    pub(crate) number: u64,
    directory: PathBuf,
    /// Where clients call it.
    pub(crate) client_address: SocketAddr,
    /// Where it tells its metrics.
    pub(crate) http_address: SocketAddr,
    /// Where it really listens for the others, who reach it through the network between them.
    pub(crate) peer_listen: SocketAddr,
    /// A way in, made once.
    pub(crate) door: Door,
    child: Option<Child>,
    /// Bytes that earlier processes had said when it was launched.
    said_before: usize,
}

/// An address of this machine that is free, and that no other test of this process is about to use.
fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::rng().random_range(PORTS);
        if !GIVEN.lock().expect("no panic").insert(port) {
            continue;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().expect("an address");
        }
    }
}

impl NodeProcess {
    /// A node that has no files yet and is not started.
    pub(crate) fn new(number: u64, root: &Path) -> Self {
        let directory = root.join(format!("node-{number}"));
        fs::create_dir_all(&directory).expect("a directory");
        let client_address = free_address();
        Self {
            number,
            directory,
            client_address,
            http_address: free_address(),
            peer_listen: free_address(),
            door: Door::new(client_address),
            child: None,
            said_before: 0,
        }
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What its processes said so far.
    pub(crate) fn messages(&self) -> String {
        fs::read(self.directory.join("messages.txt"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// How often its processes have said so.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.messages().matches(text).count()
    }

    /// Shifts its clock from now on.
    pub(crate) fn shift_clock(&self, micros: i64) {
        // In one step: it is read all the time.
        let next = self.directory.join("clock.next");
        fs::write(&next, micros.to_string()).expect("a file");
        fs::rename(next, self.directory.join(CLOCK_FILE)).expect("a file");
    }

    /// Starts it with these settings of its own and these that all nodes have.
    pub(crate) fn launch(&mut self, cluster: &str, settings: &str) {
        assert!(self.child.is_none(), "node {} runs", self.number);
        let path = self.directory.join("steeple.toml");
        let config = format!(
            "[node]\ndata = {:?}\nlisten = \"{}\"\nhttp_listen = \"{}\"\n\n{cluster}\n\n{settings}\n",
            self.data(),
            self.client_address,
            self.http_address,
        );
        fs::write(&path, config).expect("a file");
        self.said_before = self.messages().len();
        let messages =
            OpenOptions::new().create(true).append(true).open(self.directory.join("messages.txt")).expect("a file");
        // A limit to the size of files is then an error of the write, like a full disk, and not a deadly signal.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program()).args(["serve", "--config"]).arg(path);
        without_settings(&mut command);
        command
            .env("TEST_CLOCK_FILE", self.directory.join(CLOCK_FILE))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages);
        self.child = Some(command.spawn().expect("a process"));
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it ends, or takes too long.
    pub(crate) async fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.door.client(Duration::from_secs(1)).admin().status().await.is_err() {
            if let Some(status) = self.ended() {
                panic!("node {} ended with {status}:\n{}", self.number, self.last_messages());
            }
            assert!(Instant::now() < deadline, "node {} does not serve:\n{}", self.number, self.last_messages());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The end of what it said.
    pub(crate) fn last_messages(&self) -> String {
        const LINES: usize = 40;
        let messages = self.messages();
        let lines: Vec<&str> = messages.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Whether it has said anything since it was launched. Before that it may not be listening for signals yet, and has
    /// opened nothing.
    pub(crate) fn has_spoken(&self) -> bool {
        self.messages().len() > self.said_before
    }

    /// Its process id while it runs.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap_or_else(|| panic!("node {} does not run", self.number)))
    }

    /// How it ended, if it did by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("the state of a child")?;
        self.child = None;
        Some(status)
    }

    /// Ends it with SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killing");
            child.wait().expect("an end");
        }
    }

    /// Asks it with SIGTERM to end in good order, without waiting for that.
    pub(crate) fn ask_to_stop(&self) {
        kill_process(self.pid(), Signal::TERM).expect("a signal");
    }

    /// Ends it with SIGTERM, in good order.
    pub(crate) fn stop(&mut self) {
        self.ask_to_stop();
        let mut child = self.child.take().expect("a process");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the state of a child") {
                assert!(status.success(), "node {} stopped with {status}:\n{}", self.number, self.last_messages());
                return;
            }
            if Instant::now() > deadline {
                drop(child.kill());
                panic!("node {} did not stop:\n{}", self.number, self.last_messages());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Stops it from running until it is resumed, without its noticing.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("a signal");
    }

    /// Lets it run on.
    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("a signal");
    }

    /// From now on the disk takes nothing at or behind this offset of any file, as if it were full.
    pub(crate) fn refuse_writes_behind(&self, offset: u64) {
        let limit = Rlimit { current: Some(offset), maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("a limit");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
