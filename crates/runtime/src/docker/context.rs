//! A build context on its way to the engine: a tar archive that a stranger wrote.
//!
//! The engine unpacks it as root, onto its own disk, before any limit of ours holds. So it never sees the stranger's archive: we
//! read that one, and write another with the same files.
//!
//! Guarantees: what the engine gets has plain entries only (files, folders, links), each path once and inside, owned by root, and
//! no more bytes than it says; files with holes, devices and the like are refused by name. The Dockerfile that we look at is the one
//! that the engine builds. Does not: judge where links lead (the engine resolves them inside the context), keep times.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use miniz_oxide::{
    DataFormat, MZFlush, MZStatus,
    inflate::stream::{InflateState, inflate},
};
use tar::EntryType;
use tokio::sync::mpsc;

/// Most entries: each costs the host an inode, and a gigabyte of heads alone would be two million.
const MAX_ENTRIES: usize = 250_000;
/// Largest Dockerfile.
const MAX_DOCKERFILE_BYTES: u64 = 1 << 20;
/// Length of the pieces that the context is sent in.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Buffers for unpacking on trial.
const TRIAL_BYTES: usize = 64 << 10;

/// What a context holds, as far as it matters before a build.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) dockerfile: String,
    /// Files that `ADD` would unpack, with where their bytes lie.
    pub(super) archives: Vec<Archive>,
    /// Paths that lead elsewhere.
    pub(super) links: Vec<String>,
}

/// A compressed file.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) path: String,
    kind: Compression,
    position: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compression {
    Gzip,
    /// One that we do not unpack on trial.
    Other(&'static str),
}

/// Reads a context. An error is for whoever made it.
pub(super) fn read(tar: &Path, dockerfile: &str) -> Result<Contents, String> {
    let wanted =
        inside(Path::new(dockerfile)).ok_or_else(|| format!("the Dockerfile {dockerfile} does not lie inside the build context"))?;
    let mut contents = Contents::default();
    let (mut seen, mut found) = (BTreeSet::new(), None);
    for_each(tar, |mut entry, path, kind| {
        if !seen.insert(path.clone()) {
            return Err(format!("{} is twice in the build context", path.display()));
        }
        let shown = path.to_string_lossy().into_owned();
        match kind {
            EntryType::Regular if path == wanted => {
                let mut text = Vec::new();
                entry.by_ref().take(MAX_DOCKERFILE_BYTES + 1).read_to_end(&mut text).map_err(broken)?;
                if text.len() as u64 > MAX_DOCKERFILE_BYTES {
                    return Err(format!("{shown} is larger than {MAX_DOCKERFILE_BYTES} bytes"));
                }
                found = Some(String::from_utf8(text).map_err(|_| format!("{shown} is not UTF-8"))?);
            }
            EntryType::Regular => {
                let mut head = Vec::with_capacity(6);
                let (position, bytes) = (entry.raw_file_position(), entry.size());
                entry.by_ref().take(6).read_to_end(&mut head).map_err(broken)?;
                if let Some(kind) = compression(&head) {
                    contents.archives.push(Archive { path: shown, kind, position, bytes });
                }
            }
            EntryType::Symlink if path == wanted => return Err(format!("the Dockerfile {shown} is a link: name the file itself")),
            EntryType::Symlink | EntryType::Link => contents.links.push(shown),
            _ => {}
        }
        Ok(())
    })?;
    contents.dockerfile = found.ok_or_else(|| format!("the build context has no {}", wanted.display()))?;
    Ok(contents)
}

fn compression(head: &[u8]) -> Option<Compression> {
    let begins = |magic: &[u8]| head.starts_with(magic);
    match () {
        () if begins(&[0x1f, 0x8b]) => Some(Compression::Gzip),
        () if begins(b"BZh") => Some(Compression::Other("bzip2")),
        () if begins(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => Some(Compression::Other("xz")),
        () if begins(&[0x28, 0xb5, 0x2f, 0xfd]) => Some(Compression::Other("zstd")),
        () => None,
    }
}

/// How large an archive is when it is unpacked, counted no further than just beyond `limit`; an error is for its author.
pub(super) fn unpacked_bytes(tar: &Path, archive: &Archive, limit: u64) -> Result<u64, String> {
    if let Compression::Other(kind) = archive.kind {
        return Err(format!(
            "ADD {}: {kind} archives are not unpacked here, since nothing would limit that; use COPY and unpack it in a RUN step",
            archive.path
        ));
    }
    let mut file = File::open(tar).map_err(broken)?;
    file.seek(SeekFrom::Start(archive.position)).map_err(broken)?;
    Ok(gzip_bytes(file.take(archive.bytes), limit))
}

/// Bytes that a gzip stream gives; what is broken gives no more. Members that follow each other count as one.
fn gzip_bytes(source: impl Read, limit: u64) -> u64 {
    let mut source = io::BufReader::with_capacity(TRIAL_BYTES, source);
    let mut total = 0u64;
    while total <= limit && skip_gzip_head(&mut source).is_some() {
        let before = total;
        if inflate_member(&mut source, limit, &mut total).is_none() || total == before && at_end(&mut source) {
            break;
        }
        // The sum and the length.
        if read_exactly(&mut source, 8).is_none() {
            break;
        }
    }
    total
}

fn at_end(source: &mut impl io::BufRead) -> bool {
    source.fill_buf().map_or(true, <[u8]>::is_empty)
}

fn inflate_member(source: &mut impl io::BufRead, limit: u64, total: &mut u64) -> Option<()> {
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let mut out = vec![0; TRIAL_BYTES];
    loop {
        let input = source.fill_buf().ok()?;
        let ended = input.is_empty();
        let step = inflate(&mut state, input, &mut out, MZFlush::None);
        source.consume(step.bytes_consumed);
        *total = total.saturating_add(u64::try_from(step.bytes_written).unwrap_or(u64::MAX));
        match step.status {
            Ok(MZStatus::StreamEnd) => return Some(()),
            Ok(_) if *total <= limit && !(ended && step.bytes_written == 0) => {}
            _ => return None,
        }
    }
}

/// RFC 1952: ten bytes, then what the flags announce.
fn skip_gzip_head(source: &mut impl io::BufRead) -> Option<()> {
    let head = read_exactly(source, 10)?;
    let &[0x1f, 0x8b, _, flags, ..] = head.as_slice() else { return None };
    if flags & 4 != 0 {
        let length = read_exactly(source, 2)?;
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        read_exactly(source, length)?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            // A name or a comment; an endless one is at most as long as the archive.
            while read_exactly(source, 1)? != [0] {}
        }
    }
    if flags & 2 != 0 {
        read_exactly(source, 2)?;
    }
    Some(())
}

fn read_exactly(source: &mut impl Read, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    source.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn broken(error: io::Error) -> String {
    format!("the build context is no whole tar archive: {error}")
}

/// Calls `each` with every entry that has a place, in order.
fn for_each(tar: &Path, mut each: impl FnMut(tar::Entry<'_, File>, PathBuf, EntryType) -> Result<(), String>) -> Result<(), String> {
    let mut archive = tar::Archive::new(File::open(tar).map_err(broken)?);
    for (number, entry) in archive.entries_with_seek().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number >= MAX_ENTRIES {
            return Err(format!("the build context has more than {MAX_ENTRIES} files"));
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path =
            inside(Path::new(OsStr::from_bytes(&entry.path_bytes()))).ok_or_else(|| format!("{shown} leads out of the build context"))?;
        if let Ok(Some(extensions)) = entry.pax_extensions() {
            for extension in extensions {
                let key = extension.map_err(broken)?.key().unwrap_or_default().to_owned();
                if key.starts_with("GNU.sparse") {
                    return Err(format!("{shown} is a file with holes, which a build context cannot hold"));
                }
            }
        }
        let kind = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => EntryType::Regular,
            kind @ (EntryType::Directory | EntryType::Symlink | EntryType::Link) => kind,
            EntryType::XGlobalHeader => continue,
            EntryType::GNUSparse => return Err(format!("{shown} is a file with holes, which a build context cannot hold")),
            _ => return Err(format!("{shown} is neither a file, a folder nor a link, so a build context cannot hold it")),
        };
        // The context itself.
        if path.as_os_str().is_empty() {
            continue;
        }
        each(entry, path, kind)?;
    }
    Ok(())
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

/// Writes the context anew, piece by piece. Ends early when nobody takes the pieces any more; call it where blocking is allowed.
pub(super) fn send(tar: &Path, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let mut out = tar::Builder::new(Pieces { buffer: Vec::with_capacity(PIECE_BYTES), pieces: pieces.clone() });
    let written = for_each(tar, |mut entry, path, kind| {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(entry.header().mode().map_err(broken)? & 0o7777);
        header.set_entry_type(kind);
        header.set_size(0);
        let sent = match kind {
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
                let target = Path::new(OsStr::from_bytes(&target));
                if kind == EntryType::Link && inside(target).is_none() {
                    return Err(format!("{} is a link that leads out of the build context", path.display()));
                }
                out.append_link(&mut header, &path, target)
            }
            EntryType::Directory => out.append_data(&mut header, &path, io::empty()),
            _ => {
                header.set_size(entry.size());
                out.append_data(&mut header, &path, &mut entry)
            }
        };
        sent.map_err(broken)
    });
    let written = written.map_err(io::Error::other).and_then(|()| out.into_inner()?.flush());
    if let Err(error) = written {
        // A broken connection is what the engine must see, not a shorter archive.
        let _ = pieces.blocking_send(Err(error));
    }
}

/// Collects what is written into pieces and hands them over.
struct Pieces {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with entries as hostile as they come: the builder's own checks are bypassed.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> tempfile::NamedTempFile {
        let mut out = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_uid(1234);
            if *kind == GNUSparse {
                header.as_gnu_mut().unwrap().set_real_size(0);
            }
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content);
            }
            let data = if link { &[][..] } else { content };
            header.set_size(data.len() as u64);
            header.set_cksum();
            out.append(&header, data).unwrap();
        }
        out.into_inner().unwrap()
    }

    use EntryType::{Block, Directory, Fifo, GNUSparse, Link, Regular, Symlink};

    fn sent(tar: &Path) -> io::Result<Vec<u8>> {
        let (sender, mut receiver) = mpsc::channel(1);
        let tar = tar.to_owned();
        let writer = std::thread::spawn(move || send(&tar, sender));
        let mut all = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            all.extend_from_slice(&piece?);
        }
        writer.join().unwrap();
        Ok(all)
    }

    #[test]
    fn the_engine_gets_the_same_files_in_an_archive_of_ours() {
        let big = vec![7; 3 * PIECE_BYTES];
        let tar = archive(&[
            ("./", Directory, b""),
            ("./Dockerfile", Regular, b"FROM x\n"),
            ("d/", Directory, b""),
            ("d/big", Regular, &big),
            ("l", Symlink, b"/etc/passwd"),
            ("h", Link, b"d/big"),
            ("packed", Regular, &[0x1f, 0x8b, 8, 0]),
        ]);
        let contents = read(tar.path(), "./Dockerfile").unwrap();
        assert_eq!((contents.dockerfile.as_str(), contents.links.as_slice()), ("FROM x\n", &["l".to_owned(), "h".to_owned()][..]));
        assert_eq!(contents.archives.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["packed"]);
        let bytes = sent(tar.path()).unwrap();
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().mode().unwrap()), (0, 0o4755));
            found.push((entry.path().unwrap().display().to_string(), data.len()));
        }
        let expected = [("Dockerfile", 7), ("d", 0), ("d/big", big.len()), ("l", 0), ("h", 0), ("packed", 4)];
        assert_eq!(found, expected.map(|(name, size)| (name.to_owned(), size)));
    }

    #[test]
    fn what_is_no_plain_file_or_lies_outside_is_refused_by_name() {
        let dockerfile = ("Dockerfile", Regular, &b"FROM x\n"[..]);
        for (entry, words) in [
            (("../x", Regular, &b"a"[..]), "leads out"),
            (("/x", Regular, b"a"), "leads out"),
            (("d/../../x", Regular, b"a"), "leads out"),
            (("x", GNUSparse, b""), "holes"),
            (("x", Block, b""), "neither"),
            (("x", Fifo, b""), "neither"),
            (("./Dockerfile", Regular, b"FROM y\n"), "twice"),
        ] {
            let tar = archive(&[dockerfile, entry]);
            let why = read(tar.path(), "Dockerfile").unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
        assert!(sent(archive(&[("h", Link, b"../../etc/shadow")]).path()).is_err());
        assert!(read(archive(&[("Dockerfile", Symlink, b"/etc/passwd")]).path(), "Dockerfile").unwrap_err().contains("is a link"));
        assert!(read(archive(&[dockerfile]).path(), "../Dockerfile").is_err());
        assert!(read(archive(&[dockerfile]).path(), "Other").unwrap_err().contains("has no Other"));
        assert!(read(archive(&[("Dockerfile", Regular, &[0xff])]).path(), "Dockerfile").is_err());
    }

    #[test]
    fn a_thread_that_nobody_listens_to_ends() {
        let tar = archive(&[("a", Regular, &vec![1; 10 * PIECE_BYTES])]);
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        send(tar.path(), sender);
    }

    /// A stored (not compressed) block of deflate, in a gzip member with a name.
    fn member(content: &[u8], flags: u8) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        if flags & 4 != 0 {
            out.extend([2, 0, 9, 9]);
        }
        if flags & 8 != 0 {
            out.extend(b"name\0");
        }
        let length = u16::try_from(content.len()).unwrap();
        out.push(1);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(content);
        out.extend([0; 8]);
        out
    }

    #[test]
    fn gzip_is_counted_over_all_members_and_not_beyond_the_limit() {
        let one = member(&[5; 1000], 0);
        let all = [one.as_slice(), &member(&[6; 500], 4 | 8), &member(b"", 0), &member(&[7; 3], 8)].concat();
        assert_eq!(gzip_bytes(all.as_slice(), 1 << 20), 1503);
        assert!((101..=1503).contains(&gzip_bytes(all.as_slice(), 100)));
        for cut in 0..all.len() {
            assert!(gzip_bytes(&all[..cut], 1 << 20) <= 1503, "a broken one ends");
        }
        assert_eq!(gzip_bytes(&b"no gzip at all"[..], 10), 0);
    }
}
