//! How a worker's process and we speak over its standard input and output. Contract: `docs/specs/herd.md` §5.
//!
//! Guarantees: whatever a worker writes in whatever pieces becomes answers or one error; nothing longer than a limit is
//! gathered. It does not know which tasks a worker has.

use crate::limits::{MAX_REASON_BYTES, MAX_RESULT_BYTES};
use crate::queue::{Dispatch, Said};
use crate::task::TaskId;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How workers speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A line in, a line out, in the same order.
    #[default]
    Lines,
    /// `{"id":7,"attempt":1,"payload":"…"}` in, `{"id":7,"ok":"…"}` or `{"id":7,"error":"…","retry":false}` out, in any order.
    Json,
    /// Binary frames in both directions, in any order.
    Frames,
}

/// Longest line of a worker: a result whose every byte JSON escapes, and what stands around it.
const MAX_JSON_LINE: usize = 6 * MAX_RESULT_BYTES + 1024;
/// Bytes of a frame besides its payload or result.
const FRAME_HEAD: usize = 12;
const ANSWER_HEAD: usize = 9;

/// A worker said something that is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    /// It goes on for too long.
    #[error("an answer is longer than {0} bytes")]
    TooLong(usize),
    /// It is not what the format says.
    #[error("an answer is not as the format says: {0}")]
    Malformed(String),
}

fn text_or_hex(bytes: &Bytes) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "hex": hex::encode(bytes) }), |text| json!(text))
}

/// Writes a task as its worker reads it.
pub fn encode(format: Format, task: &Dispatch, out: &mut BytesMut) {
    match format {
        Format::Lines => {
            out.extend_from_slice(&task.payload);
            out.extend_from_slice(b"\n");
        }
        Format::Json => {
            let line = json!({ "id": task.id, "attempt": task.attempt, "payload": text_or_hex(&task.payload) });
            out.extend_from_slice(line.to_string().as_bytes());
            out.extend_from_slice(b"\n");
        }
        Format::Frames => {
            // A payload has a limit far below 4 GiB.
            let length = u32::try_from(task.payload.len().saturating_add(FRAME_HEAD)).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&task.id.to_le_bytes());
            out.extend_from_slice(&u32::from(task.attempt).to_le_bytes());
            out.extend_from_slice(&task.payload);
        }
    }
}

/// Gathers what a worker writes.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    buffer: BytesMut,
    /// So much of the buffer is known to have no line's end.
    looked: usize,
}

#[derive(Deserialize)]
struct JsonAnswer {
    id: TaskId,
    ok: Option<Value>,
    error: Option<Value>,
    #[serde(default = "yes")]
    retry: bool,
}

const fn yes() -> bool {
    true
}

fn bytes_of(value: Value) -> Result<Bytes, FramingError> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Object(map) if map.len() == 1 && map.contains_key("hex") => {
            let digits = map.get("hex").and_then(Value::as_str).unwrap_or_default();
            hex::decode(digits).map(Bytes::from).map_err(|e| FramingError::Malformed(e.to_string()))
        }
        other => Ok(other.to_string().into()),
    }
}

impl Decoder {
    /// A decoder at a worker's beginning.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, buffer: BytesMut::new(), looked: 0 }
    }

    /// Where to read to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next answer, if all of it is here. In [`Format::Lines`] it has no number: it answers the oldest task.
    ///
    /// # Errors
    /// [`FramingError`]; nothing after it can be understood.
    pub fn next_answer(&mut self) -> Result<Option<(Option<TaskId>, Said)>, FramingError> {
        match self.format {
            Format::Lines => Ok(self.line(MAX_RESULT_BYTES)?.map(|line| (None, Said::Done(line)))),
            Format::Json => match self.line(MAX_JSON_LINE)? {
                Some(line) => json_answer(&line).map(Some),
                None => Ok(None),
            },
            Format::Frames => self.frame(),
        }
    }

    fn line(&mut self, most: usize) -> Result<Option<Bytes>, FramingError> {
        let unseen = self.buffer.get(self.looked..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|b| *b == b'\n') else {
            self.looked = self.buffer.len();
            return if self.looked > most { Err(FramingError::TooLong(most)) } else { Ok(None) };
        };
        let end = self.looked.saturating_add(at);
        self.looked = 0;
        let mut line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        if line.len() > most {
            return Err(FramingError::TooLong(most));
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len().saturating_sub(1));
        }
        Ok(Some(line))
    }

    fn frame(&mut self) -> Result<Option<(Option<TaskId>, Said)>, FramingError> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_RESULT_BYTES.saturating_add(ANSWER_HEAD) {
            return Err(FramingError::TooLong(MAX_RESULT_BYTES));
        }
        if length < ANSWER_HEAD {
            return Err(FramingError::Malformed(format!("a frame of {length} bytes has no number and outcome")));
        }
        if self.buffer.len() < length.saturating_add(4) {
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(length);
        let (id, how) = (frame.get_u64_le(), frame.get_u8());
        let said = match how {
            0 => Said::Done(frame.freeze()),
            1 => Said::Failed(frame.freeze()),
            2 => Said::Hopeless(frame.freeze()),
            other => return Err(FramingError::Malformed(format!("{other} is no outcome"))),
        };
        Ok(Some((Some(id), said)))
    }
}

fn json_answer(line: &[u8]) -> Result<(Option<TaskId>, Said), FramingError> {
    let answer: JsonAnswer = serde_json::from_slice(line).map_err(|e| FramingError::Malformed(e.to_string()))?;
    let said = match (answer.ok, answer.error) {
        (Some(ok), None) => Said::Done(bytes_of(ok)?),
        (None, Some(error)) => {
            let mut why = bytes_of(error)?;
            why.truncate(MAX_REASON_BYTES);
            if answer.retry { Said::Failed(why) } else { Said::Hopeless(why) }
        }
        _ => return Err(FramingError::Malformed("either `ok` or `error` is expected".into())),
    };
    Ok((Some(answer.id), said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = (Vec<(Option<TaskId>, Said)>, Option<FramingError>);

    fn read(format: Format, pieces: &[&[u8]]) -> Read {
        let (mut decoder, mut out) = (Decoder::new(format), vec![]);
        for piece in pieces {
            decoder.buffer().extend_from_slice(piece);
            loop {
                match decoder.next_answer() {
                    Ok(Some(answer)) => out.push(answer),
                    Ok(None) => break,
                    Err(e) => return (out, Some(e)),
                }
            }
        }
        (out, None)
    }

    #[test]
    fn tasks_as_workers_read_them() {
        let task = Dispatch { worker: 1, id: 7, attempt: 2, payload: "a \"b\"".into() };
        let written = |format| {
            let mut out = BytesMut::new();
            encode(format, &task, &mut out);
            out.to_vec()
        };
        assert_eq!(written(Format::Lines), b"a \"b\"\n");
        assert_eq!(written(Format::Json), b"{\"attempt\":2,\"id\":7,\"payload\":\"a \\\"b\\\"\"}\n");
        assert_eq!(written(Format::Frames), b"\x11\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0a \"b\"");
    }

    #[test]
    fn answers_as_workers_write_them() {
        let (answers, error) = read(Format::Lines, &[b"one\r\ntw", b"o\n\n"]);
        assert_eq!(answers, ["one", "two", ""].map(|t| (None, Said::Done(t.into()))));
        assert_eq!(error, None);
        let json = b"{\"id\":1,\"ok\":\"x\"}\n{\"id\":2,\"ok\":{\"n\":1}}\n{\"id\":3,\"error\":\"e\"}\n{\"id\":4,\"error\":\"e\",\"retry\":false}\n{\"id\":5}\n";
        let (answers, error) = read(Format::Json, &[json]);
        let said = [Said::Done("x".into()), Said::Done("{\"n\":1}".into()), Said::Failed("e".into()), Said::Hopeless("e".into())];
        assert_eq!(answers, said.into_iter().zip(1..).map(|(s, n)| (Some(n), s)).collect::<Vec<_>>());
        assert!(matches!(error, Some(FramingError::Malformed(_))));
        let (answers, error) = read(Format::Frames, &[b"\x0a\0\0\0\x05\0\0\0\0\0\0\0\0r\x09\0\0\0\x06\0\0\0\0\0\0\0\x02"]);
        assert_eq!(answers, [(Some(5), Said::Done("r".into())), (Some(6), Said::Hopeless("".into()))]);
        assert_eq!(error, None);
        assert!(matches!(read(Format::Frames, &[&[255; 8]]).1, Some(FramingError::TooLong(_))));
        assert!(matches!(read(Format::Lines, &[&vec![b'x'; MAX_RESULT_BYTES + 1]]).1, Some(FramingError::TooLong(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Hostile bytes in any pieces: the same as in one piece, and never a panic.
        #[test]
        fn pieces_do_not_matter(parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..30),
                Just(b"\x0a\0\0\0\x05\0\0\0\0\0\0\0\0r".to_vec()),
                Just(b"{\"id\":1,\"ok\":\"x\"}\n".to_vec()),
                Just(b"line\n".to_vec()),
            ], 0..12), cut in 1..9usize) {
            let whole = parts.concat();
            for format in [Format::Lines, Format::Json, Format::Frames] {
                let pieces: Vec<&[u8]> = whole.chunks(cut).collect();
                prop_assert_eq!(read(format, &pieces), read(format, &[&whole]));
            }
        }
    }
}
