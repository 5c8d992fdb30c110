//! Log frames: how a job's output is sealed and sent.
//!
//! ```text
//! frame = stream (1 byte: 1 stdout, 2 stderr) | length (4 bytes, little endian) | bytes
//! ```
//! Guarantees: decoding takes no more memory than one frame. What a job wrote together may be one frame; a line of its own is one at once.
//! Where frames are in a log, and the log's root on the ledger, go by the sealed bytes around them: `docs/specs/sealing.md`.

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest payload of a frame.
pub const MAX_FRAME: usize = 64 * 1024;
/// Bytes before the payload.
pub const HEADER: usize = 5;

/// Which stream a frame is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One piece of log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// From which stream.
    pub stream: LogStream,
    /// What was written.
    pub data: Bytes,
}

/// The bytes are not frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log stream is malformed at its frame {0}")]
pub struct FrameError(pub u64);

/// Appends frames for some output, split where it is longer than [`MAX_FRAME`].
pub fn encode(stream: LogStream, data: &[u8], out: &mut Vec<u8>) {
    for chunk in data.chunks(MAX_FRAME) {
        out.push(match stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        });
        out.extend_from_slice(&u32::try_from(chunk.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(chunk);
    }
}

/// Takes frames out of a byte stream.
#[derive(Default, Debug)]
pub struct Decoder {
    buffer: BytesMut,
    frames: u64,
    offset: u64,
}

impl Decoder {
    /// A decoder for a stream that begins at `offset` of the log.
    #[must_use]
    pub fn at(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }
    /// Offset after the last frame that was taken: where to resume.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }
    /// Adds bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are not frames.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((&kind, rest)) = self.buffer.split_first() else { return Ok(None) };
        let stream = match kind {
            1 => LogStream::Stdout,
            2 => LogStream::Stderr,
            _ => return Err(FrameError(self.frames)),
        };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(FrameError(self.frames));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        // Whoever asks for an offset near the end of all numbers gets no frame there.
        let after = self.offset.checked_add((HEADER + length) as u64).ok_or(FrameError(self.frames))?;
        self.buffer.advance(HEADER);
        let data = self.buffer.split_to(length).freeze();
        self.frames = self.frames.saturating_add(1);
        self.offset = after;
        Ok(Some(Frame { stream, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split() {
        let mut bytes = vec![];
        encode(LogStream::Stdout, b"hello\n", &mut bytes);
        encode(LogStream::Stderr, &vec![7; MAX_FRAME + 3], &mut bytes);
        for step in [1, 2, 7, 4096, bytes.len()] {
            let mut decoder = Decoder::at(10);
            let mut got = vec![];
            for chunk in bytes.chunks(step) {
                decoder.push(chunk);
                while let Some(f) = decoder.next_frame().unwrap() {
                    got.push(f);
                }
            }
            assert_eq!(got.len(), 3);
            assert_eq!(got[0].data.as_ref(), b"hello\n");
            assert_eq!(got[2].data.len(), 3);
            assert_eq!(decoder.offset(), 10 + bytes.len() as u64);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut d = Decoder::default();
        d.push(&[9, 0, 0, 0, 0]);
        assert_eq!(d.next_frame(), Err(FrameError(0)));
        let mut d = Decoder::default();
        d.push(&[1, 255, 255, 255, 255]);
        assert_eq!(d.next_frame(), Err(FrameError(0)));
        let mut d = Decoder::at(u64::MAX - 3);
        d.push(&[1, 0, 0, 0, 0]);
        assert_eq!(d.next_frame(), Err(FrameError(0)), "an offset that no log reaches");
    }
}
