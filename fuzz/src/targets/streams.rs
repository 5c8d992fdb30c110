//! Log frames, server-sent events and sealed streams that arrive in any pieces: the same comes out as from one piece.

use pasture_api::frames::{self, Decoder, Frame, FrameError, HEADER};
use pasture_api::sse::{SseDecoder, SseEvent};
use pasture_store::sealed::{OpenError, Opener, Segments};

/// The bytes in pieces of 1 to 16 bytes, as long as `sizes` says; the rest in one.
fn pieces<'a>(sizes: &[u8], mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut out = vec![];
    for size in sizes {
        let (piece, rest) = bytes.split_at((usize::from(size % 16) + 1).min(bytes.len()));
        out.push(piece);
        bytes = rest;
    }
    out.push(bytes);
    out
}

fn read_frames(chunks: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>, u64) {
    let (mut decoder, mut out) = (Decoder::at(7), vec![]);
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(e) => return (out, Some(e), decoder.offset()),
            }
        }
    }
    let offset = decoder.offset();
    (out, None, offset)
}

fn read_events(chunks: &[&[u8]]) -> Vec<SseEvent> {
    let (mut decoder, mut out) = (SseDecoder::default(), vec![]);
    for chunk in chunks {
        decoder.push(chunk);
        while let Some(event) = decoder.next_event().expect("an input is far shorter than the longest event") {
            out.push(event);
        }
    }
    out
}

fn open(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Option<OpenError>, u64) {
    let (reader, binding) = crate::seeds::reader();
    let (mut opener, mut segments, mut out) = (Opener::new(reader, binding, 0), Segments::default(), vec![]);
    for chunk in chunks {
        opener.push(chunk);
        segments.pass(chunk);
        loop {
            match opener.next_chunk() {
                Ok(Some(content)) => out.push(content),
                Ok(None) => break,
                Err(e) => return (out, Some(e), opener.at()),
            }
        }
    }
    assert!(out.is_empty() || segments.of(opener.at()).is_some(), "what opens is in a segment");
    let at = opener.at();
    (out, None, at)
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (sizes, bytes) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let split = pieces(sizes, bytes);

    let whole = read_frames(&[bytes]);
    assert_eq!(read_frames(&split), whole);
    let used: usize = whole.0.iter().map(|f| HEADER + f.data.len()).sum();
    assert_eq!(whole.2, 7 + used as u64, "the offset is where the next frame begins");
    if whole.0.iter().all(|f| !f.data.is_empty()) {
        let mut again = vec![];
        for frame in &whole.0 {
            frames::encode(frame.stream, &frame.data, &mut again);
        }
        assert_eq!(again, bytes[..used]);
    }

    assert_eq!(open(&split), open(&[bytes]));

    let events = read_events(&[bytes]);
    assert_eq!(read_events(&split), events);
    assert!(events.iter().all(|e| !e.name.is_empty() && !e.name.contains('\n')));
}
