//! A root file system that ends at the disk the job asked for.
//!
//! overlay2 on ext4 has no quota, so the engine lets a job write into its root until the host's disk is full. But the engine
//! mounts that root only when the instance starts, and until then the layer that takes the writes is an ordinary directory:
//! `<layer>/diff` and `<layer>/work`. We move that directory into the instance's own volume (`volume.rs`) and mount it where it
//! was. What the job writes anywhere on disk, its output included, then lies in one file system of the size asked.
//!
//! ```text
//!  <volume>/out                 what the job hands back, mounted at its output directory
//!  <volume>/INSTANCE/root       the engine's layer, mounted over <engine>/overlay2/<layer>
//!  <volume>/INSTANCE/volumes    the directories that the image declares as volumes
//!  <volume>/INSTANCE/etc        hosts, hostname and resolv.conf: the engine would keep them on its own disk, writable and without a limit
//! An instance that follows another one, and goes on with its output, has a root of its own beside it.
//! ```
//!
//! Guarantees: each step can be repeated after a crash at any point; an instance whose layer cannot be moved is not started.
//! Does not: count the image itself (only what is changed of it), work without root in the engine's mount namespace or with
//! other storage drivers ([`crate::Capabilities::can_limit_root`]).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, DriverData, Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
        SystemInfo,
    },
    query_parameters::InspectContainerOptions,
};

use super::{Inner, instance::OutputFate, probe::run_tool, volume::LoopVolume};
use crate::{InstanceId, RuntimeError};

/// Storage drivers that keep a layer as `<layer>/diff` and `<layer>/work`: Docker's and Podman's.
const DRIVERS: [&str; 2] = ["overlay2", "overlay"];
/// Where the engine answers names for instances with a network of their own.
const ENGINE_RESOLVER: &str = "nameserver 127.0.0.11\noptions ndots:0\n";

/// Most volumes that an image may declare: each is a mount of the host. Well-known images declare one or two.
const MAX_IMAGE_VOLUMES: usize = 16;

/// Most files of volumes that a step of a build may write: what it puts there is lost anyway, and counting takes time.
const MAX_WALKED: u32 = 20_000;

/// Whether this engine's layers can be moved. `can_mount`: we are root and see the mounts that the engine sees.
pub(super) fn can_bound(info: &SystemInfo, can_mount: bool) -> bool {
    let driver = info.driver.as_deref().unwrap_or_default();
    let here = info.docker_root_dir.as_deref().is_some_and(|dir| Path::new(dir).join(driver).is_dir());
    can_mount && here && DRIVERS.contains(&driver)
}

/// The directory that takes an instance's writes.
pub(super) fn layer(container: &ContainerInspectResponse) -> Option<PathBuf> {
    let DriverData { name, data } = container.graph_driver.as_ref()?;
    if !DRIVERS.contains(&name.as_str()) {
        return None;
    }
    let upper = Path::new(data.get("UpperDir")?);
    (upper.file_name()? == "diff").then(|| upper.parent().map(Path::to_owned)).flatten()
}

/// Where in its volume lies what the job hands back.
pub(super) fn output_dir(volume: &LoopVolume) -> PathBuf {
    volume.path().join("out")
}

/// Where in a volume lies what belongs to one instance alone.
pub(super) fn place(volume: &LoopVolume, object: &str) -> PathBuf {
    volume.path().join(object)
}

/// Removes what an instance had for itself; its volume stays.
pub(super) fn clear(place: &Path) -> Result<(), RuntimeError> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => at("remove", place, Err(error)),
        _ => Ok(()),
    }
}

impl Inner {
    /// Bounds the root of an instance that was made just now. One that cannot be bounded does not stay.
    pub(super) async fn bound_root(&self, id: InstanceId, volume: &LoopVolume, place: &Path) -> Result<InstanceId, RuntimeError> {
        if !self.facts.can_bound_root || !volume.exists() {
            return Ok(id);
        }
        let moved = match self.docker.inspect_container(&id.0, None::<InspectContainerOptions>).await {
            Ok(container) => match layer(&container) {
                Some(layer) => move_layer(Some(&layer), volume, place).await,
                None => Err(RuntimeError::Engine { status: 0, message: "the engine does not say where the instance's layer is".into() }),
            },
            Err(error) => Err(self.engine_error(error)),
        };
        if let Err(error) = moved {
            self.remove(&id, OutputFate::Stays).await?;
            return Err(error);
        }
        Ok(id)
    }
}

/// Lets the instance's volume take what the engine would keep on its own disk without a limit: the files with the instance's
/// names, and the volumes that its image declares.
pub(super) fn keep_inside(body: &mut ContainerCreateBody, place: &Path, hostname: &str, declared: &[String]) -> Result<(), RuntimeError> {
    body.hostname = Some(hostname.to_owned());
    let host = body.host_config.get_or_insert_default();
    let connected = host.network_mode.as_deref() != Some("none");
    let mounts = host.mounts.get_or_insert_default();
    mounts.extend(own_names(place, hostname, connected)?);
    let volumes = own_volumes(place, declared, mounts)?;
    mounts.extend(volumes);
    Ok(())
}

/// `/etc/hosts` and its like.
fn own_names(place: &Path, hostname: &str, connected: bool) -> Result<Vec<Mount>, RuntimeError> {
    let etc = place.join("etc");
    make_dir(&etc, 0o755)?;
    let files = [
        ("hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n")),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", if connected { ENGINE_RESOLVER.to_owned() } else { String::new() }),
    ];
    let mut mounts = Vec::with_capacity(files.len());
    for (name, text) in files {
        let path = etc.join(name);
        // Written once: a job that runs may have changed it since.
        if !path.exists() {
            at("write", &path, fs::write(&path, text))?;
        }
        let source = Some(path.to_string_lossy().into_owned());
        mounts.push(Mount { target: Some(format!("/etc/{name}")), source, typ: Some(MountType::BIND), ..Default::default() });
    }
    Ok(mounts)
}

/// Volumes that an image declares, each a directory of ours. The engine fills them with what the image has there, and removes
/// them (not the directories) with the instance.
fn own_volumes(place: &Path, declared: &[String], taken: &[Mount]) -> Result<Vec<Mount>, RuntimeError> {
    if declared.len() > MAX_IMAGE_VOLUMES {
        let why = format!("declares {} volumes, at most {MAX_IMAGE_VOLUMES} are possible", declared.len());
        return Err(RuntimeError::Invalid { field: "image", why });
    }
    let is_taken = |path: &str| taken.iter().any(|mount| mount.target.as_deref() == Some(path.trim_end_matches('/')));
    let mut mounts = Vec::new();
    for (number, target) in declared.iter().enumerate().filter(|(_, path)| !is_taken(path)) {
        let directory = place.join("volumes").join(number.to_string());
        make_dir(&directory, 0o755)?;
        let device = text(&directory)?.to_owned();
        let options = [("type", "none"), ("o", "bind"), ("device", &device)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let driver_config = MountVolumeOptionsDriverConfig { name: Some("local".into()), options: Some(options.into()) };
        let volume_options = MountVolumeOptions { driver_config: Some(driver_config), ..Default::default() };
        let (target, volume_options) = (Some(target.clone()), Some(volume_options));
        mounts.push(Mount { target, typ: Some(MountType::VOLUME), volume_options, ..Default::default() });
    }
    Ok(mounts)
}

/// Moves the layer of an instance that is not running into its volume, unless that is done or there is no volume. Afterwards it
/// is seen where it was.
pub(super) async fn move_layer(layer: Option<&Path>, volume: &LoopVolume, place: &Path) -> Result<(), RuntimeError> {
    let Some(layer) = layer.filter(|_| volume.exists()) else { return Ok(()) };
    if is_mounted(layer)? {
        return Ok(());
    }
    let (root, draft) = (place.join("root"), place.join("root.draft"));
    if !root.exists() {
        make_dir(place, 0o755)?;
        // What a crash left.
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return at("clear", &draft, Err(error)),
            _ => {}
        }
        run_tool("cp", &["-a", "--", text(layer)?, text(&draft)?], None, None).await?;
        at("name", &root, fs::rename(&draft, &root))?;
    }
    run_tool("mount", &["--bind", text(&root)?, text(layer)?], None, None).await
}

/// Gives the engine its own directory back, so that it can remove it. Nothing happens if it has it.
pub(super) async fn release(layer: Option<&Path>) -> Result<(), RuntimeError> {
    let Some(layer) = layer.filter(|layer| is_mounted(layer).unwrap_or(false)) else { return Ok(()) };
    if run_tool("umount", &[text(layer)?], None, None).await.is_err() {
        // Somebody looks into it. Detach now; the kernel frees it when they leave.
        run_tool("umount", &["-l", text(layer)?], None, None).await?;
    }
    Ok(())
}

/// Bytes that a container of a build has written outside of its layer: to the files with its names, and to volumes.
pub(super) fn beside_layer(container: &ContainerInspectResponse) -> u64 {
    let names = [&container.hosts_path, &container.hostname_path, &container.resolv_conf_path];
    let volumes = container.mounts.iter().flatten().filter_map(|mount| mount.source.as_deref());
    let mut left = MAX_WALKED;
    let mut waiting: Vec<PathBuf> = names.into_iter().flatten().map(PathBuf::from).chain(volumes.map(PathBuf::from)).collect();
    let mut total = 0u64;
    while let Some(path) = waiting.pop() {
        left -= 1;
        if left == 0 {
            return u64::MAX;
        }
        // One may be gone between two looks.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        total = total.saturating_add(meta.blocks().saturating_mul(512));
    }
    total
}

/// A mount point lies on another device than its parent.
fn is_mounted(path: &Path) -> Result<bool, RuntimeError> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
    match (device(path), device(path.parent().unwrap_or(path))) {
        (Ok(own), Ok(above)) => Ok(own != above),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        (Err(error), _) | (_, Err(error)) => at("look at", path, Err(error)),
    }
}

/// Makes a directory of this mode. What the job writes to is open to anybody: the job may be any user, without the right to
/// override permissions.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), RuntimeError> {
    at("make", path, fs::DirBuilder::new().recursive(true).mode(mode).create(path))?;
    // The mode above is cut by the process's mask.
    at("open", path, fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}

fn at<T>(doing: &str, path: &Path, result: io::Result<T>) -> Result<T, RuntimeError> {
    result.map_err(|error| RuntimeError::io(format!("{doing} {}", path.display()), error))
}

fn text(path: &Path) -> Result<&str, RuntimeError> {
    path.to_str().ok_or_else(|| RuntimeError::Invalid { field: "state_dir", why: "its path is not UTF-8".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(driver: &str, upper: &str) -> ContainerInspectResponse {
        let data = DriverData { name: driver.into(), data: [("UpperDir".to_owned(), upper.to_owned())].into() };
        ContainerInspectResponse { graph_driver: Some(data), ..Default::default() }
    }

    #[test]
    fn only_layers_of_a_known_form_are_moved() {
        assert_eq!(layer(&container("overlay2", "/d/overlay2/x/diff")), Some("/d/overlay2/x".into()));
        assert_eq!(layer(&container("overlay", "/d/overlay/x/diff")), Some("/d/overlay/x".into()));
        assert_eq!(layer(&container("btrfs", "/d/btrfs/x/diff")), None);
        assert_eq!(layer(&container("overlay2", "/d/overlay2/x/upper")), None);
        assert_eq!(layer(&ContainerInspectResponse::default()), None);
        let info = |driver: &str| SystemInfo { driver: Some(driver.into()), docker_root_dir: Some("/proc".into()), ..Default::default() };
        assert!(!can_bound(&info("overlay2"), true), "its directory is not there");
        assert!(!can_bound(&info("self"), true), "not a driver that we know");
    }
}
