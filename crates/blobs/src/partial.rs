//! A blob that is coming, in pieces in any order, from several at once.
//!
//! Guarantees: pieces that were noted as here before a crash need not come again (the digest of the whole has the last word on that); who sent
//! which piece is remembered until the whole is right, so that who sent wrong bytes is known.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a piece.
pub(crate) const PIECE: u64 = 1 << 20;
/// How a piece is noted.
const HERE: u8 = b'1';
const AWAY: u8 = b'0';

/// The file that grows, and the one beside it that says what of it is there.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    notes: File,
    pub(crate) size: u64,
}

impl Partial {
    /// Opens or makes it; which pieces are there already.
    pub(crate) fn open(path: &Path, size: u64) -> io::Result<(Self, Vec<bool>)> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let (file, notes) = (open(path)?, open(&path.with_extension("pieces"))?);
        let count = usize::try_from(pieces(size)).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut noted = vec![0; count];
        let whole = file.metadata()?.len() == size && notes.metadata()?.len() == count as u64;
        if !whole || notes.read_exact_at(&mut noted, 0).is_err() {
            file.set_len(size)?;
            noted = vec![AWAY; count];
            notes.set_len(count as u64)?;
            notes.write_all_at(&noted, 0)?;
        }
        let here = noted.into_iter().map(|note| note == HERE).collect();
        Ok((Self { path: path.to_owned(), file, notes, size }, here))
    }
    /// Where a piece begins, and how long it is.
    pub(crate) fn span(&self, piece: u64) -> (u64, u64) {
        let from = piece.saturating_mul(PIECE);
        (from, self.size.saturating_sub(from).min(PIECE))
    }
    /// A piece is there.
    pub(crate) fn write(&self, piece: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, piece.saturating_mul(PIECE))?;
        // A note without its bytes would cost no more than another try: the digest tells.
        self.notes.write_all_at(&[HERE], piece)
    }
    /// What a piece of it hashes to now.
    pub(crate) fn hash(&self, piece: u64) -> io::Result<[u8; 32]> {
        let (from, length) = self.span(piece);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(*blake3::hash(&bytes).as_bytes())
    }
    /// Nothing of it is there.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let count = usize::try_from(pieces(self.size)).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.notes.write_all_at(&vec![AWAY; count], 0)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Removes the notes: the file itself has been taken in.
    pub(crate) fn done(&self) {
        let _ = std::fs::remove_file(self.path.with_extension("pieces"));
    }
}

/// How many pieces a blob has.
pub(crate) const fn pieces(size: u64) -> u64 {
    size.div_ceil(PIECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_came_are_there_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let size = 2 * PIECE + 5;
        let (partial, here) = Partial::open(&path, size).unwrap();
        assert_eq!(here, [false; 3]);
        assert_eq!(partial.span(2), (2 * PIECE, 5));
        partial.write(2, b"hello").unwrap();
        drop(partial);
        let (partial, here) = Partial::open(&path, size).unwrap();
        assert_eq!(here, [false, false, true]);
        assert_eq!(partial.hash(2).unwrap(), *blake3::hash(b"hello").as_bytes());
        partial.forget().unwrap();
        assert_eq!(Partial::open(&path, size).unwrap().1, [false; 3]);
        partial.write(0, b"x").unwrap();
        assert_eq!(Partial::open(&path, size + PIECE).unwrap().1, [false; 4], "of another size it is another blob");
    }
}
