//! How untrusted work runs: the [`Runtime`] trait and its container backend, [`docker::DockerRuntime`].
//!
//! ```text
//!  provider ──Workload──▶ create ─▶ start ─▶ wait ─▶ copy_out ─▶ remove
//!                           │         │       │
//!                        Created ─▶ Running ─▶ Exited          (inspect, list)
//!                                     │ ▲
//!                                   Paused
//! ```
//!
//! **Guarantees**
//! - An instance belongs to one [`Owner`] and one [`InstanceKey`], written on it as labels. `create` with a key that
//!   exists returns the instance that exists, so a caller that crashed between asking and noting the answer just asks
//!   again. [`Runtime::list`] gives back everything an owner has; [`Runtime::sweep`] removes what it no longer wants.
//! - An instance is never restarted and never removes itself: its exit, its output and its log stay readable until
//!   [`Runtime::remove`].
//! - Limits are exactly those asked for, or `create` fails; what an engine cannot limit is said in [`Capabilities`].
//! - A log read to a [`LogCursor`] and resumed from it, also by another process, repeats and skips nothing.
//! - Dropping a future or a stream of this trait cancels what it was doing. A build that is dropped leaves no process.
//! - No method spawns a task that outlives its future.
//!
//! **Not done here**: deciding what may run, who pays, placing, retrying, unpacking what a workload wrote (the tar
//! that [`Runtime::copy_out`] gives is hostile input), image signatures, ports open to the world.

mod attached;
mod build;
pub mod docker;
mod error;
mod keeper;
mod source;
mod time;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::{net::TcpListener, sync::mpsc};

pub use attached::{Attached, Connection, PathKind, Resize, Terminal, TerminalSize};
pub use build::{BUILT_IMAGES, BuildEvent, BuildLimits, BuildRequest, MAX_BUILD_OUTPUT_BYTES, PullEvent, Step, is_built};
pub use error::{BuildError, MAX_OUTPUT_TAIL_BYTES, PullError, RuntimeError};
pub use keeper::{Keeper, Mount, Use};
pub use source::{ImageArchive, ImageSource, SourceError, is_public};
pub use time::EngineTime;
pub use types::{
    Capabilities, EgressFilter, ExecOutput, Exit, GpuSupport, HostFile, Image, InstanceId, InstanceKey, Limits, ListedInstance, LogChunk,
    LogCursor, LogMark, LogStream, MAX_EXEC_OUTPUT_BYTES, MAX_NAME_LEN, Network, Observed, Owner, SecretFile, SecretsAt, Swept,
    UsageSample, VolumeKey, Workload,
};

/// Label on everything we create: the node that it belongs to.
pub const LABEL_OWNER: &str = "pasture.owner";
/// Label on everything we create: the instance key.
pub const LABEL_INSTANCE: &str = "pasture.instance";
/// Label on an instance: the key that its output directory goes by, where that is an earlier instance's.
pub const LABEL_OUTPUT: &str = "pasture.output";
/// Label on everything we create: the program and version that did.
pub const LABEL_CREATED_BY: &str = "pasture.created-by";

/// A name inside an instance that leads to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InnerName {
    /// The name.
    pub name: String,
    /// Its address, of the instance's loopback.
    pub ip: Ipv4Addr,
    /// Its TCP ports.
    pub ports: Vec<u16>,
}

/// Something that runs workloads. One value serves a whole node; every method may be called from many tasks at once.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Asks the engine what it is and tries what it claims to be able to do. Answers within a few seconds also when
    /// the engine hangs.
    async fn probe(&self) -> Result<Capabilities, RuntimeError>;

    /// Builds an image from a context on disk under the limits of the request.
    ///
    /// Output goes to `progress` as it comes; a slow reader slows the build, a dropped one does not matter. The
    /// timeout counts from the call. Dropping the future cancels: the `RUN` process is gone within seconds.
    async fn build(&self, req: BuildRequest, progress: mpsc::Sender<BuildEvent>) -> Result<Image, BuildError>;

    /// The image of this name or id if the engine has it; asks no registry.
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError>;

    /// Fetches an image from its registry, also when an older one of this name is here.
    async fn pull(&self, reference: &str, progress: mpsc::Sender<PullEvent>) -> Result<Image, PullError>;

    /// Has images brought by somebody else from now on, before the engine is asked to pull them. The first one that is given counts.
    fn fetch_images_from(&self, source: Arc<dyn ImageSource>) {
        drop(source);
    }

    /// Forgets an image (idempotent). Refused with [`RuntimeError::Conflict`] while an instance uses it.
    async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError>;

    /// Makes the instance with its network and output volume, not yet running. Idempotent by owner and instance key:
    /// a second call returns the existing one, whatever its state, and changes nothing about it.
    async fn create(&self, workload: &Workload) -> Result<InstanceId, RuntimeError>;

    /// Puts secrets where a created instance will find them: memory of the host that is not swapped out. Once more puts them anew, as is
    /// needed after a reboot. They go with the instance. Variables are names of shells' with any bytes but zero.
    async fn give_secrets(&self, id: &InstanceId, files: Vec<SecretFile>, variables: Vec<(String, Vec<u8>)>) -> Result<(), RuntimeError> {
        let _ = (id, files, variables);
        Err(RuntimeError::Conflict("this runtime keeps no secrets".into()))
    }

    /// Starts a created instance; nothing happens if it runs already. One that has exited is not run again:
    /// [`RuntimeError::AlreadyExited`]. A command that the image lacks is [`RuntimeError::StartFailed`].
    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// What the instance is doing, or `None` if there is no such instance.
    async fn inspect(&self, id: &InstanceId) -> Result<Option<Observed>, RuntimeError>;

    /// Waits until the instance has exited and tells how; at once if it already has. Waits through "created".
    /// If the instance is removed meanwhile: [`RuntimeError::NotFound`].
    async fn wait(&self, id: &InstanceId) -> Result<Exit, RuntimeError>;

    /// The log from just after `from`, following until the instance has exited and all of it was given.
    ///
    /// May be asked for before the start; nothing is missed. Each chunk carries the cursor that continues after it:
    /// store that and the follower may die at any point. `LogCursor::default()` is the beginning.
    fn logs(&self, id: &InstanceId, from: LogCursor) -> BoxStream<'static, Result<LogChunk, RuntimeError>>;

    /// Usage samples at the engine's own pace (a second or so) until the instance exits. Counters grow from the start
    /// of the instance, so a missed sample costs nothing.
    fn stats(&self, id: &InstanceId) -> BoxStream<'static, Result<UsageSample, RuntimeError>>;

    /// Runs a command inside a running instance, under the instance's limits, and gives its output (bounded).
    /// On timeout the command is killed where the engine's process ids are visible to us.
    async fn exec(&self, id: &InstanceId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, RuntimeError>;

    /// Starts a command inside a running instance, under the instance's limits, with its standard streams open to us.
    async fn attach(&self, id: &InstanceId, command: Vec<String>, env: BTreeMap<String, String>) -> Result<Attached, RuntimeError> {
        let _ = (id, command, env);
        Err(RuntimeError::Conflict("this runtime keeps no command's streams open".into()))
    }

    /// The same on a terminal of the command's own. What it writes is one stream.
    async fn attach_terminal(
        &self,
        id: &InstanceId,
        command: Vec<String>,
        env: BTreeMap<String, String>,
        size: TerminalSize,
    ) -> Result<Terminal, RuntimeError> {
        let _ = (id, command, env, size);
        Err(RuntimeError::Conflict("this runtime gives commands no terminal".into()))
    }

    /// Connects to a TCP port inside a running instance, also one that listens on its loopback only and also where the instance
    /// has no network; never to a port of the host's. Nobody listens: [`RuntimeError::Io`] with the system's word for that.
    async fn connect(&self, id: &InstanceId, port: u16) -> Result<Connection, RuntimeError> {
        let _ = (id, port);
        Err(RuntimeError::Conflict("this runtime reaches no ports of instances".into()))
    }

    /// Has names lead to us inside a running instance, in the place of those that a former call set: each name at its address, of which no
    /// other program knows, with one listener for each of its ports, in their order. Ports that the instance itself listens on are not in the
    /// way. What its image or the engine says of other names stays. It ends with the instance.
    async fn open_names(&self, id: &InstanceId, names: &[InnerName]) -> Result<Vec<TcpListener>, RuntimeError> {
        let _ = (id, names);
        Err(RuntimeError::Conflict("this runtime opens no names in instances".into()))
    }

    /// What lies at an absolute path of the instance; `None`: nothing.
    async fn look_at(&self, id: &InstanceId, path: &str) -> Result<Option<PathKind>, RuntimeError> {
        let _ = (id, path);
        Err(RuntimeError::Conflict("this runtime does not look into instances".into()))
    }

    /// The tar archive of an absolute path of the instance, as it comes; its first entry is what the path names. Hostile content.
    fn read_files(&self, id: &InstanceId, path: &str) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
        let _ = (id, path);
        let error = RuntimeError::Conflict("this runtime gives no files of running instances".into());
        Box::pin(futures::stream::once(async move { Err(error) }))
    }

    /// Unpacks a tar archive into a folder of the instance; nothing of it can leave the instance's file system. A file never
    /// replaces a folder, nor a folder a file. The caller has checked what is in it.
    async fn write_files(
        &self,
        id: &InstanceId,
        folder: &str,
        archive: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), RuntimeError> {
        let _ = (id, folder, archive);
        Err(RuntimeError::Conflict("this runtime takes no files for running instances".into()))
    }

    /// Writes `path` of the instance to the file `dest` as a tar archive and gives its size in bytes. Works while it
    /// runs and after its exit. Over `max_bytes`: [`RuntimeError::TooLarge`], and `dest` is gone. Hostile content.
    async fn copy_out(&self, id: &InstanceId, path: &str, dest: &Path, max_bytes: u64) -> Result<u64, RuntimeError>;

    /// Asks the instance to stop (its image's stop signal, else SIGTERM), kills it after `grace`, returns when it has
    /// exited. Nothing happens if it is not running or not there.
    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError>;

    /// Kills the instance at once and returns when it has exited. Nothing happens if it is not running or not there.
    async fn kill(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// Removes the instance, running or not, with its log, network and output volume. Idempotent; the instance itself
    /// goes last, so that what a crash in between leaves is still listed.
    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// Removes an instance that another one follows ([`Workload::output_of`]): all but the output directory. Idempotent.
    async fn retire(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// Everything of this owner that has an instance, in any state: for re-adoption after a restart.
    async fn list(&self, owner: &Owner) -> Result<Vec<ListedInstance>, RuntimeError>;

    /// Removes instances, networks and volumes of this owner whose key is not in `keep`: for start-up, after
    /// re-adoption. Call it while no `create` or `build` of this owner is under way.
    async fn sweep(&self, owner: &Owner, keep: &BTreeSet<InstanceKey>) -> Result<Swept, RuntimeError>;

    /// Volumes that outlive instances; `None` where this runtime cannot keep them with a size that holds.
    fn keeper(&self) -> Option<&dyn Keeper> {
        None
    }
}
