//! The outer form of a backup: one stream that a passphrase opens.
//!
//! ```text
//!  pasture backup 1
//!  kdf argon2id 65536 3 1               KiB, passes, lanes
//!  salt ...
//!  (empty line)
//!  frame ...                            last (1: 0 or 1) | length of the body (4, little endian) | body
//!  body = ChaCha20-Poly1305 over at most 64 KiB, nonce = last (1) | 0 0 0 | number of the frame (8, little endian),
//!         bound to the lines above
//! ```
//! Guarantees: without the passphrase it tells its length and nothing else; a frame that was changed, moved, left out or added does not
//! open, nor does a stream without its last frame. Neither side holds more than a frame. What a file asks of this machine is bounded.

use super::BackupError;
use crate::locked::{Cost, chance, cost};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::io::{self, Read, Write};

/// First line.
const MAGIC: &str = "pasture backup 1";
/// Plain bytes of a frame.
const FRAME: usize = 64 << 10;
/// What the cipher adds.
const TAG: usize = 16;
/// Longest head: it has a quarter of that.
const MAX_HEAD: usize = 512;
const SALT: usize = 16;

/// The lines before the first frame, and the key that the passphrase makes with them. The salt is fresh for each file, so the key is.
pub(crate) struct Head {
    text: String,
    key: LessSafeKey,
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Head({}, secret)", MAGIC)
    }
}

fn keyed(text: String, cost: Cost, salt: &[u8], passphrase: &[u8]) -> Result<Head, BackupError> {
    let key = cost.stretch(passphrase, salt).map_err(|e| BackupError::Unable(e.to_string()))?;
    let key =
        UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| BackupError::Unable("the cipher takes no such key".into()))?;
    Ok(Head { text, key: LessSafeKey::new(key) })
}

impl Head {
    /// A new one.
    pub(crate) fn make(passphrase: &[u8]) -> Result<Self, BackupError> {
        let salt: [u8; SALT] = chance().map_err(|e| BackupError::Unable(e.to_string()))?;
        let text = format!("{MAGIC}\nkdf {}\nsalt {}\n\n", Cost::NEW, hex::encode(salt));
        keyed(text, Cost::NEW, &salt, passphrase)
    }

    /// That of a file, which is then read up to its first frame.
    pub(crate) fn read(input: &mut impl Read, passphrase: &[u8]) -> Result<Self, BackupError> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n\n") {
            let mut byte = [0];
            if bytes.len() >= MAX_HEAD || input.read(&mut byte)? == 0 {
                return Err(BackupError::Foreign);
            }
            bytes.extend_from_slice(&byte);
            if !bytes.starts_with(MAGIC.get(..bytes.len().min(MAGIC.len())).unwrap_or_default().as_bytes()) {
                return Err(BackupError::Foreign);
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| BackupError::Foreign)?;
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).map(str::trim).ok_or(BackupError::Foreign);
        let _ = field(MAGIC)?;
        let (kdf, salt) = (field("kdf ")?, field("salt ")?);
        let kdf = cost(kdf).map_err(|e| BackupError::Damaged(e.to_string()))?;
        let salt = hex::decode(salt).ok().filter(|s| s.len() == SALT).ok_or_else(|| BackupError::Damaged("its salt is none".into()))?;
        keyed(text.clone(), kdf, &salt, passphrase)
    }

    /// Its length in the file.
    pub(crate) const fn length(&self) -> u64 {
        self.text.len() as u64
    }

    fn nonce(number: u64, last: bool) -> Nonce {
        let mut bytes = [0; 12];
        for (to, from) in bytes.iter_mut().zip([u8::from(last), 0, 0, 0].into_iter().chain(number.to_le_bytes())) {
            *to = from;
        }
        Nonce::assume_unique_for_key(bytes)
    }
}

/// Writes frames.
pub(crate) struct Closer<'a, W> {
    head: &'a Head,
    out: W,
    plain: Vec<u8>,
    number: u64,
}

impl<'a, W: Write> Closer<'a, W> {
    /// Writes the head.
    pub(crate) fn new(head: &'a Head, mut out: W) -> io::Result<Self> {
        out.write_all(head.text.as_bytes())?;
        Ok(Self { head, out, plain: Vec::with_capacity(FRAME + TAG), number: 0 })
    }

    fn frame(&mut self, last: bool) -> io::Result<()> {
        let aad = Aad::from(self.head.text.as_bytes());
        let nonce = Head::nonce(self.number, last);
        self.head.key.seal_in_place_append_tag(nonce, aad, &mut self.plain).map_err(|_| io::Error::other("the cipher failed"))?;
        let length = u32::try_from(self.plain.len()).map_err(|_| io::Error::other("a frame is too long"))?;
        self.out.write_all(&[u8::from(last)])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.plain)?;
        self.plain.clear();
        self.number += 1;
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.frame(true)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Closer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() >= FRAME {
            self.frame(false)?;
        }
        let taken = bytes.len().min(FRAME.saturating_sub(self.plain.len()));
        self.plain.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        // A frame ends when it is full: the stream says nothing of when its writer paused.
        Ok(())
    }
}

/// Reads frames.
pub(crate) struct Opener<'a, R> {
    head: &'a Head,
    input: R,
    plain: Vec<u8>,
    at: usize,
    number: u64,
    over: bool,
}

impl<'a, R: Read> Opener<'a, R> {
    /// Reads what follows the head.
    pub(crate) const fn new(head: &'a Head, input: R) -> Self {
        Self { head, input, plain: Vec::new(), at: 0, number: 0, over: false }
    }

    fn frame(&mut self) -> io::Result<()> {
        let cut = |e: io::Error| if e.kind() == io::ErrorKind::UnexpectedEof { BackupError::Truncated.into() } else { e };
        let mut begin = [0; 5];
        self.input.read_exact(&mut begin).map_err(cut)?;
        let [last, length @ ..] = begin;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if last > 1 || !(TAG..=FRAME + TAG).contains(&length) {
            return Err(BackupError::Damaged("a frame has an impossible length".into()).into());
        }
        self.plain.resize(length, 0);
        self.input.read_exact(&mut self.plain).map_err(cut)?;
        let (aad, nonce) = (Aad::from(self.head.text.as_bytes()), Head::nonce(self.number, last == 1));
        let opened = self.head.key.open_in_place(nonce, aad, &mut self.plain).map(|plain| plain.len());
        let length = opened.map_err(|_| match self.number {
            0 => BackupError::Passphrase,
            n => BackupError::Damaged(format!("frame {n} does not open")),
        })?;
        self.plain.truncate(length);
        (self.at, self.over) = (0, last == 1);
        self.number += 1;
        if self.over && self.input.read(&mut [0])? != 0 {
            return Err(BackupError::Damaged("something follows its end".into()).into());
        }
        Ok(())
    }

    /// Reads on to the end, so that a stream that was cut after what was wanted of it is noticed.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        while !self.over {
            self.frame()?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Opener<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.plain.len() {
            if self.over {
                return Ok(0);
            }
            self.frame()?;
        }
        let left = self.plain.get(self.at..).unwrap_or_default();
        let taken = left.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..taken), left.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(plain: &[u8]) -> Vec<u8> {
        let head = Head::make(b"a passphrase").unwrap();
        let mut closer = Closer::new(&head, Vec::new()).unwrap();
        closer.write_all(plain).unwrap();
        closer.finish().unwrap()
    }

    fn opened(bytes: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, BackupError> {
        let mut input = bytes;
        let head = Head::read(&mut input, passphrase)?;
        let mut opener = Opener::new(&head, input);
        let mut plain = Vec::new();
        opener.read_to_end(&mut plain)?;
        opener.finish()?;
        Ok(plain)
    }

    #[test]
    fn what_was_written_is_read_with_its_passphrase_alone() {
        for length in [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME] {
            let plain: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            assert_eq!(opened(&closed(&plain), b"a passphrase").unwrap(), plain, "{length}");
        }
        assert!(matches!(opened(&closed(b"x"), b"another"), Err(BackupError::Passphrase)));
        assert!(matches!(opened(b"something else", b"p"), Err(BackupError::Foreign)));
        assert!(matches!(opened(b"pasture backup 1\n", b"p"), Err(BackupError::Foreign)));
        let dear = b"pasture backup 1\nkdf argon2id 4294967295 3 1\nsalt 00000000000000000000000000000000\n\n";
        assert!(matches!(opened(dear, b"p"), Err(BackupError::Damaged(_))));
    }

    #[test]
    fn a_stream_that_was_cut_changed_or_put_together_anew_does_not_open() {
        // One key for all that follow: it is dear to make.
        let head = Head::make(b"a passphrase").unwrap();
        let mut closer = Closer::new(&head, Vec::new()).unwrap();
        closer.write_all(&vec![7; 2 * FRAME + 5]).unwrap();
        let whole = closer.finish().unwrap();
        let frames = whole[head.text.len()..].to_vec();
        let read = |frames: &[u8]| {
            let mut opener = Opener::new(&head, frames);
            let mut plain = Vec::new();
            opener.read_to_end(&mut plain).map_err(BackupError::from).map(|_| plain)
        };
        assert_eq!(read(&frames).unwrap().len(), 2 * FRAME + 5);
        let size = 5 + FRAME + TAG;
        for cut in [0, 3, 5, size - 1, size, size + 9, 2 * size, frames.len() - 1] {
            assert!(matches!(read(&frames[..cut]), Err(BackupError::Truncated)), "cut at {cut}");
        }
        for at in [0, 1, 5, size - 1, size, size + 7, 2 * size, frames.len() - 1] {
            let mut changed = frames.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
        let swapped = [&frames[size..2 * size], &frames[..size], &frames[2 * size..]].concat();
        assert!(read(&swapped).is_err());
        assert!(matches!(read(&[&frames[..size], &frames[2 * size..]].concat()), Err(BackupError::Damaged(_))), "left out");
        assert!(matches!(read(&[&frames[..], b"x"].concat()), Err(BackupError::Damaged(_))), "added");
    }
}
