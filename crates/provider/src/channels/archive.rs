//! What a client wants written into its container: an archive of strangers' bytes, made into one of ours.
//!
//! Guarantees: what comes out holds one file or folder under the name that was asked for, and below it only files, folders and links,
//! owned by root, without set-user-id bits, with at most so many entries and bytes. Links may say what they like: the engine
//! unpacks inside the container's root.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Component, Path, PathBuf};

/// Most entries.
pub(super) const MAX_ENTRIES: u64 = 200_000;
/// Everything that a file may allow.
const ALLOWED: u32 = 0o777;

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {why}", path.display().to_string().escape_debug()))
}

/// The path with its first part, which must be `root`, replaced.
fn renamed(path: &Path, root: &str, name: &str) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    if parts.next() != Some(Component::Normal(root.as_ref())) {
        return None;
    }
    let mut out = PathBuf::from(name);
    for part in parts {
        match part {
            Component::Normal(part) => out.push(part),
            _ => return None,
        }
    }
    Some(out)
}

/// Goes through an archive from its beginning and writes what is fine; the first thing that is not is an error.
pub(super) fn rewrite(file: &mut File, (root, name): (&str, &str), limit: u64, sink: impl Write) -> io::Result<()> {
    file.rewind()?;
    let mut out = tar::Builder::new(sink);
    let (mut count, mut total) = (0u64, 0u64);
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 18, file));
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        count += 1;
        total = total.saturating_add(entry.size());
        if count > MAX_ENTRIES {
            return Err(refused(&path, &format!("is one entry too many: {MAX_ENTRIES} are taken")));
        }
        if total > limit {
            return Err(refused(&path, "goes beyond the disk that the job asked for"));
        }
        let to = renamed(&path, root, name).ok_or_else(|| refused(&path, "leads out of what is copied"))?;
        append(&mut out, entry, &path, &to)?;
    }
    if count == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the archive is empty"));
    }
    out.into_inner()?.flush()
}

fn append<R: Read>(out: &mut tar::Builder<impl Write>, mut entry: tar::Entry<'_, R>, path: &Path, to: &Path) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(entry.header().mode()? & ALLOWED);
    header.set_mtime(entry.header().mtime()?);
    header.set_size(0);
    let kind = entry.header().entry_type();
    header.set_entry_type(kind);
    match kind {
        tar::EntryType::Directory => out.append_data(&mut header, to, io::empty()),
        tar::EntryType::Regular => {
            header.set_size(entry.size());
            out.append_data(&mut header, to, &mut entry)
        }
        tar::EntryType::Symlink => {
            let target = entry.link_name()?.ok_or_else(|| refused(path, "is a link to nowhere"))?;
            out.append_link(&mut header, to, target)
        }
        _ => Err(refused(path, "is neither a file, a folder nor a link")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::EntryType::{Block, Directory, Link, Regular, Symlink};

    fn file(entries: &[(&str, tar::EntryType, &str)]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o6777);
            header.set_uid(1000);
            let data = if *kind == Regular { content.as_bytes() } else { b"" };
            if data.is_empty() {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_is_fine_comes_out_under_its_new_name_without_privileges() {
        let mut input = file(&[("x/", Directory, ""), ("x/d/a", Regular, "hello"), ("x/l", Symlink, "/etc/passwd")]);
        let mut out = vec![];
        rewrite(&mut input, ("x", "new"), 5, &mut out).unwrap();
        let mut archive = tar::Archive::new(out.as_slice());
        let seen: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (e.path().unwrap().display().to_string(), e.header().mode().unwrap(), e.header().uid().unwrap())
            })
            .collect();
        assert_eq!(seen, [("new".into(), 0o777, 0), ("new/d/a".into(), 0o777, 0), ("new/l".into(), 0o777, 0)]);
    }

    #[test]
    fn nothing_hostile_passes() {
        for (name, entries) in [
            ("absolute", vec![("/x/a", Regular, "")]),
            ("parent", vec![("x/../../a", Regular, "")]),
            ("another root", vec![("x/", Directory, ""), ("y", Regular, "")]),
            ("device", vec![("x", Block, "")]),
            ("hard link", vec![("x", Link, "/etc/shadow")]),
            ("too much", vec![("x/a", Regular, "1234"), ("x/b", Regular, "1234")]),
            ("nothing", vec![]),
        ] {
            assert!(rewrite(&mut file(&entries), ("x", "n"), 5, io::sink()).is_err(), "{name}");
        }
        let error = rewrite(&mut file(&[("x\u{1b}[2J", Regular, "")]), ("x", "n"), 5, io::sink()).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && error.contains("leads out"), "{error}");
    }
}
