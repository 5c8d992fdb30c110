//! What a build or pull is asked for and what it tells on its way. Does not: build (see the backends).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::types::{InstanceKey, Network, Owner};

/// What the `RUN` steps of one build may use, all together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLimits {
    /// CPU time per second, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory, with no swap on top.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// CPUs to run on (`0-2,4`); `None` for all.
    pub cpuset: Option<String>,
    /// Most bytes the finished image may have, base layers included, and most that one step may write. A step is
    /// looked at about once a second, so it can overshoot by what it writes in that time.
    pub image_bytes: u64,
}

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRequest {
    /// Names the build as an instance: its network carries this key. May equal the key of the instance to run later.
    pub instance_key: InstanceKey,
    /// Whose build it is.
    pub owner: Owner,
    /// Build context: an uncompressed tar archive on disk.
    pub context_tar: PathBuf,
    /// Path of the Dockerfile within the context.
    pub dockerfile: String,
    /// Values for the Dockerfile's `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// Name for the image, `repository:tag`.
    pub tag: String,
    /// Stage to stop at; `None` for the last.
    pub target: Option<String>,
    /// What the steps may use.
    pub limits: BuildLimits,
    /// What the steps may reach. A base image that is not here is fetched by the engine, whatever this says.
    pub network: Network,
    /// Longest the whole build may take, upload of the context included.
    pub timeout: Duration,
}

/// A step of a Dockerfile as the engine counts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// From 1.
    pub number: u32,
    /// How many there are; 0 if the engine does not say.
    pub total: u32,
    /// The instruction: `RUN make`.
    pub text: String,
}

/// Images that were built for one job are named below this, and by nobody but the node.
pub const BUILT_IMAGES: &str = "pasture-lease/";

/// Whether a name is one of an image that was built for somebody.
pub fn is_built(reference: &str) -> bool {
    let lower = reference.to_ascii_lowercase();
    let name = ["docker.io/", "index.docker.io/", "localhost/"].into_iter().find_map(|usual| lower.strip_prefix(usual)).unwrap_or(&lower);
    name.starts_with(BUILT_IMAGES)
}

/// What a build tells on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum BuildEvent {
    /// A step begins.
    Step(Step),
    /// Output of the engine or of a step, as it came: not always whole lines.
    Output {
        /// The text; hostile, may hold terminal escapes.
        text: String,
    },
    /// More than [`MAX_BUILD_OUTPUT_BYTES`] were told; the rest of the output is dropped, the build goes on.
    OutputTruncated,
    /// The engine fetched a base image that it did not have, or not as new.
    Fetched {
        /// Its name.
        reference: String,
    },
}

/// Most bytes of output told for one build.
pub const MAX_BUILD_OUTPUT_BYTES: usize = 8 << 20;

/// What a pull tells on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullEvent {
    /// Which layer; empty when it is about the whole image.
    pub layer: String,
    /// What is happening to it: `Downloading`.
    pub status: String,
    /// Bytes done and bytes in all, if known.
    pub progress: Option<(u64, u64)>,
}
