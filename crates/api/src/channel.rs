//! A channel to a running job: one request whose body and answer flow at the same time. Contract: `docs/specs/channel.md`.
//!
//! ```text
//! POST channel?hash=H        body:   open, then input | resize | input end | still ...
//!                            answer: output | error | output end | still ..., then exit or problem
//! frame = kind (1 byte) | length (4 bytes, little endian) | payload
//! ```
//! Guarantees: the first frame says what the channel is for, and `H`, which the request's signature covers, is its hash; whatever
//! bytes arrive become frames or one error, and no length beyond [`MAX_FRAME`] is believed. Both directions are ended by a frame:
//! a stream that merely stops was cut off. It does not do what is asked; that is the node's.

use bytes::{Buf as _, Bytes, BytesMut};
use pasture_types::BlobHash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest payload of a frame: a pipe's worth, so that no side waits long for the other.
pub const MAX_FRAME: usize = 64 * 1024;
/// Bytes before the payload.
pub const HEADER: usize = 5;
/// Longest path in a container, as the kernel has it.
pub const MAX_PATH: usize = 4096;
/// Longest name of a file.
pub const MAX_FILE_NAME: usize = 255;
/// Most words of a command.
pub const MAX_WORDS: usize = 1024;
/// Most variables that a command is given.
pub const MAX_ENV: usize = 64;
/// Largest terminal, in either direction; screens have hundreds.
pub const MAX_CELLS: u16 = 4096;
/// The name under which what is written into a container stands in its archive.
pub const ROOT: &str = "x";

/// How large a terminal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cells {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a channel is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", deny_unknown_fields)]
pub enum Purpose {
    /// A command in the container, with its streams.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
        /// Added to the container's environment.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// A terminal of this size; without, three plain streams.
        #[serde(default)]
        terminal: Option<Cells>,
    },
    /// A connection to a port of the container.
    Port {
        /// Which.
        port: u16,
    },
    /// The archive of a file or folder comes as output.
    Read {
        /// Where, in the container; absolute.
        path: String,
    },
    /// An archive of one file or folder, named [`ROOT`] in it, goes as input.
    Write {
        /// Where to, in the container, absolute: a folder that is there takes it under `name`, else this becomes its name.
        path: String,
        /// What it is called here.
        name: String,
        /// Length of the archive.
        bytes: u64,
        /// Its hash.
        hash: BlobHash,
    },
}

/// The first word of a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// Random, so that no two openings are equal: a node takes each once. 32 hex digits.
    pub salt: String,
    /// When it was written, by the client's clock; an old one is refused.
    pub at_ms: u64,
    /// What is wanted.
    pub purpose: Purpose,
}

impl Opening {
    /// Its frame, and the hash for the request's path.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong with it.
    pub fn to_wire(&self) -> Result<(Bytes, BlobHash), String> {
        self.check()?;
        let payload = Bytes::from(serde_json::to_vec(self).map_err(|e| e.to_string())?);
        if payload.len() > MAX_FRAME {
            return Err(format!("command and environment have {} bytes; at most {MAX_FRAME} fit", payload.len()));
        }
        let hash = pasture_types::blob::hash(&payload);
        Ok((Frame::Open(payload).encoded(), hash))
    }

    /// Whether a node may even think about it.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.salt.len() != 32 || !self.salt.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("the salt is not 32 hex digits".into());
        }
        match &self.purpose {
            Purpose::Exec { command, env, terminal } => check_command(command, env, *terminal),
            Purpose::Port { port: 0 } => Err("nothing listens on port 0".into()),
            Purpose::Port { .. } => Ok(()),
            Purpose::Read { path } => check_path(path),
            Purpose::Write { path, name, .. } => {
                check_path(path)?;
                let plain = !name.is_empty() && name.len() <= MAX_FILE_NAME && !name.contains(['/', '\0']) && name != "." && name != "..";
                if plain { Ok(()) } else { Err("what is written has no proper name".into()) }
            }
        }
    }
}

fn check_command(command: &[String], env: &BTreeMap<String, String>, terminal: Option<Cells>) -> Result<(), String> {
    if command.first().is_none_or(String::is_empty) {
        return Err("a command is needed".into());
    }
    if command.len() > MAX_WORDS {
        return Err(format!("a command of {} words; at most {MAX_WORDS} are possible", command.len()));
    }
    if env.len() > MAX_ENV {
        return Err(format!("{} variables; at most {MAX_ENV} are possible", env.len()));
    }
    if command.iter().chain(env.values()).any(|word| word.contains('\0')) {
        return Err("a command has no zero byte".into());
    }
    if env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err("a variable's name is not empty and has no `=`".into());
    }
    match terminal {
        Some(cells) if !cells.is_sane() => Err(format!("a terminal has 1 to {MAX_CELLS} columns and rows")),
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.contains('\0') || path.len() > MAX_PATH {
        return Err(format!("a path in the container is absolute and has at most {MAX_PATH} bytes"));
    }
    // The engine resolves it below the container's root; a client that means another place can say so.
    if path.split('/').any(|part| part == "..") {
        return Err("a path in the container has no `..`".into());
    }
    Ok(())
}

impl Cells {
    /// Whether there can be such a terminal.
    #[must_use]
    pub const fn is_sane(self) -> bool {
        self.columns > 0 && self.columns <= MAX_CELLS && self.rows > 0 && self.rows <= MAX_CELLS
    }
}

/// A piece of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// From the client, first and once: an [`Opening`].
    Open(Bytes),
    /// From the client: bytes for the command, the port or the archive.
    Input(Bytes),
    /// From the client: its terminal has another size.
    Resize(Cells),
    /// From the client: no more input.
    InputEnd,
    /// From the node: what the command, port or archive gives.
    Output(Bytes),
    /// From the node: what the command writes to its standard error.
    Error(Bytes),
    /// From the node: no more output.
    OutputEnd,
    /// From the node, last: done; for a command its exit code.
    Exit(i32),
    /// From the node, last: a [`crate::Problem`] ended it.
    Problem(Bytes),
    /// From either, at any time: I am still here.
    Still,
}

const OPEN: u8 = 1;
const INPUT: u8 = 2;
const RESIZE: u8 = 3;
const INPUT_END: u8 = 4;
const OUTPUT: u8 = 5;
const ERROR: u8 = 6;
const OUTPUT_END: u8 = 7;
const EXIT: u8 = 8;
const PROBLEM: u8 = 9;
const STILL: u8 = 10;

/// The bytes are no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is malformed at its frame {0}")]
pub struct ChannelError(pub u64);

impl Frame {
    /// Appends it. A payload beyond [`MAX_FRAME`] is cut: whoever has more sends more frames, see [`pieces`].
    pub fn encode(&self, out: &mut BytesMut) {
        let mut put = |kind: u8, payload: &[u8]| {
            let payload = payload.get(..MAX_FRAME).unwrap_or(payload);
            out.extend_from_slice(&[kind]);
            out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(payload);
        };
        match self {
            Self::Open(payload) => put(OPEN, payload),
            Self::Input(payload) => put(INPUT, payload),
            Self::Resize(cells) => {
                let [a, b] = cells.columns.to_le_bytes();
                let [c, d] = cells.rows.to_le_bytes();
                put(RESIZE, &[a, b, c, d]);
            }
            Self::InputEnd => put(INPUT_END, &[]),
            Self::Output(payload) => put(OUTPUT, payload),
            Self::Error(payload) => put(ERROR, payload),
            Self::OutputEnd => put(OUTPUT_END, &[]),
            Self::Exit(code) => put(EXIT, &code.to_le_bytes()),
            Self::Problem(payload) => put(PROBLEM, payload),
            Self::Still => put(STILL, &[]),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    fn of(kind: u8, payload: Bytes) -> Option<Self> {
        let empty = payload.is_empty();
        Some(match kind {
            OPEN => Self::Open(payload),
            INPUT => Self::Input(payload),
            RESIZE => {
                let [a, b, c, d] = *payload.first_chunk::<4>().filter(|_| payload.len() == 4)?;
                let cells = Cells { columns: u16::from_le_bytes([a, b]), rows: u16::from_le_bytes([c, d]) };
                Self::Resize(Some(cells).filter(|c| c.is_sane())?)
            }
            INPUT_END if empty => Self::InputEnd,
            OUTPUT => Self::Output(payload),
            ERROR => Self::Error(payload),
            OUTPUT_END if empty => Self::OutputEnd,
            EXIT => Self::Exit(i32::from_le_bytes(*payload.first_chunk::<4>().filter(|_| payload.len() == 4)?)),
            PROBLEM => Self::Problem(payload),
            STILL if empty => Self::Still,
            _ => return None,
        })
    }
}

/// Bytes in pieces that fit into a frame each.
pub fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(MAX_FRAME))))
}

/// Takes frames out of a byte stream.
#[derive(Default, Debug)]
pub struct Decoder {
    buffer: BytesMut,
    frames: u64,
    broken: bool,
}

impl Decoder {
    /// Adds bytes as they arrive; what is in them is best taken out before more are added.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
    /// Bytes that are no whole frame yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`ChannelError`] if the bytes are no frames; then it stays so.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ChannelError> {
        if self.broken {
            return Err(ChannelError(self.frames));
        }
        let Some((&kind, rest)) = self.buffer.split_first() else { return Ok(None) };
        if !(OPEN..=STILL).contains(&kind) {
            return Err(self.fail());
        }
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(self.fail());
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let payload = self.buffer.split_to(length).freeze();
        let Some(frame) = Frame::of(kind, payload) else { return Err(self.fail()) };
        self.frames = self.frames.saturating_add(1);
        Ok(Some(frame))
    }

    fn fail(&mut self) -> ChannelError {
        self.broken = true;
        self.buffer.clear();
        ChannelError(self.frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        prop_oneof![
            bytes().prop_map(Frame::Open),
            bytes().prop_map(Frame::Input),
            (1..=MAX_CELLS, 1..=MAX_CELLS).prop_map(|(columns, rows)| Frame::Resize(Cells { columns, rows })),
            Just(Frame::InputEnd),
            bytes().prop_map(Frame::Output),
            bytes().prop_map(Frame::Error),
            Just(Frame::OutputEnd),
            any::<i32>().prop_map(Frame::Exit),
            bytes().prop_map(Frame::Problem),
            Just(Frame::Still),
        ]
    }

    fn read(chunks: &[&[u8]]) -> (Vec<Frame>, Result<(), ChannelError>) {
        let (mut decoder, mut out) = (Decoder::default(), vec![]);
        for chunk in chunks {
            decoder.push(chunk);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => out.push(frame),
                    Ok(None) => break,
                    Err(e) => return (out, Err(e)),
                }
            }
        }
        (out, Ok(()))
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(frames in proptest::collection::vec(frame(), 0..8), step in 1usize..40) {
            let mut bytes = BytesMut::new();
            frames.iter().for_each(|f| f.encode(&mut bytes));
            let chunks: Vec<&[u8]> = bytes.chunks(step).collect();
            prop_assert_eq!(read(&chunks), (frames, Ok(())));
        }

        #[test]
        fn any_bytes_are_frames_or_one_error_however_they_are_split(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1usize..40) {
            let chunks: Vec<&[u8]> = bytes.chunks(step).collect();
            let whole = read(&[&bytes]);
            prop_assert_eq!(read(&chunks), whole.clone());
            let mut again = BytesMut::new();
            whole.0.iter().for_each(|f| f.encode(&mut again));
            prop_assert!(bytes.starts_with(&again), "what was read is what was written");
        }
    }

    #[test]
    fn nonsense_is_refused_and_no_length_is_believed() {
        let all: [&[u8]; 8] = [
            &[0],
            &[11, 0, 0, 0, 0],
            &[2, 1, 0, 1, 0],
            &[2, 255, 255, 255, 255],
            &[4, 1, 0, 0, 0, 9],
            &[8, 3, 0, 0, 0, 1, 2, 3],
            &[3, 4, 0, 0, 0, 0, 0, 1, 0],
            &[3, 4, 0, 0, 0, 1, 0, 255, 255],
        ];
        for bytes in all {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.next_frame(), Err(ChannelError(0)), "{bytes:?}");
            decoder.push(&Frame::Still.encoded());
            assert_eq!(decoder.next_frame(), Err(ChannelError(0)), "it stays so: {bytes:?}");
            assert!(decoder.pending() < 20);
        }
    }

    #[test]
    fn long_bytes_go_in_pieces() {
        let bytes = Bytes::from(vec![7; 2 * MAX_FRAME + 1]);
        let lengths: Vec<usize> = pieces(bytes).map(|p| p.len()).collect();
        assert_eq!(lengths, [MAX_FRAME, MAX_FRAME, 1]);
        assert_eq!(pieces(Bytes::new()).count(), 0);
    }

    #[test]
    fn an_opening_is_bound_by_its_hash_and_checked() {
        let exec = |command: &[&str], env: &[(&str, &str)], terminal| Purpose::Exec {
            command: command.iter().map(|w| (*w).to_owned()).collect(),
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            terminal,
        };
        let of = |purpose| Opening { salt: "0".repeat(32), at_ms: 5, purpose };
        let good = of(exec(&["sh"], &[("A", "1")], Some(Cells { columns: 80, rows: 24 })));
        let (frame, hash) = good.to_wire().unwrap();
        let (frames, fine) = read(&[&frame]);
        let [Frame::Open(payload)] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!((fine, pasture_types::blob::hash(payload)), (Ok(()), hash));
        assert_eq!(serde_json::from_slice::<Opening>(payload).unwrap(), good);
        assert_eq!(good.check(), Ok(()));
        let write = |path: &str, name: &str| Purpose::Write { path: path.into(), name: name.into(), bytes: 1, hash };
        let read = |path: &str| Purpose::Read { path: path.into() };
        for fine in [write("/a", "b"), read("/"), read("/a b/..c"), Purpose::Port { port: 1 }] {
            assert_eq!(of(fine).check(), Ok(()));
        }
        for (purpose, words) in [
            (exec(&[], &[], None), "command is needed"),
            (exec(&[""], &[], None), "command is needed"),
            (exec(&["a\0"], &[], None), "zero byte"),
            (exec(&["a"; MAX_WORDS + 1], &[], None), "words"),
            (exec(&["a"], &[("A=B", "")], None), "no `=`"),
            (exec(&["a"], &[], Some(Cells { columns: 0, rows: 1 })), "columns"),
            (Purpose::Port { port: 0 }, "port 0"),
            (read("a"), "absolute"),
            (read("/a/../b"), "`..`"),
            (write("/a", "../b"), "proper name"),
            (write("/a", ".."), "proper name"),
        ] {
            let problem = of(purpose).check().unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        assert!(Opening { salt: "x".into(), ..good }.check().is_err());
        assert!(of(exec(&["a", &"b".repeat(MAX_FRAME)], &[], None)).to_wire().unwrap_err().contains("at most"));
        assert!(serde_json::from_str::<Opening>(r#"{"salt":"","at_ms":0,"purpose":{"do":"port","port":1,"x":2}}"#).is_err());
    }
}
