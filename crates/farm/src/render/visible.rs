//! Text of strangers on a terminal: what a job, a provider or a network wrote is shown, and does nothing.
//!
//! Guarantees: of all that passes through here nothing moves the cursor, changes the terminal's title, answers for the user, or
//! turns the direction of writing around; such characters are shown as `^[` or `\u{202e}`, bytes that are no text as `\xff`. A
//! carriage return alone becomes a line's end, so that nothing is written over. Pieces may be cut anywhere. It is meant for
//! terminals only: a pipe gets the bytes as they are.

/// What we write to a terminal ourselves: green, red, faint, and back.
const OURS: [&str; 4] = ["\u{1b}[32m", "\u{1b}[31m", "\u{1b}[2m", "\u{1b}[0m"];

/// Where a stream of pieces stands.
#[derive(Default, Debug)]
pub(crate) struct Visible {
    /// The beginning of a character whose rest has not come yet; at most three bytes.
    begun: Vec<u8>,
    /// The last character was a carriage return, which is shown already.
    after_return: bool,
}

impl Visible {
    /// The next piece of a stream, as it may be shown.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> String {
        let joined = [std::mem::take(&mut self.begun).as_slice(), bytes].concat();
        let mut out = String::with_capacity(joined.len());
        let mut rest = joined.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.show(text, &mut out);
                    break;
                }
                Err(e) => {
                    let (good, bad) = rest.split_at_checked(e.valid_up_to()).unwrap_or((rest, &[]));
                    self.show(std::str::from_utf8(good).unwrap_or_default(), &mut out);
                    let Some(length) = e.error_len() else {
                        self.begun = bad.to_vec();
                        break;
                    };
                    let (broken, more) = bad.split_at_checked(length).unwrap_or((bad, &[]));
                    self.after_return = false;
                    for byte in broken {
                        out.push_str(&format!("\\x{byte:02x}"));
                    }
                    rest = more;
                }
            }
        }
        out
    }

    fn show(&mut self, text: &str, out: &mut String) {
        for c in text.chars() {
            let after_return = std::mem::replace(&mut self.after_return, c == '\r');
            match c {
                '\n' if after_return => {}
                '\r' => out.push('\n'),
                '\n' | '\t' => out.push(c),
                '\u{7f}' => out.push_str("^?"),
                c if c < ' ' => out.extend(['^', char::from(b'@'.saturating_add(u8::try_from(c).unwrap_or(0)))]),
                c if c.is_control() || turns_around(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
    }
}

/// Characters that say in which direction others are written.
const fn turns_around(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of ours that may quote a stranger: only our own colours do something.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out += &Visible::default().piece(plain.as_bytes());
        let ours = OURS.iter().find_map(|code| from.strip_prefix(code).map(|after| (*code, after)));
        let (shown, after) = ours.unwrap_or_else(|| ("^[", from.get(1..).unwrap_or_default()));
        out += shown;
        rest = after;
    }
    out + &Visible::default().piece(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> String {
        Visible::default().piece(bytes)
    }

    #[test]
    fn nothing_does_anything() {
        for (bytes, expected) in [
            (&b"plain \xc3\xa4\ttext\n"[..], "plain ä\ttext\n"),
            (b"\x1b]0;owned\x07", "^[]0;owned^G"),
            (b"\x1b[2J\x1b[31mred", "^[[2J^[[31mred"),
            (b"\xc2\x9b2J", "\\u{9b}2J"),
            (b"\x9b2J", "\\x9b2J"),
            ("a\u{202e}b\u{2066}".as_bytes(), "a\\u{202e}b\\u{2066}"),
            (b"10%\r20%\r\nend\x7f\x08\x00", "10%\n20%\nend^?^H^@"),
        ] {
            assert_eq!(shown(bytes), expected);
        }
    }

    #[test]
    fn only_our_own_colours_pass_in_our_own_text() {
        let text = "\u{1b}[31m✗\u{1b}[0m \u{1b}[2Jevil\u{1b}[1;31m\u{1b}";
        assert_eq!(quoted(text), "\u{1b}[31m✗\u{1b}[0m ^[[2Jevil^[[1;31m^[");
        assert_eq!(quoted("nothing"), "nothing");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter_and_no_control_remains(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let mut stream = Visible::default();
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let pieces = stream.piece(a) + &stream.piece(b);
            prop_assert_eq!(&pieces, &shown(&bytes));
            prop_assert!(pieces.chars().all(|c| matches!(c, '\n' | '\t') || !(c.is_control() || turns_around(c))));
        }
        #[test]
        fn plain_text_stays(text in "[ -~äöü\n\t]{0,80}") {
            prop_assert_eq!(shown(text.as_bytes()), text);
        }
    }
}
