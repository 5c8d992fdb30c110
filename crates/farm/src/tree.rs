//! A file or folder of ours as an archive, for a container.
//!
//! Guarantees: everything that was named travels, also what a build would leave at home; links travel as links, and only the one that
//! was named is followed; set-user-id bits, owners and what has no content stay here. The archive is a file without a name.

use crate::exit::Failure;
use crate::pack::{Exactly, Hashing, Packed};
use pasture_api::channel::ROOT;
use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Most entries; a machine takes no more.
const MAX_ENTRIES: u64 = 200_000;

/// What travels.
pub(crate) struct Tree {
    /// The archive.
    pub(crate) packed: Packed,
    /// Files and links in it.
    pub(crate) files: u64,
    /// Their content in bytes.
    pub(crate) bytes: u64,
    /// Sockets and devices, which stay.
    pub(crate) skipped: u64,
}

struct Packing {
    tar: tar::Builder<Hashing>,
    entries: u64,
    files: u64,
    bytes: u64,
    skipped: u64,
    limit: u64,
}

/// Packs a file or folder, at most `limit` bytes of content; `temp`: a folder for the archive.
pub(crate) fn pack(path: &Path, temp: &Path, limit: u64) -> Result<Tree, Failure> {
    let tar = tar::Builder::new(Hashing::in_folder(temp)?);
    let mut packing = Packing { tar, entries: 0, files: 0, bytes: 0, skipped: 0, limit };
    let meta = std::fs::metadata(path).map_err(|e| Failure::io("read", path, &e))?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(Failure::usage(format!("{} is neither a file nor a folder", path.display())));
    }
    // A list and no recursion: a folder may be as deep as its maker likes.
    let mut waiting = vec![(path.to_path_buf(), PathBuf::from(ROOT), meta)];
    while let Some((from, to, meta)) = waiting.pop() {
        packing.add(&from, &to, &meta)?;
        if meta.is_dir() {
            for item in std::fs::read_dir(&from).map_err(|e| Failure::io("read", &from, &e))? {
                let item = item.map_err(|e| Failure::io("read", &from, &e))?;
                let meta = item.metadata().map_err(|e| Failure::io("read", &item.path(), &e))?;
                waiting.push((item.path(), to.join(item.file_name()), meta));
            }
        }
    }
    let Packing { tar, files, bytes, skipped, .. } = packing;
    let sink = tar.into_inner().map_err(|e| Failure::io("write in", temp, &e))?;
    Ok(Tree { packed: sink.finish(temp)?, files, bytes, skipped })
}

impl Packing {
    fn add(&mut self, from: &Path, to: &Path, meta: &Metadata) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Failure::new("too-large", format!("more than {MAX_ENTRIES} files cannot be copied at once")));
        }
        let failed = |e: std::io::Error| Failure::io("pack", from, &e);
        let mut header = tar::Header::new_gnu();
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(meta.permissions().mode() & 0o777);
        header.set_size(0);
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            return self.tar.append_data(&mut header, to, std::io::empty()).map_err(failed);
        }
        if meta.is_symlink() {
            let target = std::fs::read_link(from).map_err(failed)?;
            header.set_entry_type(tar::EntryType::Symlink);
            self.tar.append_link(&mut header, to, target).map_err(failed)?;
        } else if meta.is_file() {
            self.bytes = self.bytes.saturating_add(meta.len());
            if self.bytes > self.limit {
                return Err(Failure::new("too-large", format!("this is larger than {} bytes, the most that is copied", self.limit))
                    .next("take more:  --limit SIZE"));
            }
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(meta.len());
            let file = File::open(from).map_err(failed)?;
            self.tar.append_data(&mut header, to, Exactly { inner: file, left: meta.len() }).map_err(failed)?;
        } else {
            self.skipped += 1;
            return Ok(());
        }
        self.files += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_folder_travels_whole_under_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("any");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(root.join("deep/.env"), "A=1").unwrap();
        std::fs::write(root.join("run"), "#!").unwrap();
        std::fs::set_permissions(root.join("run"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let tree = pack(&root, dir.path(), 100).unwrap();
        assert_eq!((tree.files, tree.bytes, tree.skipped), (3, 5, 0));
        let seen: BTreeMap<String, (u32, u64)> = tar::Archive::new(tree.packed.file)
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (e.path().unwrap().display().to_string(), (e.header().mode().unwrap(), e.size()))
            })
            .collect();
        assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), ["x", "x/deep", "x/deep/.env", "x/link", "x/run"]);
        assert_eq!(seen["x/run"], (0o755, 2), "no set-user-id bit");
        assert!(pack(&root, dir.path(), 4).is_err(), "over the limit");
        // A link that is named is followed: that file is meant.
        std::os::unix::fs::symlink(root.join("run"), dir.path().join("named")).unwrap();
        assert_eq!(pack(&dir.path().join("named"), dir.path(), 100).unwrap().bytes, 2);
        assert!(pack(Path::new("/dev/null"), dir.path(), 100).is_err());
    }
}
