//! Jobs that give way to the owner's own programs: one cgroup of low weight around all jobs and builds of this host.
//!
//! Guarantees: while nobody else wants the processor a job gets all that it is given; when others do, all jobs together get about
//! a tenth of what one usual group does, however many they are. Does not: weigh memory or disk; work without root (then jobs run
//! with the usual weight, which [`Capabilities::gives_way`](crate::Capabilities) says).
//! Tried on cgroup version 1; version 2 and systemd follow their documentation and have not run on such a machine.

use super::cgroup::{BUILDS, GroupKind, ROOT, write};
use super::tool::run_tool;
use crate::RuntimeError;
use std::fs;
use std::path::{Path, PathBuf};

/// All jobs of all nodes of this host lie in here.
const GROUP: &str = "pasture-jobs";
/// The same for systemd, which reads a dash as a level: this one stands beside the system's own slices.
const SLICE: &str = "pasturejobs.slice";
/// Weight on version 1, where 1024 is usual.
const SHARES: u64 = 102;
/// Weight on version 2, where 100 is usual.
const WEIGHT: u64 = 10;

/// Makes the group and gives it its weight; what the engine calls it.
pub(super) async fn ensure(kind: GroupKind) -> Result<String, RuntimeError> {
    match kind {
        GroupKind::V1 => {
            for group in [GROUP, BUILDS] {
                let dir = make(&Path::new(ROOT).join("cpu").join(group))?;
                write(&dir.join("cpu.shares"), SHARES)?;
            }
        }
        GroupKind::V2 => {
            write(&Path::new(ROOT).join("cgroup.subtree_control"), "+cpu +memory +pids")?;
            for group in [GROUP, BUILDS] {
                let dir = make(&Path::new(ROOT).join(group))?;
                write(&dir.join("cpu.weight"), WEIGHT)?;
            }
        }
        GroupKind::Systemd => {
            for slice in [SLICE, "pasture.slice"] {
                run_tool("systemctl", &["start", slice]).await?;
                run_tool("systemctl", &["set-property", "--runtime", slice, &format!("CPUWeight={WEIGHT}")]).await?;
            }
            return Ok(SLICE.into());
        }
    }
    Ok(format!("/{GROUP}"))
}

fn make(dir: &Path) -> Result<PathBuf, RuntimeError> {
    fs::create_dir_all(dir).map_err(|error| RuntimeError::io(format!("make {}", dir.display()), error))?;
    Ok(dir.to_path_buf())
}
