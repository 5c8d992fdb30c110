//! A root file system that ends at the disk the job asked for.
//!
//! overlay2 on ext4 has no quota, so the engine lets a job write into its root until the host's disk is full. But the engine
//! mounts that root only when the instance starts, and until then the layer that takes the writes is an ordinary directory:
//! `<layer>/diff` and `<layer>/work`. We move that directory into the instance's own volume (`volume.rs`) and mount it where it
//! was. What the job writes anywhere on disk, its output included, then lies in one file system of the size asked.
//!
//! ```text
//!  <volume>/out                    what the job hands back, mounted at its output directory
//!  <volume>/at/<instance>/root     the engine's layer, mounted over <engine>/overlay2/<layer>
//!  <volume>/at/<instance>/volumes  the directories that the image declares as volumes
//!  <volume>/at/<instance>/etc      hosts, hostname and resolv.conf: the engine would keep them on its own disk, without a limit
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

use super::{Inner, instance::OutputFate, layer, tool::run_tool, volume::LoopVolume};
use crate::{InstanceId, RuntimeError};

/// Storage drivers that keep a layer as `<layer>/diff` and `<layer>/work`: Docker's and Podman's.
const DRIVERS: [&str; 2] = ["overlay2", "overlay"];
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

/// A layer and where its content lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    layer: PathBuf,
    dir: PathBuf,
}

/// What of an instance lies in a volume of ours; nothing if it was not made so.
pub(super) fn held(container: &ContainerInspectResponse) -> Option<Held> {
    let names = container.mounts.iter().flatten().find(|mount| mount.destination.as_deref() == Some("/etc/hostname"))?;
    let dir = Path::new(names.source.as_deref()?).parent()?.parent()?;
    Some(Held { layer: layer(container)?, dir: dir.to_owned() })
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

impl Inner {
    /// Bounds the root of an instance that was made just now. One that cannot be bounded does not stay.
    pub(super) async fn bound_root(&self, id: InstanceId) -> Result<InstanceId, RuntimeError> {
        let moved = match self.docker.inspect_container(&id.0, None::<InspectContainerOptions>).await {
            Ok(container) => match held(&container) {
                Some(held) => hold(Some(&held)).await,
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

/// Where an instance has its own in a volume. What an earlier one left there goes: one instance at a time has a volume.
pub(super) async fn place(volume: &LoopVolume, instance: &str) -> Result<PathBuf, RuntimeError> {
    let all = volume.path().join("at");
    let dir = all.join(instance);
    make_dir(&dir, 0o755)?;
    for entry in at("read", &all, fs::read_dir(&all))?.flatten().filter(|entry| entry.path() != dir) {
        run_tool("rm", &["-rf", "--", text(&entry.path())?]).await?;
    }
    Ok(dir)
}

/// Lets the instance's volume take what the engine would keep on its own disk without a limit: the files with the instance's
/// names, and the volumes that its image declares.
pub(super) fn keep_inside(
    body: &mut ContainerCreateBody,
    dir: &Path,
    hostname: &str,
    resolver: &str,
    declared: &[String],
) -> Result<(), RuntimeError> {
    body.hostname = Some(hostname.to_owned());
    let host = body.host_config.get_or_insert_default();
    let resolver = if host.network_mode.as_deref() == Some("none") { "" } else { resolver };
    let mounts = host.mounts.get_or_insert_default();
    mounts.extend(own_names(dir, hostname, resolver)?);
    let volumes = own_volumes(dir, declared, mounts)?;
    mounts.extend(volumes);
    Ok(())
}

/// `/etc/hosts` and its like.
fn own_names(dir: &Path, hostname: &str, resolver: &str) -> Result<Vec<Mount>, RuntimeError> {
    let etc = dir.join("etc");
    make_dir(&etc, 0o755)?;
    let files = [
        ("hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n")),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolver.to_owned()),
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
fn own_volumes(dir: &Path, declared: &[String], taken: &[Mount]) -> Result<Vec<Mount>, RuntimeError> {
    if declared.len() > MAX_IMAGE_VOLUMES {
        let why = format!("declares {} volumes, at most {MAX_IMAGE_VOLUMES} are possible", declared.len());
        return Err(RuntimeError::Invalid { field: "image", why });
    }
    let is_taken = |path: &str| taken.iter().any(|mount| mount.target.as_deref() == Some(path.trim_end_matches('/')));
    let mut mounts = Vec::new();
    for (number, target) in declared.iter().enumerate().filter(|(_, path)| !is_taken(path)) {
        let directory = dir.join("volumes").join(number.to_string());
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

/// Moves the layer of an instance that is not running into its volume, which is mounted, unless that is done. Afterwards it is seen
/// where it was.
pub(super) async fn hold(held: Option<&Held>) -> Result<(), RuntimeError> {
    let Some(Held { layer, dir }) = held else { return Ok(()) };
    if is_mounted(layer)? {
        return Ok(());
    }
    let (root, draft) = (dir.join("root"), dir.join("root.draft"));
    if !root.exists() {
        // What a crash left.
        clear(&draft)?;
        // What cannot be copied by us is for a program that has seen more file systems; its error counts.
        if !layer::copy(layer, &draft).unwrap_or(false) {
            clear(&draft)?;
            run_tool("cp", &["-a", "--", text(layer)?, text(&draft)?]).await?;
        }
        at("name", &root, fs::rename(&draft, &root))?;
    }
    run_tool("mount", &["--bind", text(&root)?, text(layer)?]).await
}

fn clear(dir: &Path) -> Result<(), RuntimeError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => at("clear", dir, Err(error)),
        _ => Ok(()),
    }
}

/// Gives the engine its own directory back, so that it can remove it. Nothing happens if it has it.
pub(super) async fn release(held: Option<&Held>) -> Result<(), RuntimeError> {
    let Some(Held { layer, .. }) = held.filter(|held| is_mounted(&held.layer).unwrap_or(false)) else { return Ok(()) };
    if run_tool("umount", &[text(layer)?]).await.is_err() {
        // Somebody looks into it. Detach now; the kernel frees it when they leave.
        run_tool("umount", &["-l", text(layer)?]).await?;
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
