//! Fresh file systems, kept to be copied: a new ext4 is a few hundred kilobytes in a sparse file, and copying those takes 0.3 ms
//! where making it takes 8, and more on a busy machine; every job with a disk would wait for that.
//!
//! Guarantees: a blank counts once it is whole and on the disk, and nobody ever mounts one, so what is copied from it has never held
//! anything. At most [`MAX_BLANKS`] are kept. Does not: share blocks with its copies beyond what the host's file system does by itself.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use pasture_rt::TaskKind;
use rustix::{fs as kernel, io::Errno};

use super::{tool::run_tool, volume::path_text};
use crate::RuntimeError;

/// Sizes that blanks are kept of; the oldest goes first. Jobs of one machine ask for few.
const MAX_BLANKS: usize = 8;
/// Most that is copied: more than an ext4 of 16 TiB has in it at first. A host's file system that cannot tell holes is not copied on.
const MAX_DATA: u64 = 64 << 20;
/// How a file system for one job is made; a change of this needs another name for blanks.
const OPTIONS: [&str; 8] = ["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", "nodiscard,lazy_itable_init=1"];
const KIND: &str = "job-1";

/// Writes a fresh file system of this size to a new file. `blanks`: the folder that they are kept in.
pub(super) async fn write(blanks: &Path, bytes: u64, to: &Path) -> Result<(), RuntimeError> {
    let blank = blanks.join(format!("{KIND}-{bytes}.img"));
    match have_and_copy(&blank, bytes, to).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, blank = %blank.display(), "a file system is made and not copied"),
    }
    make(to, bytes).await
}

/// False if a copy would be no gain.
async fn have_and_copy(blank: &Path, bytes: u64, to: &Path) -> Result<bool, RuntimeError> {
    if !blank.exists() {
        keep(blank, bytes).await?;
    }
    let (from, to) = (blank.to_owned(), to.to_owned());
    let failed = |error| RuntimeError::io("copy a fresh file system", error);
    let copied = pasture_rt::spawn_blocking(TaskKind::Files, move || copy(&from, &to)).join().await;
    copied.unwrap_or_else(|| Err(io::Error::other("whoever copied it ended"))).map_err(failed)
}

/// Makes a file system in a new file.
async fn make(file: &Path, bytes: u64) -> Result<(), RuntimeError> {
    let sized = File::create(file).and_then(|file| file.set_len(bytes));
    sized.map_err(|error| RuntimeError::io(format!("make {}", file.display()), error))?;
    run_tool("mkfs.ext4", &[&OPTIONS[..], &[path_text(file)?]].concat()).await
}

/// Makes a blank, and forgets the oldest of too many.
async fn keep(blank: &Path, bytes: u64) -> Result<(), RuntimeError> {
    /// Two may make the same one at once: each under a name of its own.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let failed = |error| RuntimeError::io(format!("keep {}", blank.display()), error);
    let folder = blank.parent().unwrap_or(blank);
    fs::create_dir_all(folder).map_err(failed)?;
    let draft = blank.with_extension(format!("{}-{}", std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed)));
    make(&draft, bytes).await?;
    // A blank that a crash of the host has torn would spoil all that comes after it.
    let synced = async { tokio::fs::File::open(&draft).await?.sync_all().await };
    synced.await.and_then(|()| fs::rename(&draft, blank)).map_err(failed)?;
    forget(folder, blank).map_err(failed)
}

fn forget(folder: &Path, newest: &Path) -> io::Result<()> {
    let mut all: Vec<(SystemTime, PathBuf)> =
        fs::read_dir(folder)?.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    all.retain(|(_, path)| path != newest);
    all.sort();
    let many = (all.len() + 1).saturating_sub(MAX_BLANKS);
    all.into_iter().take(many).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Copies what is in a sparse file; false if that is too much.
fn copy(from: &Path, to: &Path) -> io::Result<bool> {
    let (mut source, mut target) = (File::open(from)?, File::create(to)?);
    let bytes = source.metadata()?.len();
    target.set_len(bytes)?;
    let (mut at, mut copied) = (0, 0);
    while at < bytes {
        let begin = match kernel::seek(&source, kernel::SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = kernel::seek(&source, kernel::SeekFrom::Hole(begin))?;
        copied += at.saturating_sub(begin);
        if copied > MAX_DATA {
            return Ok(false);
        }
        source.seek(SeekFrom::Start(begin))?;
        target.seek(SeekFrom::Start(begin))?;
        io::copy(&mut (&mut source).take(at.saturating_sub(begin)), &mut target)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_has_what_is_in_the_file_and_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let mut file = File::create(&from).unwrap();
        for (at, text) in [(0, "first"), (1 << 20, "middle"), ((8 << 20) - 4, "last")] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        file.set_len(64 << 20).unwrap();
        assert!(copy(&from, &to).unwrap());
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes are holes");
        file.set_len(0).unwrap();
        assert!(copy(&from, &to).unwrap());
        assert_eq!(fs::metadata(&to).unwrap().len(), 0);
    }

    #[test]
    fn only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<PathBuf> = (0..=MAX_BLANKS).map(|n| dir.path().join(format!("{n}"))).collect();
        for (n, name) in names.iter().enumerate() {
            let file = File::create(name).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        // The newest stays whatever its time.
        forget(dir.path(), &names[0]).unwrap();
        let left: Vec<bool> = names.iter().map(|name| name.exists()).collect();
        assert_eq!(left.iter().filter(|there| **there).count(), MAX_BLANKS);
        assert!(left[0] && !left[1] && left[2]);
    }

    #[tokio::test]
    async fn a_file_system_that_was_copied_is_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let blanks = dir.path().join("blanks");
        for name in ["first", "second"] {
            let to = dir.path().join(name);
            write(&blanks, 16 << 20, &to).await.unwrap();
            assert_eq!(fs::metadata(&to).unwrap().len(), 16 << 20);
            run_tool("fsck.ext4", &["-n", "-f", path_text(&to).unwrap()]).await.unwrap();
        }
        assert_eq!(fs::read_dir(&blanks).unwrap().count(), 1);
        // Where none can be kept, one is made.
        fs::write(dir.path().join("file"), "").unwrap();
        let to = dir.path().join("third");
        write(&dir.path().join("file"), 16 << 20, &to).await.unwrap();
        run_tool("fsck.ext4", &["-n", "-f", path_text(&to).unwrap()]).await.unwrap();
    }
}
