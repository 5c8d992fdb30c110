//! What a job left behind, or has, unpacked: a tar written by a machine that nobody trusts.
//!
//! Guarantees: nothing is written outside the folder, through a link or over one; no devices, no set-user-id bits, no links
//! that lead out; no more bytes and entries than the limits. Links are made last, so nothing can be written through them;
//! hard links become copies. On an error what was written so far stays, and the error names the entry.
//!
//! The first entry of such a tar is the folder itself, as engines write it; everything else lies below it. What is copied from a
//! container may also be one file, and of an output one part may be wanted: [`unpack_part`].

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
    let mut to = Unpacking { folder, limit, done: Unpacked::default(), root: None, links: vec![], left_out: None };
    to.all(tar, Unpacking::place)?;
    Ok(to.done)
}

/// What was unpacked is one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// Unpacks one file or folder to a path where nothing is yet: what `part` names in the tar and what is below it, or, without, the
/// tar's first entry. Nothing if it is not there. `begun` is told what it is. Links that lead out, which are usual in a container,
/// and what has no content are left out.
pub(crate) fn unpack_part(
    tar: impl Read,
    at: &Path,
    part: Option<&Path>,
    limit: u64,
    begun: impl Fn(Found),
) -> Result<Option<(Unpacked, LeftOut)>, Failure> {
    let left_out = Some(LeftOut::default());
    let mut to = Unpacking { folder: at, limit, done: Unpacked::default(), root: None, links: vec![], left_out };
    let mut found = None;
    to.all(tar, |to, entry, path| {
        match found {
            None => {
                found = to.begin(entry, path, part)?;
                if let Some(found) = found {
                    begun(found);
                }
                Ok(())
            }
            // Beside what is wanted.
            Some(_) if part.is_some_and(|part| !inside(path).is_some_and(|p| p.starts_with(part))) => Ok(()),
            Some(Found::File(_)) => Err("comes after the one file".into()),
            Some(Found::Folder) => to.place(entry, path),
        }
    })?;
    Ok(found.map(|_| (to.done, to.left_out.unwrap_or_default())))
}

fn broken(e: std::io::Error) -> Failure {
    Failure::new("bad-output", format!("what the job gave is damaged: {e}"))
}

/// An unpacking under way.
struct Unpacking<'a> {
    folder: &'a Path,
    limit: u64,
    done: Unpacked,
    /// The name that the tar gives to the output folder.
    root: Option<PathBuf>,
    /// Links to be made at the end.
    links: Vec<(PathBuf, PathBuf)>,
    /// What is left out although the rest is unpacked; `None`: nothing may be.
    left_out: Option<LeftOut>,
}

/// What was not unpacked: links that lead elsewhere, and what has no content.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct LeftOut {
    /// How much.
    pub(crate) count: u64,
    /// The first names, harmless to print.
    pub(crate) names: Vec<String>,
}

/// Names that are kept of what is left out.
const NAMED_LEFT_OUT: usize = 5;

impl Unpacking<'_> {
    /// Goes through a tar, and makes its links at the end.
    fn all<R: Read>(
        &mut self,
        tar: R,
        mut place: impl FnMut(&mut Self, &mut tar::Entry<'_, R>, &Path) -> Result<(), String>,
    ) -> Result<(), Failure> {
        let mut archive = tar::Archive::new(tar);
        for (number, entry) in (1u64..).zip(archive.entries().map_err(broken)?) {
            let mut entry = entry.map_err(broken)?;
            let path = entry.path().map_err(broken)?.into_owned();
            let placed = if number > MAX_ENTRIES { Err("is one entry too many".into()) } else { place(self, &mut entry, &path) };
            placed.map_err(|why| {
                Failure::new("bad-output", format!("what the job gave was not unpacked further: {} {why}", harmless(&path)))
            })?;
        }
        for (path, target) in std::mem::take(&mut self.links) {
            if let Err(e) = make_link(self.folder, &path, &target) {
                if !self.leave_out(&path) {
                    return Err(Failure::new("io", format!("cannot make the link {}: {e}", harmless(&path))));
                }
                self.done.files = self.done.files.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Looks whether this is the entry that is wanted, and makes it.
    fn begin<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path, part: Option<&Path>) -> Result<Option<Found>, String> {
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::XGlobalHeader {
            return Ok(None);
        }
        // The root of a container is called `/`, and nothing else may be.
        let path = if path == Path::new("/") { PathBuf::new() } else { inside(path).ok_or("leads out of the folder")? };
        if part.is_some_and(|part| part != path) {
            return Ok(None);
        }
        self.root = Some(path);
        let failed = |e: std::io::Error| format!("cannot be written: {e}");
        match kind {
            tar::EntryType::Directory => {
                std::fs::create_dir(self.folder).map_err(failed)?;
                Ok(Some(Found::Folder))
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let bytes = entry.size();
                self.grow(bytes)?;
                let (parent, name) = (self.folder.parent().unwrap_or_else(|| Path::new("")), self.folder.file_name().unwrap_or_default());
                write_file(entry, parent, Path::new(name), mode(entry.header())).map_err(failed)?;
                self.done.files += 1;
                Ok(Some(Found::File(bytes)))
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().ok().flatten().map(|t| harmless(&t));
                Err(format!("is a link to {}: copy that", target.unwrap_or_default()))
            }
            _ => Err("is neither a file nor a folder".into()),
        }
    }

    /// Puts one entry in its place; an error says why not.
    fn place<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<(), String> {
        const OUT: &str = "leads out of the folder";
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = inside(path).ok_or(OUT)?;
        let Some(root) = &self.root else {
            self.root = Some(path);
            return if kind == tar::EntryType::Directory { Ok(()) } else { Err("comes before the output folder itself".into()) };
        };
        let below = path.strip_prefix(root).map_err(|_| OUT)?;
        let failed = |e: std::io::Error| format!("cannot be written: {e}");
        match kind {
            tar::EntryType::Directory => return make_folders(self.folder, below).map_err(failed),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                self.grow(entry.size())?;
                write_file(entry, self.folder, below, mode(entry.header())).map_err(failed)?;
            }
            tar::EntryType::Link => {
                let target = entry.link_name().map_err(failed)?.and_then(|target| inside(&target));
                let source = target.as_deref().and_then(|t| t.strip_prefix(root).ok()).ok_or("is a link that leads out of the folder")?;
                let bytes = copied_size(self.folder, source, below).map_err(failed)?;
                let (source, below) = (self.folder.join(source), below.to_path_buf());
                self.grow(bytes)?;
                File::open(source).and_then(|mut file| write_file(&mut file, self.folder, &below, 0o644)).map_err(failed)?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().map_err(failed)?.ok_or("is a link to nowhere")?.into_owned();
                if !stays_inside(below, &target) {
                    if self.leave_out(below) {
                        return Ok(());
                    }
                    return Err("is a link that leads out of the folder".into());
                }
                self.links.push((below.to_path_buf(), target));
            }
            _ if self.leave_out(below) => return Ok(()),
            _ => return Err("is neither a file, a folder nor a link".into()),
        }
        self.done.files += 1;
        Ok(())
    }

    /// Whether this may be left out; then it is.
    fn leave_out(&mut self, path: &Path) -> bool {
        let Some(left_out) = &mut self.left_out else { return false };
        left_out.count = left_out.count.saturating_add(1);
        if left_out.names.len() < NAMED_LEFT_OUT {
            left_out.names.push(harmless(path));
        }
        true
    }

    fn grow(&mut self, bytes: u64) -> Result<(), String> {
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        if self.done.bytes > self.limit { Err("goes beyond the size the job asked for".into()) } else { Ok(()) }
    }
}

/// The size of a file that was unpacked already and gets a second name.
fn copied_size(root: &Path, source: &Path, path: &Path) -> std::io::Result<u64> {
    make_folders(root, source.parent().unwrap_or_else(|| Path::new("")))?;
    let meta = std::fs::symlink_metadata(root.join(source))?;
    if meta.is_file() && source != path {
        Ok(meta.len())
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it names no other file"))
    }
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

/// Whatever the tar says: never set-user-id, never writable by others, always readable and writable by us.
fn mode(header: &tar::Header) -> u32 {
    header.mode().unwrap_or(0o644) & 0o755 | 0o600
}

/// A name without what a terminal would obey.
fn harmless(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
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
        for (name, kind, content) in [("o/", Directory, "")].iter().chain(entries) {
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
        let entries = [
            ("o/d/", Directory, ""),
            ("o/d/a", Regular, "hello"),
            ("o/l", Symlink, "d/a"),
            ("o/e/f", Regular, "x"),
            ("o/again", Link, "o/d/a"),
        ];
        let tar = tar_of(&entries);
        assert_eq!(unpack(tar.as_slice(), &out, 100).unwrap(), Unpacked { files: 4, bytes: 11 });
        assert_eq!(std::fs::read_to_string(out.join("again")).unwrap(), "hello");
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
            ("hidden parent", vec![("o/a/../../x", Regular, "a")]),
            ("link out", vec![("o/l", Symlink, "/etc")]),
            ("link up", vec![("o/d/l", Symlink, "../../x")]),
            ("link through link", vec![("o/d/e/", Directory, ""), ("o/a", Symlink, "d/e"), ("o/b", Symlink, "a/../../../x")]),
            ("hard link", vec![("o/l", Link, "/etc/passwd")]),
            ("hard link up", vec![("o/l", Link, "o/../../etc/passwd")]),
            ("hard link to itself", vec![("o/l", Link, "o/l")]),
            ("beside", vec![("x", Regular, "a")]),
            ("device", vec![("o/l", Block, "")]),
            ("too much", vec![("o/a", Regular, "0123456789"), ("o/b", Regular, "0123456789")]),
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
        assert!(unpack(tar_of(&[("o/d/f", Regular, "evil")]).as_slice(), &out, 100).is_err());
        unpack(tar_of(&[("o/f", Regular, "good")]).as_slice(), &out, 100).unwrap();
        assert_eq!(std::fs::read_to_string(victim.join("f")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(out.join("f")).unwrap(), "good");
    }

    fn part(entries: &[(&str, tar::EntryType, &str)], at: &Path, part: Option<&str>) -> Result<Option<(Unpacked, LeftOut)>, Failure> {
        unpack_part(tar_of(entries).as_slice(), at, part.map(Path::new), 100, |_| {})
    }

    #[test]
    fn a_part_is_unpacked_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let entries = [("o/d/", Directory, ""), ("o/d/a", Regular, "hello"), ("o/d/b/", Directory, ""), ("o/e", Regular, "x")];
        let files = |found: Option<(Unpacked, LeftOut)>| found.unwrap().0.files;
        assert_eq!(files(part(&entries, &at("all"), None).unwrap()), 2);
        assert_eq!(files(part(&entries, &at("d"), Some("o/d")).unwrap()), 1);
        assert_eq!(std::fs::read_to_string(at("d/a")).unwrap(), "hello");
        assert_eq!(files(part(&entries, &at("file"), Some("o/d/a")).unwrap()), 1);
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "hello");
        assert_eq!(std::fs::metadata(at("file")).unwrap().permissions().mode() & 0o7022, 0);
        assert_eq!(part(&entries, &at("none"), Some("o/x")).unwrap(), None);
        assert!(!at("none").exists());
    }

    #[test]
    fn what_leads_out_is_left_out_of_a_copy_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("copy");
        let entries = [
            ("o/d/e/", Directory, ""),
            ("o/passwd\u{1b}[2J", Symlink, "/etc/passwd"),
            ("o/up", Symlink, "../.."),
            ("o/a", Symlink, "d/e"),
            ("o/b", Symlink, "a/x"),
            ("o/dev", Block, ""),
            ("o/f", Regular, "fine"),
        ];
        let (done, left_out) = part(&entries, &at, None).unwrap().unwrap();
        assert_eq!((done.files, left_out.count), (2, 4), "{left_out:?}");
        assert!(left_out.names.iter().any(|n| n.contains("passwd")) && !left_out.names.concat().contains('\u{1b}'), "{left_out:?}");
        for gone in ["up", "dev", "b"] {
            assert!(std::fs::symlink_metadata(at.join(gone)).is_err(), "{gone}");
        }
        for (name, entries) in [
            ("absolute", vec![("/tmp/x", Regular, "a")]),
            ("parent", vec![("o/../../x", Regular, "a")]),
            ("beside", vec![("x", Regular, "a")]),
            ("too much", vec![("o/a", Regular, &*"0".repeat(101))]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            assert!(part(&entries, &dir.path().join("out"), None).is_err(), "{name}");
            assert!(!dir.path().join("x").exists(), "{name}");
        }
    }

    #[test]
    fn a_damaged_tar_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = tar_of(&[("o/a", Regular, "hello")]);
        tar[0] ^= 1;
        assert!(unpack(tar.as_slice(), dir.path(), 100).is_err());
        assert!(unpack(&[7u8; 700][..], dir.path(), 100).is_err());
    }
}
