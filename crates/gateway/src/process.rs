//! What this process uses of its machine, as the kernel counts it (`/proc/self`).
//!
//! Guarantees: what cannot be read is left out, and is not shown as nothing. Linux only, as the rest of a node.

use std::fs;
use std::time::Duration;

/// The unit of processor time in `/proc`: a constant of the kernel's interface on every architecture that we build for.
const TICKS_A_SECOND: u64 = 100;

/// What a process uses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Usage {
    /// Memory that is held, in bytes.
    pub(crate) resident_bytes: Option<u64>,
    /// Processor time so far, of all threads.
    pub(crate) cpu: Option<Duration>,
    /// Threads.
    pub(crate) threads: Option<u64>,
    /// Open files and sockets.
    pub(crate) open_files: Option<u64>,
    /// How many it may open.
    pub(crate) max_files: Option<u64>,
}

impl Usage {
    /// Of this process, now.
    pub(crate) fn now() -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let status = read("status");
        Self {
            resident_bytes: number(&status, "VmRSS:").and_then(|kib| kib.checked_mul(1024)),
            cpu: cpu(&read("stat")),
            threads: number(&status, "Threads:"),
            // The folder that is read is open as well.
            open_files: fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1)),
            max_files: number(&read("limits"), "Max open files"),
        }
    }
}

/// The first number of the line that begins so.
fn number(text: &str, begins: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(begins))?.split_whitespace().next()?.parse().ok()
}

/// User and system time from `/proc/self/stat`: fields 14 and 15. The second, the program's name, may hold anything but ends with the last
/// bracket.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(1000 / TICKS_A_SECOND)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_of_each() {
        let usage = Usage::now();
        assert!(usage.resident_bytes.unwrap() > 1 << 20 && usage.threads.unwrap() >= 1, "{usage:?}");
        assert!(usage.open_files.unwrap() >= 1 && usage.max_files.unwrap() >= usage.open_files.unwrap(), "{usage:?}");
        assert!(usage.cpu.is_some());
    }

    #[test]
    fn a_programs_name_may_hold_brackets_and_spaces() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (a) S 1"), None);
        assert_eq!(number("Max open files            1024                 4096                 files", "Max open files"), Some(1024));
        assert_eq!(number("Max open files            unlimited", "Max open files"), None);
    }
}
