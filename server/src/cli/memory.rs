//! Memory that is taken before it is needed: `node.reserved_memory`.
//!
//! Whoever is first to write to a page of new memory waits until the kernel has found and cleared it, and on a virtual machine
//! often until the host has. A node that grows does that with everything that it keeps. What was written to once and went
//! back to the allocator costs nothing of the kind.

use std::collections::TryReserveError;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use libmimalloc_sys::{mi_option_set, mi_option_t};

use super::exit::CommandError;

/// The allocator's option `purge_delay`: for how many milliseconds it keeps what is free before the system has it back.
const PURGE_DELAY: mi_option_t = 15;

/// For ever.
const NEVER: i64 = -1;

/// In pieces of this size memory is taken; the allocator hands them out again in any smaller size.
const PIECE_BYTES: usize = 1 << 20;

/// How much of what there is may be taken. The page cache needs some, and what the node needs beyond its reserve.
const PERCENT_MAX: u64 = 90;

/// Takes so much memory from the system for the allocator to hand out, or as much as there is; tells the allocator never to give any
/// back. To be called before the process has a second thread.
pub(super) fn reserve(bytes: u64) -> Result<(), CommandError> {
    if bytes == 0 {
        return Ok(());
    }
    let possible = available().map_or(u64::MAX, |available| available / 100 * PERCENT_MAX);
    if bytes > possible {
        // A node that comes back after a crash is not to stay away because somebody else has the memory now.
        tracing::warn!(wanted = bytes, possible, "there is less memory than node.reserved_memory says");
    }
    let bytes = bytes.min(possible);
    tracing::info!(bytes, "taking memory");
    let begin = Instant::now();
    let failed = |error| CommandError::Failed(format!("cannot take the memory of node.reserved_memory: {error}"));
    never_give_back()?;
    touch(bytes).map_err(failed)?;
    tracing::info!(bytes, duration = ?begin.elapsed(), "took memory");
    Ok(())
}

/// Else the allocator would give back within a second what nobody uses yet.
fn never_give_back() -> Result<(), CommandError> {
    let failed = |why: String| CommandError::Failed(format!("cannot keep the memory of node.reserved_memory: {why}"));
    let threads = fs::read_dir("/proc/self/task").map_err(|error| failed(format!("/proc/self/task: {error}")))?.count();
    if threads != 1 {
        return Err(failed(format!("the process has {threads} threads already")));
    }
    // SAFETY: the function sets a number in a table of the allocator, at a place that it checks; it takes no pointer and
    // gives none away. What it asks for is that nobody reads or sets an option meanwhile: the only thread there is, as was
    // just seen, is here, and nothing but it can start another one.
    #[expect(unsafe_code, reason = "the allocator has no other way to be told while it runs")]
    unsafe {
        mi_option_set(PURGE_DELAY, NEVER);
    }
    Ok(())
}

/// Writes to so much memory, and hands it to the allocator.
fn touch(bytes: u64) -> Result<(), TryReserveError> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes.div_ceil(PIECE_BYTES as u64) {
        let mut piece = Vec::new();
        piece.try_reserve_exact(PIECE_BYTES)?;
        piece.resize(PIECE_BYTES, 1);
        pieces.push(black_box(piece));
    }
    Ok(())
}

/// Bytes that this process can have without somebody else being killed, or it itself; none when that cannot be seen.
fn available() -> Option<u64> {
    let machine = available_of_machine(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.into_iter().chain(limit_of_groups(Path::new("/sys/fs/cgroup"), &groups)).min()
}

/// What the kernel says can be had without taking it from anybody.
fn available_of_machine(information: &str) -> Option<u64> {
    let line = information.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the control groups that the process is in, those around them included. In a container only its own may
/// be there to be read, in the place of the root.
fn limit_of_groups(root: &Path, groups: &str) -> Option<u64> {
    let limit = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let group = root.join(path.trim_start_matches('/'));
        let around = group.ancestors().take_while(|group| group.starts_with(&root));
        around.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok()).min()
    };
    groups.lines().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_is_read_or_unknown() {
        let information = "MemTotal:       24000000 kB\nMemFree:          100 kB\nMemAvailable:       2048 kB\n";
        assert_eq!(available_of_machine(information), Some(2 << 20));
        for information in ["", "MemAvailable: many kB", "MemAvailable: 1 MB", "MemAvailable: 18446744073709551615 kB"]
        {
            assert_eq!(available_of_machine(information), None, "{information}");
        }
    }

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("slice/memory.max", "7000\n");
        write("slice/node/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/box/memory.limit_in_bytes", "5000\n");
        let limit = |groups: &str| limit_of_groups(directory.path(), groups);
        assert_eq!(limit("0::/slice/node\n"), Some(7_000));
        assert_eq!(limit("4:cpu:/slice\n9:hugetlb,memory:/box/inner\n0::/\n"), Some(5_000));
        assert_eq!(limit("9:memory:/box\n0::/slice\n"), Some(5_000));
        assert_eq!(limit("9:memory:/elsewhere\n"), Some(9_223_372_036_854_771_712), "the root is the container's own");
        for groups in ["", "0::/", "0::/nowhere", "1:cpu:/slice", "nonsense"] {
            assert_eq!(limit(groups), None, "{groups}");
        }
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        // The one that runs this test is not the first.
        let refused = never_give_back().unwrap_err().to_string();
        assert!(refused.contains("threads already"), "{refused}");
    }
}
