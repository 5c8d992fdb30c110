//! Backups: files of one directory in one file, which a passphrase opens. Format: `docs/specs/backup.md`.
//!
//! ```text
//!  stream (`stream.rs`) of zstd of tar of:  manifest (JSON: what it is, each file's path, length and BLAKE3), then the files in its order
//! ```
//! Guarantees: links and whatever is no plain file are refused, not followed; a backup appears whole or not at all, and replaces no file. All
//! of it is read and compared with its manifest before [`Backup::unpack`] writes anything; what is unpacked appears at once, in a directory
//! that was not there. It does not know what the files mean, nor which of them may be copied while somebody writes them.

mod stream;

use crate::{StoreError, sync_dir};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use stream::{Closer, Head, Opener};

/// The version of the manifest that is written here, and the only one read.
pub const BACKUP_FORM: u32 = 1;
/// Most files: a ledger's store has one for each few thousand blocks.
pub const MAX_BACKUP_FILES: usize = 200_000;
/// Longest path within a backup.
const MAX_PATH: usize = 512;
/// Deepest folder, so that reading a hostile tree ends.
const MAX_DEPTH: usize = 16;
/// Largest manifest: the most files with the longest paths.
const MAX_MANIFEST: u64 = 160 << 20;
/// Name of the manifest in the archive.
const MANIFEST: &str = "manifest";
/// zstd's own default: faster than a disk.
const LEVEL: i32 = 3;
/// Buffers, and bytes between two reports of progress.
const STEP: usize = 256 << 10;

/// Why a backup is not made, not read or not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("it is no backup, or of a version that is not known here")]
    Foreign,
    /// It does not open.
    #[error("the passphrase is wrong, or the file's beginning is damaged")]
    Passphrase,
    /// It ends too early.
    #[error("it ends too early: its copy broke off")]
    Truncated,
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Something that is no plain file.
    #[error("{} is {what}: a backup follows no links and holds plain files only", path.display())]
    Odd {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// More than a backup holds.
    #[error("{0}")]
    TooMuch(String),
    /// Somebody writes the files.
    #[error("{} changed while it was read: stop what writes it", .0.display())]
    Changing(PathBuf),
    /// The target is there.
    #[error("{} is there already: nothing is overwritten", .0.display())]
    There(PathBuf),
    /// The machine cannot do it.
    #[error("this machine cannot do it: {0}")]
    Unable(String),
    /// Files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        // What went wrong below a reader comes up through the readers above it.
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<BackupError> for io::Error {
    fn from(error: BackupError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A file in a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Where it lies below the directory.
    pub path: String,
    /// How long it is.
    pub bytes: u64,
    /// BLAKE3 of its content, in hex.
    pub blake3: String,
}

/// What a backup says of itself. `A` is what its maker knows of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest<A> {
    /// [`BACKUP_FORM`].
    pub form: u32,
    /// What it is of.
    pub about: A,
    /// Its files, in their order.
    pub files: Vec<BackupFile>,
}

impl<A> Manifest<A> {
    /// Length of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, f| sum.saturating_add(f.bytes))
    }

    fn check(&self) -> Result<(), BackupError> {
        let damaged = |what: &str| Err(BackupError::Damaged(what.into()));
        if self.form != BACKUP_FORM {
            return Err(BackupError::Foreign);
        }
        if self.files.len() > MAX_BACKUP_FILES {
            return damaged("it has more files than a backup holds");
        }
        let ascend = self.files.windows(2).all(|pair| matches!(pair, [a, b] if a.path < b.path));
        if !ascend || self.files.iter().any(|f| !is_plain(&f.path)) {
            return damaged("a file's path leaves the folder, or is there twice");
        }
        Ok(())
    }
}

/// Whether a path stays below where it is put.
fn is_plain(path: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let plain = parts.iter().all(|p| matches!(p, Component::Normal(_)));
    // The path that its parts make is the same: no doubled or last slash.
    let same = parts.iter().collect::<PathBuf>().as_os_str().len() == path.len();
    plain && same && (1..=MAX_DEPTH).contains(&parts.len()) && path.len() <= MAX_PATH && !path.contains(['\\', '\0'])
}

/// The plain files below a directory that are wanted, by path. `wanted` is asked of folders too, with a slash at the end.
///
/// # Errors
/// A link or another file that is none; more than a backup holds; a folder that cannot be read.
pub fn collect(root: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>, BackupError> {
    let mut found = Vec::new();
    walk(root, "", 0, wanted, &mut found)?;
    found.sort_unstable();
    Ok(found)
}

fn walk(root: &Path, below: &str, depth: usize, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<String>) -> Result<(), BackupError> {
    let dir = root.join(below);
    if depth >= MAX_DEPTH {
        return Err(BackupError::TooMuch(format!("{} lies deeper than a backup goes ({MAX_DEPTH} folders)", dir.display())));
    }
    for entry in std::fs::read_dir(&dir).map_err(StoreError::io("read", &dir))? {
        let entry = entry.map_err(StoreError::io("read", &dir))?;
        let path = entry.path();
        let odd = |what| BackupError::Odd { path: path.clone(), what };
        let name = entry.file_name().into_string().map_err(|_| odd("not named in UTF-8"))?;
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(StoreError::io("read", &path))?;
        if !wanted(&if kind.is_dir() { format!("{name}/") } else { name.clone() }) {
            continue;
        }
        if kind.is_dir() {
            walk(root, &name, depth + 1, wanted, found)?;
        } else if !kind.is_file() {
            return Err(odd(if kind.is_symlink() { "a link" } else { "no plain file" }));
        } else if !is_plain(&name) {
            return Err(odd("named in a way that cannot be kept"));
        } else if found.len() >= MAX_BACKUP_FILES {
            return Err(BackupError::TooMuch(format!("{} has more than {MAX_BACKUP_FILES} files", root.display())));
        } else {
            found.push(name);
        }
    }
    Ok(())
}

fn open_plain(path: &Path) -> Result<File, BackupError> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path).map_err(StoreError::io("read", path))?;
    if !file.metadata().map_err(StoreError::io("read", path))?.is_file() {
        return Err(BackupError::Odd { path: path.into(), what: "no plain file" });
    }
    Ok(file)
}

/// Told how many bytes of how many are done.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Reads on, hashes, and tells how far it is.
struct Measured<'p, 'f, R> {
    input: R,
    hash: blake3::Hasher,
    done: &'p mut u64,
    total: u64,
    progress: &'p mut (dyn FnMut(u64, u64) + 'f),
}

impl<R: Read> Read for Measured<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(into)?;
        self.hash.update(into.get(..n).unwrap_or_default());
        *self.done = self.done.saturating_add(n as u64);
        (self.progress)(*self.done, self.total);
        Ok(n)
    }
}

fn describe(root: &Path, path: &str) -> Result<BackupFile, BackupError> {
    let full = root.join(path);
    let mut hash = blake3::Hasher::new();
    let mut file = BufReader::with_capacity(STEP, open_plain(&full)?);
    let bytes = io::copy(&mut file, &mut hash).map_err(StoreError::io("read", &full))?;
    Ok(BackupFile { path: path.into(), bytes, blake3: hash.finalize().to_hex().to_string() })
}

/// Writes these files of a directory as a backup. Each is read twice: for the manifest, and to be written.
///
/// # Errors
/// A file is there already; one that cannot be read, or that changes meanwhile.
pub fn write<A: Serialize + Clone>(
    root: &Path,
    files: &[String],
    about: A,
    passphrase: &[u8],
    file: &Path,
    progress: Progress<'_>,
) -> Result<Manifest<A>, BackupError> {
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::There(file.into()));
    }
    let described = files.iter().map(|path| describe(root, path)).collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest { form: BACKUP_FORM, about, files: described };
    let dir = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(StoreError::io("create a file in", dir))?;
    let head = Head::make(passphrase)?;
    {
        let closer = Closer::new(&head, BufWriter::with_capacity(STEP, temp.as_file_mut()))?;
        let mut archive = tar::Builder::new(zstd::Encoder::new(closer, LEVEL)?);
        let text = serde_json::to_vec(&manifest).map_err(|e| BackupError::Unable(e.to_string()))?;
        archive.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
        let (mut done, total) = (0, manifest.bytes());
        for one in &manifest.files {
            let full = root.join(&one.path);
            let input = open_plain(&full)?.take(one.bytes);
            let mut input = Measured { input, hash: blake3::Hasher::new(), done: &mut done, total, progress: &mut *progress };
            archive.append_data(&mut header(one.bytes), Path::new("files").join(&one.path), &mut input)?;
            if input.hash.finalize().to_hex().as_str() != one.blake3 {
                return Err(BackupError::Changing(full));
            }
        }
        archive.into_inner()?.finish()?.finish()?;
    }
    temp.as_file().sync_all().map_err(StoreError::io("write", file))?;
    temp.persist_noclobber(file).map_err(|e| StoreError::Io { action: "create", path: file.into(), source: e.error })?;
    sync_dir(dir)?;
    Ok(manifest)
}

/// The same for everybody who makes it: no owner, no times.
fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// A backup whose passphrase was right so far as its first frame tells.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    head: Head,
}

impl Backup {
    /// Makes the key of a backup.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub fn open(path: &Path, passphrase: &[u8]) -> Result<Self, BackupError> {
        let mut file = File::open(path).map_err(StoreError::io("read", path))?;
        Ok(Self { path: path.into(), head: Head::read(&mut file, passphrase)? })
    }

    /// Reads it all and compares it with its manifest. Nothing is written.
    ///
    /// # Errors
    /// It is not whole.
    pub fn verify<A: for<'de> Deserialize<'de>>(&self, progress: Progress<'_>) -> Result<Manifest<A>, BackupError> {
        self.read(progress, &mut |_, input| Ok(io::copy(input, &mut io::sink()).map(drop)?))
    }

    /// Unpacks a backup that was verified into a directory that is not there yet, or is empty; files are their owner's alone.
    /// `finish` is asked to do in the new directory, before it appears, what else belongs there.
    ///
    /// # Errors
    /// As [`Backup::verify`]; the directory has something in it; what `finish` says.
    pub fn unpack<A: for<'de> Deserialize<'de>, E: From<BackupError>>(
        &self,
        to: &Path,
        progress: Progress<'_>,
        finish: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Manifest<A>, E> {
        is_free(to)?;
        let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        make_dir(parent)?;
        let draft = tempfile::Builder::new().prefix(".restoring-").tempdir_in(parent).map_err(StoreError::io("create a folder in", parent));
        let draft = draft.map_err(BackupError::from)?;
        let manifest = self.read(progress, &mut |file: &BackupFile, input| {
            let path = draft.path().join(&file.path);
            let dir = path.parent().unwrap_or_else(|| draft.path());
            make_dir(dir)?;
            let mut out =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(StoreError::io("create", &path))?;
            io::copy(input, &mut out)?;
            Ok(out.sync_all().map_err(StoreError::io("write", &path))?)
        })?;
        finish(draft.path())?;
        // An empty folder gives way; one with something in it does not.
        let _ = std::fs::remove_dir(to);
        std::fs::rename(draft.path(), to).map_err(StoreError::io("create", to)).map_err(BackupError::from)?;
        // Its name is gone: there is nothing left to remove.
        let _ = draft.keep();
        sync_dir(parent).map_err(BackupError::from)?;
        Ok(manifest)
    }

    /// Reads it from its beginning to its end; `each` must read each file whole.
    fn read<A: for<'de> Deserialize<'de>>(
        &self,
        progress: Progress<'_>,
        each: &mut dyn FnMut(&BackupFile, &mut dyn Read) -> Result<(), BackupError>,
    ) -> Result<Manifest<A>, BackupError> {
        let damaged = |what: &str| BackupError::Damaged(what.into());
        let mut file = BufReader::with_capacity(STEP, File::open(&self.path).map_err(StoreError::io("read", &self.path))?);
        let begin = self.head.length();
        io::copy(&mut (&mut file).take(begin), &mut io::sink())?;
        let mut opener = Opener::new(&self.head, file);
        let manifest: Manifest<A> = {
            let mut archive = tar::Archive::new(zstd::Decoder::new(&mut opener)?);
            let mut entries = archive.entries()?;
            let mut next = || entries.next().transpose().map_err(BackupError::from);
            let first = next()?.ok_or_else(|| damaged("it is empty"))?;
            if first.path_bytes().as_ref() != MANIFEST.as_bytes() || first.size() > MAX_MANIFEST {
                return Err(damaged("it has no manifest"));
            }
            let mut text = Vec::new();
            let _ = first.take(MAX_MANIFEST).read_to_end(&mut text)?;
            let manifest: Manifest<A> = serde_json::from_slice(&text).map_err(|e| BackupError::Damaged(format!("its manifest: {e}")))?;
            manifest.check()?;
            let (mut done, total) = (0, manifest.bytes());
            for one in &manifest.files {
                let input = next()?.ok_or_else(|| BackupError::Damaged(format!("{} is missing", one.path)))?;
                let expected = format!("files/{}", one.path);
                let is_it = input.path_bytes().as_ref() == expected.as_bytes();
                if !is_it || input.header().entry_type() != tar::EntryType::Regular || input.size() != one.bytes {
                    return Err(BackupError::Damaged(format!("{} is not what its manifest says", one.path)));
                }
                let mut input = Measured { input, hash: blake3::Hasher::new(), done: &mut done, total, progress: &mut *progress };
                each(one, &mut input)?;
                if input.hash.finalize().to_hex().as_str() != one.blake3 {
                    return Err(BackupError::Damaged(format!("{} is not what its manifest says", one.path)));
                }
            }
            if next()?.is_some() {
                return Err(damaged("it has a file that its manifest does not name"));
            }
            manifest
        };
        opener.finish()?;
        Ok(manifest)
    }
}

/// Whether a directory may be made, or is there and empty.
///
/// # Errors
/// [`BackupError::There`].
pub fn is_free(dir: &Path) -> Result<(), BackupError> {
    let empty = match std::fs::read_dir(dir) {
        Err(e) => e.kind() == io::ErrorKind::NotFound,
        Ok(mut entries) => entries.next().is_none(),
    };
    if empty { Ok(()) } else { Err(BackupError::There(dir.into())) }
}

fn make_dir(dir: &Path) -> Result<(), BackupError> {
    Ok(std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("create", dir))?)
}

#[cfg(test)]
mod tests;
