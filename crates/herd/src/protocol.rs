//! What a shepherd and a herd say to each other over one long connection. Format: `docs/specs/herd.md` §3.
//!
//! Two forms of the same words, told apart by the first bytes: [`HELLO`] begins binary frames (`u32` length, little-endian, then
//! borsh), anything else JSON lines. Guarantees: a length is checked before anything is gathered; bytes that are no frame are one
//! error, never a panic.

use crate::limits::MAX_FRAME_BYTES;
use crate::receipt::Receipt;
use crate::task::{Finished, HerdStatus, NewTask, Seq, Submitted, TaskId};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// What binary frames of a shepherd begin with.
pub const HELLO: [u8; 4] = *b"PHF1";

/// What a shepherd says.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Ask {
    /// Take these tasks.
    Submit {
        /// Comes back with the answer.
        #[serde(default)]
        tag: u64,
        /// At most [`crate::limits::MAX_BATCH`].
        tasks: Vec<NewTask>,
    },
    /// Give me results as they come, after this one; a second time: from there instead.
    Results {
        /// 0 for all.
        #[serde(default)]
        after: Seq,
    },
    /// I have results up to here.
    Acknowledge {
        /// The last one.
        upto: Seq,
    },
    /// Call these off.
    Cancel {
        /// Which.
        ids: Vec<TaskId>,
    },
    /// How is the herd?
    Status,
    /// A receipt for everything that may be read now.
    Receipt,
}

/// What a herd says.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Tell {
    /// What became of a batch.
    Submitted {
        /// The batch's tag.
        tag: u64,
        /// The answers.
        #[serde(flatten)]
        submitted: Submitted,
    },
    /// Results, in their order.
    Results {
        /// At least one.
        results: Vec<Finished>,
    },
    /// Results up to here were let go of.
    Acknowledged {
        /// As asked.
        upto: Seq,
    },
    /// So many tasks were called off.
    Cancelled {
        /// Those that had not ended.
        count: u64,
    },
    /// The herd.
    Status {
        /// In numbers.
        status: HerdStatus,
    },
    /// A receipt: asked for, or because results were given out.
    Receipt {
        /// For all results up to its number.
        receipt: Receipt,
    },
    /// What was said cannot be understood; the connection ends.
    Problem {
        /// Why.
        detail: String,
    },
    /// The herd ends; nothing more comes.
    Ended,
}

/// How a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Length-prefixed borsh.
    Binary,
    /// One JSON document a line.
    JsonLines,
}

/// Bytes that are no frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// It goes on for too long.
    #[error("a frame of more than {MAX_FRAME_BYTES} bytes")]
    TooLong,
    /// It says nothing that we know.
    #[error("{0}")]
    Malformed(String),
}

/// Writes one frame.
pub fn encode<T: BorshSerialize + Serialize>(form: Form, frame: &T, out: &mut BytesMut) {
    match form {
        Form::Binary => {
            // Writing to memory cannot fail, and nothing we send is near 4 GiB.
            let body = borsh::to_vec(frame).unwrap_or_default();
            out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(&body);
        }
        Form::JsonLines => {
            out.extend_from_slice(&serde_json::to_vec(frame).unwrap_or_default());
            out.extend_from_slice(b"\n");
        }
    }
}

/// The same as bytes of their own.
pub fn encoded<T: BorshSerialize + Serialize>(form: Form, frame: &T) -> Bytes {
    let mut out = BytesMut::new();
    encode(form, frame, &mut out);
    out.freeze()
}

/// Gathers frames of a kind.
#[derive(Debug)]
pub struct Frames<T> {
    /// Not known before the first bytes.
    form: Option<Form>,
    buffer: BytesMut,
    looked: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: BorshDeserialize + for<'a> Deserialize<'a>> Frames<T> {
    /// At the beginning of a connection whose form its first bytes say.
    #[must_use]
    pub fn new() -> Self {
        Self { form: None, buffer: BytesMut::new(), looked: 0, kind: PhantomData }
    }
    /// Where the form is known.
    #[must_use]
    pub fn of(form: Form) -> Self {
        Self { form: Some(form), ..Self::new() }
    }
    /// The form, once it is known.
    #[must_use]
    pub const fn form(&self) -> Option<Form> {
        self.form
    }
    /// Where to read to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame, if all of it is here.
    ///
    /// # Errors
    /// [`FrameError`]; nothing after it can be understood.
    pub fn next_frame(&mut self) -> Result<Option<T>, FrameError> {
        match self.form {
            None => {
                let beginning = self.buffer.get(..HELLO.len().min(self.buffer.len())).unwrap_or_default();
                if !HELLO.starts_with(beginning) {
                    self.form = Some(Form::JsonLines);
                } else if beginning.len() < HELLO.len() {
                    return Ok(None);
                } else {
                    self.buffer.advance(HELLO.len());
                    self.form = Some(Form::Binary);
                }
                self.next_frame()
            }
            Some(Form::Binary) => self.binary(),
            Some(Form::JsonLines) => self.line(),
        }
    }

    fn binary(&mut self) -> Result<Option<T>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong);
        }
        if self.buffer.len() < length.saturating_add(4) {
            return Ok(None);
        }
        self.buffer.advance(4);
        let frame = self.buffer.split_to(length);
        borsh::from_slice(&frame).map(Some).map_err(|e| FrameError::Malformed(e.to_string()))
    }

    fn line(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            let unseen = self.buffer.get(self.looked..).unwrap_or_default();
            let Some(at) = unseen.iter().position(|b| *b == b'\n') else {
                self.looked = self.buffer.len();
                return if self.looked > MAX_FRAME_BYTES { Err(FrameError::TooLong) } else { Ok(None) };
            };
            let line = self.buffer.split_to(self.looked.saturating_add(at));
            self.buffer.advance(1);
            self.looked = 0;
            if line.len() > MAX_FRAME_BYTES {
                return Err(FrameError::TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return serde_json::from_slice(&line).map(Some).map_err(|e| FrameError::Malformed(e.to_string()));
            }
        }
    }
}

impl<T: BorshDeserialize + for<'a> Deserialize<'a>> Default for Frames<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Answer, Busy, Outcome};
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> (Vec<Ask>, Option<FrameError>) {
        let (mut frames, mut out) = (Frames::<Ask>::new(), vec![]);
        for piece in pieces {
            frames.buffer().extend_from_slice(piece);
            loop {
                match frames.next_frame() {
                    Ok(Some(frame)) => out.push(frame),
                    Ok(None) => break,
                    Err(e) => return (out, Some(e)),
                }
            }
        }
        (out, None)
    }

    fn asks() -> Vec<Ask> {
        vec![
            Ask::Submit { tag: 3, tasks: vec![NewTask::of("x").keyed("k"), NewTask::of(vec![0xff])] },
            Ask::Results { after: 0 },
            Ask::Acknowledge { upto: 9 },
            Ask::Cancel { ids: vec![1, 2] },
            Ask::Status,
            Ask::Receipt,
        ]
    }

    #[test]
    fn both_forms_say_the_same() {
        for form in [Form::Binary, Form::JsonLines] {
            let mut out = BytesMut::new();
            if form == Form::Binary {
                out.extend_from_slice(&HELLO);
            }
            asks().iter().for_each(|ask| encode(form, ask, &mut out));
            assert_eq!(read(&[&out]), (asks(), None));
        }
        let submitted = Submitted {
            answers: vec![Answer::New { id: 1 }, Answer::Refused { why: "w".into() }],
            busy: Some(Busy::Full { tasks: 0, bytes: 7 }),
        };
        let finished =
            Finished { seq: 1, id: 2, key: "k".into(), outcome: Outcome::Done, attempts: 1, payload_hash: [7; 32], result: "r".into() };
        let tells = [Tell::Submitted { tag: 3, submitted }, Tell::Results { results: vec![finished] }, Tell::Ended];
        for form in [Form::Binary, Form::JsonLines] {
            for tell in &tells {
                let mut frames = Frames::<Tell>::of(form);
                frames.buffer().extend_from_slice(&encoded(form, tell));
                assert_eq!(frames.next_frame(), Ok(Some(tell.clone())));
            }
        }
        let line = encoded(Form::JsonLines, &tells[0]);
        assert_eq!(
            std::str::from_utf8(&line).unwrap().trim(),
            r#"{"is":"submitted","tag":3,"answers":[{"is":"new","id":1},{"is":"refused","why":"w"}],"busy":{"why":"full","tasks":0,"bytes":7}}"#
        );
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_gathered() {
        let mut bytes = HELLO.to_vec();
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&[&bytes]).1, Some(FrameError::TooLong));
        assert_eq!(read(&[&vec![b'x'; MAX_FRAME_BYTES + 1]]).1, Some(FrameError::TooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn hostile_bytes_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..200), hello in any::<bool>(), pick in 0..6usize, cut in 1..9usize) {
            let form = if hello { Form::Binary } else { Form::JsonLines };
            let mut whole = if hello { HELLO.to_vec() } else { vec![] };
            whole.extend_from_slice(&encoded(form, &asks()[pick]));
            whole.extend_from_slice(&bytes);
            let pieces: Vec<&[u8]> = whole.chunks(cut).collect();
            let (frames, error) = read(&pieces);
            prop_assert_eq!(&frames[0], &asks()[pick]);
            prop_assert_eq!((frames, error), read(&[&whole]));
        }
    }
}
