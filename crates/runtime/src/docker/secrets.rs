//! Secrets of an instance: files in memory that is never swapped out (`ramfs`), mounted on a folder of the host that only its owner can
//! enter, and given to the instance read-only under [`Workload::secrets`](crate::Workload::secrets).
//!
//! The folder is there from `create` on and empty; the files come just before the start, again after a reboot; they go with the instance.
//! The engine knows only the folder's path. Nothing here touches a disk.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bollard::models::{ContainerCreateBody, Mount as EngineMount, MountType};

use super::{Inner, tool::run_tool, volume::path_text, workload::Names};
use crate::{InstanceId, InstanceKey, Owner, RuntimeError, SecretFile, Workload};

/// Folder of all of them.
const SECRETS: &str = "secrets";
/// Variables for the command, in the words of a shell.
pub(super) const VARIABLES: &str = ".variables";
/// Read by the shell that the command is started by.
const START: &str = "exec \"$@\"";
/// Most bytes of all files of an instance: they are memory of the host.
const MAX_BYTES: usize = 256 << 10;

/// One instance's folder: `<state>/secrets/<owner>/<object>`.
pub(super) struct SecretDir(PathBuf);

impl SecretDir {
    pub(super) fn new(state_dir: &Path, owner: &Owner, object: &str) -> Self {
        Self(state_dir.join(SECRETS).join(owner.as_str()).join(object))
    }

    /// Names of all that there are of an owner.
    pub(super) fn list(state_dir: &Path, owner: &Owner) -> Result<Vec<String>, RuntimeError> {
        let dir = state_dir.join(SECRETS).join(owner.as_str());
        match fs::read_dir(&dir) {
            Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(RuntimeError::io(format!("read {}", dir.display()), error)),
        }
    }

    fn at<T>(&self, doing: &str, result: io::Result<T>) -> Result<T, RuntimeError> {
        result.map_err(|error| RuntimeError::io(format!("{doing} {}", self.0.display()), error))
    }

    pub(super) fn make(&self) -> Result<(), RuntimeError> {
        // The folder's own mode is what the instance sees before its memory is mounted; those above keep others out.
        self.at("make", fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0))
    }

    fn is_mounted(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
        let parent = self.0.parent().unwrap_or(&self.0);
        device(&self.0).is_some_and(|own| device(parent).is_some_and(|above| own != above))
    }

    async fn fill(&self, files: &[SecretFile]) -> Result<(), RuntimeError> {
        self.make()?;
        let text = path_text(&self.0)?;
        if !self.is_mounted() {
            run_tool("mount", &["-t", "ramfs", "-o", "nosuid,nodev,noexec,mode=0755", "secrets", text]).await?;
        }
        for file in files {
            let path = self.0.join(&file.name);
            // One that is there is from a start that did not get far.
            let _ = fs::remove_file(&path);
            let mut options = fs::OpenOptions::new();
            // The instance may run as any user.
            let written = options.write(true).create_new(true).mode(0o444).open(&path).and_then(|mut f| {
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
                io::Write::write_all(&mut f, &file.content)
            });
            self.at("write in", written)?;
        }
        Ok(())
    }

    /// Forgets them; nothing happens if there are none.
    pub(super) async fn remove(&self) -> Result<(), RuntimeError> {
        if self.is_mounted() {
            let text = path_text(&self.0)?;
            if let Ok(entries) = fs::read_dir(&self.0) {
                // Also if somebody still looks into it.
                entries.flatten().for_each(|entry| drop(fs::remove_file(entry.path())));
            }
            if run_tool("umount", &[text]).await.is_err() {
                run_tool("umount", &["-l", text]).await?;
            }
        }
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.at("remove", Err(error)),
            _ => Ok(()),
        }
    }
}

fn check(files: &[SecretFile]) -> Result<(), RuntimeError> {
    let invalid = |why: &str| Err(RuntimeError::Invalid { field: "secrets", why: why.to_owned() });
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    for file in files {
        let name = &file.name;
        if name.is_empty() || matches!(name.as_str(), "." | "..") || name.len() > 255 || !name.bytes().all(legal) {
            return invalid("a file's name has letters, digits, dots, `-` and `_`");
        }
    }
    if files.iter().map(|f| f.content.len()).sum::<usize>() > MAX_BYTES {
        return invalid("they are too large");
    }
    Ok(())
}

impl Inner {
    /// The folder of a workload's secrets, empty.
    pub(super) fn make_secrets(&self, workload: &Workload) -> Result<Option<PathBuf>, RuntimeError> {
        if workload.secrets.is_none() {
            return Ok(None);
        }
        if !self.facts.can_mount {
            return Err(RuntimeError::Conflict("this machine cannot keep secrets in memory for a job".into()));
        }
        let object = Names::of(&workload.owner, &workload.instance_key).object;
        let dir = SecretDir::new(&self.config.state_dir, &workload.owner, &object);
        dir.make()?;
        Ok(Some(dir.0))
    }

    pub(super) async fn give_secrets(
        &self,
        id: &InstanceId,
        mut files: Vec<SecretFile>,
        values: &[(String, Vec<u8>)],
    ) -> Result<(), RuntimeError> {
        if !values.is_empty() {
            files.push(SecretFile { name: VARIABLES.into(), content: variables(values)? });
        }
        check(&files)?;
        let seen = self.look(id).await?.ok_or_else(|| RuntimeError::NotFound { what: "instance", name: id.0.clone() })?;
        let Some((owner, key)) = seen.key() else { return Ok(()) };
        self.secret_dir(&owner, &key).fill(&files).await
    }

    pub(super) fn secret_dir(&self, owner: &Owner, key: &InstanceKey) -> SecretDir {
        SecretDir::new(&self.config.state_dir, owner, &Names::of(owner, key).object)
    }

    /// Entry point and arguments of an image.
    pub(super) async fn image_command(&self, image: &str) -> Result<(Vec<String>, Vec<String>), RuntimeError> {
        let seen = super::probe::found(self.docker.inspect_image(image).await).map_err(|error| self.engine_error(error))?;
        let config = seen.and_then(|image| image.config).unwrap_or_default();
        Ok((config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default()))
    }
}

/// Has the command started by a shell of the image that reads the variables first: the engine, and whoever asks it, never learns them.
/// `image`: what the image would run.
pub(super) fn wrap(body: &mut ContainerCreateBody, dir: &str, image: (Vec<String>, Vec<String>)) {
    let arguments = body.cmd.take();
    let command = match body.entrypoint.take() {
        // A command of the job's own comes without the image's arguments.
        Some(entry) => entry.into_iter().chain(arguments.unwrap_or_default()),
        None => image.0.into_iter().chain(arguments.unwrap_or(image.1)),
    };
    body.entrypoint = Some(vec!["/bin/sh".into(), "-c".into(), format!(". {dir}/{VARIABLES} && {START}"), "sh".into()]);
    body.cmd = Some(command.collect());
}

/// Adds the folder to what the engine is told.
pub(super) fn add(body: &mut ContainerCreateBody, source: &Path, target: &str) {
    let mount = EngineMount {
        target: Some(target.to_owned()),
        source: Some(source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Default::default()
    };
    if let Some(host) = &mut body.host_config {
        host.mounts.get_or_insert_default().push(mount);
    }
}

/// Variables in the words of a shell.
fn variables(values: &[(String, Vec<u8>)]) -> Result<Vec<u8>, RuntimeError> {
    let mut out = vec![];
    for (name, value) in values {
        // What is not a plain name would be run.
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !plain || value.contains(&0) {
            return Err(RuntimeError::Invalid { field: "secrets", why: "a variable has a plain name and no zero byte".into() });
        }
        out.extend_from_slice(format!("export {name}='").as_bytes());
        for byte in value {
            match byte {
                // Out of the quotes, a quote, and in again.
                b'\'' => out.extend_from_slice(b"'\\''"),
                byte => out.push(*byte),
            }
        }
        out.extend_from_slice(b"'\n");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_quoted_and_names_are_plain() {
        let one = |name: &str, value: &[u8]| variables(&[(name.into(), value.to_vec())]);
        assert_eq!(one("A", b"it's $(x)\n").unwrap(), b"export A='it'\\''s $(x)\n'\n");
        for name in ["", "1A", "A;reboot", "A B", "A='"] {
            assert!(one(name, b"x").is_err(), "{name}");
        }
        assert!(one("A", b"\0").is_err());
    }

    #[test]
    fn a_shell_of_the_image_starts_what_would_have_run() {
        let texts = |t: &[&str]| t.iter().map(|t| (*t).to_string()).collect::<Vec<_>>();
        let run = |entry: Option<&[&str]>, cmd: Option<&[&str]>| {
            let mut body = ContainerCreateBody { entrypoint: entry.map(texts), cmd: cmd.map(texts), ..Default::default() };
            wrap(&mut body, "/run/secrets", (texts(&["image"]), texts(&["its", "own"])));
            assert_eq!(body.entrypoint.unwrap()[..2], texts(&["/bin/sh", "-c"]));
            body.cmd.unwrap()
        };
        assert_eq!(run(None, None), ["image", "its", "own"]);
        assert_eq!(run(None, Some(&["mine"])), ["image", "mine"]);
        assert_eq!(run(Some(&["entry"]), None), ["entry"]);
        assert_eq!(run(Some(&["entry"]), Some(&["mine"])), ["entry", "mine"]);
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0"] {
            assert!(check(&[SecretFile { name: name.into(), content: vec![] }]).is_err(), "{name:?}");
        }
        let large = SecretFile { name: "a".into(), content: vec![0; MAX_BYTES + 1] };
        assert!(check(std::slice::from_ref(&large)).is_err());
        assert_eq!(format!("{large:?}"), "SecretFile(a)");
    }
}
