//! The Docker Engine backend, over its API on a unix socket. Podman's compatible socket speaks the same API; what it
//! does differently shows in [`Capabilities`].
//!
//! **Held to**
//! - CPU (`nano_cpus`), memory (no swap on top) and pids exactly as asked; no capabilities, no new privileges, the
//!   engine's default system call filter; a network of its own or none, never the engine's default one; log size bounded.
//! - Open networks: DNS (to the host's resolvers and public ones) and HTTPS to public IPv4; nothing to the host or to
//!   private ranges (`firewall.rs`). Needs root and iptables in the engine's network namespace; else reported, not held.
//! - Output volume: an ext4 image of exactly the size asked (`volume.rs`). Needs root in the engine's mount namespace;
//!   else an ordinary volume without a limit, reported.
//! - Builds: a cgroup around all `RUN` steps (`cgroup.rs`). Needs root; else memory and CPU for each step, reported.
//!
//! - Root file system: what an instance changes of it lies in the same volume (`root.rs`). Needs the same and an overlay driver.
//!
//! **Not held to**: disk and memory bandwidth, IPv6 (networks have none), which public hosts are reached over HTTPS, what the
//! kernel counts per user and not per group (inotify): instances share the user with the host unless the engine maps users.
//!
//! An engine that is stopped and started again is found again: every call opens its own connection.

mod attached;
mod blank;
mod builder;
mod cgroup;
mod chunked;
mod config;
mod context;
mod dockerfile;
mod entries;
mod files;
mod firewall;
mod follow;
mod gpu;
mod image;
mod instance;
mod io;
mod keeper;
mod layer;
mod names;
mod network;
mod podman;
mod prepare;
mod priority;
mod probe;
mod reach;
mod root;
mod secrets;
mod terminal;
mod tool;
mod volume;
mod workload;

use instance::OutputFate;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bollard::Docker;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    Attached, BuildError, BuildEvent, BuildRequest, Capabilities, Connection, ExecOutput, Exit, Image, ImageSource, InnerName, InstanceId,
    InstanceKey, Keeper, ListedInstance, LogChunk, LogCursor, Observed, Owner, PathKind, PullError, PullEvent, Runtime, RuntimeError,
    SecretFile, Swept, Terminal, TerminalSize, UsageSample, Workload,
};

pub(crate) use firewall::is_public;

pub use config::{DockerConfig, KNOWN_SOCKETS, find_socket};

/// A connection to a Docker-compatible engine. Cheap to clone.
#[derive(Clone)]
pub struct DockerRuntime {
    inner: Arc<Inner>,
}

/// What all the parts of the backend share. It keeps nothing about instances: the engine's labels do.
struct Inner {
    docker: Docker,
    config: DockerConfig,
    facts: probe::Facts,
    build_groups: cgroup::BuildGroups,
    /// Layers of builds that failed, to be removed. A lock and not an owner task: pushed to from `Drop`.
    leftover_layers: std::sync::Mutex<Vec<String>>,
    /// The group that jobs lie in, once it was made; `None` if it cannot be.
    job_group: tokio::sync::OnceCell<Option<String>>,
    /// For Podman only. A lock and not an owner task: nobody holds it across an await.
    failed_starts: podman::FailedStarts,
    /// A probe tries things out under fixed names: one at a time.
    probing: tokio::sync::Mutex<()>,
    /// Who brings images before the engine pulls them.
    source: std::sync::OnceLock<Arc<dyn ImageSource>>,
}

impl DockerRuntime {
    /// Finds out what the engine at `config.socket` is. Changes nothing on the machine.
    pub async fn connect(config: DockerConfig) -> Result<Self, RuntimeError> {
        let (docker, facts) = probe::connect(&config).await?;
        let build_groups = cgroup::BuildGroups::new(facts.build_groups);
        Ok(Self {
            inner: Arc::new(Inner {
                docker,
                config,
                facts,
                build_groups,
                leftover_layers: std::sync::Mutex::default(),
                job_group: tokio::sync::OnceCell::new(),
                failed_starts: podman::FailedStarts::default(),
                probing: tokio::sync::Mutex::new(()),
                source: std::sync::OnceLock::new(),
            }),
        })
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn probe(&self) -> Result<Capabilities, RuntimeError> {
        self.inner.probe().await
    }

    async fn build(&self, req: BuildRequest, progress: mpsc::Sender<BuildEvent>) -> Result<Image, BuildError> {
        self.inner.build(req, progress).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        self.inner.image(reference).await
    }

    async fn pull(&self, reference: &str, progress: mpsc::Sender<PullEvent>) -> Result<Image, PullError> {
        self.inner.pull(reference, progress).await
    }

    fn fetch_images_from(&self, source: Arc<dyn ImageSource>) {
        let _ = self.inner.source.set(source);
    }

    async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError> {
        self.inner.remove_image(reference).await
    }

    async fn create(&self, workload: &Workload) -> Result<InstanceId, RuntimeError> {
        self.inner.create(workload).await
    }

    async fn give_secrets(&self, id: &InstanceId, files: Vec<SecretFile>, variables: Vec<(String, Vec<u8>)>) -> Result<(), RuntimeError> {
        self.inner.give_secrets(id, files, &variables).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.inner.start(id).await
    }

    async fn inspect(&self, id: &InstanceId) -> Result<Option<Observed>, RuntimeError> {
        Ok(self.inner.look(id).await?.map(|seen| seen.state))
    }

    async fn wait(&self, id: &InstanceId) -> Result<Exit, RuntimeError> {
        self.inner.wait(id).await
    }

    fn logs(&self, id: &InstanceId, from: LogCursor) -> BoxStream<'static, Result<LogChunk, RuntimeError>> {
        follow::follow(self.inner.clone(), id.clone(), from).boxed()
    }

    fn stats(&self, id: &InstanceId) -> BoxStream<'static, Result<UsageSample, RuntimeError>> {
        io::stats(self.inner.clone(), id.clone()).boxed()
    }

    async fn exec(&self, id: &InstanceId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, RuntimeError> {
        self.inner.exec(id, command, timeout).await
    }

    async fn attach(&self, id: &InstanceId, command: Vec<String>, env: BTreeMap<String, String>) -> Result<Attached, RuntimeError> {
        attached::attach(Arc::clone(&self.inner), id, command, env).await
    }

    async fn attach_terminal(
        &self,
        id: &InstanceId,
        command: Vec<String>,
        env: BTreeMap<String, String>,
        size: TerminalSize,
    ) -> Result<Terminal, RuntimeError> {
        terminal::attach(Arc::clone(&self.inner), id, command, env, size).await
    }

    async fn open_names(&self, id: &InstanceId, names: &[InnerName]) -> Result<Vec<TcpListener>, RuntimeError> {
        self.inner.open_names(id, names).await
    }

    async fn connect(&self, id: &InstanceId, port: u16) -> Result<Connection, RuntimeError> {
        self.inner.connect(id, port).await
    }

    async fn look_at(&self, id: &InstanceId, path: &str) -> Result<Option<PathKind>, RuntimeError> {
        self.inner.look_at(id, path).await
    }

    fn read_files(&self, id: &InstanceId, path: &str) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
        files::read(Arc::clone(&self.inner), id.clone(), path.to_owned())
    }

    async fn write_files(
        &self,
        id: &InstanceId,
        folder: &str,
        archive: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), RuntimeError> {
        self.inner.write_files(id, folder, archive).await
    }

    async fn copy_out(&self, id: &InstanceId, path: &str, dest: &Path, max_bytes: u64) -> Result<u64, RuntimeError> {
        self.inner.copy_out(id, path, dest, max_bytes).await
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        self.inner.stop(id, grace).await
    }

    async fn kill(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.inner.kill(id).await
    }

    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.inner.remove(id, OutputFate::Goes).await
    }

    async fn retire(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.inner.remove(id, OutputFate::Stays).await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<ListedInstance>, RuntimeError> {
        self.inner.list(owner).await
    }

    async fn sweep(&self, owner: &Owner, keep: &BTreeSet<InstanceKey>) -> Result<Swept, RuntimeError> {
        self.inner.sweep(owner, keep).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.inner.facts.can_mount.then_some(self)
    }
}
