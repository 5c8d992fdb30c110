//! A folder becomes a build context: first a look at what would travel, then a tar file.
//!
//! Guarantees: the same files make the same bytes (sorted, no times, no owners, modes 644 or 755); secrets by name or by
//! content stay at home and are named; a folder over the limit is refused before anything is read. The tar goes through a
//! file without a name, so memory stays small and nothing is left behind. It sends nothing.

use crate::dockerignore::{Fate, Ignore};
use crate::exit::Failure;
use crate::render::number::count;
use pasture_types::BlobHash;
use pasture_types::resources::display_bytes;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Seek as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Largest folder in bytes.
pub(crate) const MAX_CONTEXT_BYTES: u64 = 1 << 30;
/// The code of the failure to find what to build.
pub(crate) const NO_DOCKERFILE: &str = "no-dockerfile";
/// Most entries of a folder.
const MAX_ENTRIES: usize = 200_000;
/// Largest `.dockerignore`.
const MAX_IGNORE_BYTES: u64 = 1 << 20;
/// Keys are small: how far into a file we look for one.
const KEY_SEARCH_BYTES: u64 = 64 * 1024;
const BUFFER: usize = 256 * 1024;
/// Largest entries that are shown.
const SHOWN_LARGEST: usize = 3;
/// Left-out entries that are named; the others are counted.
const SHOWN_LEFT_OUT: usize = 10;

/// One thing that travels.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    File { bytes: u64, executable: bool },
    Link(PathBuf),
}

/// What would travel.
#[derive(Debug)]
pub(crate) struct Plan {
    root: PathBuf,
    entries: Vec<Entry>,
    /// Secrets and history that stay at home.
    pub(crate) left_out: Vec<String>,
    /// Sockets and devices, which have no content.
    pub(crate) no_content: Vec<String>,
}

/// A build context, ready to be sent.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The tar, without a name in the file system.
    pub(crate) file: File,
    /// Hash of the tar.
    pub(crate) hash: BlobHash,
    /// Its size.
    pub(crate) bytes: u64,
}

impl Plan {
    /// Looks at a folder. `dockerfile` always travels.
    pub(crate) fn scan(root: &Path, dockerfile: &str, limit: u64) -> Result<Self, Failure> {
        if !root.is_dir() {
            return Err(Failure::new("no-folder", format!("there is no folder {}", root.display())));
        }
        if !root.join(dockerfile).is_file() {
            return Err(Failure::new(NO_DOCKERFILE, format!("{} has no {dockerfile}, so there is nothing to build", root.display()))
                .next("write one; two lines are enough:  FROM an image,  CMD what to run")
                .next("or run an image as it is:  farm run IMAGE -- COMMAND"));
        }
        let ignore = read_ignore(root, dockerfile)?;
        let mut plan = Self { root: root.into(), entries: vec![], left_out: vec![], no_content: vec![] };
        let mut waiting = vec![(PathBuf::new(), false)];
        while let Some((folder, named)) = waiting.pop() {
            plan.scan_folder(&folder, named, &ignore, Path::new(dockerfile), &mut waiting)?;
        }
        plan.entries.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        plan.left_out.sort();
        if plan.bytes() > limit {
            return Err(plan.too_large(limit));
        }
        Ok(plan)
    }

    /// Looks at one folder; `named` says that it is left out and already named.
    fn scan_folder(
        &mut self,
        folder: &Path,
        named: bool,
        ignore: &Ignore,
        dockerfile: &Path,
        waiting: &mut Vec<(PathBuf, bool)>,
    ) -> Result<(), Failure> {
        let full = self.root.join(folder);
        for item in std::fs::read_dir(&full).map_err(|e| Failure::io("read", &full, &e))? {
            let item = item.map_err(|e| Failure::io("read", &full, &e))?;
            let path = folder.join(item.file_name());
            let shown = path.to_string_lossy().into_owned();
            let meta = item.metadata().map_err(|e| Failure::io("read", &item.path(), &e))?;
            let mut fate = if path == dockerfile { Fate::Asked } else { ignore.fate(&shown) };
            if fate == Fate::Sent && meta.is_file() && holds_private_key(&item.path(), meta.len())? {
                fate = Fate::Withheld;
            }
            let out = matches!(fate, Fate::Ignored | Fate::Withheld);
            if fate == Fate::Withheld && !named {
                self.left_out.push(if meta.is_dir() { format!("{shown}/") } else { shown.clone() });
            }
            if meta.is_dir() {
                if !out || ignore.may_keep_below() || dockerfile.starts_with(&path) {
                    waiting.push((path.clone(), named || fate == Fate::Withheld));
                }
                if !out {
                    self.add(path, Kind::Folder)?;
                }
            } else if out {
            } else if meta.is_file() {
                let executable = meta.permissions().mode() & 0o111 != 0;
                self.add(path, Kind::File { bytes: meta.len(), executable })?;
            } else if meta.is_symlink() {
                let target = std::fs::read_link(item.path()).map_err(|e| Failure::io("read", &item.path(), &e))?;
                self.add(path, Kind::Link(target))?;
            } else {
                self.no_content.push(shown);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, kind: Kind) -> Result<(), Failure> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Failure::new("context-too-large", format!("{} holds more than {MAX_ENTRIES} files", self.root.display()))
                .next("name what the build does not need in a .dockerignore"));
        }
        self.entries.push(Entry { path, kind });
        Ok(())
    }

    /// How many files travel.
    pub(crate) fn files(&self) -> u64 {
        self.entries.iter().filter(|e| !matches!(e.kind, Kind::Folder)).count() as u64
    }

    /// Their content in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| if let Kind::File { bytes, .. } = e.kind { bytes } else { 0 }).fold(0, u64::saturating_add)
    }

    fn largest(&self) -> Vec<(u64, String)> {
        let mut all: Vec<(u64, String)> = self
            .entries
            .iter()
            .filter_map(|e| if let Kind::File { bytes, .. } = e.kind { Some((bytes, e.path.display().to_string())) } else { None })
            .collect();
        all.sort_by(|a, b| b.cmp(a));
        all.truncate(SHOWN_LARGEST);
        all
    }

    fn too_large(&self, limit: u64) -> Failure {
        let mut failure = Failure::new(
            "context-too-large",
            format!(
                "{} holds {} in {}; at most {} can be sent",
                self.root.display(),
                display_bytes(self.bytes()),
                count(self.files(), "file"),
                display_bytes(limit)
            ),
        );
        for (bytes, path) in self.largest() {
            failure = failure.next(format!("{path} has {}: does the build need it?", display_bytes(bytes)));
        }
        failure.next("name what it does not need in a .dockerignore")
    }

    /// What travels and what does not, in one to three lines.
    pub(crate) fn summary(&self) -> Vec<String> {
        let largest: Vec<String> = self.largest().iter().map(|(b, p)| format!("{p} {}", display_bytes(*b))).collect();
        let mut lines =
            vec![format!("folder   {}, {}; largest: {}", count(self.files(), "file"), display_bytes(self.bytes()), largest.join(", "))];
        if !self.left_out.is_empty() {
            let shown: Vec<&str> = self.left_out.iter().take(SHOWN_LEFT_OUT).map(String::as_str).collect();
            let more = self.left_out.len().saturating_sub(SHOWN_LEFT_OUT);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let example = shown.first().map_or("", |s| s.trim_end_matches('/'));
            lines.push(format!("left out {}{more} (to send one, write for example !{example} in .dockerignore)", shown.join(", ")));
        }
        if !self.no_content.is_empty() {
            lines.push(format!("skipped  {} (sockets or devices)", self.no_content.join(", ")));
        }
        lines
    }

    /// Makes the tar. `temp` is a folder for the file without a name.
    pub(crate) fn pack(&self, temp: &Path) -> Result<Packed, Failure> {
        let mut tar = tar::Builder::new(Hashing::in_folder(temp)?);
        for entry in &self.entries {
            self.append(&mut tar, entry).map_err(|e| Failure::io("pack", &self.root.join(&entry.path), &e))?;
        }
        tar.into_inner().map_err(|e| Failure::io("write in", temp, &e))?.finish(temp)
    }

    fn append(&self, tar: &mut tar::Builder<Hashing>, entry: &Entry) -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o755);
        header.set_size(0);
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, &entry.path, std::io::empty())
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, &entry.path, target)
            }
            Kind::File { bytes, executable } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*bytes);
                let file = File::open(self.root.join(&entry.path))?;
                tar.append_data(&mut header, &entry.path, Exactly { inner: file, left: *bytes })
            }
        }
    }
}

/// The ignore file of this Dockerfile, else that of the folder.
fn read_ignore(root: &Path, dockerfile: &str) -> Result<Ignore, Failure> {
    let own = root.join(format!("{dockerfile}.dockerignore"));
    let path = if own.is_file() { own } else { root.join(".dockerignore") };
    let text = match std::fs::metadata(&path) {
        Ok(m) if m.len() > MAX_IGNORE_BYTES => {
            return Err(Failure::new("dockerignore", format!("{} is larger than {}", path.display(), display_bytes(MAX_IGNORE_BYTES))));
        }
        Ok(_) => std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(e) => return Err(Failure::io("read", &path, &e)),
    };
    Ignore::parse(&String::from_utf8_lossy(&text))
        .map_err(|bad| Failure::new("dockerignore", format!("{}:{}: {}", path.display(), bad.line, bad.problem)))
}

/// Whether a file is a private key by what it says: armoured keys of every kind begin alike.
fn holds_private_key(path: &Path, bytes: u64) -> Result<bool, Failure> {
    let pem = path.extension() == Some(OsStr::new("pem"));
    if bytes == 0 || (bytes > KEY_SEARCH_BYTES && !pem) {
        return Ok(false);
    }
    let file = File::open(path).map_err(|e| Failure::io("read", path, &e))?;
    let mut head = vec![];
    file.take(KEY_SEARCH_BYTES).read_to_end(&mut head).map_err(|e| Failure::io("read", path, &e))?;
    let text = String::from_utf8_lossy(&head);
    Ok((pem || text.trim_start().starts_with("-----BEGIN ")) && text.contains("PRIVATE KEY") && text.contains("-----BEGIN "))
}

/// Hashes and counts what is written through it.
pub(crate) struct Hashing {
    inner: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashing {
    /// Into a file without a name in this folder.
    pub(crate) fn in_folder(temp: &Path) -> Result<Self, Failure> {
        let file = tempfile::tempfile_in(temp).map_err(|e| Failure::io("write in", temp, &e))?;
        Ok(Self { inner: BufWriter::with_capacity(BUFFER, file), hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// All was written: the file from its beginning on.
    pub(crate) fn finish(mut self, temp: &Path) -> Result<Packed, Failure> {
        let failed = |e: &std::io::Error| Failure::io("write in", temp, e);
        self.flush().map_err(|e| failed(&e))?;
        let (hash, bytes) = (BlobHash(*self.hasher.finalize().as_bytes()), self.bytes);
        let mut file = self.inner.into_inner().map_err(|e| failed(e.error()))?;
        file.rewind().map_err(|e| failed(&e))?;
        Ok(Packed { file, hash, bytes })
    }
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Gives exactly as many bytes as were announced: a file that grows is cut, one that shrinks is an error, since the tar's
/// header is already written.
pub(crate) struct Exactly {
    /// Where they come from.
    pub(crate) inner: File,
    /// How many are still to come.
    pub(crate) left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let n = (&mut self.inner).take(self.left).read(buf)?;
        if n == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it became shorter while it was read; run this again"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let full = dir.path().join(path);
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            std::fs::write(full, text).unwrap();
        }
        dir
    }

    fn scan(dir: &tempfile::TempDir) -> Plan {
        Plan::scan(dir.path(), "Dockerfile", MAX_CONTEXT_BYTES).unwrap()
    }

    fn unpacked(packed: Packed) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
        let mut out = BTreeMap::new();
        for entry in tar::Archive::new(packed.file).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = vec![];
            entry.read_to_end(&mut data).unwrap();
            let h = entry.header();
            out.insert(entry.path().unwrap().display().to_string(), (h.mode().unwrap(), h.mtime().unwrap() + h.uid().unwrap(), data));
        }
        out
    }

    #[test]
    fn secrets_stay_at_home_and_are_named() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n";
        let dir = folder(&[
            ("Dockerfile", "FROM scratch\n"),
            (".env", "A=1"),
            (".git/config", "x"),
            (".git/objects/aa", "x"),
            ("certs/ca.pem", "-----BEGIN CERTIFICATE-----\n"),
            ("certs/server.pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\n"),
            ("deploy_key", key),
            (".aws/credentials", "x"),
            ("notes.txt", "how to make a PRIVATE KEY"),
        ]);
        let plan = scan(&dir);
        assert_eq!(plan.left_out, [".aws/", ".env", ".git/", "certs/server.pem", "deploy_key"]);
        let files = unpacked(plan.pack(dir.path()).unwrap());
        assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["Dockerfile", "certs", "certs/ca.pem", "notes.txt"]);
        let text = plan.summary().join("\n");
        assert!(text.contains("left out .aws/, .env, .git/, certs/server.pem, deploy_key"), "{text}");
        assert!(text.contains("3 files"), "{text}");
    }

    #[test]
    fn a_line_in_dockerignore_sends_a_secret_and_the_dockerfile_always_travels() {
        let dir = folder(&[(".dockerignore", "*\n!src\n!.env\n"), ("Dockerfile", "F"), (".env", "A=1"), ("src/a", "1"), ("data/b", "2")]);
        let files = unpacked(scan(&dir).pack(dir.path()).unwrap());
        assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), [".env", "Dockerfile", "src", "src/a"]);
    }

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let files = [("Dockerfile", "F"), ("b/c", "2"), ("a", "1"), ("b.x", "3")];
        let (one, mut other) = (folder(&files), files);
        other.reverse();
        let two = folder(&other);
        std::fs::set_permissions(one.path().join("a"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(two.path().join("a"), std::fs::Permissions::from_mode(0o664)).unwrap();
        let (a, b) = (scan(&one).pack(one.path()).unwrap(), scan(&two).pack(two.path()).unwrap());
        assert_eq!((a.hash, a.bytes), (b.hash, b.bytes));
        std::fs::set_permissions(two.path().join("a"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let c = scan(&two).pack(two.path()).unwrap();
        assert_ne!(a.hash, c.hash);
        let mut bytes = vec![];
        let mut file = c.file;
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!((pasture_types::blob::hash(&bytes), bytes.len() as u64), (c.hash, c.bytes));
        file.rewind().unwrap();
        let entries = unpacked(Packed { file, hash: c.hash, bytes: c.bytes });
        assert_eq!(entries["a"], (0o755, 0, b"1".to_vec()));
    }

    #[test]
    fn too_much_and_too_little_are_refused_with_a_way_out() {
        let dir = folder(&[("Dockerfile", "F"), ("big.bin", &"x".repeat(1000)), ("small", "y")]);
        let e = Plan::scan(dir.path(), "Dockerfile", 500).unwrap_err();
        assert!(e.message.contains("1002 B in 3 files"), "{e:?}");
        assert!(e.next[0].contains("big.bin has 1000 B"), "{e:?}");
        let empty = tempfile::tempdir().unwrap();
        let e = Plan::scan(empty.path(), "Dockerfile", 500).unwrap_err();
        assert!(e.message.contains("has no Dockerfile") && e.next.len() == 2, "{e:?}");
        let bad = folder(&[("Dockerfile", "F"), (".dockerignore", "ok\n[x\n")]);
        let e = Plan::scan(bad.path(), "Dockerfile", 500).unwrap_err();
        assert!(e.message.contains(".dockerignore:2"), "{e:?}");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_links_travel_as_links() {
        let dir = folder(&[("Dockerfile", "F"), ("a", "12345")]);
        std::os::unix::fs::symlink("a", dir.path().join("l")).unwrap();
        let plan = scan(&dir);
        assert_eq!(unpacked(plan.pack(dir.path()).unwrap())["l"].2, b"");
        std::fs::write(dir.path().join("a"), "1").unwrap();
        assert!(plan.pack(dir.path()).unwrap_err().message.contains("shorter"));
    }
}
