//! What a machine says about a job in words: sealed for the job's user, or in the clear.
//!
//! Guarantees: a status is read whatever its texts are: a text that is damaged, too long or for somebody else is said to be so in its own
//! place. In JSON a clear text is a plain string, as it was before texts were sealed, and as it is again once it was opened. It seals and
//! opens nothing itself.

use crate::data::{LeaseStatus, NodeEvent};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Most pieces of a text: what it is about, what the job said, and what follows from it, twice.
const MAX_PIECES: usize = 8;
/// Longest sealed piece that is read; the longest that is made is a line of a build's output, and what sealing adds.
const MAX_SEALED_BYTES: usize = 9 << 10;
/// What stands for a text that was not opened.
const SEALED: &str = "(sealed)";

/// A text, in one piece or more: each clear, or sealed by `pasture_store::said`. Pieces are there because who sealed a text cannot read it
/// any more when there is more to say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Said(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Clear(String),
    Sealed(Vec<u8>),
}

impl Said {
    /// Nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(Vec::new())
    }
    /// A text that anybody may read.
    #[must_use]
    pub fn clear(text: impl Into<String>) -> Self {
        let text = text.into();
        Self(if text.is_empty() { vec![] } else { vec![Piece::Clear(text)] })
    }
    /// A sealed text.
    #[must_use]
    pub fn sealed(bytes: Vec<u8>) -> Self {
        Self(vec![Piece::Sealed(bytes)])
    }
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// This and then more; what is too much is left out.
    #[must_use]
    pub fn then(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self.0.truncate(MAX_PIECES);
        self
    }
    /// What is said, where all of it is clear; else a word in its place.
    #[must_use]
    pub fn text(&self) -> &str {
        match self.0.as_slice() {
            [] => "",
            [Piece::Clear(text)] => text,
            _ => SEALED,
        }
    }
    /// The sealed pieces.
    pub fn boxes(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(|piece| if let Piece::Sealed(bytes) = piece { Some(bytes.as_slice()) } else { None })
    }
    /// Seals what is clear of it; whether something was.
    pub fn seal(&mut self, mut seal: impl FnMut(&str) -> Self) -> bool {
        let mut changed = false;
        for piece in std::mem::take(&mut self.0) {
            match piece {
                Piece::Clear(text) => {
                    changed = true;
                    self.0.extend(seal(&text).0);
                }
                sealed @ Piece::Sealed(_) => self.0.push(sealed),
            }
        }
        self.0.truncate(MAX_PIECES);
        changed
    }
    /// Makes it clear; `open` gives the text of a sealed piece, or what stands for it.
    pub fn open(&mut self, mut open: impl FnMut(&[u8]) -> String) {
        if self.0.iter().any(|piece| matches!(piece, Piece::Sealed(_))) {
            let piece = |piece: &Piece| match piece {
                Piece::Clear(text) => text.clone(),
                Piece::Sealed(bytes) => open(bytes),
            };
            *self = Self::clear(self.0.iter().map(piece).collect::<String>());
        }
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self::clear(text)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// As JSON: a string, `{"sealed": hex}`, or a list of these.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    One(WirePiece),
    Many(Vec<WirePiece>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WirePiece {
    Clear(String),
    Sealed { sealed: String },
}

impl From<&Piece> for WirePiece {
    fn from(piece: &Piece) -> Self {
        match piece {
            Piece::Clear(text) => Self::Clear(text.clone()),
            Piece::Sealed(bytes) => Self::Sealed { sealed: hex::encode(bytes) },
        }
    }
}

impl From<WirePiece> for Piece {
    fn from(piece: WirePiece) -> Self {
        match piece {
            WirePiece::Clear(text) => Self::Clear(text),
            // What is no sealed text is one that does not open.
            WirePiece::Sealed { sealed } if sealed.len() > 2 * MAX_SEALED_BYTES => Self::Sealed(vec![]),
            WirePiece::Sealed { sealed } => Self::Sealed(hex::decode(sealed).unwrap_or_default()),
        }
    }
}

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match self.0.as_slice() {
            [] => Wire::One(WirePiece::Clear(String::new())),
            [one] => Wire::One(one.into()),
            many => Wire::Many(many.iter().map(WirePiece::from).collect()),
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Wire::deserialize(deserializer)? {
            Wire::One(WirePiece::Clear(text)) => Self::clear(text),
            Wire::One(one) => Self(vec![one.into()]),
            Wire::Many(many) => Self(many.into_iter().take(MAX_PIECES).map(Piece::from).collect()),
        })
    }
}

impl LeaseStatus {
    /// Hands over each of its texts.
    pub fn each_text(&mut self, mut to: impl FnMut(&mut Said)) {
        // Named one by one: whoever adds a field says whether it is a text.
        let Self {
            lease: _,
            phase: _,
            started: _,
            served_ms: _,
            build_ms: _,
            log_bytes: _,
            log_cut: _,
            container: _,
            end: _,
            detail,
            output_bytes: _,
            ends: _,
            restarts: _,
            health,
            history,
            update,
            gpus: _,
            statement: _,
            output: _,
        } = self;
        to(detail);
        health.iter_mut().for_each(|health| to(&mut health.detail));
        history.iter_mut().for_each(|happening| to(&mut happening.text));
        update.iter_mut().for_each(|update| to(&mut update.detail));
    }
}

impl NodeEvent {
    /// Hands over each of its texts.
    pub fn each_text(&mut self, mut to: impl FnMut(&mut Said)) {
        match self {
            Self::Status { status } => status.each_text(to),
            Self::Output { line } => to(line),
            Self::Usage { .. } | Self::Cap { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(said: &Said) -> String {
        serde_json::to_string(said).unwrap()
    }

    #[test]
    fn texts_travel_as_what_they_are() {
        let both = Said::clear("a: ").then(Said::sealed(vec![1, 0xab]));
        for (said, wire) in [
            (Said::nothing(), r#""""#),
            (Said::clear("ended"), r#""ended""#),
            (Said::sealed(vec![1, 0xab]), r#"{"sealed":"01ab"}"#),
            (both.clone(), r#"["a: ",{"sealed":"01ab"}]"#),
        ] {
            assert_eq!(json(&said), wire);
            assert_eq!(serde_json::from_str::<Said>(wire).unwrap(), said);
        }
        assert_eq!((both.text(), both.boxes().count()), (SEALED, 1));
        let mut opened = both;
        opened.open(|bytes| format!("{bytes:?}"));
        assert_eq!((opened.text(), json(&opened).as_str()), ("a: [1, 171]", r#""a: [1, 171]""#));
    }

    #[test]
    fn what_makes_no_sense_is_a_text_that_does_not_open() {
        let long = "ab".repeat(MAX_SEALED_BYTES + 1);
        for bad in [r#"{"sealed":"zz"}"#.to_owned(), r#"{"sealed":"a"}"#.to_owned(), format!(r#"{{"sealed":"{long}"}}"#)] {
            let said: Said = serde_json::from_str(&bad).unwrap();
            assert_eq!((said.boxes().next(), said.is_empty()), (Some(&[][..]), false));
        }
        let many = format!("[{}]", vec![r#""x""#; 1000].join(","));
        let mut said: Said = serde_json::from_str(&many).unwrap();
        assert_eq!(said.0.len(), MAX_PIECES);
        assert!(said.seal(|_| Said::sealed(vec![7])) && !said.seal(|_| Said::nothing()));
        assert_eq!(said.boxes().count(), MAX_PIECES);
    }
}
