//! The entries of a log, straight from the engine's socket.
//!
//! The engine writes each line by itself. An HTTP client that hands on one such piece at a time costs two changes of task for each, which
//! is more than all else that is done with a line; here what is in the socket is read together. Docker only: Podman's answers differ.
//! Guarantees: an answer that is none or breaks off, an entry longer than any that the engine makes, and an end inside of an entry are
//! errors.

use std::{io, path::PathBuf, time::Duration};

use super::chunked::Body;
use bollard::{container::LogOutput, errors::Error};
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{Stream, unfold};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

/// Longest head of an answer.
const MAX_HEAD: usize = 16 << 10;
/// Longest message of an answer that is no log.
const MAX_MESSAGE: u64 = 16 << 10;
/// Longest entry: the engine cuts lines after 16 KiB, and puts a time before them.
const MAX_ENTRY: usize = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes before an entry: its stream, three zeros, its length.
const HEAD: usize = 8;
/// Pause before more is read of a log that comes in sips: to be woken for each line costs more than the line does, and the socket holds some
/// hundred meanwhile. A line after a pause is not held up.
const GULP: Duration = Duration::from_millis(1);
/// Fewer bytes than this in one reading are a sip: the engine is the slower one.
const SIP: usize = 8 << 10;

enum State {
    Begin { socket: PathBuf, path: String, deadline: Duration },
    Reading(Reading),
    Over,
}

struct Reading {
    stream: UnixStream,
    /// As it came.
    raw: BytesMut,
    body: Body,
    /// What of the body is still to be handed on.
    buffer: BytesMut,
    last: Instant,
    sip: bool,
}

/// The log of an instance by its id, with times.
pub(super) fn read(
    socket: PathBuf,
    id: &str,
    (follow, tail): (bool, &str),
    deadline: Duration,
) -> impl Stream<Item = Result<LogOutput, Error>> + Send + use<> {
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={}&tail={tail}", u8::from(follow));
    // Ids and names have no others; what had would be another request.
    let sound = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let begin = if sound { State::Begin { socket, path, deadline } } else { State::Over };
    unfold(begin, |state| async move {
        let mut reading = match state {
            State::Over => return None,
            State::Reading(reading) => reading,
            State::Begin { socket, path, deadline } => match timeout(deadline, ask(socket, path)).await {
                Ok(Ok(reading)) => reading,
                Ok(Err(error)) => return Some((Err(error), State::Over)),
                Err(_) => return Some((Err(Error::RequestTimeoutError), State::Over)),
            },
        };
        match reading.next().await {
            Ok(Some(entry)) => Some((Ok(entry), State::Reading(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error.into()), State::Over)),
        }
    })
}

async fn ask(socket: PathBuf, path: String) -> Result<Reading, Error> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > MAX_HEAD || stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the engine's answer has no head").into());
        }
    };
    let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
    buffer.advance(end + 4);
    match head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0) {
        200 => {
            let body = Body::of(&head)?;
            Ok(Reading { stream, raw: buffer, body, buffer: BytesMut::new(), last: Instant::now(), sip: false })
        }
        status_code => {
            let mut message = buffer.to_vec();
            stream.take(MAX_MESSAGE).read_to_end(&mut message).await?;
            Err(Error::DockerResponseServerError { status_code, message: String::from_utf8_lossy(&message).trim().to_owned() })
        }
    }
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<LogOutput>> {
        loop {
            self.body.take(&mut self.raw, &mut self.buffer)?;
            if let Some(entry) = take(&mut self.buffer)? {
                return Ok(Some(entry));
            }
            if self.body == Body::Over {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if self.sip && self.last.elapsed() < GULP {
                sleep(GULP).await;
            }
            self.raw.reserve(READ_BYTES);
            let n = self.stream.read_buf(&mut self.raw).await?;
            (self.last, self.sip) = (Instant::now(), n < SIP);
            if n == 0 {
                // The engine died, say: it is asked again, by whoever follows.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The first entry of what has come, if all of it has.
fn take(buffer: &mut BytesMut) -> io::Result<Option<LogOutput>> {
    let Some([stream, 0, 0, 0, a, b, c, d]) = buffer.first_chunk::<HEAD>().copied() else {
        return if buffer.len() < HEAD { Ok(None) } else { Err(nonsense()) };
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MAX_ENTRY {
        return Err(nonsense());
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let message: Bytes = buffer.split_to(length).freeze();
    match stream {
        0 => Ok(Some(LogOutput::StdIn { message })),
        1 => Ok(Some(LogOutput::StdOut { message })),
        2 => Ok(Some(LogOutput::StdErr { message })),
        _ => Err(nonsense()),
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came is no log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use tokio::net::UnixListener;

    /// What is read where an engine answers this, in two pieces.
    async fn answered(answer: Vec<u8>) -> (String, Vec<Result<LogOutput, Error>>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let n = stream.read(&mut asked).await.unwrap();
            let (a, b) = answer.split_at(answer.len() / 2);
            stream.write_all(a).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b).await.unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        };
        tokio::join!(serve, read(socket, "ab12", (true, "all"), Duration::from_secs(5)).collect())
    }

    fn entry(stream: u8, text: &[u8]) -> Vec<u8> {
        [&[stream, 0, 0, 0], &u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
    }

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
    }

    #[tokio::test]
    async fn entries_come_as_they_are() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let parts = [entry(1, b"t one\n"), entry(2, b""), entry(1, &[7; 20_000])].map(|part| chunk(&part));
        let (asked, got) = answered([&head[..], &parts.concat(), b"0\r\n\r\n"].concat()).await;
        assert!(asked.starts_with("GET /containers/ab12/logs?stdout=1&stderr=1&timestamps=1&follow=1&tail=all HTTP/1.1\r\n"), "{asked}");
        let got: Vec<(bool, usize)> =
            got.into_iter().map(|e| e.unwrap()).map(|e| (matches!(e, LogOutput::StdErr { .. }), e.into_bytes().len())).collect();
        assert_eq!(got, [(false, 6), (true, 0), (false, 20_000)]);
    }

    #[tokio::test]
    async fn what_is_no_log_is_an_error() {
        let ok = |rest: &[u8]| [b"HTTP/1.1 200 OK\r\nContent-Length: ", format!("{}\r\n\r\n", rest.len()).as_bytes(), rest].concat();
        for bad in [
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            ok(&entry(1, b"whole")[..9]),
            ok(&entry(9, b"stream")),
            ok(&[1, 0, 0, 0, 255, 0, 0, 0]),
            ok(b"plain text of an engine"),
            b"nothing".to_vec(),
        ] {
            let (_, got) = answered(bad).await;
            assert!(matches!(got.as_slice(), [Err(Error::IOError { .. })]), "{got:?}");
        }
        // All entries are whole, and it is not over: the engine died.
        let cut = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &chunk(&entry(1, b"x"))].concat();
        let (_, got) = answered(cut).await;
        assert!(matches!(got.as_slice(), [Ok(_), Err(Error::IOError { .. })]), "{got:?}");
        let (_, got) = answered(b"HTTP/1.1 404 Not Found\r\n\r\n{\"message\":\"gone\"}".to_vec()).await;
        assert!(matches!(got.as_slice(), [Err(Error::DockerResponseServerError { status_code: 404, .. })]), "{got:?}");
    }
}
