//! `farm cp`: files and folders out of a job, running or ended, and into a running one.
//!
//! Guarantees: here, a copy appears under its name only when all of it has arrived and was found harmless ([`crate::unpack`]); until
//! then it lies beside it under another one, and goes if anything fails. A file replaces a file; a folder replaces nothing unless
//! that is asked for. There, the machine looks through all of it first. Nothing is taken beyond the limit, and names that a
//! container chose are printed so that no terminal obeys them.

use crate::args::CpArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::pack::Packed;
use crate::patience::while_away;
use crate::reach::{Reached, Talk, broken, problem, refused};
use crate::render::Progress;
use crate::render::number::count;
use crate::session::App;
use crate::transfer;
use crate::tree::{self, Tree};
use crate::unpack::{Found, LeftOut, Unpacked, unpack_part};
use bytes::{Buf as _, Bytes, BytesMut};
use indicatif::ProgressBar;
use pasture_api::channel::{Frame, MAX_FRAME, Purpose};
use pasture_api::data::{OUTPUT_DIR, Phase};
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_types::resources::{display_bytes, parse_bytes};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

/// Pieces that wait for the disk here.
const WAITING: usize = 16;

/// An archive is a little larger than what is in it: headers and padding of every entry.
const OVERHEAD: u64 = 256 << 20;

/// One end of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Side {
    Here(PathBuf),
    Job { job: String, path: String },
}

impl Side {
    /// `JOB:PATH`, unless it begins like a path.
    fn parse(text: &str) -> Result<Self, Failure> {
        match text.split_once(':') {
            Some((job, path)) if !job.is_empty() && !job.contains('/') && !job.starts_with(['.', '~']) => {
                Ok(Self::Job { job: job.into(), path: in_container(path)? })
            }
            _ if text.is_empty() => Err(Failure::usage("an empty name is no place to copy from or to")),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// The path in a container, without what says nothing; `/` at its end stays, since it says that a folder is meant.
fn in_container(text: &str) -> Result<String, Failure> {
    let mut parts: Vec<&str> = if text.starts_with('/') { vec![] } else { OUTPUT_DIR.split('/').filter(|p| !p.is_empty()).collect() };
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(Failure::usage(format!("`{}`: a path in a job has no `..`", text.escape_debug())));
        }
        parts.push(part);
    }
    let end = if text.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    Ok(format!("/{}{end}", parts.join("/")))
}

/// Runs the command.
pub(crate) async fn run(app: &App, args: &CpArgs) -> Outcome {
    let limit = parse_bytes(&args.limit).map_err(|e| Failure::usage(format!("--limit: {e}")))?;
    match (Side::parse(&args.from)?, Side::parse(&args.to)?) {
        (Side::Job { job, path }, Side::Here(to)) => take(app, &job, &path, &to, args.force, limit).await,
        (Side::Here(from), Side::Job { job, path }) => give(app, &from, &job, &path, limit).await,
        (Side::Here(_), Side::Here(_)) => Err(Failure::usage("neither of the two is JOB:PATH")
            .next("from a job:  farm cp JOB:PATH .")
            .next("to one:  farm cp FILE JOB:/tmp")),
        (Side::Job { .. }, Side::Job { .. }) => {
            Err(Failure::usage("both are JOB:PATH; one must be here").next("copy it here first, then there"))
        }
    }
}

// ---- out of a job -------------------------------------------------------------------------------------------------------

/// Where a copy goes here.
struct Place {
    /// Its name once it is whole.
    at: PathBuf,
    /// A folder beside it, for what is under way; gone with this.
    temp: tempfile::TempDir,
    force: bool,
}

impl Place {
    /// `path`: what is copied, whose last part is its name in a folder.
    fn find(to: &Path, path: &str, force: bool) -> Result<Self, Failure> {
        let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("root");
        let means_folder = to.as_os_str().as_encoded_bytes().ends_with(b"/");
        let at = if to.is_dir() { to.join(name) } else { to.to_path_buf() };
        if means_folder && !to.is_dir() {
            return Err(Failure::usage(format!("there is no folder {}", to.display())));
        }
        let parent = at.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        if at.file_name().is_none() || !parent.is_dir() {
            return Err(Failure::usage(format!("there is no folder {}", parent.display())));
        }
        let temp = tempfile::Builder::new().prefix(".farm-cp-").tempdir_in(parent).map_err(|e| Failure::io("write in", parent, &e))?;
        let place = Self { at, temp, force };
        // Said before anything is fetched, as far as it can be.
        if place.at.symlink_metadata().is_ok_and(|m| m.is_dir()) && !force {
            return Err(place.taken());
        }
        Ok(place)
    }

    fn taken(&self) -> Failure {
        Failure::new("exists", format!("{} is there already; nothing was copied", self.at.display()))
            .next("replace it:  --force")
            .next("or name another place")
    }

    /// Where it lies until it is whole.
    fn partial(&self) -> PathBuf {
        self.temp.path().join("copy")
    }

    /// Takes away what came of a copy that broke off.
    fn empty(&self) -> Result<(), Failure> {
        let part = self.partial();
        let removed = match part.symlink_metadata() {
            Ok(there) if there.is_dir() => std::fs::remove_dir_all(&part),
            Ok(_) => std::fs::remove_file(&part),
            Err(_) => Ok(()),
        };
        removed.map_err(|e| Failure::io("remove", &part, &e))
    }

    /// Gives it its name.
    fn settle(&self) -> Result<(), Failure> {
        let new = self.partial();
        let folder = new.symlink_metadata().is_ok_and(|m| m.is_dir());
        match self.at.symlink_metadata() {
            Err(_) => {}
            Ok(there) if !folder && !there.is_dir() => {}
            Ok(_) if !self.force => return Err(self.taken()),
            // It goes with the temporary folder, once the new one has its name.
            Ok(_) => std::fs::rename(&self.at, self.temp.path().join("before")).map_err(|e| Failure::io("replace", &self.at, &e))?,
        }
        std::fs::rename(&new, &self.at).map_err(|e| Failure::io("write", &self.at, &e))
    }
}

async fn take(app: &App, job: &str, path: &str, to: &Path, force: bool, limit: u64) -> Outcome {
    let place = Place::find(to, path, force)?;
    let reached = Reached::find(app, job).await?;
    let mut progress = Progress::new(reached.session.out);
    let status = while_away(reached.session.out, || reached.client.status()).await?;
    let found = match status.phase {
        Phase::Ended => take_left(&reached, path, &place, limit, &mut progress).await?,
        Phase::Running | Phase::Stopping => match take_now(&reached, path, &place, limit, &mut progress).await {
            // It ended while it was asked: what it left is kept, and is what was wanted.
            Err(failure) if failure.code == "job-ended" => {
                place.empty()?;
                take_left(&reached, path, &place, limit, &mut progress).await?
            }
            found => found?,
        },
        _ => return Err(refused(&reached.handle, &pasture_api::Problem::new(409, "not-running", ""))),
    };
    progress.clear();
    let (handle, out) = (&reached.handle, reached.session.out);
    let Some((done, left_out)) = found else {
        return Err(Failure::new("no-such-path", format!("{handle} left no {}", path.escape_debug()))
            .next(format!("see all that it left:  farm cp {handle}:. out")));
    };
    place.settle()?;
    if left_out.count > 0 {
        let more = if left_out.count > left_out.names.len() as u64 { ", …" } else { "" };
        let what = count(left_out.count, "link or device").replace("link or devices", "links or devices");
        out.warn(&format!("! left out {what} that lead elsewhere or have no content: {}{more}", left_out.names.join(", ")));
    }
    let at = place.at.display().to_string();
    let value = serde_json::json!({"copied": at, "files": done.files, "bytes": done.bytes, "left_out": left_out.count});
    if out.json {
        out.json(&value);
    } else {
        out.note(&format!("✓ {at}: {}, {}", count(done.files, "file"), display_bytes(done.bytes)));
    }
    Ok(Exit::Ok)
}

/// Of what an ended job left.
async fn take_left(
    reached: &Reached,
    path: &str,
    place: &Place,
    limit: u64,
    progress: &mut Progress,
) -> Result<Option<(Unpacked, LeftOut)>, Failure> {
    let handle = &reached.handle;
    let kept = path.strip_prefix(OUTPUT_DIR).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(kept) = kept.map(|rest| PathBuf::from(rest.trim_matches('/'))) else {
        return Err(Failure::new("job-ended", format!("{handle} has ended; only what it left in {OUTPUT_DIR} is kept"))
            .next(format!("all of that:  farm cp {handle}:. out")));
    };
    let temp = &reached.session.paths.data_dir;
    let archive = match transfer::fetch_archive(&reached.client, reached.session.reader()?, temp, limit, progress).await {
        Ok(archive) => archive,
        // A job that left nothing has no archive.
        Err(failure) if failure.code == "not-found" => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let at = place.partial();
    let unpacking = spawn_blocking(TaskKind::ClientFollow, move || unpack_part(archive, &at, Some(&kept), limit, |_| {}));
    unpacking.join().await.unwrap_or_else(|| Err(Failure::new("bad-output", "unpacking failed")))
}

/// Of what a running job has.
async fn take_now(
    reached: &Reached,
    path: &str,
    place: &Place,
    limit: u64,
    progress: &mut Progress,
) -> Result<Option<(Unpacked, LeftOut)>, Failure> {
    let talk = Talk::open(&reached.client, Purpose::Read { path: path.into() }).await.map_err(|e| reached.failure(e))?;
    progress.counting("copying");
    let (send, pieces) = mpsc::channel(WAITING);
    let (at, bar) = (place.partial(), progress.handle());
    let mut pipe = Pipe { pieces, rest: Bytes::new(), got: 0, most: limit.saturating_add(OVERHEAD), bar: bar.clone() };
    let unpacking = spawn_blocking(TaskKind::ClientFollow, move || {
        let begun = |found| {
            if let (Some(bar), Found::File(bytes)) = (&bar, found) {
                bar.set_length(bytes);
            }
        };
        let found = unpack_part(&mut pipe, &at, None, limit, begun)?;
        // Behind its last entry an archive has padding; only a channel that ended well gave all.
        io::copy(&mut pipe, &mut io::sink()).map_err(|e| Failure::new("bad-output", e.to_string()))?;
        Ok(found)
    });
    let came = receive(talk, send, &reached.handle).await;
    let unpacked = unpacking.join().await.unwrap_or_else(|| Err(Failure::new("bad-output", "unpacking failed")));
    match (came, unpacked) {
        // What did not fit here is why the rest was not taken.
        (Err(Came::Unread), Err(failure)) | (Ok(()), Err(failure)) => Err(failure),
        (Err(Came::Failed(failure)), _) => Err(failure),
        (Err(Came::Unread), Ok(_)) => Err(broken()),
        (Ok(()), Ok(None)) => Err(Failure::new("bad-output", "the machine sent an empty archive")),
        (Ok(()), Ok(found)) => Ok(found),
    }
}

/// Why not all was taken.
enum Came {
    /// The unpacking ended before.
    Unread,
    Failed(Failure),
}

async fn receive(mut talk: Talk, send: mpsc::Sender<Bytes>, handle: &str) -> Result<(), Came> {
    loop {
        let bytes = match talk.hear().await.map_err(Came::Failed)? {
            Frame::Output(bytes) => bytes,
            Frame::Exit(_) => return Ok(()),
            Frame::Problem(bytes) => return Err(Came::Failed(refused(handle, &problem(&bytes)))),
            _ => continue,
        };
        send.send(bytes).await.map_err(|_| Came::Unread)?;
    }
}

/// What arrives, for a reader that blocks.
struct Pipe {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
    got: u64,
    /// An archive that is longer has too little in it for its length.
    most: u64,
    bar: Option<ProgressBar>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(next) = self.pieces.blocking_recv() else { return Ok(0) };
            self.got = self.got.saturating_add(next.len() as u64);
            if self.got > self.most {
                return Err(io::Error::other("it is larger than the most that is taken"));
            }
            if let Some(bar) = &self.bar {
                bar.set_position(self.got);
            }
            self.rest = next;
        }
        let n = self.rest.len().min(buf.len());
        self.rest.split_to(n).copy_to_slice(buf.get_mut(..n).unwrap_or_default());
        Ok(n)
    }
}

// ---- into a job ---------------------------------------------------------------------------------------------------------

/// What it is called there, where the path is a folder.
fn name_of(from: &Path) -> Result<String, Failure> {
    let real = std::fs::canonicalize(from).map_err(|e| Failure::io("read", from, &e))?;
    // A link is called what the user wrote.
    let name = from.file_name().or_else(|| real.file_name()).and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Failure::usage(format!("{} has no name that can travel", from.display())))
}

async fn give(app: &App, from: &Path, job: &str, path: &str, limit: u64) -> Outcome {
    let name = name_of(from)?;
    let reached = Reached::running(app, job).await?;
    let (out, handle) = (reached.session.out, &reached.handle);
    let mut progress = Progress::new(out);
    progress.step("packing");
    let (source, temp) = (from.to_path_buf(), reached.session.paths.data_dir.clone());
    let packing = spawn_blocking(TaskKind::ClientFollow, move || tree::pack(&source, &temp, limit));
    let Tree { packed, files, bytes, skipped } = packing.join().await.unwrap_or_else(|| Err(Failure::new("io", "packing failed")))?;
    let purpose = Purpose::Write { path: path.into(), name, bytes: packed.bytes, hash: packed.hash };
    let talk = Talk::open(&reached.client, purpose).await.map_err(|e| reached.failure(e))?;
    progress.transfer("copying", packed.bytes);
    send(talk, packed, progress.handle(), handle).await?;
    progress.clear();
    if skipped > 0 {
        out.warn(&format!("! left out {} without content (sockets or devices)", count(skipped, "file")));
    }
    let value = serde_json::json!({"copied": path, "job": handle, "files": files, "bytes": bytes, "left_out": skipped});
    if out.json {
        out.json(&value);
    } else {
        out.note(&format!("✓ {handle}:{}: {}, {}", path.escape_debug(), count(files, "file"), display_bytes(bytes)));
    }
    Ok(Exit::Ok)
}

/// Sends an archive and waits for the machine's word.
async fn send(mut talk: Talk, packed: Packed, bar: Option<ProgressBar>, handle: &str) -> Result<(), Failure> {
    let say = talk.say.clone();
    let told = async {
        loop {
            match talk.hear().await? {
                Frame::Exit(_) => return Ok(()),
                Frame::Problem(bytes) => return Err(refused(handle, &problem(&bytes))),
                _ => {}
            }
        }
    };
    tokio::select! {
        told = told => told,
        failed = feed(say, packed, bar) => Err(failed),
    }
}

/// Passes an archive on; comes back only when that fails.
async fn feed(say: mpsc::Sender<Frame>, packed: Packed, bar: Option<ProgressBar>) -> Failure {
    let mut file = tokio::fs::File::from_std(packed.file);
    let mut sent = 0u64;
    loop {
        let mut piece = BytesMut::with_capacity(MAX_FRAME);
        let frame = match (&mut file).take(MAX_FRAME as u64).read_buf(&mut piece).await {
            Ok(0) => Frame::InputEnd,
            Ok(_) => Frame::Input(piece.freeze()),
            Err(error) => return Failure::new("io", format!("cannot read what was packed: {error}")),
        };
        if let (Frame::Input(piece), Some(bar)) = (&frame, &bar) {
            sent = sent.saturating_add(piece.len() as u64);
            bar.set_position(sent);
        }
        let last = frame == Frame::InputEnd;
        // A machine that wants no more says why: that is waited for.
        if say.send(frame).await.is_err() || last {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_here_or_in_a_job() {
        let job = |path: &str| Side::Job { job: "fold-7k2".into(), path: path.into() };
        for (text, path) in [
            ("fold-7k2:/data/x", "/data/x"),
            ("fold-7k2://data/./x/", "/data/x/"),
            ("fold-7k2:best.txt", "/farm/out/best.txt"),
            ("fold-7k2:.", "/farm/out"),
            ("fold-7k2:", "/farm/out"),
            ("fold-7k2:/", "/"),
            ("fold-7k2:/a:b", "/a:b"),
        ] {
            assert_eq!(Side::parse(text).unwrap(), job(path), "{text}");
        }
        for here in ["x", "./a:b", "/a:b", "../a", "dir/a:b", "~/a:b", ":x"] {
            assert_eq!(Side::parse(here).unwrap(), Side::Here(here.into()), "{here}");
        }
        assert!(Side::parse("a:/b/../c").is_err() && Side::parse("").is_err());
    }

    #[test]
    fn a_copy_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let copy = |to: &Path, path: &str, force, text: Option<&str>| {
            let place = Place::find(to, path, force)?;
            match text {
                Some(text) => std::fs::write(place.partial(), text).unwrap(),
                None => std::fs::create_dir(place.partial()).unwrap(),
            }
            place.settle().map(|()| place.at.clone())
        };
        assert_eq!(copy(&at("new"), "/a/b", false, Some("1")).unwrap(), at("new"));
        assert_eq!(copy(dir.path(), "/a/b/", false, None).unwrap(), at("b"), "into a folder under its own name");
        copy(&at("new"), "/a/c", false, Some("2")).unwrap();
        assert_eq!(std::fs::read_to_string(at("new")).unwrap(), "2", "a file replaces a file");
        assert_eq!(copy(dir.path(), "/b", false, None).unwrap_err().code, "exists");
        std::fs::write(at("b/old"), "").unwrap();
        copy(dir.path(), "/b", true, None).unwrap();
        assert!(!at("b/old").exists(), "replaced");
        assert_eq!(copy(&at("new"), "/d", false, None).unwrap_err().code, "exists", "a folder replaces no file unasked");
        assert!(copy(&at("none/x"), "/d", false, None).is_err() && copy(&at("none/"), "/d", false, None).is_err());
        // Nothing else is left behind.
        let mut names: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["b", "new"]);
    }
}
