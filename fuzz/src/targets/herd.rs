//! What shepherds and workers write, in any pieces: the same words come out as from one piece, and no length is believed.

use pasture_herd::protocol::{Ask, Form, Frames, HELLO, Tell, encoded};
use pasture_herd::{Decoder, Format};

fn asks(chunks: &[&[u8]]) -> (Vec<Ask>, bool) {
    let (mut frames, mut out) = (Frames::<Ask>::new(), vec![]);
    for chunk in chunks {
        frames.buffer().extend_from_slice(chunk);
        loop {
            match frames.next_frame() {
                Ok(Some(ask)) => out.push(ask),
                Ok(None) => break,
                Err(_) => return (out, true),
            }
        }
    }
    (out, false)
}

fn answers(format: Format, chunks: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut decoder, mut out) = (Decoder::new(format), vec![]);
    for chunk in chunks {
        decoder.buffer().extend_from_slice(chunk);
        loop {
            match decoder.next_answer() {
                Ok(Some(answer)) => out.push(format!("{answer:?}")),
                Ok(None) => break,
                Err(_) => return (out, true),
            }
        }
    }
    (out, false)
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = data.chunks(usize::from(cut % 16) + 1).collect();
    let (read, broken) = asks(&[data]);
    assert_eq!((read.clone(), broken), asks(&pieces));
    let mut again = HELLO.to_vec();
    read.iter().for_each(|ask| again.extend_from_slice(&encoded(Form::Binary, ask)));
    assert_eq!(asks(&[&again]), (read, false));
    for format in [Format::Lines, Format::Json, Format::Frames] {
        assert_eq!(answers(format, &[data]), answers(format, &pieces));
    }
    let mut tells = Frames::<Tell>::of(Form::Binary);
    tells.buffer().extend_from_slice(data);
    while let Ok(Some(_)) = tells.next_frame() {}
}
