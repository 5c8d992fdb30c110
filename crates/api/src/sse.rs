//! Server-sent events: a small decoder of the `data:` lines (and names) that our gateways and nodes send.

use bytes::{Buf as _, BytesMut};

/// Longest event in bytes; more is a broken peer.
pub const MAX_EVENT: usize = 1 << 20;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SseEvent {
    /// Its name; `message` when none was sent.
    pub name: String,
    /// Its data, lines joined by newlines.
    pub data: String,
}

/// The peer's event is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {MAX_EVENT} bytes")]
pub struct SseTooLong;

/// Takes events out of a byte stream.
#[derive(Default, Debug)]
pub struct SseDecoder {
    buffer: BytesMut,
    current: SseEvent,
    has_data: bool,
}

impl SseDecoder {
    /// Adds bytes as they arrive.
    ///
    /// # Errors
    /// [`SseTooLong`] if one event outgrows [`MAX_EVENT`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SseTooLong> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() + self.current.data.len() > MAX_EVENT { Err(SseTooLong) } else { Ok(()) }
    }

    /// The next whole event, if there is one. Comments (keep-alives) are skipped.
    pub fn next_event(&mut self) -> Option<SseEvent> {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                if !self.has_data {
                    continue;
                }
                self.has_data = false;
                let mut event = std::mem::take(&mut self.current);
                if event.name.is_empty() {
                    event.name = "message".into();
                }
                return Some(event);
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => {
                    if self.has_data {
                        self.current.data.push('\n');
                    }
                    self.has_data = true;
                    self.current.data.push_str(value);
                }
                "event" => self.current.name = value.into(),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_split() {
        let text = ":keep-alive\n\nevent: ready\ndata: {}\n\ndata: a\ndata: b\r\n\r\n";
        for step in [1, 3, text.len()] {
            let mut d = SseDecoder::default();
            let mut got = vec![];
            for chunk in text.as_bytes().chunks(step) {
                d.push(chunk).unwrap();
                while let Some(e) = d.next_event() {
                    got.push((e.name, e.data));
                }
            }
            assert_eq!(got, [("ready".to_string(), "{}".to_string()), ("message".into(), "a\nb".into())]);
        }
    }
}
