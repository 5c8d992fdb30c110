//! What a sealed stream gives away, and what is found out.

use super::*;
use proptest::prelude::*;

fn reader(n: u8) -> ReaderKey {
    ReaderKey::derived(&[n; 32])
}

fn log(n: u8) -> Binding {
    Binding { content: Content::Log, lease: LeaseId([n; 32]) }
}

/// A stream of chunks, and where each of its records begins; a new segment at each of `breaks`, as after a crash.
fn stream(chunks: &[Vec<u8>], breaks: &[usize], last: bool) -> Vec<u8> {
    let mut out = vec![];
    let mut sealer = Sealer::new(reader(1).public(), log(1), 0).unwrap();
    for (n, chunk) in chunks.iter().enumerate() {
        if breaks.contains(&n) {
            sealer = Sealer::new(reader(1).public(), log(1), out.len() as u64).unwrap();
        }
        if last && n + 1 == chunks.len() {
            sealer.finish(chunk, &mut out).unwrap();
            break;
        }
        sealer.push(chunk, &mut out).unwrap();
        assert_eq!(sealer.at(), out.len() as u64);
    }
    out
}

fn records(stream: &[u8]) -> Vec<&[u8]> {
    let (mut out, mut rest) = (vec![], stream);
    while rest.len() > HEAD {
        let length = u32::from_le_bytes(rest[1..HEAD].try_into().unwrap()) as usize;
        let (record, more) = rest.split_at(HEAD + length);
        out.push(record);
        rest = more;
    }
    out
}

fn open_as(reader: ReaderKey, binding: Binding, from: u64, stream: &[u8], step: usize) -> Result<Vec<Vec<u8>>, OpenError> {
    let mut opener = Opener::new(reader, binding, from);
    let mut out = vec![];
    for piece in stream.chunks(step.max(1)) {
        opener.push(piece);
        while let Some(chunk) = opener.next_chunk()? {
            out.push(chunk);
        }
    }
    Ok(out)
}

fn open(stream: &[u8]) -> Result<Vec<Vec<u8>>, OpenError> {
    open_as(reader(1), log(1), 0, stream, 1000)
}

fn three() -> Vec<Vec<u8>> {
    vec![b"one open".to_vec(), vec![], b"three sesame".to_vec()]
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let good = stream(&three(), &[2], false);
    assert_eq!(open(&good).unwrap(), three());
    let mut opener = Opener::new(reader(1), log(1), 0);
    opener.push(&good);
    while opener.next_chunk().unwrap().is_some() {}
    assert_eq!((opener.at(), opener.root()), (good.len() as u64, pasture_types::blob::hash(&good)));
    assert!(!good.windows(4).any(|w| w == b"open" || w == b"sesa"));
    for at in 0..good.len() {
        for bit in [1, 128] {
            let mut changed = good.clone();
            changed[at] ^= bit;
            let got = open(&changed);
            // A length that grew may wait for more: nothing is given then that was not sealed.
            let shorter = got.as_ref().is_ok_and(|got| three().starts_with(got) && got.len() < 3);
            assert!(got.is_err() || shorter, "byte {at}: {got:?}");
        }
    }
}

#[test]
fn a_stream_opens_as_what_it_is_and_for_its_reader_only() {
    let good = stream(&three(), &[], false);
    assert_eq!(open_as(reader(2), log(1), 0, &good, 7), Err(OpenError::Another));
    assert_eq!(open_as(reader(1), log(2), 0, &good, 7), Err(OpenError::Changed(0)), "another lease's");
    let output = Binding { content: Content::Output, ..log(1) };
    assert_eq!(open_as(reader(1), output, 0, &good, 7), Err(OpenError::Changed(0)), "another content");
    assert!(Sealer::new([0; 32], log(1), 0).is_err(), "a key that makes no secret");
    assert_ne!(good, stream(&three(), &[], false), "fresh keys each time");
}

#[test]
fn reading_begins_at_any_record_once_the_segment_is_known() {
    let chunks: Vec<Vec<u8>> = (0..9u8).map(|n| vec![n; usize::from(n)]).collect();
    let whole = stream(&chunks, &[4], false);
    let (mut at, mut segment, mut seen) = (0, &whole[..0], 0);
    let mut segments = Segments::default();
    whole.chunks(3).for_each(|piece| segments.pass(piece));
    assert_eq!(Segments::default().of(0), None);
    for record in records(&whole) {
        let fresh = record[0] == KIND_SEGMENT;
        if fresh {
            segment = record;
        }
        let start = usize::try_from(segments.of(at as u64).unwrap()).unwrap();
        assert_eq!(&whole[start..start + segment.len()], segment);
        let sent = if fresh { whole[at..].to_vec() } else { [segment, &whole[at..]].concat() };
        assert_eq!(open_as(reader(1), log(1), at as u64, &sent, 11).unwrap(), chunks[seen..], "from {at}");
        if !fresh {
            assert!(open_as(reader(1), log(1), at as u64, &whole[at..], 11).is_err(), "without the segment's key");
            seen += 1;
        }
        at += record.len();
    }
}

#[test]
fn segments_are_bounded_and_chunks_too() {
    let mut sealer = Sealer::new(reader(1).public(), log(1), 0).unwrap();
    let mut out = vec![];
    assert!(sealer.push(&vec![0; MAX_CHUNK + 1], &mut out).is_err());
    let mut began = vec![];
    for _ in 0..=SEGMENT_CHUNKS {
        began.extend(sealer.push(b"x", &mut out).unwrap());
    }
    assert_eq!(began, [0, (SEGMENT_OVERHEAD + SEGMENT_CHUNKS as usize * (CHUNK_OVERHEAD + 1)) as u64]);
    began.clear();
    for _ in 0..3 * SEGMENT_BYTES / MAX_CHUNK as u64 {
        began.extend(sealer.push(&vec![0; MAX_CHUNK], &mut out).unwrap());
    }
    assert_eq!(began.len(), 2);
    assert!(open(&out).is_ok());
}

#[test]
fn an_output_is_whole_or_it_is_an_error() {
    let binding = Binding { content: Content::Output, lease: LeaseId([3; 32]) };
    let read = |sealed: &[u8]| {
        let mut got = vec![];
        OpenReader::new(sealed, reader(1), binding).read_to_end(&mut got).map(|_| got)
    };
    for length in [0, 1, MAX_CHUNK - 1, MAX_CHUNK, MAX_CHUNK + 1, 3 * MAX_CHUNK] {
        let content: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let mut sealed = vec![];
        seal_all(reader(1).public(), binding, content.as_slice(), &mut sealed).unwrap();
        assert_eq!(read(&sealed).unwrap(), content, "{length}");
        let mut end = 0;
        for record in records(&sealed) {
            assert!(read(&sealed[..end]).is_err(), "cut at {end} of {length}");
            end += record.len();
            assert!(read(&sealed[..end - 1]).is_err(), "cut in a record of {length}");
        }
        sealed.push(1);
        assert!(read(&sealed).is_err(), "more after the end");
    }
}

/// The form is frozen: what was sealed once opens.
#[test]
fn a_stream_that_was_kept_opens() {
    let kept = include_str!("../tests/golden/stream.txt");
    assert_eq!(open(&hex::decode(kept.trim()).unwrap()).unwrap(), three());
}

proptest! {
    /// Whatever order the records come in, and whichever are left out or come twice: what is given is a beginning of what was sealed.
    #[test]
    fn only_beginnings_of_what_was_sealed_are_given(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
        breaks in prop::collection::vec(0usize..8, 0..3),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        step in 1usize..50,
    ) {
        let whole = stream(&chunks, &breaks, false);
        prop_assert_eq!(open_as(reader(1), log(1), 0, &whole, step).unwrap(), chunks.clone());
        let records = records(&whole);
        let mixed: Vec<u8> = order.iter().flat_map(|n| records[n.index(records.len())].to_vec()).collect();
        let mut opener = Opener::new(reader(1), log(1), 0);
        opener.push(&mixed);
        let mut got = vec![];
        while let Ok(Some(chunk)) = opener.next_chunk() {
            got.push(chunk);
        }
        prop_assert!(chunks.starts_with(&got), "{got:?} of {chunks:?}");
    }

    /// No bytes make it panic or keep more than a record.
    #[test]
    fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), from in any::<u64>()) {
        let got = open_as(reader(1), log(1), from, &bytes, 13);
        prop_assert!(got.is_err() || got == Ok(vec![]));
    }
}
