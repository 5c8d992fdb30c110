//! Where Podman's compatible socket differs from Docker Engine: what it is told otherwise, and its words put into Docker's.
//!
//! Guarantees: the other files speak of one engine. What Podman cannot do at all is said in [`crate::Capabilities`] and refused:
//! - **Builds.** `networkmode=none` is ignored: the steps of a build run in the host's network. They show up in no list, so nobody
//!   can look at what they write either.
//! - **Out of memory** is not told from any other kill ([`crate::Capabilities::reports_oom`]).
//! - **Logs** keep no bytes that are not text, and their times are whole seconds; a log that was rotated meanwhile says so, and may
//!   repeat what was written in that very second.
//!
//! An image's root folder is read-only for its owner here where the image does not say otherwise, which Docker makes writable: a job
//! has no right to override that, so [`open_root`] does it before the start.
//!
//! Written against Podman 4.3.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bollard::{
    errors::Error,
    models::{ContainerCreateBody, ResourcesUlimits},
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use pasture_rt::TaskKind;
use tar::EntryType;
use tokio::sync::mpsc;

use super::firewall;
use crate::{InstanceId, RuntimeError};

/// The log format that Podman writes where it is asked for `json-file`.
const LOG_DRIVER: &str = "k8s-file";

/// Pieces of an archive that wait on either side of whoever renames its entries.
const PIECES_AHEAD: usize = 4;
/// Size of such pieces.
const PIECE_BYTES: usize = 64 << 10;

/// Most failed starts that are remembered: each belongs to an instance that is soon removed.
const MAX_FAILED_STARTS: usize = 1024;

/// Whether the engine of these components is Podman.
pub(super) fn is(component: Option<&str>) -> bool {
    component.is_some_and(|name| name.starts_with("Podman"))
}

/// Why it builds nothing.
pub(super) const NO_BUILDS: &str =
    "this machine's engine is Podman, which lets the steps of a build into the host's network; it runs images, and builds none";

/// The log driver to ask for, of those that an engine has.
pub(super) fn log_driver(drivers: &[String]) -> Option<&'static str> {
    drivers.iter().any(|driver| driver == LOG_DRIVER).then_some(LOG_DRIVER)
}

/// Podman hands on the host's resolvers, which is also what the packet filter lets through.
pub(super) fn resolver() -> String {
    firewall::host_resolvers().iter().map(|address| format!("nameserver {address}\n")).collect()
}

/// Changes what an instance is described by to what Podman understands. `processes`: how many the engine's user may have.
pub(super) fn adapt(body: &mut ContainerCreateBody, processes: Option<i64>) {
    let host = body.host_config.get_or_insert_default();
    // Left alone it asks for a million processes for each user, which not every root may. The instance's own limit is the group's.
    let limits = host.ulimits.get_or_insert_default();
    limits.extend(processes.map(|most| ResourcesUlimits { name: Some("nproc".into()), soft: Some(most), hard: Some(most) }));
}

/// Write for the owner.
const OWNER_WRITES: u32 = 0o200;

/// Lets the root folder of an instance that has not started be written to by its owner, as Docker does. `layer`: what takes the
/// instance's writes; nothing happens where we do not see it.
pub(super) fn open_root(layer: Option<&Path>) -> Result<(), RuntimeError> {
    let Some(root) = layer.map(|layer| layer.join("diff")) else { return Ok(()) };
    let opened = std::fs::metadata(&root).and_then(|meta| {
        let mode = meta.permissions().mode();
        if mode & OWNER_WRITES != 0 {
            return Ok(());
        }
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(mode | OWNER_WRITES))
    });
    match opened {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::io(format!("open {}", root.display()), error)),
        _ => Ok(()),
    }
}

/// Whether a subnet was refused because somebody has it.
pub(super) fn is_taken(message: &str) -> bool {
    message.contains("is already used on the host")
}

/// Starts that failed: Podman forgets them at once, and whoever waits for such an instance would wait for ever. Kept for as long as
/// the instance is here and this process lives.
#[derive(Default)]
pub(super) struct FailedStarts(Mutex<BTreeMap<String, (i32, String)>>);

impl FailedStarts {
    pub(super) fn note(&self, id: &InstanceId, code: i32, message: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_FAILED_STARTS {
            all.insert(id.0.clone(), (code, message.to_owned()));
        }
    }
    pub(super) fn of(&self, id: &InstanceId) -> Option<(i32, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id.0).cloned()
    }
    pub(super) fn forget(&self, id: &InstanceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.0);
    }
}

/// Whether an instance has ended and Podman has not cleared up after it yet, a state that Docker does not have.
pub(super) fn is_between(error: &Error) -> bool {
    error.to_string().contains("unknown variant `stopped`")
}

/// How a directory is asked for whose content is wanted: of `/a/.` Podman leaves out the directory itself.
pub(super) fn plain_path(path: &str) -> &str {
    path.strip_suffix("/.").filter(|plain| !plain.is_empty()).unwrap_or(path)
}

/// Gives the entries of an archive in a file the names that Docker gives, as [`rename`] does. Gives the archive's new size.
pub(super) fn rename_entries(archive: &Path, path: &str) -> io::Result<u64> {
    let draft = archive.with_extension("renamed");
    rename(File::open(archive)?, io::BufWriter::new(File::create(&draft)?), path)?.flush()?;
    std::fs::rename(&draft, archive)?;
    Ok(std::fs::metadata(archive)?.len())
}

/// The same for an archive on its way, whose first piece has come.
pub(super) fn renamed(first: Bytes, rest: BoxStream<'static, Result<Bytes, RuntimeError>>, path: String) -> BoxStream<'static, Answer> {
    let (give, taken) = mpsc::channel(PIECES_AHEAD);
    let (tell, told) = mpsc::channel::<Answer>(PIECES_AHEAD);
    drop(pasture_rt::spawn_blocking(TaskKind::Files, move || {
        let source = Taken { pieces: taken, piece: first };
        let sink = io::BufWriter::with_capacity(PIECE_BYTES, Told(tell.clone()));
        if let Err(error) = rename(source, sink, &path).and_then(|mut sink| sink.flush()) {
            // A broken archive must not look like a shorter one.
            let _ = tell.blocking_send(Err(RuntimeError::io("read what the engine packed", error)));
        }
    }));
    let feed = async move {
        let mut rest = rest;
        while let Some(piece) = rest.next().await {
            // It has all it wants, or nobody listens.
            if give.send(piece.map_err(io::Error::other)).await.is_err() {
                return;
            }
        }
    };
    let told = futures::stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) });
    futures::stream::select(futures::stream::once(feed).filter_map(|()| async { None }), told).boxed()
}

/// A piece of an archive.
type Answer = Result<Bytes, RuntimeError>;

/// Reads what comes in pieces.
struct Taken {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl io::Read for Taken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        let (now, later) = (self.piece.slice(..count), self.piece.slice(count..));
        if let Some(to) = buffer.get_mut(..count) {
            to.copy_from_slice(&now);
        }
        self.piece = later;
        Ok(count)
    }
}

/// Hands over what is written.
struct Told(mpsc::Sender<Answer>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives entries the names that Docker gives: the directory first, as `./` for `/a/b/.` and as `b/` for `/a/b`. Podman names the root of a
/// mount `/`, and after the end of an instance otherwise than before; directories have no slash.
fn rename<W: Write>(archive: impl io::Read, out: W, path: &str) -> io::Result<W> {
    let below = match path.strip_suffix("/.") {
        Some(_) => Path::new("."),
        None => Path::new(path).file_name().map_or(Path::new("."), Path::new),
    };
    let mut out = tar::Builder::new(out);
    let mut root: Option<PathBuf> = None;
    let relative = |name: &[u8]| {
        PathBuf::from(OsStr::from_bytes(name).to_owned()).components().filter(|part| *part != Component::RootDir).collect::<PathBuf>()
    };
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = relative(&entry.path_bytes());
        let root = root.get_or_insert_with(|| name.clone());
        let (mut header, kind) = (entry.header().clone(), entry.header().entry_type());
        let renamed = |name: &Path| match name.strip_prefix(&*root).unwrap_or(name) {
            inner if inner.as_os_str().is_empty() => below.to_owned(),
            inner => below.join(inner),
        };
        let link = entry.link_name_bytes().map(|target| target.into_owned());
        match (kind, link) {
            (EntryType::Symlink, Some(target)) => out.append_link(&mut header, renamed(&name), OsStr::from_bytes(&target))?,
            (EntryType::Link, Some(target)) => out.append_link(&mut header, renamed(&name), renamed(&relative(&target)))?,
            // With a slash at the end.
            (EntryType::Directory, _) => out.append_data(&mut header, renamed(&name).join(""), io::empty())?,
            _ => out.append_data(&mut header, renamed(&name), &mut entry)?,
        }
    }
    out.into_inner()
}

/// Whether it refused to do something with an instance because that has ended and is not cleared up after yet.
pub(super) fn is_unsettled(message: &str) -> bool {
    message.contains("container state improper: stopped")
}

/// Podman says "internal error" where Docker has a status for what happened; what happened is in the words.
pub(super) fn as_docker(error: Error) -> Error {
    let Error::DockerResponseServerError { status_code: 500, message } = error else { return error };
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let status_code = match () {
        () if says(&[
            "is already in use",
            "already exists",
            "network is being used",
            "container state improper",
            "has associated containers",
        ]) =>
        {
            409
        }
        () if says(&[
            "no such container",
            "no such network",
            "no such volume",
            "network not found",
            "image not known",
            "no container with",
        ]) =>
        {
            404
        }
        () => 500,
    };
    Error::DockerResponseServerError { status_code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_get_the_names_that_docker_gives() {
        let names = |entries: &[(&str, EntryType, &str)], path: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut tar = tar::Builder::new(file.reopen().unwrap());
            for (name, kind, link) in entries {
                let mut header = tar::Header::new_gnu();
                header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
                header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
                header.set_entry_type(*kind);
                header.set_size(0);
                header.set_cksum();
                tar.append(&header, io::empty()).unwrap();
            }
            tar.finish().unwrap();
            let size = rename_entries(file.path(), path).unwrap();
            assert_eq!(size, std::fs::metadata(file.path()).unwrap().len());
            let mut archive = tar::Archive::new(File::open(file.path()).unwrap());
            let shown = |entry: tar::Entry<'_, File>| {
                let link = entry.link_name().unwrap().map_or_else(String::new, |target| format!(" -> {}", target.display()));
                format!("{}{link}", String::from_utf8_lossy(&entry.path_bytes()))
            };
            archive.entries().unwrap().map(|entry| shown(entry.unwrap())).collect::<Vec<_>>()
        };
        use EntryType::{Directory, Link, Regular, Symlink};
        let after = [("/", Directory, ""), ("/d", Directory, ""), ("/d/f", Regular, ""), ("/l", Symlink, "/etc"), ("/h", Link, "/d/f")];
        let before = [
            ("out", Directory, ""),
            ("out/d", Directory, ""),
            ("out/d/f", Regular, ""),
            ("out/l", Symlink, "/etc"),
            ("out/h", Link, "out/d/f"),
        ];
        for entries in [after, before] {
            assert_eq!(names(&entries, "/farm/out"), ["out/", "out/d/", "out/d/f", "out/l -> /etc", "out/h -> out/d/f"]);
        }
        assert_eq!(names(&after, "/farm/out/.")[..3], ["./", "d/", "d/f"]);
        assert_eq!(names(&[("f", Regular, "")], "/farm/out/d/f"), ["f"]);
    }

    #[tokio::test]
    async fn an_archive_on_its_way_is_renamed_and_a_broken_one_is_told() {
        let mut tar = tar::Builder::new(vec![]);
        let content = vec![7; 300 << 10];
        for (name, kind, content) in [("/", EntryType::Directory, &[][..]), ("/f", EntryType::Regular, &content)] {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        let whole = tar.into_inner().unwrap();
        let ask = async |end: Option<RuntimeError>, bytes: &[u8]| {
            let mut pieces: Vec<_> = bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let first = pieces.remove(0).unwrap();
            let rest = futures::stream::iter(pieces.into_iter().chain(end.map(Err))).boxed();
            renamed(first, rest, "/farm/out".into()).collect::<Vec<Answer>>().await
        };
        let said = ask(None, &whole).await.into_iter().collect::<Result<Vec<Bytes>, _>>().unwrap().concat();
        let mut archive = tar::Archive::new(said.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|e| e.map(|e| (e.path().unwrap().display().to_string(), e.size())).unwrap()).collect();
        assert_eq!(names, [("out/".to_owned(), 0), ("out/f".to_owned(), 300 << 10)]);
        let broken = ask(Some(RuntimeError::Conflict("x".into())), &whole[..100_000]).await;
        assert!(broken.last().unwrap().is_err());
        assert!(ask(None, &whole[..100_000]).await.last().unwrap().is_err(), "cut off");
    }

    #[test]
    fn a_root_folder_becomes_writable_and_keeps_its_other_bits() {
        let layer = tempfile::tempdir().unwrap();
        let root = layer.path().join("diff");
        std::fs::create_dir(&root).unwrap();
        for (before, after) in [(0o555, 0o755), (0o700, 0o700), (0o1577, 0o1777)] {
            std::fs::set_permissions(&root, std::fs::Permissions::from_mode(before)).unwrap();
            open_root(Some(layer.path())).unwrap();
            assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o7777, after);
        }
        open_root(Some(&layer.path().join("elsewhere"))).unwrap();
        open_root(None).unwrap();
    }

    #[test]
    fn its_words_get_the_status_that_docker_gives() {
        let status = |message: &str| match as_docker(Error::DockerResponseServerError { status_code: 500, message: message.into() }) {
            Error::DockerResponseServerError { status_code, .. } => status_code,
            other => panic!("{other}"),
        };
        assert_eq!(status("container create: the container name \"x\" is already in use by 1: that name is already in use"), 409);
        assert_eq!(status("\"x\" has associated containers with it. Use -f to forcibly delete: network is being used"), 409);
        assert_eq!(status("no such container"), 404);
        assert_eq!(status("cannot write"), 500);
        let other = Error::DockerResponseServerError { status_code: 400, message: "already exists".into() };
        assert!(matches!(as_docker(other), Error::DockerResponseServerError { status_code: 400, .. }));
    }
}
