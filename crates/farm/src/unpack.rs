//! What a job left behind, unpacked: a tar written by a machine that nobody trusts.
//!
//! Guarantees: nothing is written outside the folder, through a link or over one; no devices, no set-user-id bits, no links
//! that lead out; no more bytes and entries than the limits. Links are made last, so nothing can be written through them.
//! On an error what was written so far stays, and the error names the entry.

use crate::exit::Failure;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Most entries.
const MAX_ENTRIES: u64 = 200_000;

/// What was unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Unpacked {
    /// Files and links.
    pub(crate) files: u64,
    /// Their content.
    pub(crate) bytes: u64,
}

/// Unpacks a tar into a folder, made if needed; at most `limit` bytes of content.
pub(crate) fn unpack(tar: impl Read, folder: &Path, limit: u64) -> Result<Unpacked, Failure> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))?;
    let mut done = Unpacked::default();
    let mut links = vec![];
    let mut archive = tar::Archive::new(tar);
    let broken = |e: std::io::Error| Failure::new("bad-output", format!("the job's output is damaged: {e}"));
    for (number, entry) in (1u64..).zip(archive.entries().map_err(broken)?) {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let refuse = |why: &str| Failure::new("bad-output", format!("the job's output was not unpacked further: {} {why}", path.display()));
        if number > MAX_ENTRIES {
            return Err(refuse("is one entry too many"));
        }
        let Some(inside) = inside(&path) else { return Err(refuse("leads out of the folder")) };
        if inside.as_os_str().is_empty() {
            continue; // the folder itself
        }
        match entry.header().entry_type() {
            tar::EntryType::Directory => make_folders(folder, &inside).map_err(|e| refuse(&format!("cannot be made: {e}")))?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                done.bytes = done.bytes.saturating_add(entry.size());
                if done.bytes > limit {
                    return Err(refuse("goes beyond the size the job asked for"));
                }
                let mode = entry.header().mode().unwrap_or(0o644) & 0o755 | 0o600;
                write_file(&mut entry, folder, &inside, mode).map_err(|e| refuse(&format!("cannot be written: {e}")))?;
                done.files += 1;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().map_err(broken)?.ok_or_else(|| refuse("is a link to nowhere"))?.into_owned();
                if !stays_inside(&inside, &target) {
                    return Err(refuse("is a link that leads out of the folder"));
                }
                links.push((inside, target));
                done.files += 1;
            }
            tar::EntryType::XGlobalHeader => {}
            _ => return Err(refuse("is neither a file, a folder nor a link")),
        }
    }
    for (path, target) in links {
        make_link(folder, &path, &target).map_err(|e| Failure::io("make the link", &folder.join(&path), &e))?;
    }
    Ok(done)
}

/// The path without `.`; nothing if it is absolute or has `..`.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

/// Whether a link at `path` to `target` ends inside, judged by names alone; links in between are checked when they are made.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Makes the folders of a path below `root`, following no link.
fn make_folders(root: &Path, path: &Path) -> std::io::Result<()> {
    let mut at = root.to_path_buf();
    for part in path.components() {
        at.push(part);
        match std::fs::symlink_metadata(&at) {
            Ok(m) if m.is_dir() => {}
            Ok(_) => return Err(std::io::Error::new(std::io::ErrorKind::NotADirectory, "something that is no folder is in the way")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir(&at)?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Takes away a file or link that is in the way; never a folder.
fn clear_way(root: &Path, path: &Path) -> std::io::Result<PathBuf> {
    if let Some(parent) = path.parent() {
        make_folders(root, parent)?;
    }
    let full = root.join(path);
    match std::fs::symlink_metadata(&full) {
        Ok(m) if m.is_dir() => Err(std::io::Error::new(std::io::ErrorKind::IsADirectory, "a folder is in the way")),
        Ok(_) => std::fs::remove_file(&full).map(|()| full),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(full),
        Err(e) => Err(e),
    }
}

fn write_file(entry: &mut impl Read, root: &Path, path: &Path, mode: u32) -> std::io::Result<()> {
    let full = clear_way(root, path)?;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(full)?;
    std::io::copy(entry, &mut file)?;
    file.flush()
}

fn make_link(root: &Path, path: &Path, target: &Path) -> std::io::Result<()> {
    let full = clear_way(root, path)?;
    // A target that passes through another link could end anywhere: every part that exists must be a real folder.
    let mut at = root.join(path.parent().unwrap_or_else(|| Path::new("")));
    for part in target.components() {
        at.push(part);
        if std::fs::symlink_metadata(&at).is_ok_and(|m| m.is_symlink()) {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it leads through another link"));
        }
    }
    std::os::unix::fs::symlink(target, full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A tar with names as hostile as they come: the builder's own checks are bypassed.
    fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(vec![]);
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4777);
            let data = if *kind == tar::EntryType::Regular { content.as_bytes() } else { b"" };
            if data.is_empty() {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    use tar::EntryType::{Block, Directory, Link, Regular, Symlink};

    #[test]
    fn files_folders_and_inner_links_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let tar = tar_of(&[
            ("./", Directory, ""),
            ("d/", Directory, ""),
            ("d/a", Regular, "hello"),
            ("l", Symlink, "d/a"),
            ("e/f", Regular, "x"),
        ]);
        assert_eq!(unpack(tar.as_slice(), &out, 100).unwrap(), Unpacked { files: 3, bytes: 6 });
        assert_eq!(std::fs::read_to_string(out.join("l")).unwrap(), "hello");
        let mode = std::fs::metadata(out.join("d/a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7022, 0, "no set-user-id, not writable by others: {mode:o}");
        // Again, over what is there.
        assert!(unpack(tar.as_slice(), &out, 100).is_ok());
    }

    #[test]
    fn nothing_leaves_the_folder() {
        for (name, entries) in [
            ("absolute", vec![("/tmp/x", Regular, "a")]),
            ("parent", vec![("../x", Regular, "a")]),
            ("hidden parent", vec![("a/../../x", Regular, "a")]),
            ("link out", vec![("l", Symlink, "/etc")]),
            ("link up", vec![("d/l", Symlink, "../../x")]),
            ("link through link", vec![("d/e/", Directory, ""), ("a", Symlink, "d/e"), ("b", Symlink, "a/../../../x")]),
            ("hard link", vec![("l", Link, "/etc/passwd")]),
            ("device", vec![("l", Block, "")]),
            ("too much", vec![("a", Regular, "0123456789"), ("b", Regular, "0123456789")]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            assert!(unpack(tar_of(&entries).as_slice(), &out, 15).is_err(), "{name}");
            assert!(!dir.path().join("x").exists(), "{name}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (out, victim) = (dir.path().join("out"), dir.path().join("victim"));
        std::fs::create_dir_all(&out).unwrap();
        std::fs::create_dir_all(&victim).unwrap();
        std::fs::write(victim.join("f"), "mine").unwrap();
        std::os::unix::fs::symlink(&victim, out.join("d")).unwrap();
        std::os::unix::fs::symlink(victim.join("f"), out.join("f")).unwrap();
        assert!(unpack(tar_of(&[("d/f", Regular, "evil")]).as_slice(), &out, 100).is_err());
        unpack(tar_of(&[("f", Regular, "good")]).as_slice(), &out, 100).unwrap();
        assert_eq!(std::fs::read_to_string(victim.join("f")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(out.join("f")).unwrap(), "good");
    }

    #[test]
    fn a_damaged_tar_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = tar_of(&[("a", Regular, "hello")]);
        tar[0] ^= 1;
        assert!(unpack(tar.as_slice(), dir.path(), 100).is_err());
        assert!(unpack(&[7u8; 700][..], dir.path(), 100).is_err());
    }
}
