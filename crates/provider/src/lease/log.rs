//! A lease's log file: frames, sealed for the job's reader, that survive a crash without a gap or a repeat.
//!
//! ```text
//!  log       a sealed stream (`pasture_store::sealed`) of frames, appended and fsynced
//!  log.mark  how many bytes of it count, and the engine's cursor behind the last of them (replaced after each append). The cursor says
//!            something of the first line, which engines with coarse clocks need; it goes when the job has ended
//! ```
//! Guarantees: bytes count only once both files are durable; opening cuts off what does not count, and the engine is read on
//! from the cursor, so that the bytes that clients saw stay as they are. Only counted bytes are shown. What was written cannot be read
//! here any more: each opening goes on under a new key. Output of one stream that is appended together is one frame. Past the size limit
//! one note is written and the rest is dropped.

use crate::failpoint::Failpoints;
use bytes::Bytes;
use pasture_api::frames::{self, HEADER, LogStream, MAX_FRAME};
use pasture_runtime::LogCursor;
use pasture_store::sealed::{Binding, CHUNK_OVERHEAD, Content, MAX_CHUNK, SEGMENT_OVERHEAD, Sealer, Segments};
use pasture_store::{RecordFile, StoreError};
use pasture_types::{BlobHash, LeaseId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a lease's log is to those who do not write it: where its segments begin, since whoever reads on from the middle needs the key of
/// the one that is there; and whether it is over.
#[derive(Clone, Default)]
pub(crate) struct LogIndex {
    segments: Arc<Mutex<Segments>>,
    /// Held while something is appended.
    over: Arc<Mutex<bool>>,
}

impl LogIndex {
    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn pass(&self, bytes: &[u8]) {
        self.segments().pass(bytes);
    }
    fn replace(&self, segments: Segments) {
        *self.segments() = segments;
    }
    /// The segment that a record is in which begins there.
    pub(crate) fn of(&self, at: u64) -> Option<u64> {
        self.segments().of(at)
    }

    /// The job has ended: nothing is appended from now on, and what the engine's cursor says of the log is forgotten. Does blocking work.
    pub(crate) fn close(&self, dir: &Path) -> Result<(), StoreError> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let record = RecordFile::<Mark>::new(dir.join("log.mark"));
        if let Some(mark) = record.load()?.filter(|mark| !*over && mark.cursor != LogCursor::default()) {
            record.save(&Mark { began_ms: mark.newest(), cursor: LogCursor::default(), ..mark })?;
        }
        *over = true;
        Ok(())
    }
}

/// For whom a lease's log is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogReader {
    pub(crate) key: [u8; 32],
    pub(crate) lease: LeaseId,
}

/// The log as far as it is durable: what is served and signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogSeen {
    pub(crate) bytes: u64,
    pub(crate) root: BlobHash,
    /// When the newest entry was written, by the engine's clock.
    pub(crate) last_at: Option<Timestamp>,
    /// Nothing more comes.
    pub(crate) done: bool,
}

#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct Mark {
    bytes: u64,
    cursor: LogCursor,
    /// The size limit was reached.
    full: bool,
    /// Which of the job's instances the cursor is in.
    #[serde(default)]
    instance: u32,
    /// When that one's log began.
    #[serde(default)]
    began_ms: u64,
}

impl Mark {
    /// When the newest entry was written, by the engine's clock.
    fn newest(&self) -> u64 {
        self.cursor.stdout.at.max(self.cursor.stderr.at).as_millis().max(self.began_ms)
    }
}

/// Where in the job's life a log begins: at which instance, and what is written between it and the last one.
#[derive(Clone, Debug)]
pub(crate) struct LogPlace {
    pub(crate) instance: u32,
    pub(crate) note: String,
}

/// A piece of a job's log.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) stream: LogStream,
    pub(crate) bytes: Bytes,
    pub(crate) cursor: LogCursor,
    pub(crate) lost_before: bool,
}

/// The file being written.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    mark: Mark,
    record: RecordFile<Mark>,
    hasher: blake3::Hasher,
    index: LogIndex,
    sealer: Option<Sealer>,
    max_bytes: u64,
    failpoints: Failpoints,
}

/// What is appended together: frames in chunks.
#[derive(Default)]
struct Batch {
    chunks: Vec<Vec<u8>>,
    chunk: Vec<u8>,
    /// The frame that still grows.
    open: Option<(LogStream, Vec<u8>)>,
    /// No more than so many bytes of frames.
    most: u64,
}

impl Batch {
    fn add(&mut self, stream: LogStream, bytes: &[u8]) {
        self.most = self.most.saturating_add(most_of(bytes));
        for part in bytes.chunks(MAX_FRAME) {
            let fits = |(of, open): &&mut (LogStream, Vec<u8>)| *of == stream && open.len() + part.len() <= MAX_FRAME;
            match self.open.as_mut().filter(fits) {
                Some((_, open)) => open.extend_from_slice(part),
                None => {
                    self.close_frame();
                    self.open = Some((stream, part.to_vec()));
                }
            }
        }
    }

    fn close_frame(&mut self) {
        let Some((stream, bytes)) = self.open.take() else { return };
        if self.chunk.len() + HEADER + bytes.len() > MAX_CHUNK {
            self.chunks.push(std::mem::take(&mut self.chunk));
        }
        frames::encode(stream, &bytes, &mut self.chunk);
    }

    /// No more than so many bytes once it is sealed.
    const fn most_sealed(&self) -> u64 {
        // Each chunk but the last is fuller than this, and each may begin a segment.
        let chunks = self.most / (MAX_CHUNK - MAX_FRAME - HEADER) as u64 + 1;
        self.most.saturating_add(chunks.saturating_mul((CHUNK_OVERHEAD + SEGMENT_OVERHEAD) as u64))
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        self.close_frame();
        if !self.chunk.is_empty() {
            self.chunks.push(self.chunk);
        }
        self.chunks
    }
}

/// No more bytes than this are the frames of a piece.
const fn most_of(bytes: &[u8]) -> u64 {
    (bytes.len() + HEADER * (bytes.len() / MAX_FRAME + 1)) as u64
}

impl LogWriter {
    /// Opens the log in a lease's directory as it was last durable.
    pub(crate) fn open(dir: &Path, max_bytes: u64, index: LogIndex, failpoints: Failpoints) -> Result<Self, StoreError> {
        let path = dir.join("log");
        let record = RecordFile::<Mark>::new(dir.join("log.mark"));
        let mark = record.load()?.unwrap_or_default();
        let io = |action| move |source, path: &Path| StoreError::Io { action, path: path.into(), source };
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| io("open")(e, &path))?;
        let length = file.metadata().map_err(|e| io("read")(e, &path))?.len();
        if length < mark.bytes {
            let detail = format!("{length} bytes where {} were written", mark.bytes);
            return Err(StoreError::Corrupt { path, detail });
        }
        file.set_len(mark.bytes).map_err(|e| io("truncate")(e, &path))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; 1 << 16];
        let mut segments = Segments::default();
        loop {
            let n = file.read(&mut buffer).map_err(|e| io("read")(e, &path))?;
            if n == 0 {
                break;
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            hasher.update(bytes);
            segments.pass(bytes);
        }
        index.replace(segments);
        file.seek(SeekFrom::Start(mark.bytes)).map_err(|e| io("seek in")(e, &path))?;
        Ok(Self { path, file, mark, record, hasher, index, sealer: None, max_bytes, failpoints })
    }

    /// Where to read the engine's log on.
    pub(crate) const fn cursor(&self) -> &LogCursor {
        &self.mark.cursor
    }

    /// What is durable now.
    pub(crate) fn seen(&self) -> LogSeen {
        let newest = self.mark.newest();
        LogSeen {
            bytes: self.mark.bytes,
            root: BlobHash(*self.hasher.finalize().as_bytes()),
            last_at: (newest > 0).then_some(Timestamp(newest)),
            done: false,
        }
    }

    /// From now on what is appended is sealed for this reader. Then goes on with the log of a later instance, if it is one: writes what
    /// happened in between, once, and reads that one from its beginning.
    pub(crate) fn begin(&mut self, reader: LogReader, place: &LogPlace, now: Timestamp) -> Result<LogSeen, StoreError> {
        if self.sealer.is_none() {
            let binding = Binding { content: Content::Log, lease: reader.lease };
            self.sealer = Some(Sealer::new(reader.key, binding, self.mark.bytes).map_err(|e| unsealed(&self.path, &e.to_string()))?);
        }
        if place.instance <= self.mark.instance {
            return Ok(self.seen());
        }
        let cursor = LogCursor::default();
        let note = Piece { stream: LogStream::Stderr, bytes: Bytes::from(place.note.clone()), cursor, lost_before: false };
        self.write(&[note], place.instance, now.0)
    }

    /// Appends pieces durably. After an error the file is as it was; the writer must be opened again.
    pub(crate) fn append(&mut self, pieces: &[Piece]) -> Result<LogSeen, StoreError> {
        self.write(pieces, self.mark.instance, self.mark.began_ms)
    }

    fn write(&mut self, pieces: &[Piece], instance: u32, began_ms: u64) -> Result<LogSeen, StoreError> {
        let Some(last) = pieces.last() else { return Ok(self.seen()) };
        let gate = Arc::clone(&self.index.over);
        let over = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if *over {
            return Ok(self.seen());
        }
        let mut mark = Mark { cursor: last.cursor.clone(), instance, began_ms, ..self.mark.clone() };
        let mut batch = Batch::default();
        for piece in pieces {
            if mark.full {
                break;
            }
            if piece.lost_before {
                batch.add(LogStream::Stderr, b"[farm] the engine dropped a part of the log here\n");
            }
            if self.mark.bytes.saturating_add(batch.most_sealed()).saturating_add(most_of(&piece.bytes)) > self.max_bytes {
                let note = format!("[farm] the log reached {} bytes; the rest is not kept\n", self.max_bytes);
                batch.add(LogStream::Stderr, note.as_bytes());
                mark.full = true;
            } else {
                batch.add(piece.stream, &piece.bytes);
            }
        }
        let out = self.seal(batch)?;
        let io = |action, source| StoreError::Io { action, path: self.path.clone(), source };
        if !out.is_empty() {
            self.file.write_all(&out).map_err(|e| io("write", e))?;
            self.file.sync_data().map_err(|e| io("sync", e))?;
            self.failpoints.hit("provider.log.after_append");
        }
        mark.bytes = mark.bytes.saturating_add(out.len() as u64);
        // Past the limit only the time of the newest entry would change: not worth an fsync for each.
        if !(self.mark.full && mark.full && self.mark.instance == instance) {
            self.record.save(&mark)?;
            self.failpoints.hit("provider.log.after_mark");
        }
        self.hasher.update(&out);
        self.index.pass(&out);
        self.mark = mark;
        Ok(self.seen())
    }

    fn seal(&mut self, batch: Batch) -> Result<Vec<u8>, StoreError> {
        let chunks = batch.finish();
        let mut out = Vec::with_capacity(chunks.iter().map(|c| c.len() + CHUNK_OVERHEAD + SEGMENT_OVERHEAD).sum());
        for chunk in chunks {
            let sealer = self.sealer.as_mut().ok_or_else(|| unsealed(&self.path, "nobody said for whom"))?;
            sealer.push(&chunk, &mut out).map_err(|e| unsealed(&self.path, &e.to_string()))?;
        }
        Ok(out)
    }
}

fn unsealed(path: &Path, detail: &str) -> StoreError {
    StoreError::Corrupt { path: path.into(), detail: format!("the log cannot be sealed: {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::frames::{Decoder, HEADER};
    use pasture_runtime::{EngineTime, LogMark};
    use pasture_store::sealed::{Opener, ReaderKey};

    fn reader() -> LogReader {
        LogReader { key: ReaderKey::derived(&[1; 32]).public(), lease: LeaseId([2; 32]) }
    }

    fn open(dir: &Path, max_bytes: u64, failpoints: Failpoints) -> Result<LogWriter, StoreError> {
        LogWriter::open(dir, max_bytes, LogIndex::default(), failpoints)
    }

    /// Opened for writing by the first instance.
    fn begun(dir: &Path, max_bytes: u64, failpoints: Failpoints) -> LogWriter {
        let mut writer = open(dir, max_bytes, failpoints).unwrap();
        writer.begin(reader(), &LogPlace { instance: 0, note: String::new() }, Timestamp(1)).unwrap();
        writer
    }

    fn piece(n: u64, text: &str) -> Piece {
        let cursor = LogCursor { entries: n, stdout: LogMark { at: EngineTime(n * 1_000_000), count: 1 }, ..LogCursor::default() };
        Piece { stream: LogStream::Stdout, bytes: Bytes::copy_from_slice(text.as_bytes()), cursor, lost_before: false }
    }

    /// The frames as they are, each with its stream's letter.
    fn frames(dir: &Path) -> Vec<String> {
        let mut opener = Opener::new(ReaderKey::derived(&[1; 32]), Binding { content: Content::Log, lease: LeaseId([2; 32]) }, 0);
        opener.push(&std::fs::read(dir.join("log")).unwrap());
        let (mut decoder, mut out) = (Decoder::default(), vec![]);
        while let Some(chunk) = opener.next_chunk().unwrap() {
            decoder.push(&chunk);
            while let Some(f) = decoder.next_frame().unwrap() {
                out.push(format!("{}{}", if f.stream == LogStream::Stdout { "" } else { "!" }, String::from_utf8_lossy(&f.data)));
            }
        }
        out
    }

    fn read(dir: &Path) -> String {
        frames(dir).concat().replace('!', "")
    }

    #[test]
    fn what_comes_together_is_one_frame_and_the_order_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = begun(dir.path(), 1 << 24, Failpoints::default());
        let on_stderr = |n, text| Piece { stream: LogStream::Stderr, ..piece(n, text) };
        writer.append(&[piece(1, "a\n"), piece(2, "b\n"), on_stderr(3, "c\n"), piece(4, ""), piece(5, "d\n")]).unwrap();
        writer.append(&[piece(6, "alone\n")]).unwrap();
        assert_eq!(frames(dir.path()), ["a\nb\n", "!c\n", "d\n", "alone\n"]);
        // Far more than a chunk, in lines of which none is torn.
        let line = "x".repeat(1000) + "\n";
        let many: Vec<Piece> = (7..2_000).map(|n| piece(n, &line)).collect();
        writer.append(&many).unwrap();
        let all = frames(dir.path());
        assert!(all.len() < 50 && all.iter().all(|f| f.ends_with('\n') && f.len() <= MAX_FRAME), "{}", all.len());
        assert_eq!(all[4..].concat(), line.repeat(many.len()));
        let long = "y".repeat(3 * MAX_FRAME);
        writer.append(&[piece(2_000, &long)]).unwrap();
        assert!(frames(dir.path()).concat().ends_with(&long));
        let stored = std::fs::read(dir.path().join("log")).unwrap();
        assert!(!stored.windows(5).any(|w| w == b"alone" || w == b"xxxxx"), "nothing of it is on the disk");
    }

    #[test]
    fn a_crash_at_any_point_leaves_no_gap_and_no_repeat() {
        // What the engine has; each crash is a panic in a failpoint, after which everything is opened again.
        let entries: Vec<Piece> = (1..=20).map(|n| piece(n, &format!("line {n}\n"))).collect();
        let expected: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        for point in ["provider.log.after_append", "provider.log.after_mark"] {
            let dir = tempfile::tempdir().unwrap();
            let mut shown = vec![];
            loop {
                let hook = Failpoints(Some(std::sync::Arc::new(move |name| assert!(name != point, "crash"))));
                let plain = open(dir.path(), 1 << 20, Failpoints::default()).unwrap();
                let from = usize::try_from(plain.cursor().entries).unwrap();
                // What was shown before the crash is still there, byte for byte.
                let now = std::fs::read(dir.path().join("log")).unwrap();
                assert_eq!(now[..shown.len()], shown[..]);
                if from >= entries.len() {
                    break;
                }
                drop(plain);
                let mut writer = begun(dir.path(), 1 << 20, hook);
                let crashed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.append(&entries[from..from + 1]))).is_err();
                assert!(crashed);
                if point == "provider.log.after_append" {
                    // The bytes are there, but do not count; one append without the crash makes progress.
                    let mut writer = begun(dir.path(), 1 << 20, Failpoints::default());
                    assert_eq!(writer.cursor().entries, from as u64);
                    let end = (from + 3).min(entries.len());
                    let seen = writer.append(&entries[from..end]).unwrap();
                    assert_eq!(seen.bytes, std::fs::metadata(dir.path().join("log")).unwrap().len());
                }
                shown = std::fs::read(dir.path().join("log")).unwrap();
            }
            assert_eq!(read(dir.path()), expected);
            let seen = open(dir.path(), 1 << 20, Failpoints::default()).unwrap().seen();
            assert_eq!(seen.root, pasture_types::blob::hash(&std::fs::read(dir.path().join("log")).unwrap()));
            assert_eq!(seen.last_at, Some(Timestamp(20)));
        }
    }

    #[test]
    fn the_next_instance_goes_on_after_a_note_that_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = begun(dir.path(), 1 << 20, Failpoints::default());
        writer.append(&[piece(1, "one\n"), piece(2, "two\n")]).unwrap();
        let place = LogPlace { instance: 1, note: "[farm] again\n".into() };
        assert_eq!(writer.begin(reader(), &LogPlace { instance: 0, ..place.clone() }, Timestamp(5)).unwrap(), writer.seen());
        writer.begin(reader(), &place, Timestamp(50)).unwrap();
        drop(writer);
        // As after a crash: the note stands, and the new instance's log is read from its beginning.
        let mut writer = begun(dir.path(), 1 << 20, Failpoints::default());
        writer.begin(reader(), &place, Timestamp(60)).unwrap();
        assert_eq!((writer.cursor().entries, writer.seen().last_at), (0, Some(Timestamp(50))));
        writer.append(&[piece(1, "three\n")]).unwrap();
        writer.begin(reader(), &place, Timestamp(70)).unwrap();
        assert_eq!(read(dir.path()), "one\ntwo\n[farm] again\nthree\n");
        assert_eq!(writer.cursor().entries, 1);
    }

    #[test]
    fn after_the_end_nothing_is_appended_and_the_mark_says_nothing_of_a_line() {
        let (dir, index) = (tempfile::tempdir().unwrap(), LogIndex::default());
        index.close(dir.path()).unwrap();
        assert!(!dir.path().join("log.mark").exists(), "nothing was written");
        let index = LogIndex::default();
        let mut writer = LogWriter::open(dir.path(), 1 << 20, index.clone(), Failpoints::default()).unwrap();
        writer.begin(reader(), &LogPlace { instance: 0, note: String::new() }, Timestamp(1)).unwrap();
        let mut said = piece(1, "one\n");
        (said.cursor.first_at, said.cursor.first_sum) = (Some(EngineTime(7)), 0x00c0_ffee);
        let seen = writer.append(&[said]).unwrap();
        let mark = || std::fs::read_to_string(dir.path().join("log.mark")).unwrap();
        let sum = 0x00c0_ffee.to_string();
        assert!(mark().contains(&sum), "{}", mark());
        index.close(dir.path()).unwrap();
        assert!(!mark().contains(&sum), "{}", mark());
        // Who was still at it changes nothing any more.
        assert_eq!(writer.append(&[piece(2, "two\n")]).unwrap(), seen);
        drop(writer);
        assert_eq!((open(dir.path(), 1 << 20, Failpoints::default()).unwrap().seen(), read(dir.path()).as_str()), (seen, "one\n"));
    }

    #[test]
    fn past_the_limit_one_note_is_written_and_the_cursor_moves_on() {
        let dir = tempfile::tempdir().unwrap();
        // Each of the first three with a frame of its own, and a chunk and a segment around all.
        let limit = 3 * (HEADER as u64 + 7) + (CHUNK_OVERHEAD + SEGMENT_OVERHEAD) as u64;
        let mut writer = begun(dir.path(), limit, Failpoints::default());
        writer.append(&[piece(1, "line 1\n"), piece(2, "line 2\n"), piece(3, "line 3\n"), piece(4, "line 4\n")]).unwrap();
        writer.append(&[piece(5, "line 5\n")]).unwrap();
        let text = read(dir.path());
        assert!(text.starts_with("line 1\nline 2\nline 3\n[farm] the log reached"), "{text}");
        assert!(!text.contains("line 5") && text.matches("[farm]").count() == 1, "{text}");
        let again = open(dir.path(), limit, Failpoints::default()).unwrap();
        assert_eq!(again.seen().bytes, writer.seen().bytes);
    }

    #[test]
    fn a_log_shorter_than_its_mark_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        begun(dir.path(), 1 << 20, Failpoints::default()).append(&[piece(1, "x")]).unwrap();
        std::fs::write(dir.path().join("log"), b"").unwrap();
        let Err(error) = open(dir.path(), 1 << 20, Failpoints::default()) else { panic!("accepted") };
        assert!(error.to_string().contains("log"), "{error}");
    }
}
