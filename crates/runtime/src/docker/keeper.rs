//! Kept volumes of the Docker backend: loop-mounted file systems (`volume.rs`) in a folder that no sweep of instances touches.
//!
//! A copy is a copy of the file that holds the file system: by reference where the host's file system can do that, else of its used
//! parts. While it is made, a file system in use is frozen: writers wait, readers do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, Mount as EngineMount, MountType};
use pasture_rt::TaskKind;

use super::{DockerRuntime, Inner, tool::Tool, volume::LoopVolume, workload::Kept};
use crate::{Keeper, Owner, RuntimeError, Use, VolumeKey, Workload};

/// Longest copy: a volume of the largest size on a slow disk.
const COPY_DEADLINE: Duration = Duration::from_secs(3600);
/// How often a volume is tried to be brought to rest: the engine lets go of it moments after its instance has gone.
const REST_ATTEMPTS: u32 = 10;
/// Pause between such attempts.
const REST_PAUSE: Duration = Duration::from_millis(100);

impl Inner {
    fn kept(&self, owner: &Owner, volume: &VolumeKey) -> LoopVolume {
        LoopVolume::kept(&self.config.state_dir, owner.as_str(), volume.as_str())
    }

    /// Mounts the volumes of a workload and gives where they are.
    pub(super) async fn mount_kept(&self, workload: &Workload) -> Result<Vec<Kept>, RuntimeError> {
        if !workload.mounts.is_empty() && !self.facts.can_mount {
            return Err(RuntimeError::Conflict("this machine cannot keep volumes".into()));
        }
        let mut kept = vec![];
        for mount in &workload.mounts {
            let volume = self.kept(&workload.owner, &mount.volume);
            if !volume.exists() {
                return Err(RuntimeError::NotFound { what: "volume", name: mount.volume.to_string() });
            }
            volume.remount().await?;
            kept.push(Kept { source: volume.path().to_owned(), target: mount.path.clone(), read_only: mount.read_only });
        }
        Ok(kept)
    }

    /// Mounts again what an instance has of kept volumes: after a reboot they are not.
    pub(super) async fn remount_kept(&self, owner: &Owner, sources: &[String]) -> Result<(), RuntimeError> {
        for source in sources {
            let name = Path::new(source).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(key) = VolumeKey::parse(name) else { continue };
            let volume = self.kept(owner, &key);
            if volume.path() == Path::new(source) {
                volume.remount().await?;
            }
        }
        Ok(())
    }
}

/// Adds kept volumes to what the engine is told.
pub(super) fn add(body: &mut ContainerCreateBody, kept: Vec<Kept>) {
    let mounts = kept.into_iter().map(|kept| EngineMount {
        target: Some(kept.target),
        source: Some(kept.source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(kept.read_only),
        ..Default::default()
    });
    if let Some(host) = &mut body.host_config {
        host.mounts.get_or_insert_default().extend(mounts);
    }
}

/// A file system that nobody can write to, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    async fn begin(volume: &LoopVolume) -> Result<Self, RuntimeError> {
        // Most of what waits goes to the disk before anybody has to wait for it.
        volume.settle().await?;
        let path = volume.path().to_owned();
        // Freezing cannot be broken off: a file system would freeze just after it was let go. On the blocking pool it runs to its end also
        // when nobody waits for it any more, and what it gives is then dropped, which thaws.
        let frozen = pasture_rt::spawn_blocking(TaskKind::Files, move || {
            let frozen = Self(path);
            let done = fsfreeze("-f", &frozen.0);
            (frozen, done)
        });
        let failed = |why: String| RuntimeError::io("freeze a volume", io::Error::other(why));
        match frozen.join().await {
            Some((frozen, Ok(status))) if status.success() => Ok(frozen),
            Some((_, Ok(status))) => Err(failed(status.to_string())),
            Some((_, Err(error))) => Err(RuntimeError::io("freeze a volume", error)),
            None => Err(failed("whoever froze it ended".into())),
        }
    }
}

fn fsfreeze(what: &str, mount: &Path) -> io::Result<ExitStatus> {
    let mut command = Command::new("fsfreeze");
    command.arg(what).arg(mount).env("PATH", super::tool::TOOL_PATH);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
}

impl Drop for Frozen {
    fn drop(&mut self) {
        thaw(&self.0);
    }
}

/// Lets a file system be written to; nothing happens if it can be. Takes a moment and blocks for it: it must happen also when the copying
/// is cancelled.
fn thaw(mount: &Path) {
    let _ = fsfreeze("-u", mount);
}

async fn copy(from: &LoopVolume, to: &LoopVolume) -> Result<(), RuntimeError> {
    let draft = to.draft();
    let frozen = if from.is_mounted()? { Some(Frozen::begin(from).await?) } else { None };
    let (source, target) = (super::volume::path_text(from.image())?, super::volume::path_text(&draft)?);
    let copied = Tool::new("cp", &["--reflink=auto", "--sparse=auto", "--", source, target]).within(COPY_DEADLINE).run().await;
    drop(frozen);
    copied?;
    to.adopt(&draft).await
}

#[async_trait]
impl Keeper for DockerRuntime {
    async fn make(&self, owner: &Owner, volume: &VolumeKey, bytes: u64) -> Result<(), RuntimeError> {
        let kept = self.inner.kept(owner, volume);
        if kept.exists() {
            return Err(RuntimeError::Conflict(format!("there is a volume {volume} already")));
        }
        kept.ensure(bytes).await?;
        self.rest(owner, volume).await
    }

    async fn copy(&self, owner: &Owner, from: &VolumeKey, to: &VolumeKey) -> Result<(), RuntimeError> {
        let (from, to) = (self.inner.kept(owner, from), self.inner.kept(owner, to));
        if to.exists() {
            return Err(RuntimeError::Conflict("there is such a volume already".into()));
        }
        copy(&from, &to).await
    }

    async fn stored(&self, owner: &Owner, volume: &VolumeKey) -> Result<u64, RuntimeError> {
        let kept = self.inner.kept(owner, volume);
        match std::fs::metadata(kept.image()) {
            Ok(meta) => Ok(meta.blocks().saturating_mul(512)),
            Err(error) => Err(RuntimeError::io(format!("look at the volume {volume}"), error)),
        }
    }

    async fn rest(&self, owner: &Owner, volume: &VolumeKey) -> Result<(), RuntimeError> {
        let kept = self.inner.kept(owner, volume);
        let mut attempt = 1;
        loop {
            match kept.rest().await {
                Err(_) if attempt < REST_ATTEMPTS => tokio::time::sleep(REST_PAUSE).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn remove(&self, owner: &Owner, volume: &VolumeKey) -> Result<(), RuntimeError> {
        self.inner.kept(owner, volume).remove().await
    }

    async fn clear(&self, owner: &Owner, keep: &BTreeMap<VolumeKey, Use>) -> Result<usize, RuntimeError> {
        let names: BTreeSet<String> = LoopVolume::list_kept(&self.inner.config.state_dir, owner.as_str())?;
        let mut removed = 0;
        for name in names {
            let volume = LoopVolume::kept(&self.inner.config.state_dir, owner.as_str(), &name);
            if volume.is_mounted()? {
                thaw(volume.path());
            }
            match VolumeKey::parse(&name).ok().and_then(|key| keep.get(&key)) {
                None => {
                    volume.remove().await?;
                    removed += 1;
                }
                Some(Use::Held) => volume.forget_draft()?,
                Some(Use::Resting) => {
                    volume.forget_draft()?;
                    // One that somebody still looks into rests later; it is whole in any case.
                    if let Err(error) = volume.rest().await {
                        tracing::warn!(%error, volume = name, "a volume stays mounted");
                    }
                }
            }
        }
        Ok(removed)
    }
}
