//! What a run cost, as the kernel counts it.
//!
//! Guarantees: nothing is shown where the kernel does not say it (not on Linux).

/// Processor time of the calling thread, in milliseconds.
pub(crate) fn thread_cpu_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).map_or(0, |ns| ns / 1_000_000)
}

/// Most memory that this process ever held, in KiB.
pub(crate) fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
