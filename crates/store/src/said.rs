//! Sentences that only one reader opens: what happened to a job, what its health check said, what a build printed.
//!
//! ```text
//!  sealed text = mark of the reader (8) | box (`crate::seal`) of the text, filled with zeros to a multiple of 32 bytes
//! ```
//! Guarantees: whoever lacks the reader's secret learns about how long a text is and nothing else, also who sealed it; a text that was
//! changed, or is of another lease or another kind of content, does not open. It does not say who sealed, and not in which place of a
//! status a text belongs: whoever passes a status on can leave texts out, swap them or make up others, so nothing is decided by them.
//! Form: `docs/specs/sealing.md` §4.

use crate::seal::{SealError, seal};
use crate::sealed::{MARK, ReaderKey, mark, random};
use pasture_types::LeaseId;

/// Longest text; what is longer is cut. A line of a build's output is the longest that there is.
pub const MAX_TEXT_BYTES: usize = 8 << 10;
/// Texts are filled up to a multiple of this, so that their lengths say little.
const STEP: usize = 32;
const DOMAIN: &[u8] = b"pasture 2026-11 sealed text v1";
/// The kind of content, beside those of [`crate::sealed::Content`].
const CONTENT: u8 = 3;

/// A text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is sealed for the holder of another key.
    #[error("it is sealed for another key than yours")]
    Another,
    /// It is not what was sealed for this lease.
    #[error("it is not what was sealed")]
    Changed,
}

fn context(lease: &LeaseId) -> Vec<u8> {
    [DOMAIN, &[CONTENT], &lease.0].concat()
}

/// Seals a text about a lease; what is longer than [`MAX_TEXT_BYTES`] is cut.
///
/// # Errors
/// [`SealError`] if nothing can be sealed for this reader, or there are no random numbers.
pub fn seal_text(reader: &[u8; 32], lease: &LeaseId, text: &str) -> Result<Vec<u8>, SealError> {
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    let mut plain = text.as_bytes().get(..end).unwrap_or_default().to_vec();
    plain.resize(end.next_multiple_of(STEP), 0);
    let sealed = seal(reader, &context(lease), &plain, *random()?)?;
    Ok([&mark(reader)[..], &sealed].concat())
}

/// Opens a text about a lease.
///
/// # Errors
/// [`TextError`].
pub fn open_text(reader: &ReaderKey, lease: &LeaseId, sealed: &[u8]) -> Result<String, TextError> {
    let (whose, sealed) = sealed.split_first_chunk::<MARK>().ok_or(TextError::Changed)?;
    if *whose != mark(&reader.public()) {
        return Err(TextError::Another);
    }
    let mut plain = reader.open(&context(lease), sealed).map_err(|_| TextError::Changed)?;
    plain.truncate(plain.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
    String::from_utf8(plain).map_err(|_| TextError::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::{Binding, Content, Opener, Sealer};
    use proptest::prelude::*;

    const LEASE: LeaseId = LeaseId([3; 32]);

    fn reader(n: u8) -> ReaderKey {
        ReaderKey::derived(&[n; 32])
    }

    proptest! {
        #[test]
        fn a_text_opens_for_its_reader_and_its_lease_only(text in "[^\0]{0,200}", flip in any::<prop::sample::Index>()) {
            let sealed = seal_text(&reader(1).public(), &LEASE, &text).unwrap();
            prop_assert_eq!(open_text(&reader(1), &LEASE, &sealed), Ok(text.clone()));
            prop_assert_eq!(open_text(&reader(2), &LEASE, &sealed), Err(TextError::Another));
            prop_assert_eq!(open_text(&reader(1), &LeaseId([4; 32]), &sealed), Err(TextError::Changed));
            let mut changed = sealed.clone();
            let at = flip.index(changed.len());
            changed[at] ^= 1;
            prop_assert!(open_text(&reader(1), &LEASE, &changed).is_err(), "byte {}", at);
            prop_assert!(open_text(&reader(1), &LEASE, &sealed[..at]).is_err(), "cut at {}", at);
            // Nothing of it but about its length is there to see.
            prop_assert_eq!(sealed.len(), MARK + 49 + text.len().next_multiple_of(STEP));
            prop_assert!(text.len() < 4 || !sealed.windows(text.len()).any(|w| w == text.as_bytes()));
            prop_assert_ne!(&seal_text(&reader(1).public(), &LEASE, &text).unwrap(), &sealed, "a key of its own each time");
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open_text(&reader(1), &LEASE, &bytes).is_err());
        }
    }

    #[test]
    fn a_text_is_no_segment_of_a_stream_and_the_other_way_round() {
        // Both begin with a mark and a box for the same reader and lease: only what the boxes are bound to differs.
        let mut stream = vec![];
        let binding = Binding { content: Content::Log, lease: LEASE };
        Sealer::new(reader(1).public(), binding, 0).unwrap().push(b"x", &mut stream).unwrap();
        let segment = &stream[5 + 8..5 + 8 + MARK + 81];
        assert_eq!(open_text(&reader(1), &LEASE, segment), Err(TextError::Changed));
        let text = seal_text(&reader(1).public(), &LEASE, "as long as a key: 32 bytes of it").unwrap();
        assert_eq!(text.len(), segment.len());
        let mut forged = stream.clone();
        forged[5 + 8..5 + 8 + MARK + 81].copy_from_slice(&text);
        let mut opener = Opener::new(reader(1), binding, 0);
        opener.push(&forged);
        assert!(opener.next_chunk().is_err());
    }

    #[test]
    fn what_is_too_long_is_cut_and_a_key_that_is_none_seals_nothing() {
        let long = "ä".repeat(MAX_TEXT_BYTES);
        let sealed = seal_text(&reader(1).public(), &LEASE, &format!("x{long}")).unwrap();
        let opened = open_text(&reader(1), &LEASE, &sealed).unwrap();
        assert!(opened.len() == MAX_TEXT_BYTES - 1 && opened.starts_with("xä"));
        assert!(seal_text(&[0; 32], &LEASE, "x").is_err());
    }
}
