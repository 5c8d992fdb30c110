//! The owner's door to a running machine: a Unix socket in its data directory, and what is said through it.
//!
//! ```text
//!  farm pause, resume, drain, down, status ── one line of JSON ──▶ socket ──▶ server ──▶ ProviderHandle
//!                                          ◀── lines of JSON, the last one is the answer ──
//! ```
//! Guarantees: only the owner of the directory can open the socket (mode 0600 in a directory of mode 0700); a request has a
//! longest line and a deadline, and there is a most of clients at once; a client that goes away cancels nothing that it asked for.
//! A socket that a crash left behind is replaced by the next start. It decides nothing: see `pasture_provider` and [`crate::leave`].

mod client;
mod server;

pub use client::{Talk, ask, is_running};
pub(crate) use server::{progress, start};

use crate::leave::Left;
use pasture_api::data::{HeldGpu, Phase};
pub use pasture_provider::monitor::{Load, Used};
use pasture_provider::{Blocked, ImagesSummary, OfferState, Paused};
use pasture_types::{AccountId, LeaseId, Millis, NodeId, Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// Longest line either way: a status with the most leases that a machine can have.
const MAX_LINE: u64 = 4 << 20;
/// Longest path that a Unix socket's address holds, with the zero at its end.
const MAX_SOCKET_PATH: usize = 108;

/// What its owner asks of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    /// How it is.
    Status,
    /// Takes no further leases.
    Pause,
    /// Takes leases again.
    Resume,
    /// Takes no further leases, and says when the last one is over.
    Drain {
        /// When the jobs that are left then are ended; `None`: never.
        jobs_end_in: Option<Millis>,
        /// Answer only once no lease is left.
        wait: bool,
    },
    /// Takes no leases of an account.
    Block {
        /// Which, since when, why.
        blocked: Blocked,
        /// And ends those that run.
        end_jobs: bool,
    },
    /// Takes leases of an account again.
    Unblock {
        /// Which.
        account: AccountId,
    },
    /// Drains, takes its deposit back, removes what it keeps, and ends.
    Leave(LeaveTerms),
}

/// On which terms a machine leaves.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct LeaveTerms {
    /// When the jobs that are left then are ended; `None`: never.
    pub jobs_end_in: Option<Millis>,
    /// The deposit stays where it is.
    pub keep_deposit: bool,
}

/// What it says. Everything but [`Answer::Progress`] is the last word.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Answer {
    /// What it waits for.
    Progress {
        /// In words.
        waits_for: WaitsFor,
    },
    /// How it is, after what was asked.
    Status {
        /// The machine.
        machine: Box<MachineStatus>,
    },
    /// It has left.
    Left {
        /// What became of everything.
        left: Box<Left>,
    },
    /// It did not do it.
    Failed {
        /// Why.
        why: String,
    },
}

/// What a machine that drains or leaves waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// So many jobs.
    Jobs(usize),
    /// The network's last word about them, at most for this long.
    Settlement(Millis),
}

/// A machine, for its owner.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MachineStatus {
    /// The node.
    pub node: NodeId,
    /// The account that earns.
    pub provider: AccountId,
    /// The gateway it goes through.
    pub api_url: String,
    /// Its files.
    pub data: PathBuf,
    /// Whether it hears from the network now.
    pub connected: bool,
    /// It takes no further leases.
    pub paused: Option<Paused>,
    /// How far the network knows.
    pub offer: OfferState,
    /// What is offered.
    pub offered: Resources,
    /// What leases hold of it.
    pub held: Resources,
    /// Its leases that are not over.
    pub jobs: Vec<JobHere>,
    /// How many leases are not over, those included whose job has ended.
    pub unfinished: usize,
    /// The images that it pulled and built.
    pub images: ImagesSummary,
    /// By whom its gateway's answers are checked; `None`: it believes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
    /// Whether it can leave: the machine of a local network ends with that.
    pub may_leave: bool,
    /// What the whole machine is doing, where that was asked: a look takes a quarter of a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

/// What became of the answers that a machine was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// How many validators it trusts.
    pub validators: u64,
    /// The newest block that they were seen to have signed.
    pub block: u64,
    /// How many answers could not be true, since its program began.
    pub disbelieved: u64,
}

/// A job on a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobHere {
    /// Its lease.
    pub lease: LeaseId,
    /// What is being done for it.
    pub phase: Phase,
    /// Served so far.
    pub served_ms: Millis,
    /// When its time or money is over.
    pub ends: Option<Timestamp>,
    /// The GPUs that are its alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<HeldGpu>,
}

/// The socket of a machine.
#[must_use]
pub fn socket_of(data: &Path) -> PathBuf {
    data.join("provider").join("control.sock")
}

/// The same socket by a path that fits into an address; the file keeps the way open.
fn reachable(socket: &Path) -> std::io::Result<(Option<File>, PathBuf)> {
    if socket.as_os_str().len() < MAX_SOCKET_PATH {
        return Ok((None, socket.to_path_buf()));
    }
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    };
    let dir = File::open(dir)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((Some(dir), short))
}
