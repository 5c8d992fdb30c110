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
    /// Adds bytes as they arrive, however many events they hold. Events are to be taken before more is added.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, if there is one. Comments (keep-alives) are skipped.
    ///
    /// # Errors
    /// [`SseTooLong`] if one event outgrows [`MAX_EVENT`]; nothing more can be taken then.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, SseTooLong> {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            self.within(end)?;
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
                return Ok(Some(event));
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
        self.within(self.buffer.len())?;
        Ok(None)
    }

    /// Whether an event may go on with a line of this length.
    fn within(&self, line: usize) -> Result<(), SseTooLong> {
        let length = line.saturating_add(self.current.data.len()).saturating_add(self.current.name.len());
        if length > MAX_EVENT { Err(SseTooLong) } else { Ok(()) }
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
                d.push(chunk);
                while let Some(e) = d.next_event().unwrap() {
                    got.push((e.name, e.data));
                }
            }
            assert_eq!(got, [("ready".to_string(), "{}".to_string()), ("message".into(), "a\nb".into())]);
        }
    }

    #[test]
    fn only_an_event_has_a_limit_and_not_a_chunk_of_many() {
        let one = format!("data: {}\n\n", "x".repeat(1000));
        let many = one.repeat(2 * MAX_EVENT / one.len());
        let mut d = SseDecoder::default();
        d.push(many.as_bytes());
        let mut got = 0;
        while d.next_event().unwrap().is_some() {
            got += 1;
        }
        assert_eq!(got, 2 * MAX_EVENT / one.len());
        // One line without an end, one with it, and one event of many lines.
        let line = format!("data: {}\n", "x".repeat(MAX_EVENT));
        for long in [line.trim_end().to_string(), format!("{line}\n"), format!("data: {}\n", "x".repeat(1000)).repeat(1100)] {
            let mut d = SseDecoder::default();
            d.push(long.as_bytes());
            assert_eq!(d.next_event(), Err(SseTooLong));
        }
    }
}
