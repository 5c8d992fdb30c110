//! Copying the layer of an instance that was just made: a handful of nearly empty folders and files, for which a program need not be
//! started.
//!
//! Guarantees: what is copied has owner, mode and attributes of its original. Does not: copy anything but folders and plain small files;
//! of those it makes no copy and says so.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use rustix::{
    fs::{self as kernel, XattrFlags},
    io::Errno,
};

/// Most entries of a layer that is copied here; a new one has five.
const MAX_ENTRIES: u32 = 64;
/// Largest file of those: new ones name the layers below.
const MAX_FILE: u64 = 64 << 10;
/// Most bytes of the names of an entry's attributes, and of one of their values: the kernel's own limit.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// Copies a folder to where nothing is. False if there is more in it than was to be expected; a part of it may be there then.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<bool> {
    let mut left = MAX_ENTRIES;
    entry(from, to, &mut left)
}

fn entry(from: &Path, to: &Path, left: &mut u32) -> io::Result<bool> {
    let meta = fs::symlink_metadata(from)?;
    *left = left.saturating_sub(1);
    let small = meta.is_file() && meta.nlink() == 1 && meta.len() <= MAX_FILE;
    if *left == 0 || !(meta.is_dir() || small) {
        return Ok(false);
    }
    if meta.is_dir() {
        fs::create_dir(to)?;
        for inner in fs::read_dir(from)? {
            let name = inner?.file_name();
            if !entry(&from.join(&name), &to.join(&name), left)? {
                return Ok(false);
            }
        }
    } else {
        fs::copy(from, to)?;
    }
    chown(to, Some(meta.uid()), Some(meta.gid()))?;
    attributes(from, to)?;
    // Last: a change of owner takes bits away.
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    Ok(true)
}

/// Copies what the storage driver, and a security module, note about an entry.
fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; MAX_ATTRIBUTE];
    let length = match kernel::llistxattr(from, &mut names[..]) {
        // A file system without them.
        Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; MAX_ATTRIBUTE];
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = kernel::lgetxattr(from, name, &mut value[..])?;
        kernel::lsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_layer_is_copied_with_its_attributes_and_an_unusual_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("work/work")).unwrap();
        fs::create_dir(from.join("diff")).unwrap();
        fs::write(from.join("link"), "NAME").unwrap();
        fs::set_permissions(from.join("work/work"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(from.join("diff"), fs::Permissions::from_mode(0o1755)).unwrap();
        let noted = kernel::setxattr(from.join("diff"), "user.note", b"seen", XattrFlags::empty()).is_ok();
        assert!(copy(&from, &to).unwrap());
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("work/work"), mode("diff")), (0, 0o1755));
        assert_eq!(fs::read(to.join("link")).unwrap(), b"NAME");
        let mut value = [0; 8];
        assert!(!noted || kernel::getxattr(to.join("diff"), "user.note", &mut value[..]) == Ok(4) && value.starts_with(b"seen"));

        let elsewhere = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("/etc", from.join("diff/etc")).unwrap();
        assert!(!copy(&from, &elsewhere("links")).unwrap());
        fs::remove_file(from.join("diff/etc")).unwrap();
        fs::hard_link(from.join("link"), from.join("twice")).unwrap();
        assert!(!copy(&from, &elsewhere("twice")).unwrap());
        fs::remove_file(from.join("twice")).unwrap();
        fs::write(from.join("diff/large"), vec![1; MAX_FILE as usize + 1]).unwrap();
        assert!(!copy(&from, &elsewhere("large")).unwrap());
        fs::remove_file(from.join("diff/large")).unwrap();
        for number in 0..MAX_ENTRIES {
            fs::write(from.join(format!("diff/{number}")), "").unwrap();
        }
        assert!(!copy(&from, &elsewhere("many")).unwrap());
    }
}
