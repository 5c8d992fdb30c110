//! The body of an HTTP/1.1 answer, taken out of its frame (RFC 9112 §6, §7.1): chunks, or so many bytes.
//!
//! Guarantees: where the body ends is known, so that an answer that breaks off is told from one that is over. It keeps nothing but
//! where it stands; trailers and what follows them are not read.

use std::io;

use bytes::{Buf as _, BytesMut};

/// Longest line before a chunk: sixteen digits, and what some servers put after them.
const MAX_SIZE_LINE: usize = 256;

/// Where in an answer's body the reading stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// Before the size of a chunk.
    Size,
    /// So many bytes of a chunk are to come.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    /// So many bytes of all are to come.
    Length(usize),
    /// All of it has come.
    Over,
}

impl Body {
    /// What an answer's head says of its body.
    ///
    /// # Errors
    /// It says neither that there are chunks nor how long it is.
    pub(super) fn of(head: &str) -> io::Result<Self> {
        let field = |name: &str| {
            head.lines()
                .skip(1)
                .filter_map(|l| l.split_once(':'))
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(Self::Size);
        }
        match field("content-length").map(str::parse) {
            Some(Ok(0)) => Ok(Self::Over),
            Some(Ok(length)) => Ok(Self::Length(length)),
            _ => Err(wrong("the engine's answer does not say how long it is")),
        }
    }

    /// Moves what has come of the body.
    ///
    /// # Errors
    /// What came is not in the form of chunks.
    pub(super) fn take(&mut self, raw: &mut BytesMut, body: &mut BytesMut) -> io::Result<()> {
        loop {
            match *self {
                Self::Over => return Ok(()),
                Self::Size => {
                    let Some(end) = raw.windows(2).take(MAX_SIZE_LINE).position(|w| w == b"\r\n") else {
                        return if raw.len() > MAX_SIZE_LINE { Err(wrong("a chunk without a size")) } else { Ok(()) };
                    };
                    let line = raw.split_to(end);
                    raw.advance(2);
                    let digits = line.as_ref().split(|b: &u8| *b == b';').next().unwrap_or_default().trim_ascii();
                    let size = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                    let size = size.and_then(|d| usize::from_str_radix(d, 16).ok()).ok_or_else(|| wrong("a chunk without a size"))?;
                    *self = if size == 0 { Self::Over } else { Self::Chunk(size) };
                }
                Self::Chunk(left) | Self::Length(left) => {
                    let n = left.min(raw.len());
                    body.extend_from_slice(&raw.split_to(n));
                    let left = left - n;
                    *self = match (*self, left) {
                        (Self::Length(_), 0) => Self::Over,
                        (Self::Length(_), _) => Self::Length(left),
                        (_, 0) => Self::ChunkEnd,
                        _ => Self::Chunk(left),
                    };
                    if left > 0 {
                        return Ok(());
                    }
                }
                Self::ChunkEnd => match raw.first_chunk::<2>() {
                    None => return Ok(()),
                    Some(b"\r\n") => {
                        raw.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(wrong("a chunk that does not end where it says")),
                },
            }
        }
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunked(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out: Vec<u8> = pieces
            .iter()
            .filter(|p| !p.is_empty())
            .flat_map(|p| [format!("{:X};x=1\r\n", p.len()).as_bytes(), p, b"\r\n"].concat())
            .collect();
        out.extend(b"0\r\n\r\n");
        out
    }

    proptest! {
        /// However an answer is cut on its way, the same comes out, and it is over exactly when its last chunk has come.
        #[test]
        fn chunks_come_out_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6), cuts in 1usize..50) {
            let sent = chunked(&pieces);
            let (mut raw, mut out, mut body) = (BytesMut::new(), BytesMut::new(), Body::Size);
            for (n, part) in sent.chunks(cuts).enumerate() {
                raw.extend_from_slice(part);
                body.take(&mut raw, &mut out).unwrap();
                let come = (n * cuts + part.len()).min(sent.len());
                prop_assert_eq!(body == Body::Over, come + 2 >= sent.len());
            }
            prop_assert_eq!(out.to_vec(), pieces.concat());
        }

        #[test]
        fn anything_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let (mut raw, mut out, mut body) = (BytesMut::from(&bytes[..]), BytesMut::new(), Body::Size);
            let _ = body.take(&mut raw, &mut out);
            prop_assert!(out.len() <= bytes.len());
        }
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        let of = |fields: &str| Body::of(&format!("HTTP/1.1 200 OK\r\n{fields}")).ok();
        assert_eq!(of("Transfer-Encoding: chunked"), Some(Body::Size));
        assert_eq!(of("a: b\r\ncontent-length: 7"), Some(Body::Length(7)));
        assert_eq!(of("Content-Length: 0"), Some(Body::Over));
        for none in ["", "Content-Length: -1", "Transfer-Encoding: gzip"] {
            assert_eq!(of(none), None, "{none}");
        }
        let (mut raw, mut out, mut body) = (BytesMut::from(&b"abcdef"[..]), BytesMut::new(), Body::Length(4));
        body.take(&mut raw, &mut out).unwrap();
        assert_eq!((body, &out[..], &raw[..]), (Body::Over, &b"abcd"[..], &b"ef"[..]));
        for bad in ["zz\r\n", "-1\r\n", "\r\n", "3\r\nabcde\r\n", &"1".repeat(300), "fffffffffffffffff\r\n"] {
            let (mut raw, mut out, mut body) = (BytesMut::from(bad.as_bytes()), BytesMut::new(), Body::Size);
            assert!(body.take(&mut raw, &mut out).is_err(), "{bad}");
        }
    }
}
