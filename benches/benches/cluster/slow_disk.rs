//! A disk that is slow for one process, and for no other one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{major, minor};
use rustix::process::{Pid, Signal, kill_process};

/// Where the kernel's first kind of control groups is, whose throttle counts writes of processes and not of the journal's thread.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup/blkio";

/// What the kernel calls it.
const CONTROLLER: &str = "blkio";

/// How long a process is stopped, and then runs, where there are no control groups.
const STOPPED: Duration = Duration::from_millis(40);
const RUNNING: Duration = Duration::from_millis(10);

/// A process whose disk is slow, until this is dropped.
pub(crate) struct SlowDisk {
    /// What was done, in words.
    pub(crate) means: String,
    _throttle: Option<Throttle>,
    _duty_cycle: Option<DutyCycle>,
}

impl SlowDisk {
    /// Slows the disk of a process down that keeps its data in a directory: by the kernel, which then lets it write so many
    /// times a second, or else by stopping it most of the time, and its disk with it.
    pub(crate) fn start(process: u32, data: &Path, writes_per_second: u32) -> Self {
        match Throttle::start(process, data, writes_per_second) {
            Ok(throttle) => Self {
                means: format!("{writes_per_second} writes a second (cgroup)"),
                _throttle: Some(throttle),
                _duty_cycle: None,
            },
            Err(error) => {
                println!("  no throttle of the kernel ({error}): the process is stopped most of the time instead");
                let (stopped, all) = (STOPPED.as_millis(), (STOPPED + RUNNING).as_millis());
                Self {
                    means: format!("stopped {stopped} ms of each {all} ms (SIGSTOP)"),
                    _throttle: None,
                    _duty_cycle: Some(DutyCycle::start(process)),
                }
            }
        }
    }
}

/// A control group with one process in it.
struct Throttle {
    group: PathBuf,
    process: u32,
    /// Where the process was before.
    original: PathBuf,
}

impl Throttle {
    fn start(process: u32, data: &Path, writes_per_second: u32) -> io::Result<Self> {
        let original = control_group(process)?;
        let group = Path::new(CONTROL_GROUPS).join(format!("steeple-bench-{process}"));
        fs::create_dir(&group)?;
        let throttle = Self { group, process, original };
        let limit = format!("{} {writes_per_second}", disk(data)?);
        fs::write(throttle.group.join("blkio.throttle.write_iops_device"), limit)?;
        fs::write(throttle.group.join("cgroup.procs"), process.to_string())?;
        Ok(throttle)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // A process that has ended is in no group.
        if Path::new(&format!("/proc/{}", self.process)).exists()
            && let Err(error) = fs::write(self.original.join("cgroup.procs"), self.process.to_string())
        {
            eprintln!("process {} stays in {}: {error}", self.process, self.group.display());
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("the control group {} stays: {error}", self.group.display());
        }
    }
}

/// The control group whose throttle counts the writes of a process.
fn control_group(process: u32) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = path_of_group(&text).ok_or(io::Error::new(io::ErrorKind::NotFound, "no control group of this kind"))?;
    Ok(Path::new(CONTROL_GROUPS).join(path))
}

/// A process's group of this kind, from what the kernel says about all kinds: number, kinds, path.
fn path_of_group(text: &str) -> Option<&str> {
    let mut groups = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (_, path) = groups.find(|(kinds, _)| kinds.split(',').any(|kind| kind == CONTROLLER))?;
    Some(path.trim_start_matches('/'))
}

/// Numbers of the whole disk that a directory lies on.
fn disk(directory: &Path) -> io::Result<String> {
    let device = fs::metadata(directory)?.dev();
    let device = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    let is_part = device.join("partition").exists();
    let device = if is_part { fs::canonicalize(device)?.join("..") } else { device };
    Ok(fs::read_to_string(device.join("dev"))?.trim().to_owned())
}

/// A thread that stops a process and lets it go on.
struct DutyCycle {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DutyCycle {
    fn start(process: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let signal = move |signal| {
            let process = i32::try_from(process).ok().and_then(Pid::from_raw);
            // It may have ended.
            let _ = process.map(|process| kill_process(process, signal));
        };
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                signal(Signal::STOP);
                std::thread::sleep(STOPPED);
                signal(Signal::CONT);
                std::thread::sleep(RUNNING);
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for DutyCycle {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
