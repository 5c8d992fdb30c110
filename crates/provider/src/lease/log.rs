//! A lease's log file: frames on disk that survive a crash without a gap or a repeat.
//!
//! ```text
//!  log       the frames, appended and fsynced
//!  log.mark  how many bytes of it count, and the engine's cursor behind the last of them (replaced after each append)
//! ```
//! Guarantees: bytes count only once both files are durable; opening cuts off what does not count, and the engine is read on
//! from the cursor, so that the bytes that clients saw stay as they are. Only counted bytes are shown. Past the size limit one
//! note is written and the rest is dropped.

use crate::failpoint::Failpoints;
use bytes::Bytes;
use pasture_api::frames::{self, LogStream};
use pasture_runtime::LogCursor;
use pasture_store::{RecordFile, StoreError};
use pasture_types::{BlobHash, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

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
    max_bytes: u64,
    failpoints: Failpoints,
}

impl LogWriter {
    /// Opens the log in a lease's directory as it was last durable.
    pub(crate) fn open(dir: &Path, max_bytes: u64, failpoints: Failpoints) -> Result<Self, StoreError> {
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
        loop {
            let n = file.read(&mut buffer).map_err(|e| io("read")(e, &path))?;
            if n == 0 {
                break;
            }
            hasher.update(buffer.get(..n).unwrap_or_default());
        }
        file.seek(SeekFrom::Start(mark.bytes)).map_err(|e| io("seek in")(e, &path))?;
        Ok(Self { path, file, mark, record, hasher, max_bytes, failpoints })
    }

    /// Where to read the engine's log on.
    pub(crate) const fn cursor(&self) -> &LogCursor {
        &self.mark.cursor
    }

    /// What is durable now.
    pub(crate) fn seen(&self) -> LogSeen {
        let newest = self.mark.cursor.stdout.at.max(self.mark.cursor.stderr.at).as_millis().max(self.mark.began_ms);
        LogSeen {
            bytes: self.mark.bytes,
            root: BlobHash(*self.hasher.finalize().as_bytes()),
            last_at: (newest > 0).then_some(Timestamp(newest)),
            done: false,
        }
    }

    /// Goes on with the log of a later instance: writes what happened in between, once, and reads that one from its beginning.
    pub(crate) fn begin(&mut self, place: &LogPlace, now: Timestamp) -> Result<LogSeen, StoreError> {
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
        let mut mark = Mark { cursor: last.cursor.clone(), instance, began_ms, ..self.mark.clone() };
        let mut out = vec![];
        for piece in pieces {
            if mark.full {
                break;
            }
            if piece.lost_before {
                frames::encode(LogStream::Stderr, b"[farm] the engine dropped a part of the log here\n", &mut out);
            }
            let before = out.len();
            frames::encode(piece.stream, &piece.bytes, &mut out);
            if self.mark.bytes.saturating_add(out.len() as u64) > self.max_bytes {
                out.truncate(before);
                let note = format!("[farm] the log reached {} bytes; the rest is not kept\n", self.max_bytes);
                frames::encode(LogStream::Stderr, note.as_bytes(), &mut out);
                mark.full = true;
            }
        }
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
        self.mark = mark;
        Ok(self.seen())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::frames::{Decoder, HEADER};
    use pasture_runtime::{EngineTime, LogMark};

    fn piece(n: u64, text: &str) -> Piece {
        let cursor = LogCursor { entries: n, stdout: LogMark { at: EngineTime(n * 1_000_000), count: 1 }, ..LogCursor::default() };
        Piece { stream: LogStream::Stdout, bytes: Bytes::copy_from_slice(text.as_bytes()), cursor, lost_before: false }
    }

    fn read(dir: &Path) -> String {
        let mut decoder = Decoder::default();
        decoder.push(&std::fs::read(dir.join("log")).unwrap());
        let mut text = String::new();
        while let Some(f) = decoder.next_frame().unwrap() {
            text.push_str(&String::from_utf8_lossy(&f.data));
        }
        text
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
                let plain = LogWriter::open(dir.path(), 1 << 20, Failpoints::default()).unwrap();
                let from = usize::try_from(plain.cursor().entries).unwrap();
                // What was shown before the crash is still there, byte for byte.
                let now = std::fs::read(dir.path().join("log")).unwrap();
                assert_eq!(now[..shown.len()], shown[..]);
                if from >= entries.len() {
                    break;
                }
                drop(plain);
                let mut writer = LogWriter::open(dir.path(), 1 << 20, hook).unwrap();
                let crashed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.append(&entries[from..from + 1]))).is_err();
                assert!(crashed);
                if point == "provider.log.after_append" {
                    // The bytes are there, but do not count; one append without the crash makes progress.
                    let mut writer = LogWriter::open(dir.path(), 1 << 20, Failpoints::default()).unwrap();
                    assert_eq!(writer.cursor().entries, from as u64);
                    let end = (from + 3).min(entries.len());
                    let seen = writer.append(&entries[from..end]).unwrap();
                    assert_eq!(seen.bytes, std::fs::metadata(dir.path().join("log")).unwrap().len());
                }
                shown = std::fs::read(dir.path().join("log")).unwrap();
            }
            assert_eq!(read(dir.path()), expected);
            let seen = LogWriter::open(dir.path(), 1 << 20, Failpoints::default()).unwrap().seen();
            assert_eq!(seen.root, pasture_types::blob::hash(&std::fs::read(dir.path().join("log")).unwrap()));
            assert_eq!(seen.last_at, Some(Timestamp(20)));
        }
    }

    #[test]
    fn the_next_instance_goes_on_after_a_note_that_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), 1 << 20, Failpoints::default()).unwrap();
        writer.append(&[piece(1, "one\n"), piece(2, "two\n")]).unwrap();
        let place = LogPlace { instance: 1, note: "[farm] again\n".into() };
        assert_eq!(writer.begin(&LogPlace { instance: 0, ..place.clone() }, Timestamp(5)).unwrap(), writer.seen());
        writer.begin(&place, Timestamp(50)).unwrap();
        drop(writer);
        // As after a crash: the note stands, and the new instance's log is read from its beginning.
        let mut writer = LogWriter::open(dir.path(), 1 << 20, Failpoints::default()).unwrap();
        writer.begin(&place, Timestamp(60)).unwrap();
        assert_eq!((writer.cursor().entries, writer.seen().last_at), (0, Some(Timestamp(50))));
        writer.append(&[piece(1, "three\n")]).unwrap();
        writer.begin(&place, Timestamp(70)).unwrap();
        assert_eq!(read(dir.path()), "one\ntwo\n[farm] again\nthree\n");
        assert_eq!(writer.cursor().entries, 1);
    }

    #[test]
    fn past_the_limit_one_note_is_written_and_the_cursor_moves_on() {
        let dir = tempfile::tempdir().unwrap();
        let limit = 3 * (HEADER as u64 + 7);
        let mut writer = LogWriter::open(dir.path(), limit, Failpoints::default()).unwrap();
        writer.append(&[piece(1, "line 1\n"), piece(2, "line 2\n"), piece(3, "line 3\n"), piece(4, "line 4\n")]).unwrap();
        writer.append(&[piece(5, "line 5\n")]).unwrap();
        let text = read(dir.path());
        assert!(text.starts_with("line 1\nline 2\nline 3\n[farm] the log reached"), "{text}");
        assert!(!text.contains("line 5") && text.matches("[farm]").count() == 1, "{text}");
        let again = LogWriter::open(dir.path(), limit, Failpoints::default()).unwrap();
        assert_eq!(again.seen().bytes, writer.seen().bytes);
    }

    #[test]
    fn a_log_shorter_than_its_mark_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        LogWriter::open(dir.path(), 1 << 20, Failpoints::default()).unwrap().append(&[piece(1, "x")]).unwrap();
        std::fs::write(dir.path().join("log"), b"").unwrap();
        let Err(error) = LogWriter::open(dir.path(), 1 << 20, Failpoints::default()) else { panic!("accepted") };
        assert!(error.to_string().contains("log"), "{error}");
    }
}
