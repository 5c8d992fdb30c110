//! Following a log so that nothing is lost or told twice, across reconnections, restarts of ours and the container's end.
//!
//! The engine gives entries in the order of its file, each with a timestamp. A pass over the log begins at the beginning
//! and skips as many entries as the cursor has counted ([`LogCursor`] says why not by time). Only when the first entry is
//! no longer the one that the cursor knows (the engine rotated it away) are timestamps used, for each stream apart.
//!
//! ```text
//!  created ─▶ wait for the start ─▶ pass (following) ─▶ ended? ─ running ─▶ pass again
//!                                         │                └─ exited ─▶ last entry seen? ─ yes ─▶ done
//!                                         └◀─── pass (not following) ◀───────── no
//! ```
//! Does not: decode text, merge the pieces of a line over 16 KiB, promise an order between the two streams.

use std::{sync::Arc, time::Duration};

use bollard::{container::LogOutput, errors::Error, query_parameters::LogsOptionsBuilder};
use bytes::{Buf, Bytes};
use futures::{
    StreamExt,
    stream::{BoxStream, Stream, unfold},
};

use super::{Inner, entries};
use crate::{EngineTime, InstanceId, LogChunk, LogCursor, LogMark, LogStream, Observed, RuntimeError};

/// Passes in a row that may bring nothing while the instance runs; then the engine is at fault.
const MAX_IDLE_PASSES: u32 = 20;
/// Pause before another pass after one that brought nothing.
const IDLE_PASS_PAUSE: Duration = Duration::from_millis(100);
/// Engine times count nanoseconds.
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// The engine cuts longer lines; all pieces carry the time of the first.
const PIECE_BYTES: usize = 16 << 10;

pub(super) fn follow(inner: Arc<Inner>, id: InstanceId, from: LogCursor) -> impl Stream<Item = Result<LogChunk, RuntimeError>> + Send {
    let follower = Follower { inner, id, cursor: from, pass: None, idle_passes: 0, last: None, done: false };
    unfold(follower, |mut follower| async move {
        if follower.done {
            return None;
        }
        match follower.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), follower)),
            Ok(None) => None,
            Err(error) => {
                follower.done = true;
                Some((Err(error), follower))
            }
        }
    })
}

struct Follower {
    inner: Arc<Inner>,
    id: InstanceId,
    cursor: LogCursor,
    pass: Option<Pass>,
    idle_passes: u32,
    last: Option<Entry>,
    done: bool,
}

/// One reading of the log from its beginning.
struct Pass {
    entries: BoxStream<'static, Result<LogOutput, Error>>,
    skip: Skip,
    /// The instance had exited when it began, so its end is the end.
    is_last: bool,
    brought_something: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    stream: LogStream,
    at: EngineTime,
    bytes: Bytes,
}

impl Entry {
    /// Tells it from another one with the same time; never 0.
    fn sum(&self) -> u32 {
        blake3::hash(&self.bytes).as_bytes().iter().take(4).fold(0, |sum, byte| (sum << 8) | u32::from(*byte)).max(1)
    }
}

impl Follower {
    async fn next(&mut self) -> Result<Option<LogChunk>, RuntimeError> {
        loop {
            let Some(pass) = &mut self.pass else {
                self.begin_pass().await?;
                continue;
            };
            match pass.entries.next().await {
                Some(Ok(output)) => {
                    let entry = parse(output)?;
                    if let Some(lost_before) = pass.skip.admit(&mut self.cursor, &entry) {
                        pass.brought_something = true;
                        self.idle_passes = 0;
                        self.last = Some(entry.clone());
                        let Entry { stream, at, bytes } = entry;
                        return Ok(Some(LogChunk { stream, at, bytes, cursor: self.cursor.clone(), lost_before }));
                    }
                }
                Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => {
                    return Err(RuntimeError::NotFound { what: "instance", name: self.id.0.clone() });
                }
                Some(Err(error)) => return Err(self.inner.engine_error(error)),
                None if pass.is_last => return Ok(None),
                None => {
                    if self.ended().await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn begin_pass(&mut self) -> Result<(), RuntimeError> {
        let state = self.inner.wait_started(&self.id).await?;
        let is_last = matches!(state, Observed::Exited(_));
        self.pass = Some(Pass { entries: self.read(!is_last, "all"), skip: Skip::Undecided, is_last, brought_something: false });
        Ok(())
    }

    fn read(&self, follow: bool, tail: &str) -> BoxStream<'static, Result<LogOutput, Error>> {
        if !self.inner.facts.podman {
            let config = &self.inner.config;
            return entries::read(config.socket.clone(), &self.id.0, (follow, tail), config.request_timeout).boxed();
        }
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).follow(follow).tail(tail).build();
        self.inner.docker.logs(&self.id.0, Some(options)).boxed()
    }

    /// A following pass has ended. True if the instance has exited and its last entry was given; else the next pass
    /// will bring what is missing.
    async fn ended(&mut self) -> Result<bool, RuntimeError> {
        let idle = self.pass.take().is_some_and(|pass| !pass.brought_something);
        if matches!(self.inner.wait_started(&self.id).await?, Observed::Exited(_)) {
            let tail = match self.read(false, "1").next().await {
                None => return Ok(true),
                Some(Ok(output)) => parse(output)?,
                Some(Err(error)) => return Err(self.inner.engine_error(error)),
            };
            // Pieces of one line share a time, so equality proves nothing for them: read all again.
            return Ok(tail.bytes.len() < PIECE_BYTES && self.last.as_ref() == Some(&tail));
        }
        if idle {
            self.idle_passes += 1;
            if self.idle_passes > MAX_IDLE_PASSES {
                return Err(RuntimeError::Engine { status: 0, message: "the log ends again and again while the instance runs".into() });
            }
            tokio::time::sleep(IDLE_PASS_PAUSE).await;
        }
        Ok(false)
    }
}

/// How a pass finds the place where the cursor is.
#[derive(Debug, PartialEq, Eq)]
enum Skip {
    /// No entry seen yet.
    Undecided,
    /// So many entries to go.
    Count(u64),
    /// The beginning is gone: by time, for each stream. `seen` counts entries at the very time of the mark.
    Marks { stdout_seen: u32, stderr_seen: u32, overlap: bool },
    /// Everything from here on is new.
    Nothing,
}

impl Skip {
    /// Whether the entry is new; if so moves the cursor behind it and tells if something before it was lost.
    fn admit(&mut self, cursor: &mut LogCursor, entry: &Entry) -> Option<bool> {
        if *self == Self::Undecided {
            *self = match cursor.first_at {
                None => Self::Nothing,
                Some(first) if first == entry.at && [0, entry.sum()].contains(&cursor.first_sum) => Self::Count(cursor.entries),
                Some(_) => {
                    // From now on count from what is the beginning now.
                    cursor.first_at = Some(entry.at);
                    cursor.first_sum = entry.sum();
                    cursor.entries = 0;
                    Self::Marks { stdout_seen: 0, stderr_seen: 0, overlap: false }
                }
            };
        }
        let lost_before = match self {
            Self::Count(0) | Self::Undecided | Self::Nothing => false,
            Self::Count(left) => {
                *left -= 1;
                return None;
            }
            Self::Marks { stdout_seen, stderr_seen, overlap } => {
                let (mark, seen) = match entry.stream {
                    LogStream::Stdout => (cursor.stdout, stdout_seen),
                    LogStream::Stderr => (cursor.stderr, stderr_seen),
                };
                // A time of whole seconds, as Podman tells it, is that of many entries: which of them is known cannot be said.
                let exact = !entry.at.0.is_multiple_of(NANOS_PER_SECOND);
                let known = entry.at < mark.at || (exact && entry.at == mark.at && *seen < mark.count);
                if known {
                    *seen += u32::from(entry.at == mark.at);
                    *overlap = true;
                    cursor.entries += 1;
                    return None;
                }
                // One gap is told once.
                !std::mem::replace(overlap, true)
            }
        };
        cursor.advance(entry);
        Some(lost_before)
    }
}

impl LogCursor {
    fn advance(&mut self, entry: &Entry) {
        self.entries += 1;
        if self.first_at.is_none() {
            (self.first_at, self.first_sum) = (Some(entry.at), entry.sum());
        }
        let mark = match entry.stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        let count = if mark.at == entry.at { mark.count.saturating_add(1) } else { 1 };
        *mark = LogMark { at: entry.at, count };
    }
}

/// `2026-11-21T09:35:00.123456789Z text`
fn parse(output: LogOutput) -> Result<Entry, RuntimeError> {
    let (stream, mut message) = match output {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => (LogStream::Stdout, message),
    };
    let at = message.iter().position(|byte| *byte == b' ').and_then(|space| {
        let text = std::str::from_utf8(message.get(..space)?).ok()?;
        let at = EngineTime::parse_rfc3339(text)?;
        message.advance(space + 1);
        Some(at)
    });
    let at = at.ok_or_else(|| RuntimeError::Engine { status: 0, message: "a log entry without a timestamp".into() })?;
    Ok(Entry { stream, at, bytes: message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: LogStream, at: u64, text: &'static str) -> Entry {
        Entry { stream, at: EngineTime(at), bytes: Bytes::from_static(text.as_bytes()) }
    }

    /// Out of order between streams, equal times, and the clock set back by 90 in the middle.
    fn log() -> Vec<Entry> {
        use LogStream::{Stderr, Stdout};
        vec![
            entry(Stdout, 100, "a"),
            entry(Stderr, 99, "b"),
            entry(Stdout, 101, "c"),
            entry(Stdout, 101, "c"),
            entry(Stderr, 12, "d"),
            entry(Stdout, 11, "e"),
            entry(Stdout, 13, "f"),
            entry(Stderr, 13, "g"),
        ]
    }

    fn pass(log: &[Entry], cursor: &mut LogCursor, take: usize) -> (Vec<&'static str>, Vec<bool>) {
        let mut skip = Skip::Undecided;
        let mut got = (Vec::new(), Vec::new());
        for entry in log {
            if got.0.len() == take {
                break;
            }
            if let Some(lost) = skip.admit(cursor, entry) {
                let text = std::str::from_utf8(&entry.bytes).unwrap();
                got.0.push(["a", "b", "c", "d", "e", "f", "g"].into_iter().find(|known| *known == text).unwrap());
                got.1.push(lost);
            }
        }
        got
    }

    #[test]
    fn resuming_at_every_place_gives_the_whole_log_whatever_the_clock_did() {
        let log = log();
        for cut in 0..=log.len() {
            let mut cursor = LogCursor::default();
            let (mut got, _) = pass(&log, &mut cursor, cut);
            let (rest, lost) = pass(&log, &mut cursor, usize::MAX);
            got.extend(rest);
            assert_eq!(got.concat(), "abccdefg", "cut at {cut}");
            assert!(!lost.contains(&true));
            assert_eq!(cursor.entries, 8);
        }
    }

    #[test]
    fn a_rotated_log_continues_without_repeating_and_then_counts_again() {
        use LogStream::{Stderr, Stdout};
        let log: Vec<_> =
            vec![entry(Stdout, 1, "a"), entry(Stderr, 2, "b"), entry(Stdout, 3, "c"), entry(Stdout, 3, "d"), entry(Stderr, 4, "e")];
        let mut cursor = LogCursor::default();
        assert_eq!(pass(&log, &mut cursor, 3).0.concat(), "abc");
        let rotated = &log[1..];
        let (got, lost) = pass(rotated, &mut cursor, 1);
        assert_eq!((got.concat(), lost), ("d".to_owned(), vec![false]));
        assert_eq!((cursor.first_at, cursor.entries), (Some(EngineTime(2)), 3));
        assert_eq!(pass(rotated, &mut cursor, usize::MAX).0.concat(), "e");
    }

    #[test]
    fn a_rotated_log_with_times_of_whole_seconds_tells_its_gap() {
        let second = NANOS_PER_SECOND;
        let log: Vec<_> =
            [(1, "a"), (1, "b"), (1, "c"), (1, "d"), (2, "e")].map(|(at, text)| entry(LogStream::Stdout, at * second, text)).into();
        let mut cursor = LogCursor::default();
        assert_eq!(pass(&log, &mut cursor, 1).0.concat(), "a");
        // The first of what is left has the same time as the first that there was.
        let (got, lost) = pass(&log[2..], &mut cursor, usize::MAX);
        assert_eq!((got.concat(), lost), ("cde".to_owned(), vec![true, false, false]));
        assert_eq!(pass(&log[2..], &mut cursor, usize::MAX).0.concat(), "");
    }

    #[test]
    fn a_gap_is_told_once() {
        let log = log();
        let mut cursor = LogCursor::default();
        pass(&log, &mut cursor, 2);
        let later = vec![entry(LogStream::Stdout, 500, "f"), entry(LogStream::Stdout, 501, "g")];
        let (got, lost) = pass(&later, &mut cursor, usize::MAX);
        assert_eq!((got.concat(), lost), ("fg".to_owned(), vec![true, false]));
    }

    #[test]
    fn entries_are_parsed_or_refused() {
        let out = |text: &'static [u8]| parse(LogOutput::StdErr { message: Bytes::from_static(text) });
        let entry = out(b"1970-01-01T00:00:01.5Z \xff x\n").unwrap();
        assert_eq!((entry.stream, entry.at.0, &entry.bytes[..]), (LogStream::Stderr, 1_500_000_000, &b"\xff x\n"[..]));
        for bad in [&b""[..], b"no time", b" x", b"\xff\xff x"] {
            assert!(out(bad).is_err());
        }
    }
}
