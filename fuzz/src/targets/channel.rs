//! What clients and nodes say in a channel, in any pieces: the same frames come out as from one piece, and no length is believed.

use pasture_api::channel::{ChannelError, Decoder, Frame, MAX_FRAME, Opening};

fn read(chunks: &[&[u8]]) -> (Vec<Frame>, Option<ChannelError>) {
    let (mut decoder, mut out) = (Decoder::default(), vec![]);
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(e) => return (out, Some(e)),
            }
        }
    }
    (out, None)
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = data.chunks(usize::from(cut % 16) + 1).collect();
    let (frames, broken) = read(&[data]);
    assert_eq!((frames.clone(), broken), read(&pieces));
    let again: Vec<u8> = frames.iter().flat_map(Frame::encoded).collect();
    assert!(data.starts_with(&again), "what was read is what was written");
    for frame in frames {
        let Frame::Open(payload) = frame else { continue };
        let Ok(opening) = serde_json::from_slice::<Opening>(&payload) else { continue };
        if let Ok((wire, _)) = opening.to_wire() {
            assert!(wire.len() <= MAX_FRAME + 5 && opening.check().is_ok());
            let (back, broken) = read(&[&wire]);
            let [Frame::Open(payload)] = back.as_slice() else { panic!("one frame: {back:?}") };
            assert_eq!((serde_json::from_slice(payload).ok(), broken), (Some(opening), None));
        }
    }
}
