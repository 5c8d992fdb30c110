//! What the suites share: a runtime on the engine under test, an owner and directory per test, a base image, clean-up.

/// Tests of these names, each a function over a [`Bench`] on a real engine; `through`: a function that gets bench and test.
macro_rules! on_an_engine {
    (through $around:ident: $($name:ident),* $(,)?) => {
        mod docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::support::run(stringify!($name), |bench| super::$around(bench, super::$name)).await;
            })*
        }
    };
    ($($name:ident),* $(,)?) => {
        mod docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::support::run(stringify!($name), super::$name).await;
            })*
        }
    };
}

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    io::Write as _,
    panic::AssertUnwindSafe,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, ResourcesUlimits},
    query_parameters::{
        BuildImageOptionsBuilder, CreateContainerOptions, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
        RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, StartContainerOptions,
    },
};
use futures::{FutureExt, TryStreamExt};
use pasture_runtime::{
    BuildError, BuildEvent, BuildLimits, BuildRequest, Image, InstanceId, InstanceKey, LABEL_INSTANCE, LABEL_OWNER, Limits, LogCursor,
    Network, Owner, Runtime, Workload,
    docker::{DockerConfig, DockerRuntime},
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

/// Longest that a condition may take to come true; everything here takes moments on an idle machine.
const PATIENCE: Duration = Duration::from_secs(40);
const BASE: &str = "pasture-test/base:1";

/// One test's view of the engine.
#[allow(dead_code, reason = "each suite uses its part")]
pub(crate) struct Bench {
    pub(crate) rt: Arc<dyn Runtime>,
    pub(crate) owner: Owner,
    pub(crate) dir: Arc<TempDir>,
    /// An image with busybox in it.
    pub(crate) base: String,
    docker: Docker,
    instances: AtomicU32,
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn engine_socket() -> String {
    let socket = std::env::var_os("FARM_TEST_ENGINE").expect(
        "these tests need a container engine: run FARM_TEST_ENGINE=$(scripts/engine.sh) cargo test -p pasture-runtime\n\
         (without one: cargo test -p pasture-runtime --lib)",
    );
    socket.into_string().expect("FARM_TEST_ENGINE is a path")
}

async fn runtime(config: DockerConfig) -> Arc<dyn Runtime> {
    Arc::new(
        DockerRuntime::connect(config).await.expect("FARM_TEST_ENGINE is the socket of a running engine; scripts/engine.sh starts one"),
    )
}

/// Runs one test and then removes what it left, also if it failed.
pub(crate) async fn run<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Bench) -> F) {
    let socket = engine_socket();
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let owner = Owner::parse(&format!("test-{}-{name}", std::process::id())).unwrap();
    let rt = runtime(DockerConfig::new(&socket, dir.path())).await;
    let docker = Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap().negotiate_version().await.unwrap();
    let bench = Bench { rt: rt.clone(), owner: owner.clone(), dir: dir.clone(), base: BASE.into(), docker, instances: AtomicU32::new(0) };
    bench.ensure_base().await;
    let result = AssertUnwindSafe(timeout(seconds(300), test(bench))).catch_unwind().await;
    remove_images(&socket, &owner).await;
    let swept = rt.sweep(&owner, &std::collections::BTreeSet::new()).await;
    match result {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(Err(_)) => panic!("{name} did not end within 300 s"),
        Ok(Ok(())) => drop(swept.unwrap()),
    }
}

/// Forgets the images that a test has built.
async fn remove_images(socket: &str, owner: &Owner) {
    let docker = Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION).unwrap().negotiate_version().await.unwrap();
    let filters = HashMap::from([("reference", vec![format!("pasture-test/{owner}-*")])]);
    let images = docker.list_images(Some(ListImagesOptionsBuilder::default().filters(&filters).build())).await.unwrap();
    for tag in images.into_iter().flat_map(|image| image.repo_tags) {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        docker.remove_image(&tag, Some(options), None).await.unwrap();
    }
}

#[allow(dead_code, reason = "each suite uses its part")]
impl Bench {
    /// The same with a smaller log, on another connection.
    pub(crate) async fn with_log_bytes(self, log_bytes: u64) -> Self {
        let mut config = DockerConfig::new(engine_socket(), self.dir.path());
        config.log_bytes = log_bytes;
        Self { rt: runtime(config).await, ..self }
    }

    async fn ensure_base(&self) {
        if self.rt.image(BASE).await.unwrap().is_none() {
            let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\n\
                RUN [\"/bin/busybox\", \"mkdir\", \"-p\", \"/sbin\", \"/usr/bin\", \"/usr/sbin\", \"/tmp\", \"/etc\"]\n\
                RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
            let request = self.build_request(dockerfile, &[("busybox", &std::fs::read("/bin/busybox").unwrap())]);
            // Beside the runtime, which may refuse to build.
            let options = BuildImageOptionsBuilder::default().t(BASE).networkmode("none").build();
            let context = bollard::body_full(std::fs::read(&request.context_tar).unwrap().into());
            let _: Vec<_> = self.docker.build_image(options, None, Some(context)).try_collect().await.unwrap();
        }
    }

    /// A build of this Dockerfile and these files, with limits that are enough.
    pub(crate) fn build_request(&self, dockerfile: &str, files: &[(&str, &[u8])]) -> BuildRequest {
        let number = self.instances.fetch_add(1, Ordering::Relaxed);
        let context_tar = self.dir.path().join(format!("context-{number}.tar"));
        let mut tar = tar::Builder::new(std::fs::File::create(&context_tar).unwrap());
        for (name, bytes) in files.iter().copied().chain([("Dockerfile", dockerfile.as_bytes())]) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            header.set_cksum();
            tar.append_data(&mut header, name, bytes).unwrap();
        }
        tar.finish().unwrap();
        BuildRequest {
            instance_key: InstanceKey::parse(&format!("build-{number}")).unwrap(),
            owner: self.owner.clone(),
            context_tar,
            dockerfile: "Dockerfile".into(),
            build_args: BTreeMap::new(),
            tag: format!("pasture-test/{}-{number}:1", self.owner),
            target: None,
            limits: BuildLimits { cpu_millis: 2000, memory_bytes: 256 << 20, pids: 64, cpuset: None, image_bytes: 64 << 20 },
            network: Network::None,
            timeout: seconds(120),
        }
    }

    /// Builds and gives what was told as well.
    pub(crate) async fn build(&self, request: BuildRequest) -> (Result<Image, BuildError>, Vec<BuildEvent>) {
        let (progress, mut told) = mpsc::channel(8);
        let listen = async {
            let mut events = Vec::new();
            while let Some(event) = told.recv().await {
                events.push(event);
            }
            events
        };
        tokio::join!(self.rt.build(request, progress), listen)
    }

    /// A shell script under small limits, with a key of its own.
    pub(crate) fn shell(&self, script: &str) -> Workload {
        let number = self.instances.fetch_add(1, Ordering::Relaxed);
        Workload {
            instance_key: InstanceKey::parse(&format!("lease-{number}.0")).unwrap(),
            owner: self.owner.clone(),
            image: self.base.clone(),
            command: vec!["/bin/sh".into(), "-c".into()],
            args: vec![script.into()],
            env: BTreeMap::new(),
            workdir: None,
            limits: Limits { cpu_millis: 1000, memory_bytes: 64 << 20, pids: 32, disk_bytes: 0, cpuset: None },
            network: Network::None,
            labels: BTreeMap::new(),
            output_dir: None,
            output_of: None,
            read_only_root: false,
            grace: seconds(2),
            mounts: Vec::new(),
            gpus: Vec::new(),
            files: Vec::new(),
            secrets: None,
        }
    }

    pub(crate) async fn start(&self, workload: &Workload) -> InstanceId {
        let id = self.rt.create(workload).await.unwrap();
        self.rt.start(&id).await.unwrap();
        id
    }

    /// The whole log of an instance that ends.
    pub(crate) async fn log_text(&self, id: &InstanceId) -> String {
        let chunks: Vec<_> = timeout(PATIENCE, self.rt.logs(id, LogCursor::default()).try_collect()).await.expect("the log ends").unwrap();
        chunks.iter().map(|chunk: &pasture_runtime::LogChunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect()
    }

    pub(crate) async fn wait_for_log(&self, id: &InstanceId, text: &str) {
        let mut log = self.rt.logs(id, LogCursor::default());
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = timeout(PATIENCE, log.try_next()).await.expect("in time").unwrap().expect("before the log ends");
            seen += &String::from_utf8_lossy(&chunk.bytes);
        }
    }

    fn label(&self) -> HashMap<&'static str, Vec<String>> {
        HashMap::from([("label", vec![format!("{LABEL_OWNER}={}", self.owner)])])
    }

    /// Networks of this test, as the engine says.
    pub(crate) async fn engine_networks(&self) -> Vec<String> {
        let options = ListNetworksOptionsBuilder::default().filters(&self.label()).build();
        self.docker.list_networks(Some(options)).await.unwrap().into_iter().filter_map(|network| network.name).collect()
    }

    /// Volumes of this test, as the engine says.
    pub(crate) async fn engine_volumes(&self) -> Vec<String> {
        let options = ListVolumesOptionsBuilder::default().filters(&self.label()).build();
        let volumes = self.docker.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default();
        volumes.into_iter().map(|volume| volume.name).collect()
    }

    /// Ids of all containers that no runtime of ours made as instances: steps of builds, and strangers.
    pub(crate) async fn engine_containers(&self) -> Vec<String> {
        let options = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.docker.list_containers(Some(options)).await.unwrap();
        let labelled = |labels: &HashMap<String, String>| labels.contains_key(LABEL_OWNER);
        containers.into_iter().filter(|one| !one.labels.as_ref().is_some_and(labelled)).filter_map(|one| one.id).collect()
    }

    /// Mount points within this test's directory.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap();
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        table.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(dir)).map(str::to_owned).collect()
    }

    /// What lies where volumes lie.
    pub(crate) fn volume_files(&self) -> Vec<String> {
        let dir = self.dir.path().join("volumes").join(self.owner.as_str());
        std::fs::read_dir(dir).map(|entries| entries.map(|entry| entry.unwrap().path().display().to_string()).collect()).unwrap_or_default()
    }

    /// Runs a script on the engine's default network, beside the runtime, for as long as `meanwhile` takes.
    pub(crate) async fn on_default_network<T>(&self, script: &str, meanwhile: impl Future<Output = T>) -> T {
        let body = ContainerCreateBody {
            image: Some(self.base.clone()),
            cmd: Some(vec!["sh".into(), "-c".into(), script.into()]),
            // Podman asks for more than a root without all its rights may give.
            host_config: Some(HostConfig { ulimits: Some(["nofile", "nproc"].map(few).into()), ..Default::default() }),
            ..Default::default()
        };
        let id = self.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        self.docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        let result = meanwhile.await;
        // Podman refuses for a moment after an end.
        let id = InstanceId(id);
        until("the container is removed", || self.remove_container(&id)).await;
        result
    }

    /// A container that somebody else made, with labels like ours.
    pub(crate) async fn container_with_our_labels(&self) -> InstanceId {
        let labels = [(LABEL_OWNER, self.owner.as_str()), (LABEL_INSTANCE, "lease-1.0")];
        let body = ContainerCreateBody {
            image: Some(self.base.clone()),
            cmd: Some(vec!["true".into()]),
            labels: Some(labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()),
            ..Default::default()
        };
        InstanceId(self.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id)
    }

    /// Removes a container beside the runtime; false if there was none.
    pub(crate) async fn remove_container(&self, id: &InstanceId) -> bool {
        self.docker.remove_container(&id.0, Some(RemoveContainerOptionsBuilder::default().force(true).build())).await.is_ok()
    }
}

#[allow(dead_code, reason = "each suite uses its part")]
fn few(name: &str) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(1024), hard: Some(1024) }
}

/// Waits until a condition holds.
#[allow(dead_code, reason = "each suite uses its part")]
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let looks = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}

/// Command lines of all processes of this machine.
#[allow(dead_code, reason = "each suite uses its part")]
pub(crate) fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}

#[allow(dead_code, reason = "each suite uses its part")]
pub(crate) fn md5(bytes: &[u8]) -> String {
    assert!(Path::new("/bin/busybox").exists());
    let mut child = Command::new("/bin/busybox").arg("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}
