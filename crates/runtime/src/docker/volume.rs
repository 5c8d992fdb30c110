//! Volumes with a size that holds: an ext4 file system in a sparse file, mounted by a loop device and given to the
//! instance as a directory.
//!
//! Guarantees: writes stop at the size asked, host and other instances keep their space up to that; all operations can be
//! repeated after a crash at any point. Does not: reserve the space (the file is sparse), survive a corrupted image, journal output
//! volumes (a host that crashes has lost the job too); kept ones have a journal.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    blank,
    tool::{Tool, run_tool},
};
use crate::RuntimeError;

/// Smallest file system that is worth its overhead.
pub(super) const MIN_VOLUME_BYTES: u64 = 1 << 20;

/// Longest that what was written may take to reach the disk.
const SETTLE_DEADLINE: Duration = Duration::from_secs(300);

/// Folder of kept volumes: a sweep of instances does not look there.
const KEPT: &str = "kept";

/// Folder of fresh file systems.
const BLANKS: &str = "blanks";

/// One volume: `<state>/volumes/<owner>/<name>.img`, mounted on `<name>` beside it.
pub(super) struct LoopVolume {
    image: PathBuf,
    mount: PathBuf,
    /// It outlives its instance, and the host's crash: it has a journal.
    kept: bool,
    /// Where fresh file systems are kept.
    blanks: PathBuf,
}

impl LoopVolume {
    pub(super) fn new(state_dir: &Path, owner: &str, name: &str) -> Self {
        let dir = state_dir.join("volumes").join(owner);
        Self { image: dir.join(format!("{name}.img")), mount: dir.join(name), kept: false, blanks: state_dir.join(BLANKS) }
    }

    /// A volume that outlives its instance, in a folder of its own: `<state>/kept/<owner>/<name>.img`.
    pub(super) fn kept(state_dir: &Path, owner: &str, name: &str) -> Self {
        let dir = state_dir.join(KEPT).join(owner);
        Self { image: dir.join(format!("{name}.img")), mount: dir.join(name), kept: true, blanks: state_dir.join(BLANKS) }
    }

    /// Names of all kept volumes of this owner, mounted or not, and of drafts.
    pub(super) fn list_kept(state_dir: &Path, owner: &str) -> Result<BTreeSet<String>, RuntimeError> {
        names_in(&state_dir.join(KEPT).join(owner))
    }

    /// Names of all volumes of this owner, mounted or not.
    pub(super) fn list(state_dir: &Path, owner: &str) -> Result<Vec<String>, RuntimeError> {
        Ok(names_in(&state_dir.join("volumes").join(owner))?.into_iter().collect())
    }

    /// Where the instance's directory is.
    pub(super) fn path(&self) -> &Path {
        &self.mount
    }

    /// There is such a volume, mounted or not.
    pub(super) fn exists(&self) -> bool {
        self.image.exists()
    }

    /// Makes the volume if missing and mounts it if it is not mounted (after a reboot it is not).
    pub(super) async fn ensure(&self, bytes: u64) -> Result<(), RuntimeError> {
        self.at("make", fs::create_dir_all(&self.mount))?;
        if !self.image.exists() {
            let draft = self.draft();
            if self.kept {
                let file = self.at("make", fs::File::create(&draft))?;
                self.at("size", file.set_len(bytes))?;
                let options = ["-q", "-F", "-m", "0", "-O", "^resize_inode", "-E", "nodiscard,lazy_itable_init=1"];
                run_tool("mkfs.ext4", &[&options[..], &[path_text(&draft)?]].concat()).await?;
            } else {
                blank::write(&self.blanks, bytes, &draft).await?;
            }
            self.at("name", fs::rename(&draft, &self.image))?;
        }
        self.mount().await?;
        // The instance may run as any user, without the right to override permissions.
        self.at("open", fs::set_permissions(&self.mount, fs::Permissions::from_mode(0o777)))?;
        match fs::remove_dir(self.mount.join("lost+found")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.at("empty", Err(error)),
            _ => Ok(()),
        }
    }

    /// Mounts an existing volume again; nothing happens if there is none.
    pub(super) async fn remount(&self) -> Result<(), RuntimeError> {
        if self.exists() && !self.is_mounted()? {
            self.at("make", fs::create_dir_all(&self.mount))?;
            self.mount().await?;
        }
        Ok(())
    }

    async fn mount(&self) -> Result<(), RuntimeError> {
        if self.is_mounted()? {
            return Ok(());
        }
        // A kept volume that is damaged is not damaged further.
        let options = if self.kept { "loop,nosuid,nodev,errors=remount-ro" } else { "loop,nosuid,nodev" };
        run_tool("mount", &["-t", "ext4", "-o", options, path_text(&self.image)?, path_text(&self.mount)?]).await
    }

    /// Unmounts, and waits until all of it is on the disk. Fails while somebody looks into it.
    pub(super) async fn rest(&self) -> Result<(), RuntimeError> {
        if self.is_mounted()? {
            let mount = path_text(&self.mount)?;
            // What was deleted is the host's again: a file system with a journal gives back only what is deleted in it there too. Where that
            // is not possible, it stays taken.
            self.settle().await?;
            let _ = run_tool("fstrim", &[mount]).await;
            run_tool("umount", &[mount]).await?;
        }
        if self.exists() {
            self.sync(&self.image).await?;
        }
        Ok(())
    }

    /// All that was written to the mounted volume reaches its image.
    pub(super) async fn settle(&self) -> Result<(), RuntimeError> {
        Tool::new("sync", &["-f", path_text(&self.mount)?]).within(SETTLE_DEADLINE).run().await
    }

    async fn sync(&self, file: &Path) -> Result<(), RuntimeError> {
        let open = async |path: &Path| tokio::fs::File::open(path).await?.sync_all().await;
        self.at("sync", open(file).await)?;
        self.at("sync", open(self.image.parent().unwrap_or(file)).await)
    }

    /// Where the volume is made before it counts.
    pub(super) fn draft(&self) -> PathBuf {
        self.image.with_extension("tmp")
    }

    /// Makes a whole draft the volume.
    pub(super) async fn adopt(&self, draft: &Path) -> Result<(), RuntimeError> {
        self.sync(draft).await?;
        self.at("name", fs::rename(draft, &self.image))?;
        self.sync(&self.image).await
    }

    pub(super) fn forget_draft(&self) -> Result<(), RuntimeError> {
        match fs::remove_file(self.draft()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.at("remove", Err(error)),
            _ => Ok(()),
        }
    }

    /// The file that holds the file system.
    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// Removes the volume and what is in it; nothing happens if there is none.
    pub(super) async fn remove(&self) -> Result<(), RuntimeError> {
        if self.is_mounted()? {
            let mount = path_text(&self.mount)?;
            if run_tool("umount", &[mount]).await.is_err() {
                // Somebody looks into it. Detach now; the kernel frees it when they leave.
                run_tool("umount", &["-l", mount]).await?;
            }
        }
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.at("remove", gone(fs::remove_file(&self.image)))?;
        self.at("remove", gone(fs::remove_file(self.draft())))?;
        self.at("remove", gone(fs::remove_dir(&self.mount)))
    }

    /// A mount point lies on another device than its parent.
    pub(super) fn is_mounted(&self) -> Result<bool, RuntimeError> {
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
        let parent = self.mount.parent().unwrap_or(&self.mount);
        match (device(&self.mount), device(parent)) {
            (Ok(own), Ok(above)) => Ok(own != above),
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            (Err(error), _) | (_, Err(error)) => self.at("look at", Err(error)),
        }
    }

    fn at<T>(&self, doing: &str, result: io::Result<T>) -> Result<T, RuntimeError> {
        result.map_err(|error| RuntimeError::io(format!("{doing} the volume {}", self.mount.display()), error))
    }
}

/// Names of files and directories in a directory, without what follows a dot; none if it is not there.
fn names_in(dir: &Path) -> Result<BTreeSet<String>, RuntimeError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(RuntimeError::io(format!("read {}", dir.display()), error)),
    };
    let stems = entries.filter_map(|entry| Some(Path::new(&entry.ok()?.file_name()).file_stem()?.to_str()?.to_owned()));
    Ok(stems.collect())
}

pub(super) fn path_text(path: &Path) -> Result<&str, RuntimeError> {
    path.to_str().ok_or_else(|| RuntimeError::Invalid { field: "state_dir", why: "its path is not UTF-8".into() })
}
