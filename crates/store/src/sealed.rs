//! Streams that only one reader opens: a job's log while it grows, what a job left.
//!
//! ```text
//!  stream   = record ...
//!  record   = kind (1) | length of the body (4, little endian) | body
//!  1 segment  body = where the record begins in the stream (8, little endian) | mark of the reader (8) | box with a fresh key (81)
//!  2 chunk    body = ChaCha20-Poly1305 under the segment's key, nonce where the record begins, over at most 256 KiB
//!  3 last     the same; nothing follows it
//! ```
//! Guarantees: whoever lacks the reader's secret learns lengths and nothing else, also who wrote the stream, once its [`Sealer`] is gone; a
//! byte that was changed, a record that was moved, left out before another, or taken from another stream does not open. Nobody's memory
//! holds more than a record. It does not say who sealed: that the stream is whole and the machine's own is said by a signed hash of it. Not
//! every end is seen from within: a log has no last record, an output has one. Form: `docs/specs/sealing.md`.

use crate::seal::{SealError, is_key, open_with, public_half, seal};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use pasture_types::ids::derive;
use pasture_types::{BlobHash, LeaseId};
use std::fmt;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// Longest content of a chunk: what is in memory on both sides.
pub const MAX_CHUNK: usize = 256 << 10;
/// Bytes before a body.
const HEAD: usize = 5;
/// What the cipher adds.
const TAG: usize = 16;
/// What a chunk adds to its content.
pub const CHUNK_OVERHEAD: usize = HEAD + TAG;
/// Body of a segment record.
const SEGMENT_BODY: usize = 8 + MARK + 81;
/// A segment record.
pub const SEGMENT_OVERHEAD: usize = HEAD + SEGMENT_BODY;
/// Bytes that say for whom it is.
pub(crate) const MARK: usize = 8;
/// Content under one key: what somebody learns who reads a running provider's memory is little of what was before.
pub const SEGMENT_BYTES: u64 = 4 << 20;
/// Chunks under one key, for streams of few bytes.
pub const SEGMENT_CHUNKS: u32 = 1024;
/// Bytes that an [`Opener`] keeps of what it has read before it moves the rest to the front.
const SLACK: usize = 64 << 10;

const BOX_DOMAIN: &[u8] = b"pasture 2026-11 sealed stream v1";
const MARK_DOMAIN: &str = "pasture 2026-11 reader mark v1";
const READER_DOMAIN: &str = "pasture 2026-11 reader secret v1";
const KIND_SEGMENT: u8 = 1;
const KIND_CHUNK: u8 = 2;
const KIND_LAST: u8 = 3;

/// What a stream is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A job's log frames.
    Log,
    /// The archive of a job's output folder.
    Output,
}

/// What a stream is bound to: it opens as this and as nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// What it is of.
    pub content: Content,
    /// Of which lease.
    pub lease: LeaseId,
}

impl Binding {
    fn context(&self, at: u64) -> Vec<u8> {
        let content = match self.content {
            Content::Log => 1,
            Content::Output => 2,
        };
        [BOX_DOMAIN, &[content], &self.lease.0, &at.to_le_bytes()].concat()
    }
}

/// It does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is sealed for the holder of another key.
    #[error("it is sealed for another key than yours")]
    Another,
    /// It is not what was sealed here.
    #[error("it is not what was sealed: the record at byte {0} does not open")]
    Changed(u64),
    /// It ends before its last record.
    #[error("it is cut off after {0} bytes")]
    Cut(u64),
}

/// A reader's secret.
#[derive(Clone)]
pub struct ReaderKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for ReaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReaderKey({}, secret)", hex::encode(self.public()))
    }
}

impl ReaderKey {
    /// The one that belongs to another secret of its owner's.
    #[must_use]
    pub fn derived(from: &[u8; 32]) -> Self {
        Self(Zeroizing::new(derive(READER_DOMAIN, &[from])))
    }
    /// What others seal with.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        public_half(&self.0)
    }
    /// Opens a box.
    pub(crate) fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        open_with(&self.0, context, sealed)
    }
}

pub(crate) fn mark(reader: &[u8; 32]) -> [u8; MARK] {
    let mut mark = [0; MARK];
    mark.copy_from_slice(derive(MARK_DOMAIN, &[reader]).first_chunk::<MARK>().unwrap_or(&[0; MARK]));
    mark
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(|_| SealError)
}

/// Where a record begins, as the cipher takes it: no two records of a segment begin at the same place.
fn nonce(at: u64) -> Nonce {
    let mut bytes = [0; 12];
    if let Some(low) = bytes.first_chunk_mut::<8>() {
        *low = at.to_le_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}

fn head(kind: u8, body: usize) -> Result<[u8; HEAD], SealError> {
    let [a, b, c, d] = u32::try_from(body).map_err(|_| SealError)?.to_le_bytes();
    Ok([kind, a, b, c, d])
}

pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| SealError)?;
    Ok(bytes)
}

struct Segment {
    key: LessSafeKey,
    bytes: u64,
    chunks: u32,
}

/// Writes a stream. What it gave must end up at the place that it was made for; after a failure it is of no more use, since the same
/// place must not be sealed twice with one key.
pub struct Sealer {
    reader: [u8; 32],
    binding: Binding,
    at: u64,
    segment: Option<Segment>,
}

impl Sealer {
    /// Goes on with a stream at `at`, under a key of its own.
    ///
    /// # Errors
    /// [`SealError`] if nothing can be sealed for this reader.
    pub fn new(reader: [u8; 32], binding: Binding, at: u64) -> Result<Self, SealError> {
        if is_key(&reader) { Ok(Self { reader, binding, at, segment: None }) } else { Err(SealError) }
    }

    /// Where the next record begins.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Appends a chunk to `out`, of at most [`MAX_CHUNK`] bytes. Says where a segment began, if one did.
    ///
    /// # Errors
    /// [`SealError`] if it is too long, or there are no random numbers.
    pub fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<Option<u64>, SealError> {
        self.record(KIND_CHUNK, content, out)
    }

    /// Appends the last chunk, which may be empty.
    ///
    /// # Errors
    /// As [`Sealer::push`].
    pub fn finish(mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        self.record(KIND_LAST, content, out).map(|_| ())
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Result<LessSafeKey, SealError> {
        let (key, chance) = (random()?, random()?);
        let sealed = seal(&self.reader, &self.binding.context(self.at), key.as_slice(), *chance)?;
        out.extend_from_slice(&head(KIND_SEGMENT, SEGMENT_BODY)?);
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&mark(&self.reader));
        out.extend_from_slice(&sealed);
        self.at = self.at.checked_add(SEGMENT_OVERHEAD as u64).ok_or(SealError)?;
        cipher(&key)
    }

    fn record(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) -> Result<Option<u64>, SealError> {
        if content.len() > MAX_CHUNK {
            return Err(SealError);
        }
        let full = self.segment.as_ref().is_none_or(|s| s.bytes >= SEGMENT_BYTES || s.chunks >= SEGMENT_CHUNKS);
        let mut began = None;
        if full {
            began = Some(self.at);
            let key = self.begin(out)?;
            self.segment = Some(Segment { key, bytes: 0, chunks: 0 });
        }
        let segment = self.segment.as_mut().ok_or(SealError)?;
        let head = head(kind, content.len() + TAG)?;
        out.extend_from_slice(&head);
        let from = out.len();
        out.extend_from_slice(content);
        let body = out.get_mut(from..).ok_or(SealError)?;
        let tag = segment.key.seal_in_place_separate_tag(nonce(self.at), Aad::from(&head), body).map_err(|_| SealError)?;
        out.extend_from_slice(tag.as_ref());
        segment.bytes = segment.bytes.saturating_add(content.len() as u64);
        segment.chunks = segment.chunks.saturating_add(1);
        self.at = self.at.checked_add((CHUNK_OVERHEAD + content.len()) as u64).ok_or(SealError)?;
        Ok(began)
    }
}

/// Reads a stream as its bytes arrive.
pub struct Opener {
    reader: ReaderKey,
    binding: Binding,
    /// Where the next record begins in the stream.
    at: u64,
    buffer: Vec<u8>,
    /// Where it begins in the buffer.
    next: usize,
    segment: Option<LessSafeKey>,
    hasher: blake3::Hasher,
    last: bool,
}

impl Opener {
    /// For a stream that is read from the record at `from` on. If that lies inside a segment, the segment's own record comes first, once
    /// more.
    #[must_use]
    pub fn new(reader: ReaderKey, binding: Binding, from: u64) -> Self {
        let hasher = blake3::Hasher::new();
        Self { reader, binding, at: from, buffer: Vec::new(), next: 0, segment: None, hasher, last: false }
    }

    /// The BLAKE3 hash of the records that were taken, from where reading began.
    #[must_use]
    pub fn root(&self) -> BlobHash {
        BlobHash(*self.hasher.finalize().as_bytes())
    }

    /// Where in the stream the records end that were taken: where to read on.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Whether the last record was taken.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.last
    }

    /// The connection broke off: it is read on from [`Opener::at`], and with the segment's record again.
    pub fn again(&mut self) {
        self.buffer.clear();
        self.next = 0;
        self.segment = None;
    }

    /// Adds bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.next > SLACK || self.next == self.buffer.len() {
            self.buffer.drain(..self.next);
            self.next = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn changed(&self) -> OpenError {
        OpenError::Changed(self.at)
    }

    /// The next chunk's content, if all of it is here.
    ///
    /// # Errors
    /// [`OpenError`]; it is then of no more use.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, OpenError> {
        loop {
            let Some((head, rest)) = self.buffer.get(self.next..).and_then(<[u8]>::split_first_chunk::<HEAD>) else { return Ok(None) };
            let [kind, length @ ..] = *head;
            let length = u32::from_le_bytes(length) as usize;
            let sound = match kind {
                KIND_SEGMENT => length == SEGMENT_BODY,
                KIND_CHUNK | KIND_LAST => (TAG..=MAX_CHUNK + TAG).contains(&length),
                _ => false,
            };
            if self.last || !sound {
                return Err(self.changed());
            }
            let Some(body) = rest.get(..length) else { return Ok(None) };
            let after = self.at.checked_add((HEAD + length) as u64).ok_or(OpenError::Changed(self.at))?;
            if kind == KIND_SEGMENT {
                let (key, at) = self.open_segment(body)?;
                // One that is sent again is not part of what is read.
                if at == self.at {
                    self.hasher.update(head).update(body);
                    self.at = after;
                }
                self.next += HEAD + length;
                self.segment = Some(key);
                continue;
            }
            let key = self.segment.as_ref().ok_or(OpenError::Changed(self.at))?;
            let mut content = body.to_vec();
            let plain = key.open_in_place(nonce(self.at), Aad::from(head), &mut content).map_err(|_| OpenError::Changed(self.at))?.len();
            content.truncate(plain);
            self.hasher.update(head).update(body);
            self.next += HEAD + length;
            self.at = after;
            self.last = kind == KIND_LAST;
            return Ok(Some(content));
        }
    }

    fn open_segment(&self, body: &[u8]) -> Result<(LessSafeKey, u64), OpenError> {
        let (at, rest) = body.split_first_chunk::<8>().ok_or(self.changed())?;
        let (whose, sealed) = rest.split_first_chunk::<MARK>().ok_or(self.changed())?;
        let at = u64::from_le_bytes(*at);
        // It is the record that is due; only where reading begins may it be an earlier one.
        if at != self.at && (self.segment.is_some() || at > self.at) {
            return Err(self.changed());
        }
        if *whose != mark(&self.reader.public()) {
            return Err(OpenError::Another);
        }
        let key = self.reader.open(&self.binding.context(at), sealed).map(Zeroizing::new).map_err(|_| self.changed())?;
        let key = <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new).map_err(|_| self.changed())?;
        Ok((cipher(&key).map_err(|_| self.changed())?, at))
    }
}

/// Where the segments of a stream begin, found as its bytes go by: for who keeps a stream and cannot read it.
#[derive(Default, Debug)]
pub struct Segments {
    starts: Vec<u64>,
    /// Bytes that went by.
    at: u64,
    /// The head of a record that is not whole yet.
    head: Vec<u8>,
    /// Bytes to go to the next head.
    body: usize,
}

impl Segments {
    /// Takes the next bytes of the stream.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let want = if self.body > 0 { self.body } else { HEAD - self.head.len() };
            let (taken, rest) = bytes.split_at_checked(want).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.body > 0 {
                self.body -= taken.len();
            } else {
                self.head.extend_from_slice(taken);
            }
            self.at = self.at.saturating_add(taken.len() as u64);
            if let Some([kind, length @ ..]) = self.head.first_chunk::<HEAD>().copied() {
                self.head.clear();
                self.body = u32::from_le_bytes(length) as usize;
                if kind == KIND_SEGMENT {
                    self.starts.push(self.at.saturating_sub(HEAD as u64));
                }
            }
        }
    }

    /// Where the segment begins that the record at `at` is in, or would be.
    #[must_use]
    pub fn of(&self, at: u64) -> Option<u64> {
        let before = self.starts.partition_point(|start| *start <= at);
        before.checked_sub(1).and_then(|n| self.starts.get(n)).copied()
    }
}

/// What is in a stream that has a last record, for whoever reads. Errors of reading hold an [`OpenError`] where it does not open.
pub struct OpenReader<R> {
    from: R,
    opener: Opener,
    content: Vec<u8>,
    taken: usize,
}

impl<R: Read> OpenReader<R> {
    /// Reads a stream from its beginning.
    pub fn new(from: R, reader: ReaderKey, binding: Binding) -> Self {
        Self { from, opener: Opener::new(reader, binding, 0), content: Vec::new(), taken: 0 }
    }
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wrong = |error: OpenError| io::Error::new(io::ErrorKind::InvalidData, error);
        while self.taken == self.content.len() {
            if let Some(content) = self.opener.next_chunk().map_err(wrong)? {
                (self.content, self.taken) = (content, 0);
                continue;
            }
            let mut bytes = [0; 1 << 14];
            let n = self.from.read(&mut bytes)?;
            if n == 0 {
                let whole = self.opener.is_over() && self.opener.next == self.opener.buffer.len();
                return if whole { Ok(0) } else { Err(wrong(OpenError::Cut(self.opener.at))) };
            }
            self.opener.push(bytes.get(..n).unwrap_or_default());
        }
        let rest = self.content.get(self.taken..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.taken += n;
        Ok(n)
    }
}

/// Seals all that a reader gives as a stream with a last record.
///
/// # Errors
/// Of reading and writing; and if nothing can be sealed for this reader.
pub fn seal_all(reader: [u8; 32], binding: Binding, mut from: impl Read, to: &mut impl io::Write) -> io::Result<()> {
    let wrong = |error: SealError| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut sealer = Sealer::new(reader, binding, 0).map_err(wrong)?;
    let (mut content, mut out) = (Vec::with_capacity(MAX_CHUNK), Vec::with_capacity(MAX_CHUNK + CHUNK_OVERHEAD + SEGMENT_OVERHEAD));
    loop {
        content.clear();
        out.clear();
        let n = from.by_ref().take(MAX_CHUNK as u64).read_to_end(&mut content)?;
        if n < MAX_CHUNK {
            sealer.finish(&content, &mut out).map_err(wrong)?;
            return to.write_all(&out);
        }
        sealer.push(&content, &mut out).map_err(wrong)?;
        to.write_all(&out)?;
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
