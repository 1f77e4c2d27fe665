//! Starting and ending real processes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use steeple_client::{Client, Options};
use tempfile::TempDir;

/// How long a start or an ordered stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at whether a process has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Lines of the node's own messages that a failed test shows.
const LINES_SHOWN: usize = 60;

/// Files of a node's log hold few entries, and everything that happens now and then happens all the time.
const EVERYTHING_OFTEN: &[&str] = &[
    "--log-segment-bytes=1MiB",
    "--log-segment-entries=512",
    "--store-flush-interval=60ms",
    "--compaction-interval=250ms",
    "--compaction-base-interval-bytes=1MiB",
    "--compaction-rewrite-below-percent=95",
    "--retention-history=20s",
    "--retention-request-ids=1m",
    "--retention-streams=80s",
    "--tracing-level=info",
];

/// The command, without arguments.
pub(crate) fn command() -> Command {
    command_through(&[])
}

/// The command, as arguments of another one.
fn command_through(other: &[&str]) -> Command {
    let mut words = other.iter().copied().chain([env!("CARGO_BIN_EXE_steeple-under-test")]);
    let mut command = Command::new(words.next().expect("at least one word"));
    command.args(words);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STEEPLE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let child = command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    wait_with_output(child)
}

fn name_of(flag: &str) -> &str {
    flag.split('=').next().unwrap_or(flag)
}

/// Reads while it waits: a process that nobody reads from does not end.
fn wait_with_output(child: Child) -> Output {
    let process = Pid::from_child(&child);
    let (sender, output) = mpsc::channel();
    let reader = std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
    let Ok(output) = output.recv_timeout(PATIENCE) else {
        kill_process(process, Signal::KILL).expect("killing");
        reader.join().expect("the reader");
        panic!("the command did not end");
    };
    output.expect("output")
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("the state of a child") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// A data directory and what its nodes said. Kept for a look when the test fails.
pub(crate) struct Site {
    directory: Option<TempDir>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { directory: Some(tempfile::Builder::new().prefix("steeple-process-").tempdir().expect("a directory")) }
    }

    fn root(&self) -> &Path {
        self.directory.as_ref().expect("kept until dropped").path()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The data directory as a word of a command line.
    pub(crate) fn data_text(&self) -> String {
        self.data().to_str().expect("a readable path").to_owned()
    }

    /// A place outside the data directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A place inside the group's directory.
    pub(crate) fn group(&self, name: &str) -> PathBuf {
        self.data().join("group-0").join(name)
    }

    /// Files of the log, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.group("log"))
            .expect("the log's directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")))
            .collect();
        paths.sort();
        paths
    }

    fn messages_path(&self) -> PathBuf {
        self.root().join("messages.txt")
    }

    /// What nodes wrote to standard error so far.
    pub(crate) fn messages(&self) -> String {
        std::fs::read(self.messages_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Starts a process that is not waited for. Flags replace those of the same name that all nodes here have.
    pub(crate) fn launch(&self, flags: &[&str]) -> NodeProcess {
        let messages = OpenOptions::new().create(true).append(true).open(self.messages_path()).expect("a file");
        NodeProcess::launch(&self.data(), messages, flags)
    }

    /// Starts a node and waits until it serves.
    pub(crate) fn start(&self) -> NodeProcess {
        self.start_with(&[])
    }

    /// As [`Site::start`], with other flags.
    pub(crate) fn start_with(&self, flags: &[&str]) -> NodeProcess {
        let mut process = self.launch(flags);
        match process.wait_until_serving() {
            Ok(()) => process,
            Err(status) => panic!("the node did not start: {status:?}\n{}", self.messages()),
        }
    }

    /// Starts a node that has no place for its messages: writing one fails as on a full disk.
    pub(crate) fn start_without_room_for_messages(&self) -> NodeProcess {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("the device that is always full");
        let mut process = NodeProcess::launch(&self.data(), full, &["--tracing-level=debug"]);
        process.wait_until_serving().expect("a node that serves");
        process
    }

    /// Starts a node that should refuse to run, and returns its exit code and what it said.
    pub(crate) fn start_in_vain(&self, flags: &[&str]) -> (Option<i32>, String) {
        let before = self.messages().len();
        let mut process = self.launch(flags);
        match process.wait_until_serving() {
            Ok(()) => panic!("the node serves"),
            Err(status) => (status.code(), self.messages()[before..].to_owned()),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            let messages = std::fs::read_to_string(directory.path().join("messages.txt")).unwrap_or_default();
            let lines: Vec<&str> = messages.lines().collect();
            println!("last messages of the node:\n{}", lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"));
            println!("its files are kept in {}", directory.keep().display());
        }
    }
}

/// A node in a process of its own, which never outlives this value.
pub(crate) struct NodeProcess {
    child: Child,
    greeting: mpsc::Receiver<String>,
    endpoint: String,
}

impl NodeProcess {
    fn launch(data: &Path, messages: File, flags: &[&str]) -> Self {
        let replaced = |usual: &&&str| !flags.iter().any(|flag| name_of(flag) == name_of(usual));
        // A limit to the size of files is then an error of the write, like a full disk, and not a deadly signal.
        let mut child = command_through(&["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg("dev")
            .arg(format!("--data={}", data.display()))
            .args(["--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0"])
            .args(EVERYTHING_OFTEN.iter().filter(replaced))
            .args(flags)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(messages)
            .spawn()
            .expect("a process");
        let output = BufReader::new(child.stdout.take().expect("standard output"));
        let (sender, greeting) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(address) = line.trim().strip_prefix("gRPC") {
                    // Nobody waits for a node that is killed while it starts.
                    drop(sender.send(address.trim().to_owned()));
                }
            }
        });
        Self { child, greeting, endpoint: String::new() }
    }

    fn wait_until_serving(&mut self) -> Result<(), ExitStatus> {
        match self.greeting.recv_timeout(PATIENCE) {
            Ok(endpoint) => {
                self.endpoint = endpoint;
                Ok(())
            }
            // Its standard output is closed, so it is about to end.
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(wait(&mut self.child, PATIENCE).expect("an end")),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the node neither serves nor ends"),
        }
    }

    /// Where it serves.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client of it.
    pub(crate) async fn client(&self) -> Client {
        let options = Options::default().with_pauses(Duration::from_millis(5), Duration::from_millis(50));
        Client::connect(self.endpoint.as_str()).await.expect("a connection").with_options(options)
    }

    /// From now on the disk takes nothing at or behind this offset of any file, as if it were full.
    pub(crate) fn refuse_writes_behind(&self, offset: u64) {
        let limit = Rlimit { current: Some(offset), maximum: Some(offset) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("a limit");
    }

    /// What it has of the machine's memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_end(&mut self) -> Option<i32> {
        wait(&mut self.child, PATIENCE).expect("the node goes on").code()
    }

    /// Ends it with SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killing");
        self.child.wait().expect("an end");
    }

    /// Ends it with SIGTERM, in good order.
    pub(crate) fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a signal");
        let status = wait(&mut self.child, PATIENCE).expect("the node did not stop");
        assert!(status.success(), "the node stopped with {status}");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
